//! Targets that nobody may reach unless the configuration says so, in all their spellings.
//!
//! The proof is not the refusal but a socket at the forbidden place, which stays silent.

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

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pasque::config::EndpointConfig;
use pasque::policy::LocalAddresses;
use pasque::testing::TestServer;
use pasque::testing::dns::Answer;
use pasque::{Request, StartContext};

use crate::common::*;

/// One address, or more, per row of the table of closed ranges.
const CLOSED: [&str; 52] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.0.0.53",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "0:0:0:0:0:FFFF:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "0000:0000:0000:0000:0000:0000:0000:0001",
];

/// Spellings that some resolvers take for an address of the table, and that are no host here.
const ODD: [&str; 20] = [
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0x7f.0.0.1",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.01",
    "127.0.0.1.",
    "0",
    "0.0",
    "10.1",
    "3232235521",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "fe80::1%eth0",
    "::1%lo",
    "１２７.0.0.1",
];

/// Sockets on one port of both loopback addresses, and of every other interface's.
struct Victims {
    port: u16,
    sockets: Vec<UdpSocket>,
}

impl Victims {
    fn bind() -> Self {
        let first = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let interfaces = LocalAddresses::detect(Vec::new()).unwrap().interfaces;
        // An address that cannot be bound, such as one being set up, cannot be reached either.
        let others = interfaces
            .iter()
            .filter_map(|own| UdpSocket::bind((own.ip(), port)).ok());
        let sockets: Vec<_> = others.chain([first]).collect();
        for socket in &sockets {
            socket.set_nonblocking(true).unwrap();
        }
        Self { port, sockets }
    }

    fn assert_silent(&self) {
        for socket in &self.sockets {
            let error = socket
                .recv(&mut [0; 9])
                .expect_err("a datagram reached a victim");
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
        }
    }
}

/// Asks for a tunnel and, should it be granted, uses it. Returns the refusal.
async fn attack(server: &TestServer, path: &str) -> Option<Refused> {
    match server.connect("connect-udp", path).await {
        Ok(tunnel) => {
            tunnel.send(b"\0leak");
            tokio::time::sleep(Duration::from_millis(5)).await;
            None
        }
        Err(_) => Some(refusal(server, path).await),
    }
}

fn prohibited() -> Option<Refused> {
    Some(refused_with(403, "destination_ip_prohibited"))
}

#[tokio::test]
async fn udp_28_closed_ranges_are_refused_as_literals() {
    let victims = Victims::bind();
    let server = server("", None).await;
    for host in CLOSED {
        for port in [victims.port, 53, 443] {
            assert_eq!(
                attack(&server, &path(host, port)).await,
                prohibited(),
                "{host}"
            );
        }
        let upper = host.to_uppercase();
        assert_eq!(
            attack(&server, &path(&upper, victims.port)).await,
            prohibited(),
            "{upper}"
        );
    }
    victims.assert_silent();
}

#[tokio::test]
async fn udp_28_own_addresses_are_refused_on_every_port() {
    let victims = Victims::bind();
    let listener = SocketAddr::from(([127, 0, 0, 1], 4433));
    let mut cx = StartContext::new(".");
    cx.listeners = vec![listener];
    // Even what is opened in general is closed where the server itself listens.
    let mounts = vec![config(r#", "allow": ["127.0.0.1:4433"]"#).into_mount()];
    let server = TestServer::with_mounts(mounts, cx).await;
    for own in LocalAddresses::detect(Vec::new()).unwrap().interfaces {
        for port in [victims.port, 1, 443] {
            let path = path(&own.ip().to_string(), port);
            assert_eq!(attack(&server, &path).await, prohibited(), "{path}");
        }
    }
    let refused = attack(&server, &path_to(listener)).await;
    assert_eq!(refused, Some(refused_with(502, "proxy_loop_detected")));
    victims.assert_silent();
}

#[tokio::test]
async fn udp_29_odd_spellings_are_refused() {
    let victims = Victims::bind();
    let (server, names) = server_with_names("", |_| Answer::addresses(["127.0.0.1", "::1"])).await;
    for host in ODD {
        let refused = attack(&server, &path(host, victims.port)).await;
        assert_eq!(
            refused,
            Some(refused_with(400, "http_request_error")),
            "{host}"
        );
    }
    assert_eq!(names.queries(), 0);
    victims.assert_silent();
}

#[tokio::test]
async fn udp_29_names_of_closed_addresses_are_refused() {
    let victims = Victims::bind();
    // `aN` has the address N, `cN` is an alias of an alias of it.
    let (server, _names) = server_with_names("", |question| {
        let number = question.name.trim_end_matches(".example");
        let (kind, number) = number.split_at(1);
        let Some(address) = number.parse().ok().and_then(|n: usize| CLOSED.get(n)) else {
            return Answer::NXDOMAIN;
        };
        match kind {
            "a" => Answer::addresses([*address]),
            _ => Answer::Records {
                aliases: vec!["second.example".into(), "third.example".into()],
                addresses: vec![address.parse().unwrap()],
            },
        }
    })
    .await;
    for (number, address) in CLOSED.iter().enumerate() {
        for kind in ["a", "c"] {
            let host = format!("{kind}{number}.example");
            let refused = attack(&server, &path(&host, victims.port)).await;
            assert_eq!(refused, prohibited(), "{host} is {address}");
        }
    }
    victims.assert_silent();
}

#[tokio::test]
async fn udp_29_a_crowd_of_closed_addresses_is_refused() {
    let victims = Victims::bind();
    let crowd: Vec<_> = (0..50)
        .map(|last| IpAddr::from([127, 0, 0, last]))
        .collect();
    let (server, _names) = server_with_names("", move |_| Answer::Records {
        aliases: Vec::new(),
        addresses: crowd.clone(),
    })
    .await;
    assert_eq!(
        attack(&server, &path("crowd.example", victims.port)).await,
        prohibited()
    );
    victims.assert_silent();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_14_rebinding_never_reaches_a_closed_address() {
    const TRIES: usize = 3000;
    let victims = Victims::bind();
    let turn = AtomicUsize::new(0);
    // Every question gets another answer: an open address, a closed one, both, in either family.
    let (server, _names) = server_with_names(r#", "allow": ["198.51.100.0/24"]"#, move |_| {
        match turn.fetch_add(1, Ordering::Relaxed) % 7 {
            0 | 3 => Answer::addresses(["198.51.100.1"]),
            1 => Answer::addresses(["127.0.0.1", "::1"]),
            2 => Answer::addresses(["198.51.100.1", "127.0.0.1", "::1"]),
            4 => Answer::addresses(["::ffff:127.0.0.1", "::1"]),
            5 => Answer::addresses(["127.0.0.1", "198.51.100.1"]),
            _ => Answer::Code(0),
        }
    })
    .await;
    let port = victims.port;
    let accepted = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let (server, accepted) = (server.clone(), accepted.clone());
            tokio::spawn(async move {
                for n in 0..TRIES / 4 {
                    let host = format!("t{task}-{}.example", n % 10);
                    let path = path(&host, port);
                    if let Ok(tunnel) = server.connect("connect-udp", &path).await {
                        accepted.fetch_add(1, Ordering::Relaxed);
                        tunnel.send(b"\0leak");
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    victims.assert_silent();
    // Where this host has no route at all, none can be accepted.
    let has_route = UdpSocket::bind("0.0.0.0:0")
        .unwrap()
        .connect("198.51.100.1:9")
        .is_ok();
    assert_eq!(accepted.load(Ordering::Relaxed) > 0, has_route);
}

#[tokio::test]
async fn udp_28_ranges_are_opened_one_by_one() {
    let target = Echo::start("127.0.0.1").await;
    let keys = format!(r#", "allow": ["127.0.0.1:{}"]"#, target.address.port());
    let server = server(&keys, None).await;
    for host in ["127.0.0.1", "::ffff:127.0.0.1"] {
        let mut tunnel = open(&server, &path(host, target.address.port())).await;
        tunnel.send(b"\0hi");
        tunnel.recv().await;
    }
    for host in ["127.0.0.2", "::1", "64:ff9b::7f00:1", "2002:7f00:1::"] {
        let refused = attack(&server, &path(host, target.address.port())).await;
        assert_eq!(refused, prohibited(), "{host}");
    }
    assert_eq!(target.count(), 2);
}

#[tokio::test]
async fn udp_28_a_refusal_says_nothing_of_the_rules() {
    let server = server(r#", "deny": ["198.51.100.7"]"#, None).await;
    for host in ["10.0.0.1", "198.51.100.7"] {
        let request = Request::tunnel("connect-udp", path(host, 53));
        let response = server.request(request).await;
        let value = response.headers["proxy-status"].to_str().unwrap();
        assert_eq!(value, "psq.example.net;error=destination_ip_prohibited");
    }
}

#[test]
fn a_malformed_rule_is_found_at_start() {
    for rule in [
        "127.0.0.1/33",
        "10.0.0.1/8",
        "localhost",
        "127.0.0.1:99999",
        "",
    ] {
        let json = format!(r#"{{ "path": "udp", "type": "UdpEndpoint", "allow": ["{rule}"] }}"#);
        let error = EndpointConfig::parse(&json).unwrap_err();
        assert!(error.key().contains("allow"), "{error}");
    }
}
