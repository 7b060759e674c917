//! Addresses that a name server gives, whose owner may be the attacker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pasque::testing::dns::{Answer, DnsServer, Question};
use pasque_tests::{EchoTarget, Server};
use serde_json::json;

use crate::common::{echo, open, server, udp};
use crate::{Victims, attack, prohibited, refused_with};

/// Forbidden places: one of each kind that a socket of the test can stand at, and some others.
const FORBIDDEN: [&str; 14] = [
    "127.0.0.1",
    "127.0.0.53",
    "0.0.0.0",
    "10.0.0.1",
    "169.254.169.254",
    "192.168.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "fd00:ec2::254",
    "fe80::1",
];

async fn server_asking(
    allow: &[&str],
    answer: impl FnMut(&Question) -> Answer + Send + 'static,
) -> (Server, DnsServer) {
    let names = DnsServer::start(answer).await.unwrap();
    let config = json!({ "resolver": names.address(), "endpoints": [udp(allow)] });
    (server(config).await, names)
}

#[tokio::test]
async fn udp_29_names_of_forbidden_addresses_are_refused() {
    let victims = Victims::bind();
    // `aN` has the address N; `cN` is an alias of an alias of it.
    let (server, names) = server_asking(&[], |question| {
        let number = question.name.trim_end_matches(".example");
        let (kind, number) = number.split_at(1);
        let Some(address) = number.parse().ok().and_then(|n: usize| FORBIDDEN.get(n)) else {
            return Answer::NXDOMAIN;
        };
        let aliases = match kind {
            "a" => Vec::new(),
            _ => vec!["second.example".into(), "third.example".into()],
        };
        Answer::Records {
            aliases,
            addresses: vec![address.parse().unwrap()],
        }
    })
    .await;
    let connection = server.connect().await.unwrap();
    for (number, address) in FORBIDDEN.iter().enumerate() {
        for host in [
            format!("a{number}.example"),
            format!("A{number}.EXAMPLE."),
            format!("c{number}.example"),
        ] {
            let refused = attack(&connection, &host, victims.port).await;
            assert_eq!(refused, prohibited(), "{host} is {address}");
        }
    }
    assert!(names.queries() > 0);
    victims.assert_untouched().await;
}

#[tokio::test]
async fn udp_29_names_of_this_host_are_refused() {
    let victims = Victims::bind();
    let (server, _names) = server_asking(&[], |_| Answer::addresses(["127.0.0.1", "::1"])).await;
    let connection = server.connect().await.unwrap();
    for host in [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "x.localhost",
        "localhost.localdomain",
    ] {
        let refused = attack(&connection, host, victims.port).await;
        assert_eq!(refused, prohibited(), "{host}");
    }
    victims.assert_untouched().await;
}

#[tokio::test]
async fn udp_28_a_name_of_the_own_listener_is_refused() {
    let (server, _names) =
        server_asking(&["127.0.0.1"], |_| Answer::addresses(["127.0.0.1"])).await;
    let connection = server.connect().await.unwrap();
    let refused = attack(&connection, "loop.example", server.address().port()).await;
    assert_eq!(refused, refused_with(502, "proxy_loop_detected"));
}

#[tokio::test]
async fn udp_30_of_a_mixed_answer_only_what_is_allowed_is_used() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    // The other addresses of this host have a socket on the same port, which counts.
    let forbidden = std::net::UdpSocket::bind(("127.0.0.2", port)).unwrap();
    forbidden.set_nonblocking(true).unwrap();
    let (server, _names) = server_asking(&["127.0.0.1"], |question| {
        match question.name.as_str() {
            "first.example" => Answer::addresses(["127.0.0.1", "127.0.0.2", "10.0.0.1", "::1"]),
            "last.example" => Answer::addresses(["::1", "10.0.0.1", "127.0.0.2", "127.0.0.1"]),
            // More than are ever tried.
            _ => Answer::Records {
                aliases: Vec::new(),
                addresses: (1..=50).map(|last| [10, 0, 0, last].into()).collect(),
            },
        }
    })
    .await;
    let connection = server.connect().await.unwrap();
    for host in ["first.example", "last.example"] {
        let mut tunnel = open(&connection, host, port).await;
        for n in 0..10 {
            echo(&mut tunnel, &[n]).await;
        }
    }
    assert_eq!(
        attack(&connection, "crowd.example", port).await,
        prohibited()
    );
    assert_eq!(target.count(), 20);
    assert!(
        forbidden.recv(&mut [0; 9]).is_err(),
        "a datagram has reached 127.0.0.2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_14_a_name_that_changes_with_every_question_reaches_nothing() {
    const TRIES: usize = 2000;
    const AT_ONCE: usize = 8;
    let victims = Arc::new(Victims::bind());
    let open_target = EchoTarget::start(([127, 0, 0, 77], victims.port).into())
        .await
        .unwrap();
    // Every question gets another answer: an open address, a closed one, both, in either family.
    let turn = AtomicUsize::new(0);
    let (server, names) = server_asking(&["127.0.0.77"], move |_| {
        match turn.fetch_add(1, Ordering::Relaxed) % 7 {
            0 | 3 => Answer::addresses(["127.0.0.77"]),
            1 => Answer::addresses(["127.0.0.1", "::1"]),
            2 => Answer::addresses(["127.0.0.77", "127.0.0.1", "::1"]),
            4 => Answer::addresses(["::ffff:127.0.0.1", "::1"]),
            5 => Answer::addresses(["127.0.0.1", "127.0.0.77"]),
            _ => Answer::Code(0),
        }
    })
    .await;
    let connection = server.connect().await.unwrap();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|task| {
            let (connection, victims) = (connection.clone(), victims.clone());
            tokio::spawn(async move {
                let mut accepted = 0;
                for n in 0..TRIES / AT_ONCE {
                    let host = format!("r{task}-{}.example", n % 10);
                    accepted += usize::from(attack(&connection, &host, victims.port).await.is_ok());
                }
                accepted
            })
        })
        .collect();
    let mut accepted = 0;
    for task in tasks {
        accepted += task.await.unwrap();
    }
    victims.assert_untouched().await;
    // The attack was one: names were asked for again and again, and the open address was reached.
    assert!(
        names.queries() as usize > TRIES,
        "{} questions",
        names.queries()
    );
    assert!(
        accepted > TRIES / 10 && accepted < TRIES,
        "{accepted} of {TRIES}"
    );
    assert!(
        open_target.count() as usize > TRIES / 10,
        "{} datagrams",
        open_target.count()
    );
}
