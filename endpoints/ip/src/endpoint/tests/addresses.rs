use super::*;
use crate::packet::testing::hex;

#[tokio::test]
async fn ip_12_addresses_come_in_the_same_flight_as_the_answer() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    let assigned = tunnel.peer.assigned().await;
    let expected = networks(&["10.76.0.2/32", "fd76::2/128"]);
    assert_eq!(
        assigned
            .iter()
            .map(|entry| entry.prefix)
            .collect::<Vec<_>>(),
        expected
    );
    assert!(assigned.iter().all(|entry| entry.request_id == 0));
    assert_eq!(tunnel.addresses, expected);
}

#[tokio::test]
async fn ip_14_an_address_is_free_again_however_its_tunnel_ends() {
    let keys = r#""addresspools": ["10.76.0.1/30"], "mtu_probe": false"#;
    let mut fixture = Fixture::new(keys).await;
    // There is one other address, which is in use all the time.
    let _neighbour = fixture.open(ANY).await;
    // Its client leaves.
    let tunnel = fixture.open(ANY).await;
    drop(tunnel.peer);
    tunnel.opened.ended().await.unwrap();
    // It breaks the protocol.
    let tunnel = fixture.open(ANY).await;
    tunnel
        .peer
        .say(Message::Capsule(ADDRESS_REQUEST, Vec::new()));
    assert_eq!(tunnel.reset().await, 0x010e);
    // Its interface is gone.
    let tunnel = fixture.open(ANY).await;
    drop(tunnel.host);
    assert!(tunnel.opened.ended().await.is_err());
    fixture.open(ANY).await;
}

#[tokio::test]
async fn ip_17_capsules_are_understood_at_any_time_and_in_any_number() {
    let keys = format!(r#"{BOTH}, "accept_client_routes": ["192.168.0.0/16"]"#);
    let mut fixture = Fixture::new(&keys).await;
    let mut tunnel = fixture.open(ANY).await;
    tunnel.peer.assigned().await;
    tunnel.peer.routes().await;
    for n in 0..100u64 {
        match n % 3 {
            0 => {
                tunnel.peer.request(&[(n + 1, "0.0.0.0/32")]);
                tunnel.peer.assigned().await;
            }
            1 => tunnel.peer.advertise(&["192.168.7.0/24"]),
            _ => tunnel
                .peer
                .say(Message::Capsule(ADDRESS_ASSIGN, Vec::new())),
        }
        tunnel.is_alive().await;
    }
}

#[tokio::test]
async fn ip_18_ip_24_malformed_lists_abort_the_stream_and_nothing_else() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut other = fixture.open(ANY).await;
    let zeros = "00".repeat(16);
    let vectors = [
        ("V1", 1, "00 05 c0 00 02 0b 20".to_owned()),
        ("V2", 1, "00 04 c0 00 02 0b 21".into()),
        ("V2, IPv6", 1, format!("00 06 {}01 81", "00".repeat(15))),
        ("V3", 1, "00 04 c0 00 02 0b 18".into()),
        (
            "V3, IPv6",
            1,
            format!("00 06 20 01 0d b8 {} 01 40", "00".repeat(11)),
        ),
        ("V4, one byte too many", 1, "00 04 c0 00 02 0b 20 00".into()),
        (
            "V4, ends after a Request ID",
            1,
            "00 04 c0 00 02 0b 20 05".into(),
        ),
        ("V4, no prefix length", 1, "00 04 c0 00 02 0b".into()),
        ("V5", 2, String::new()),
        ("V6, zero", 2, "00 04 00 00 00 00 20".into()),
        (
            "V6, twice",
            2,
            format!("01 04 00 00 00 00 20 01 06 {zeros} 80"),
        ),
        ("V7", 3, "04 c0 00 02 09 c0 00 02 08 00".into()),
        (
            "V8",
            3,
            format!(
                "06 {zeros} {} 01 00 04 c0 00 02 00 c0 00 02 01 00",
                "00".repeat(15)
            ),
        ),
        (
            "V9",
            3,
            "04 c0 00 02 01 c0 00 02 01 11 04 c0 00 02 02 c0 00 02 03 06".into(),
        ),
        (
            "V10",
            3,
            "04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 09 c0 00 02 14 00".into(),
        ),
        (
            "V11",
            3,
            "04 c0 00 02 0a c0 00 02 14 00 04 c0 00 02 00 c0 00 02 09 00".into(),
        ),
        ("V12", 3, "04 c0 00 02 00 c0 00 02 09".into()),
        (
            "V13",
            3,
            "04 c0 00 02 00 c0 00 02 09 00 04 c0 00 02 05 c0 00 02 05 11".into(),
        ),
    ];
    for (name, kind, value) in vectors {
        let tunnel = fixture.open(ANY).await;
        tunnel.peer.say(Message::Capsule(kind, hex(&value)));
        assert_eq!(tunnel.reset().await, 0x010e, "{name}");
    }
    other.is_alive().await;
}

#[tokio::test]
async fn ip_20_ip_25_each_entry_of_a_request_is_answered_and_the_answer_stays() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    tunnel.peer.assigned().await;
    tunnel.peer.routes().await;
    let ids = |assigned: Vec<AssignedAddress>| -> Vec<u64> {
        assigned.iter().map(|entry| entry.request_id).collect()
    };
    tunnel.peer.request(&[(7, "0.0.0.0/32"), (8, "::/128")]);
    assert_eq!(ids(tunnel.peer.assigned().await), [7, 8]);
    tunnel.peer.request(&[(300, "0.0.0.0/32")]);
    let assigned = tunnel.peer.assigned().await;
    assert_eq!(assigned[0].prefix, networks(&["10.76.0.2/32"])[0]);
    assert_eq!(ids(assigned), [7, 8, 300]);
}

#[tokio::test]
async fn ip_26_a_refusal_is_shown_once() {
    let mut fixture = Fixture::new(V4).await;
    let mut tunnel = fixture.open(ANY).await;
    tunnel.peer.assigned().await;
    tunnel.peer.routes().await;
    tunnel.peer.request(&[(7, "0.0.0.0/32"), (8, "::/128")]);
    let assigned = tunnel.peer.assigned().await;
    let refused: Vec<_> = assigned.iter().filter(|entry| entry.is_refusal()).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        (refused[0].request_id, refused[0].prefix),
        (8, networks(&["::/128"])[0])
    );
    tunnel.peer.request(&[(9, "0.0.0.0/32")]);
    let assigned = tunnel.peer.assigned().await;
    assert!(assigned.iter().all(|entry| entry.request_id != 8));
}

#[tokio::test]
async fn ip_27_a_wish_is_met_if_it_can_be() {
    let mut fixture = Fixture::new(V4).await;
    let mut first = fixture.open(ANY).await;
    assert_eq!(
        first.peer.assigned().await[0].prefix,
        networks(&["10.76.0.2/32"])[0]
    );
    let mut second = fixture.open(ANY).await;
    second.peer.assigned().await;
    second.peer.routes().await;
    // Free: given, in place of the one that came unprompted.
    second.peer.request(&[(1, "10.76.0.77/32")]);
    let assigned = second.peer.assigned().await;
    assert_eq!(assigned.len(), 1);
    assert_eq!(assigned[0].prefix, networks(&["10.76.0.77/32"])[0]);
    second.peer.send(&udp("10.76.0.77", TARGET));
    assert_eq!(second.host_gets().await, udp("10.76.0.77", TARGET));
    // Somebody else's: another one instead.
    second.peer.request(&[(2, "10.76.0.2/32")]);
    let assigned = second.peer.assigned().await;
    let answer = assigned.iter().find(|entry| entry.request_id == 2).unwrap();
    assert_ne!(answer.prefix, networks(&["10.76.0.2/32"])[0]);
    first.is_alive().await;
}

#[tokio::test]
async fn ip_36_routes_of_clients_are_ignored_unless_they_are_accepted() {
    for (keys, is_accepted) in [
        ("", false),
        (r#", "accept_client_routes": ["192.168.0.0/16"]"#, true),
    ] {
        let mut fixture = Fixture::new(&format!("{BOTH}{keys}")).await;
        let mut tunnel = fixture.open(ANY).await;
        tunnel.peer.advertise(&["192.168.7.0/24", "172.16.0.0/12"]);
        tunnel.peer.settled().await;
        for (source, passes) in [("192.168.7.9", is_accepted), ("172.16.0.9", false)] {
            let packet = udp(source, TARGET);
            tunnel.peer.send(&packet);
            if passes {
                assert_eq!(tunnel.host_gets().await, packet);
            }
            tunnel.is_alive().await;
        }
    }
}

#[tokio::test]
async fn ip_37_routes_are_of_the_ip_versions_that_there_are_addresses_of() {
    let mut fixture = Fixture::new(V4).await;
    let mut tunnel = fixture.open(ANY).await;
    assert!(
        tunnel
            .peer
            .assigned()
            .await
            .iter()
            .all(|entry| entry.prefix.is_ipv4())
    );
    let routes = tunnel.peer.routes().await;
    assert_eq!(routes, Routes::from_config(&networks(&["0.0.0.0/0"])));
}

#[tokio::test]
async fn ip_38_a_client_may_talk_as_much_as_it_likes() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    let ranges: Vec<_> = (0..4000u32)
        .map(|n| IpNetwork::new(IpAddr::from((n << 9).to_be_bytes()), 24).unwrap())
        .collect();
    let value = encode_routes(&Routes::from_config(&ranges));
    let mut said = 0;
    while said < 1 << 20 {
        tunnel
            .peer
            .say(Message::Capsule(ROUTE_ADVERTISEMENT, value.clone()));
        said += value.len();
    }
    tunnel.is_alive().await;
}

#[tokio::test]
async fn ip_30_no_two_tunnels_have_one_address() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnels = Vec::new();
    for _ in 0..50 {
        tunnels.push(fixture.open(ANY).await);
    }
    let mut all: Vec<_> = tunnels
        .iter()
        .flat_map(|tunnel| &tunnel.addresses)
        .collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
    assert!(!all.contains(&&networks(&["10.76.0.1/32"])[0]));
}
