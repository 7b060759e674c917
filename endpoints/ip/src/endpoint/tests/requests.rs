use super::*;

#[tokio::test]
async fn ip_03_any_target_and_protocol_however_it_is_written() {
    let mut fixture = Fixture::new(BOTH).await;
    for path in [
        "/ip/*/*/",
        "/ip/%2A/%2A/",
        "/ip/%2a/*/",
        "/query",
        "/query?target=*",
        "/query?ipproto=%2A&target=%2A",
        "/plain",
    ] {
        let mut tunnel = fixture.open(path).await;
        assert_eq!(tunnel.peer.assigned().await.len(), 2, "{path}");
        assert_eq!(tunnel.peer.routes().await.iter().count(), 2, "{path}");
        tunnel.is_alive().await;
    }
}

#[tokio::test]
async fn ip_04_malformed_targets_are_400_and_take_nothing() {
    let fixture = Fixture::new(BOTH).await;
    for target in [
        "192.0.2.1%2F24",
        "192.0.2.0%2F33",
        "2001%3Adb8%3A%3A%2F129",
        "192.0.2.0%2F",
        "192.0.2.0%2F+8",
        "fe80%3A%3A1%25eth0",
        "%252A",
        "0x7f.1",
    ] {
        let expected = (400, Some("http_request_error".into()));
        assert_eq!(
            fixture.refusal(&format!("/ip/{target}/*/")).await,
            expected,
            "{target}"
        );
    }
}

#[tokio::test]
async fn ip_05_ip_06_malformed_protocols_and_extension_headers_are_400() {
    let mut fixture = Fixture::new(BOTH).await;
    for protocol in [
        "256", "-1", "tcp", "0017", "0", "43", "44", "51", "60", "135", "139", "140",
    ] {
        let expected = (400, Some("http_request_error".into()));
        assert_eq!(
            fixture.refusal(&format!("/ip/*/{protocol}/")).await,
            expected,
            "{protocol}"
        );
    }
    for protocol in ["017", "6", "255"] {
        fixture.open(&format!("/ip/*/{protocol}/")).await;
    }
}

#[tokio::test]
async fn ip_07_a_name_that_does_not_resolve_is_refused_and_says_why() {
    let fixture = Fixture::with_names(BOTH, |question| match &*question.name {
        "none.example" => Answer::NXDOMAIN,
        _ => Answer::SERVFAIL,
    })
    .await;
    for name in ["none.example", "broken.example"] {
        let expected = (502, Some("dns_error".into()));
        assert_eq!(fixture.refusal(&format!("/ip/{name}/*/")).await, expected);
    }
}

#[tokio::test]
async fn ip_08_a_name_becomes_a_route_per_address_that_can_be_reached() {
    let answer = |_: &Question| Answer::addresses([TARGET, TARGET_V6]);
    for (keys, expected) in [(BOTH, vec![TARGET, TARGET_V6]), (V4, vec![TARGET])] {
        let mut fixture = Fixture::with_names(keys, answer).await;
        let mut tunnel = fixture.open("/ip/name.example/*/").await;
        assert_eq!(tunnel.peer.assigned().await.len(), expected.len());
        let routes = tunnel.peer.routes().await;
        let starts: Vec<_> = routes
            .iter()
            .map(|range| range.start().to_string())
            .collect();
        assert_eq!(starts, expected);
        assert!(routes.iter().all(|range| range.start() == range.end()));
    }
}

#[tokio::test]
async fn ip_08_addresses_that_policy_closes_are_left_out() {
    let keys = r#""addresspools": ["10.76.0.1/24"], "routes": ["0.0.0.0/0"], "mtu_probe": false"#;
    let mut fixture = Fixture::with_names(keys, |question| match &*question.name {
        "mixed.example" => Answer::addresses(["127.0.0.1", "9.9.9.9", "10.0.0.1"]),
        _ => Answer::addresses(["127.0.0.1", "10.0.0.1"]),
    })
    .await;
    let mut tunnel = fixture.open("/ip/mixed.example/*/").await;
    tunnel.peer.assigned().await;
    let routes = tunnel.peer.routes().await;
    assert_eq!(
        routes.iter().map(|range| range.start()).collect::<Vec<_>>(),
        [address("9.9.9.9")]
    );
    let expected = (403, Some("destination_ip_prohibited".into()));
    assert_eq!(fixture.refusal("/ip/inner.example/*/").await, expected);
}

#[tokio::test]
async fn ip_09_a_prefix_limits_the_tunnel_to_its_ip_version() {
    let mut fixture = Fixture::new(BOTH).await;
    for (target, is_v6) in [("198.51.100.0%2F24", false), ("2001:db8::%2F32", true)] {
        let mut tunnel = fixture.open(&format!("/ip/{target}/*/")).await;
        let assigned = tunnel.peer.assigned().await;
        assert_eq!(assigned.len(), 1);
        assert_eq!(assigned[0].prefix.is_ipv6(), is_v6);
        let routes = tunnel.peer.routes().await;
        assert!(routes.iter().all(|range| range.is_v6() == is_v6));
        assert!(
            tunnel
                .addresses
                .iter()
                .all(|prefix| prefix.is_ipv6() == is_v6)
        );
    }
}

#[tokio::test]
async fn ip_10_the_scope_narrows_what_is_advertised() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open("/ip/198.51.100.0%2F24/17/").await;
    tunnel.peer.assigned().await;
    let routes = tunnel.peer.routes().await;
    let ranges: Vec<_> = routes
        .iter()
        .map(|range| (range.start(), range.end(), range.protocol()))
        .collect();
    assert_eq!(
        ranges,
        [(address("198.51.100.0"), address("198.51.100.255"), UDP)]
    );
}

#[tokio::test]
async fn ip_11_a_scope_that_reaches_nothing_is_refused_at_once() {
    let keys =
        r#""addresspools": ["10.76.0.1/24"], "routes": ["10.76.0.0/24"], "mtu_probe": false"#;
    let mut fixture = Fixture::new(keys).await;
    let expected = (403, Some("http_request_denied".to_owned()));
    for path in ["/ip/198.51.100.2/*/", "/ip/2001:db8::1/*/", "/ip/::%2F0/*/"] {
        assert_eq!(fixture.refusal(path).await, expected, "{path}");
    }
    let everything = keys.replace("10.76.0.0/24", "0.0.0.0/0");
    let closed = (403, Some("destination_ip_prohibited".to_owned()));
    let refusal = Fixture::new(&everything)
        .await
        .refusal("/ip/127.0.0.1/*/")
        .await;
    assert_eq!(refusal, closed);
    fixture.open("/ip/10.76.0.1/*/").await;
    fixture.open("/ip/10.0.0.0%2F8/*/").await;
}

#[tokio::test]
async fn ip_12_a_client_without_address_gets_503_and_when_to_come_back() {
    let keys = r#""addresspools": ["10.76.0.1/30"], "routes": ["0.0.0.0/0"], "mtu_probe": false,
        "allow": ["198.51.100.0/24"]"#;
    let mut fixture = Fixture::new(keys).await;
    let mut first = fixture.open(ANY).await;
    let _second = fixture.open(ANY).await;
    let (_peer, flow) = Peer::new();
    let request = Request::tunnel(PROTOCOL, ANY);
    let Err(ClientError::Refused {
        status,
        proxy_status,
        headers,
    }) = fixture.server.connection().open(request, flow).await
    else {
        panic!("there were three addresses");
    };
    assert_eq!(status, 503);
    assert_eq!(
        proxy_status.unwrap().error.as_deref(),
        Some("connection_limit_reached")
    );
    assert_eq!(headers["retry-after"], "30");
    first.is_alive().await;

    // When the first one leaves, there is room again.
    drop(first);
    let again = async {
        loop {
            let (peer, flow) = Peer::new();
            let connection = fixture.server.connection();
            let opened = connection.open(Request::tunnel(PROTOCOL, ANY), flow).await;
            if opened.is_ok() {
                return peer;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(1), again).await.unwrap();
}

#[tokio::test]
async fn ip_13_a_tunnel_is_accepted_with_200_and_nothing_else() {
    let mut fixture = Fixture::new(BOTH).await;
    let tunnel = fixture.open(ANY).await;
    assert_eq!(tunnel.opened.status, 200);
    for name in ["content-length", "content-type", "transfer-encoding"] {
        assert!(!tunnel.opened.headers.contains_key(name));
    }
}

#[tokio::test]
async fn another_protocol_or_method_is_refused() {
    let fixture = Fixture::new(BOTH).await;
    let response = fixture
        .server
        .request(Request::tunnel("connect-udp", ANY))
        .await;
    assert_eq!(response.status, 501);
    let response = fixture.server.request(Request::get(ANY)).await;
    assert_eq!(response.status, 405);
}

#[tokio::test]
async fn ip_14_a_request_that_is_given_up_leaves_nothing_behind() {
    let keys = r#""addresspools": ["10.76.0.1/30"], "mtu_probe": false"#;
    let endpoint = endpoint(keys);
    // Whoever makes the device is told to fail: addresses were taken by then.
    let fails = Arc::new(Mutex::new(true));
    let should_fail = fails.clone();
    let mut endpoint = endpoint.with_devices(move |_| match *should_fail.lock().unwrap() {
        true => Err(io::ErrorKind::OutOfMemory.into()),
        false => Ok(Arc::new(MemoryDevice::pair(1500).0)),
    });
    endpoint.start(&StartContext::new(".")).await.unwrap();
    for _ in 0..3 {
        assert!(
            endpoint
                .handle(Request::tunnel(PROTOCOL, ANY))
                .await
                .is_err()
        );
    }
    *fails.lock().unwrap() = false;
    // There is one other address, which is in use all the time.
    let _neighbour = endpoint
        .handle(Request::tunnel(PROTOCOL, ANY))
        .await
        .unwrap();
    // A response that nobody takes any more.
    for _ in 0..3 {
        drop(
            endpoint
                .handle(Request::tunnel(PROTOCOL, ANY))
                .await
                .unwrap(),
        );
    }
    endpoint
        .handle(Request::tunnel(PROTOCOL, ANY))
        .await
        .unwrap();
}
