use super::*;

const ROUTED: &str =
    r#""addresspools": ["10.76.0.1/24"], "routes": ["198.51.100.0/25"], "mtu_probe": false"#;

impl Fixture {
    /// Gives the endpoint other keys beside `ifprefix`.
    async fn reload(&self, keys: &str) -> Result<pasque::Changes> {
        let paths = r#"["ip", "/query{?target,ipproto}", "/plain"]"#;
        let json =
            format!(r#"{{ "path": {paths}, "type": "IpEndpoint", "ifprefix": "tun-s", {keys} }}"#);
        self.server.reload(&[&json]).await
    }
}

#[tokio::test]
async fn running_tunnels_keep_their_addresses_and_meet_new_routes_and_rules() {
    let mut fixture = Fixture::new(V4).await;
    let mut tunnel = fixture.open(ANY).await;
    assert_eq!(tunnel.peer.assigned().await.len(), 1);
    let before = tunnel.peer.routes().await;
    let changes = fixture.reload(ROUTED).await.unwrap();
    assert_eq!(changes.changed, 1);
    // The reload alone wakes it.
    let offered = tunnel.peer.routes().await;
    assert_ne!(offered, before);
    assert_eq!(
        offered,
        Routes::from_config(&networks(&["198.51.100.0/25"]))
    );
    tunnel.is_alive().await;
    tunnel.peer.send(&udp(CLIENT, "198.51.100.200"));
    assert_eq!(icmp_kind(&tunnel.peer.recv().await), (3, 0));

    // Its address is still taken.
    let other = fixture.open(ANY).await;
    assert_eq!(other.addresses, networks(&["10.76.0.3/32"]));

    let deny = format!(r#"{ROUTED}, "deny": ["198.51.100.2"]"#);
    fixture.reload(&deny).await.unwrap();
    tunnel.peer.send(&udp(CLIENT, TARGET));
    assert_eq!(icmp_kind(&tunnel.peer.recv().await), (3, 13));
    fixture.reload(ROUTED).await.unwrap();
    tunnel.is_alive().await;
}

#[tokio::test]
async fn what_tunnels_stand_on_does_not_change_under_them() {
    let mut fixture = Fixture::new(ROUTED).await;
    let mut tunnel = fixture.open(ANY).await;
    for (keys, named) in [
        (r#""addresspools": ["10.76.0.1/25"]"#, "addresspools"),
        (
            r#""addresspools": ["10.76.0.1/24"], "lease_s": 1"#,
            "lease_s",
        ),
        (
            r#""addresspools": ["10.76.0.1/24"], "interface": "shared", "client_to_client": true"#,
            "interface and client_to_client",
        ),
    ] {
        let error = fixture.reload(keys).await.unwrap_err().to_string();
        let expected = format!("{named} cannot change while the server runs");
        assert!(error.contains(&expected), "{error}");
    }
    tunnel.is_alive().await;
    // A tunnel in whose scope nothing is offered any more ends.
    fixture
        .reload(r#""addresspools": ["10.76.0.1/24"], "mtu_probe": false"#)
        .await
        .unwrap();
    let narrow = fixture.open("/ip/10.76.0.0%2F24/*/").await;
    fixture.reload(ROUTED).await.unwrap();
    assert_eq!(narrow.reset().await, 0x010c);
}
