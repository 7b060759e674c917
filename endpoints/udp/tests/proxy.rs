//! The server's side, from JSON to the target's socket.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test opens the targets, and stands for local programs"
)]

mod common;

use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use pasque::config::EndpointConfig;
use pasque::endpoint_types;
use pasque::testing::dns::{A, AAAA, Answer};
use pasque::testing::{Faults, TestServer};
use tokio::net::UdpSocket;

use crate::common::*;

const CLOSED_PORT: u16 = 1;

#[tokio::test]
async fn udp_10_malformed_ports_and_paths_are_400() {
    let server = server(LOOPBACK, None).await;
    let paths = [
        "/udp/127.0.0.1//",
        "/udp/127.0.0.1/0/",
        "/udp/127.0.0.1/65536/",
        "/udp/127.0.0.1/+443/",
        "/udp/127.0.0.1/%2B443/",
        "/udp/127.0.0.1/-1/",
        "/udp/127.0.0.1/4%2043/",
        "/udp/127.0.0.1/0x50/",
        "/udp/127.0.0.1/443a/",
        "/udp/%zz/443/",
        "/udp//443/",
        "/udp/127.0.0.1/443/x/",
    ];
    for path in paths {
        let expected = refused_with(400, "http_request_error");
        assert_eq!(refusal(&server, path).await, expected, "{path}");
    }
    for port in ["65535", "1", "0443"] {
        open(&server, &format!("/udp/127.0.0.1/{port}/")).await;
    }
}

#[tokio::test]
async fn udp_11_malformed_hosts_are_400() {
    let server = server(LOOPBACK, None).await;
    let hosts = [
        "%5B::1%5D",
        "[::1]",
        "fe80::1%25eth0",
        "a%00b",
        "a%2Fb",
        "a%20b",
        "a..b",
        ".",
        "a%3A53",
        "%253A%253A1",
        "b%C3%BCcher.example",
        "a%5Cb",
        "a%40b",
    ];
    for host in hosts {
        let path = format!("/udp/{host}/53/");
        let expected = refused_with(400, "http_request_error");
        assert_eq!(refusal(&server, &path).await, expected, "{path}");
    }
    for host in ["127.0.0.1", "%3a%3A1", "::1", "::ffff:127.0.0.1"] {
        open(&server, &format!("/udp/{host}/53/")).await;
    }
}

#[tokio::test]
async fn udp_12_nobody_is_asked_about_a_request_that_fails_earlier() {
    let (server, names) = server_with_names(LOOPBACK, |_| Answer::addresses(["127.0.0.1"])).await;
    assert_eq!(refusal(&server, "/udp/name.example/0/").await.0, 400);
    let other = server.connect("connect-ip", "/udp/name.example/53/").await;
    assert!(other.is_err());
    assert_eq!(names.queries(), 0);
    open(&server, "/udp/name.example/53/").await;
    assert!(names.queries() > 0);
}

#[tokio::test]
async fn udp_13_a_name_leads_to_its_address() {
    let target = Echo::start("127.0.0.1").await;
    let (server, _names) = server_with_names(LOOPBACK, |question| match &*question.name {
        "alias.example" => Answer::Records {
            aliases: vec!["name.example".into()],
            addresses: vec![[127, 0, 0, 1].into()],
        },
        _ => Answer::addresses(["127.0.0.1"]),
    })
    .await;
    for host in ["name.example", "NAME.Example.", "alias.example"] {
        let mut tunnel = open(&server, &path(host, target.address.port())).await;
        tunnel.send(b"\0hi");
        assert_eq!(&tunnel.recv().await[..], b"\0hi");
    }
}

#[tokio::test]
async fn udp_13_an_unresolved_name_is_refused_and_says_why() {
    let (server, _names) = server_with_names(LOOPBACK, |question| match &*question.name {
        "none.example" => Answer::NXDOMAIN,
        "broken.example" => Answer::SERVFAIL,
        _ => Answer::Code(0),
    })
    .await;
    for (host, rcode) in [
        ("none.example", "NXDOMAIN"),
        ("broken.example", "SERVFAIL"),
        ("empty.example", "NOERROR"),
    ] {
        let expected = Refused(502, Some("dns_error".into()), Some(rcode.into()));
        assert_eq!(refusal(&server, &path(host, 53)).await, expected, "{host}");
    }
}

#[tokio::test]
async fn udp_13_a_silent_name_server_is_waited_for_five_seconds_and_holds_nobody_up() {
    let target = Echo::start("127.0.0.1").await;
    let (server, _names) = server_with_names(LOOPBACK, |_| Answer::Silence).await;
    let begin = Instant::now();
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move { refusal(&server, &path(&format!("n{n}.example"), 53)).await })
        })
        .collect();
    let mut tunnel = open(&server, &path_to(target.address)).await;
    tunnel.send(b"\0hi");
    tunnel.recv().await;
    assert!(begin.elapsed() < Duration::from_secs(2));
    for refusal in waiting {
        assert_eq!(refusal.await.unwrap(), refused_with(504, "dns_timeout"));
    }
    assert!(begin.elapsed() < Duration::from_secs(7));
}

#[tokio::test]
async fn udp_13_a_name_with_one_dead_and_one_live_address() {
    // A link-local address without a zone has no route, which is known before the answer. That a port
    // is closed comes out with the first datagram.
    for dead in ["fe80::1", "::1"] {
        let target = Echo::start("127.0.0.1").await;
        let keys = r#", "allow": ["127.0.0.1", "::1", "fe80::1"]"#;
        let (server, _names) =
            server_with_names(keys, move |_| Answer::addresses([dead, "127.0.0.1"])).await;
        let mut tunnel = open(&server, &path("name.example", target.address.port())).await;
        for n in 0..20 {
            tunnel.send(&[0, n]);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(tunnel.recv().await[0], 0);
        assert!(target.count() >= 18, "{} of 20 arrived", target.count());
    }
}

#[tokio::test]
async fn udp_14_the_address_that_was_checked_is_the_one_that_is_used() {
    let victim = Echo::start("127.0.0.1").await;
    let keys = r#", "allow": ["198.51.100.1"]"#;
    let (server, names) = server_with_names(keys, |question| match question.number {
        0 => Answer::addresses(["198.51.100.1"]),
        _ => Answer::addresses(["127.0.0.1"]),
    })
    .await;
    let path = path("rebind.example", victim.address.port());
    if let Ok(tunnel) = server.connect("connect-udp", &path).await {
        for _ in 0..10 {
            tunnel.send(b"\0hi");
        }
    }
    assert_eq!(names.queries(), 2, "one question per family");
    let expected = refused_with(403, "destination_ip_prohibited");
    assert_eq!(refusal(&server, &path).await, expected);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(victim.count(), 0);
}

#[tokio::test]
async fn udp_15_a_silent_target_gets_its_tunnel_at_once() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = server(LOOPBACK, None).await;
    let begin = Instant::now();
    let tunnel = open(&server, &path_to(silent.local_addr().unwrap())).await;
    assert!(begin.elapsed() < Duration::from_secs(1));
    tunnel.send(b"\0hi");
    assert_eq!(recv(&silent).await.0, b"hi");
}

#[tokio::test]
async fn udp_17_both_families_work() {
    let server = server(LOOPBACK, None).await;
    for ip in ["127.0.0.1", "::1"] {
        let target = Echo::start(ip).await;
        let mut tunnel = open(&server, &path_to(target.address)).await;
        for len in [0, 1, 1200, 1319] {
            let datagram = vec![0; 1 + len];
            tunnel.send(&datagram[..]);
            assert_eq!(tunnel.recv().await[..], datagram, "{ip}, {len} bytes");
        }
    }
}

#[tokio::test]
async fn udp_17_each_tunnel_has_a_port_of_its_own() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = server(LOOPBACK, None).await;
    let path = path_to(target.local_addr().unwrap());
    let mut ports = Vec::new();
    let mut tunnels = Vec::new();
    for n in 0..5 {
        let tunnel = open(&server, &path).await;
        tunnel.send(&[0, n]);
        ports.push(recv(&target).await.1.port());
        tunnels.push(tunnel);
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 5);
}

#[tokio::test]
async fn udp_18_a_third_party_is_not_heard() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(target.local_addr().unwrap())).await;
    tunnel.send(b"\0hi");
    let (_, proxy) = recv(&target).await;
    other.send_to(b"from another", proxy).await.unwrap();
    target.send_to(b"from the target", proxy).await.unwrap();
    assert_eq!(&tunnel.recv().await[..], b"\0from the target");
    assert!(tunnel.is_silent_for(Duration::from_millis(50)).await);
}

#[tokio::test(start_paused = true)]
async fn udp_22_silence_ends_the_stream_in_order() {
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path("127.0.0.1", CLOSED_PORT)).await;
    let begin = tokio::time::Instant::now();
    assert!(tunnel.0.recv().await.is_none());
    let idle = begin.elapsed().as_secs();
    assert!((300..=301).contains(&idle), "{idle} s");
}

#[test]
fn udp_22_less_than_two_minutes_is_refused() {
    for (seconds, is_accepted) in [
        ("0", false),
        ("60", false),
        ("119", false),
        ("120", true),
        ("604800", true),
        ("604801", false),
        ("18446744073709551615", false),
    ] {
        let json =
            format!(r#"{{ "path": "udp", "type": "UdpEndpoint", "idle_timeout_s": {seconds} }}"#);
        let result = EndpointConfig::parse(&json);
        assert_eq!(result.is_ok(), is_accepted, "{seconds}");
        if let Err(error) = result {
            assert!(error.to_string().contains("120 to 604800"), "{error}");
        }
    }
}

#[test]
fn buffers_have_bounds() {
    for key in ["receive_buffer_bytes", "send_buffer_bytes"] {
        for (bytes, is_accepted) in [(65_535, false), (65_536, true), ((1_u64 << 30) + 1, false)] {
            let json = format!(r#"{{ "path": "udp", "type": "UdpEndpoint", "{key}": {bytes} }}"#);
            assert_eq!(
                EndpointConfig::parse(&json).is_ok(),
                is_accepted,
                "{key} {bytes}"
            );
        }
    }
}

#[tokio::test]
async fn udp_25_a_single_datagram_does_not_wait() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(target.address)).await;
    let mut times = Vec::new();
    for _ in 0..51 {
        let begin = Instant::now();
        tunnel.send(b"\0hi");
        tunnel.recv().await;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    assert!(
        times[25] < Duration::from_millis(5),
        "median {:?}",
        times[25]
    );
}

#[test]
fn udp_26_congestion_control_cannot_be_switched_off() {
    for key in ["congestion_control", "congestion_controller", "cc"] {
        let json = format!(r#"{{ "path": "udp", "type": "UdpEndpoint", "{key}": "off" }}"#);
        assert!(EndpointConfig::parse(&json).is_err());
    }
}

#[tokio::test]
async fn udp_27_the_answer_has_no_content_and_says_nothing_of_it() {
    let server = server(LOOPBACK, None).await;
    let (_tunnel, headers) = open_with_headers(&server, &path("127.0.0.1", CLOSED_PORT)).await;
    assert_eq!(headers["capsule-protocol"], "?1");
    assert!(!headers.contains_key(CONTENT_LENGTH));
    assert!(!headers.contains_key(CONTENT_TYPE));
    assert!(!headers.contains_key("transfer-encoding"));
}

#[tokio::test]
async fn ps_04_the_answer_names_the_next_hop_unless_told_not_to() {
    let (server, _names) =
        server_with_names(LOOPBACK, |_| Answer::addresses(["10.0.0.1", "127.0.0.1"])).await;
    for (host, expected) in [
        ("127.0.0.1", "127.0.0.1:443"),
        ("::1", "[::1]:443"),
        ("::ffff:127.0.0.1", "127.0.0.1:443"),
        ("name.example", "127.0.0.1:443"),
    ] {
        let (_tunnel, headers) = open_with_headers(&server, &path(host, 443)).await;
        let expected = format!("psq.example.net;next-hop=\"{expected}\"");
        assert_eq!(headers["proxy-status"], expected);
    }
    let keys = format!(r#"{LOOPBACK}, "next_hop": false"#);
    let server = common::server(&keys, None).await;
    let (_tunnel, headers) = open_with_headers(&server, &path("127.0.0.1", 443)).await;
    assert!(!headers.contains_key("proxy-status"));
}

#[tokio::test]
async fn udp_30_of_several_addresses_an_allowed_one_is_used() {
    let target = Echo::start("127.0.0.1").await;
    let keys = r#", "allow": ["127.0.0.1"]"#;
    let (server, _names) = server_with_names(keys, |question| match question.kind {
        A => Answer::addresses(["10.0.0.1", "127.0.0.1", "192.168.0.1"]),
        AAAA => Answer::addresses(["fd00::1", "::1"]),
        _ => Answer::NXDOMAIN,
    })
    .await;
    let mut tunnel = open(&server, &path("mixed.example", target.address.port())).await;
    tunnel.send(b"\0hi");
    tunnel.recv().await;
    assert_eq!(target.count(), 1);
}

#[tokio::test]
async fn udp_31_ports_may_be_closed_and_opened() {
    let keys = r#", "allow": ["127.0.0.1:1000-2000"], "deny": ["*:25", "*:1500"]"#;
    let server = server(keys, None).await;
    for port in [1000, 2000] {
        open(&server, &path("127.0.0.1", port)).await;
    }
    for (host, port, error) in [
        ("127.0.0.1", 999, "destination_ip_prohibited"),
        ("127.0.0.1", 2001, "destination_ip_prohibited"),
        ("127.0.0.1", 1500, "http_request_denied"),
        ("192.0.2.1", 25, "http_request_denied"),
    ] {
        let refused = refusal(&server, &path(host, port)).await;
        assert_eq!(refused, refused_with(403, error), "{host}:{port}");
    }
}

#[test]
fn udp_32_the_type_is_not_for_strangers() {
    let types = endpoint_types().unwrap();
    let kind = types.iter().find(|kind| kind.tag == "UdpEndpoint").unwrap();
    assert!(!kind.public);
    assert_eq!(kind.variables, ["target_host", "target_port"]);
}

#[tokio::test]
async fn udp_08_the_well_known_path_is_served() {
    let server = server(LOOPBACK, None).await;
    open(&server, "/.well-known/masque/udp/127.0.0.1/53/").await;
    open(&server, "/.well-known/masque/udp/%3A%3A1/53/").await;
}

#[tokio::test]
async fn udp_33_one_datagram_makes_one_packet() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(target.address)).await;
    for n in 0..100_u8 {
        tunnel.send(&[0, n]);
        assert_eq!(tunnel.recv().await[..], [0, n]);
    }
    assert!(tunnel.is_silent_for(Duration::from_millis(50)).await);
    assert_eq!(target.count(), 100);
}

#[tokio::test]
async fn udp_40_bursts_of_any_lengths_pass_in_order() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(target.address)).await;
    let lens = [0, 0, 9, 9, 9, 4, 1200, 1200, 1200, 0, 1, 1200, 7, 7];
    for round in 0..20 {
        let burst: Vec<_> = lens
            .iter()
            .map(|&len| [&[0][..], &vec![round; len]].concat())
            .collect();
        for datagram in &burst {
            tunnel.send(&datagram[..]);
        }
        for datagram in &burst {
            assert_eq!(tunnel.recv().await[..], datagram[..]);
        }
    }
}

#[tokio::test]
async fn udp_41_43_what_has_no_known_context_harms_nothing() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(target.address)).await;
    for datagram in [&b""[..], b"\x02hi", b"\x05hi", b"\x40", b"\xff"] {
        tunnel.send(datagram);
    }
    tunnel.send(b"\0hi");
    assert_eq!(&tunnel.recv().await[..], b"\0hi");
    assert_eq!(target.count(), 1);
}

#[tokio::test]
async fn udp_46_a_reply_too_long_for_a_datagram_vanishes() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(target.local_addr().unwrap())).await;
    tunnel.send(b"\0hi");
    let (_, proxy) = recv(&target).await;
    for len in [2000, 60_000, 1200] {
        target.send_to(&vec![7; len], proxy).await.unwrap();
    }
    assert_eq!(tunnel.recv().await.len(), 1201);
}

#[tokio::test]
async fn udp_52_loss_makes_no_duplicate_and_no_stall() {
    let target = Echo::start("127.0.0.1").await;
    let faults = Faults {
        loss: 0.2,
        reorder: 0.1,
        seed: 7,
    };
    let server = server(LOOPBACK, None).await.with_faults(faults);
    let mut tunnel = open(&server, &path_to(target.address)).await;
    let mut seen = vec![0; 1000];
    for n in 0..1000_u16 {
        let [high, low] = n.to_be_bytes();
        tunnel.send(&[0, high, low]);
        if n % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let mut silence = Duration::from_millis(500);
    while let Ok(Some(packet)) = tokio::time::timeout(silence, tunnel.0.recv()).await {
        seen[usize::from(u16::from_be_bytes([packet[1], packet[2]]))] += 1;
        silence = Duration::from_millis(200);
    }
    assert!(seen.iter().all(|&times| times <= 1), "seed {}", faults.seed);
    let arrived = seen.iter().filter(|&&times| times == 1).count();
    assert!(
        (500..=780).contains(&arrived),
        "{arrived} of 1000, seed {}",
        faults.seed
    );
}

#[tokio::test]
async fn a_closed_port_that_opens_later_needs_no_new_tunnel() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let server = server(LOOPBACK, None).await;
    let mut tunnel = open(&server, &path_to(address)).await;
    for _ in 0..20 {
        tunnel.send(b"\0lost");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let target = Echo::on(UdpSocket::bind(address).await.unwrap());
    tunnel.send(b"\0hi");
    assert_eq!(&tunnel.recv().await[..], b"\0hi");
    assert_eq!(target.count(), 1);
}

#[tokio::test]
async fn the_example_serves() {
    let server = TestServer::example("UdpEndpoint").await;
    let expected = refused_with(403, "destination_ip_prohibited");
    assert_eq!(refusal(&server, "/udp/127.0.0.1/53/").await, expected);
}

#[tokio::test]
async fn a_wrong_method_is_405_and_a_wrong_protocol_501() {
    let server = server(LOOPBACK, None).await;
    let response = server
        .request(pasque::Request::get("/udp/127.0.0.1/53/"))
        .await;
    assert_eq!(response.status, 405);
    assert_eq!(response.headers["allow"], "CONNECT");
    let request = pasque::Request::tunnel("connect-ip", "/udp/127.0.0.1/53/");
    assert_eq!(server.request(request).await.status, 501);
}
