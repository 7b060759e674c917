use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

#[tokio::test]
async fn ip_39_packets_pass_in_both_directions() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    for (source, target) in [(CLIENT, TARGET), (CLIENT_V6, TARGET_V6)] {
        tunnel.peer.send(&udp(source, target));
        assert_eq!(tunnel.host_gets().await, udp(source, target));
        tunnel.host_sends(&udp(target, source));
        assert_eq!(tunnel.peer.recv().await, udp(target, source));
    }
    tunnel.peer.say(Message::Datagram(b"\x02hi".to_vec()));
    tunnel.is_alive().await;
}

#[tokio::test]
async fn ip_41_a_thousand_random_payloads_and_the_tunnel_lives() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    let mut runner = TestRunner::default();
    let random = proptest::collection::vec(any::<u8>(), 0..1300);
    for _ in 0..1000 {
        let payload = random.new_tree(&mut runner).unwrap().current();
        tunnel.peer.say(Message::Datagram(payload));
    }
    tunnel.is_alive().await;
    drop(tunnel.peer);
    tunnel.opened.ended().await.unwrap();
    let outward = fixture.counters.read().outward;
    assert_eq!(outward.received, 1001);
    assert_eq!(
        outward.received,
        outward.passed + outward.answered + outward.total_dropped()
    );
}

#[tokio::test]
async fn ip_10_a_tunnel_for_udp_to_one_host() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open("/ip/198.51.100.2/17/").await;
    tunnel.peer.send(&packet(CLIENT, TARGET, TCP, 80));
    assert_eq!(icmp_kind(&tunnel.peer.recv().await), (3, 13));
    tunnel.peer.send(&packet(CLIENT, "198.51.100.3", ICMP, 0));
    assert_eq!(icmp_kind(&tunnel.peer.recv().await), (3, 13));
    let echo = packet(CLIENT, TARGET, ICMP, 0);
    tunnel.peer.send(&echo);
    assert_eq!(tunnel.host_gets().await, echo);

    // A router outside of the target, about a packet of ours and about another.
    for (protocol, passes) in [(TCP, false), (UDP, true)] {
        let quoted = packet(CLIENT, TARGET, protocol, 53);
        let header = packet::parse(&quoted).unwrap();
        let problem = crate::icmp::Problem::HopLimit;
        let error = crate::icmp::error(problem, &quoted, &header, address("192.0.2.254"));
        let error = error.unwrap().to_vec();
        tunnel.host_sends(&error);
        if passes {
            assert_eq!(tunnel.peer.recv().await, error);
        }
    }
}

#[tokio::test]
async fn ip_44_outside_of_the_routes_is_dropped_and_told() {
    let keys =
        r#""addresspools": ["10.76.0.1/24"], "routes": ["198.51.100.0/25"], "mtu_probe": false"#;
    let mut fixture = Fixture::new(keys).await;
    let mut tunnel = fixture.open(ANY).await;
    tunnel.peer.send(&udp(CLIENT, "198.51.100.200"));
    let error = tunnel.peer.recv().await;
    assert_eq!(icmp_kind(&error), (3, 0));
    assert_eq!(packet::parse(&error).unwrap().source, address("10.76.0.1"));
    tunnel.is_alive().await;
}

#[tokio::test]
async fn ip_50_what_no_client_may_reach() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    // Loopback, the QUIC listener, a private network, the cloud's metadata, another client.
    let listener = packet(CLIENT, "192.0.2.1", UDP, LISTENER);
    let all = [
        udp(CLIENT, "127.0.0.1"),
        listener,
        udp(CLIENT, "10.0.0.1"),
        udp(CLIENT, "169.254.169.254"),
        udp(CLIENT, "10.76.0.3"),
        udp(CLIENT_V6, "::1"),
    ];
    for packet in all {
        tunnel.peer.send(&packet);
    }
    tunnel.is_alive().await;
    // The server's address in the tunnel.
    tunnel.peer.send(&udp(CLIENT, "10.76.0.1"));
    assert_eq!(tunnel.host_gets().await, udp(CLIENT, "10.76.0.1"));
}

#[tokio::test]
async fn ip_70_routing_headers_of_type_0_are_dropped() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    for segments_left in [0, 1] {
        let routing = [UDP, 2, 0, segments_left, 0, 0, 0, 0];
        let body = [&routing[..], &[0; 16], &[0x12, 0x34, 0, 53, 0, 8, 0, 0]].concat();
        let packet = readdressed(v6(43, &body), CLIENT_V6, TARGET_V6);
        tunnel.peer.send(&packet);
    }
    tunnel.is_alive().await;
    drop(tunnel.peer);
    tunnel.opened.ended().await.unwrap();
    let reason = crate::filter::DropReason::from(packet::Malformed::RoutingType0);
    assert_eq!(fixture.counters.read().outward.dropped(reason), 2);
}

#[tokio::test]
async fn ip_71_groups_are_dropped_silently() {
    let mut fixture = Fixture::new(BOTH).await;
    let mut tunnel = fixture.open(ANY).await;
    tunnel.peer.send(&udp(CLIENT, "239.1.1.1"));
    tunnel.peer.send(&udp(CLIENT_V6, "ff0e::1"));
    tunnel.is_alive().await;
    tunnel.host_sends(&udp(TARGET, CLIENT));
    // The first packet that comes back is not about them.
    assert_eq!(tunnel.peer.recv().await, udp(TARGET, CLIENT));
}

#[tokio::test]
async fn ip_69_two_clients_meet_only_if_they_may() {
    for (keys, may_meet) in [("", false), (r#", "client_to_client": true"#, true)] {
        let mut fixture = Fixture::new(&format!("{BOTH}{keys}")).await;
        let mut first = fixture.open(ANY).await;
        let _second = fixture.open(ANY).await;
        let packet = udp(CLIENT, "10.76.0.3");
        first.peer.send(&packet);
        if may_meet {
            // The kernel behind the interfaces forwards it, and lowers its hop limit.
            assert_eq!(first.host_gets().await, packet);
        } else {
            assert_eq!(icmp_kind(&first.peer.recv().await), (3, 13));
        }
        first.is_alive().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ip_60_a_client_that_does_not_answer_an_echo_loses_its_tunnel() {
    let keys = BOTH.replace(r#""mtu_probe": false"#, r#""mtu_probe": true"#);
    let mut fixture = Fixture::new(&keys).await;
    let mut tunnel = fixture.open(ANY).await;
    let request = tunnel.peer.recv().await;
    assert_eq!((request.len(), icmp_kind(&request)), (1280, (128, 0)));
    let ended = tokio::time::timeout(Duration::from_secs(30), tunnel.opened.ended()).await;
    assert!(
        matches!(ended, Ok(Err(ClientError::Reset(0x010c)))),
        "{ended:?}"
    );
}
