//! Addresses that the client writes itself.

use std::net::IpAddr;

use pasque_tests::EchoTarget;
use serde_json::json;

use crate::common::{echo, open, server, try_open, udp};
use crate::{Victims, attack, prohibited, refused_with};

/// One address, or more, of every range that is closed, and IPv4 inside IPv6 in every form.
const CLOSED: [&str; 60] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.53",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
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
    "0::1",
    "0:0:0:0:0:0:0:1",
    "0000:0000:0000:0000:0000:0000:0000:0001",
    "::0.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::FFFF:7F00:0001",
    "0:0:0:0:0:ffff:127.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
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
    "ff0e::1",
];

/// Spellings that some resolvers take for an address of the table, and that are no host here.
const ODD: [&str; 30] = [
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "0x7f.1",
    "0x7f.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.1",
    "127.0.1",
    "0177.0.0.1",
    "0177.1",
    "127.0.0.01",
    "127.000.000.001",
    "127.0.0.1.",
    "127.0.0.0x1",
    "0",
    "0.0",
    "0x0",
    "10.1",
    "3232235521",
    "4294967295",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[127.0.0.1]",
    "::1%lo",
    "fe80::1%eth0",
    "127.0.0.1%00",
    "127.0.0.1 ",
    "１２７.0.0.1",
    "127。0。0。1",
];

#[tokio::test]
async fn udp_28_closed_addresses_are_refused_and_not_reached() {
    let victims = Victims::bind();
    let server = server(json!({ "endpoints": [udp(&[])] })).await;
    let connection = server.connect().await.unwrap();
    for host in CLOSED {
        for port in [victims.port, 53] {
            assert_eq!(
                attack(&connection, host, port).await,
                prohibited(),
                "{host}"
            );
        }
    }
    victims.assert_untouched().await;
}

#[tokio::test]
async fn udp_28_own_addresses_are_refused_on_every_interface() {
    let victims = Victims::bind();
    let server = server(json!({ "endpoints": [udp(&[])] })).await;
    let connection = server.connect().await.unwrap();
    let own = pasque::policy::LocalAddresses::detect(Vec::new())
        .unwrap()
        .interfaces;
    assert!(!own.is_empty());
    for own in own {
        let host = own.ip().to_string();
        assert_eq!(
            attack(&connection, &host, victims.port).await,
            prohibited(),
            "{host}"
        );
    }
    victims.assert_untouched().await;
}

#[tokio::test]
async fn udp_29_odd_spellings_are_no_hosts() {
    let victims = Victims::bind();
    // Even where loopback is open: a spelling that is in doubt is refused, whatever it would mean.
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1", "::1"])] })).await;
    let connection = server.connect().await.unwrap();
    for host in ODD {
        let refused = attack(&connection, host, victims.port).await;
        assert_eq!(refused, refused_with(400, "http_request_error"), "{host}");
    }
    victims.assert_untouched().await;
}

#[tokio::test]
async fn udp_28_the_own_listener_is_refused_though_a_rule_opens_it() {
    let server =
        server(json!({ "endpoints": [udp(&["127.0.0.0/8", "0.0.0.0", "::1", "::"])] })).await;
    let port = server.address().port();
    let connection = server.connect().await.unwrap();
    let looped = refused_with(502, "proxy_loop_detected");
    for host in ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:0.0.0.0"] {
        assert_eq!(attack(&connection, host, port).await, looped, "{host}");
    }
}

#[tokio::test]
async fn udp_28_a_rule_opens_what_it_names_and_no_more() {
    let v4 = EchoTarget::on_loopback().await.unwrap();
    let v6 = EchoTarget::start("[::1]:0".parse().unwrap()).await.unwrap();
    let (v4_port, v6_port) = (v4.address().port(), v6.address().port());
    let rules = [format!("127.0.0.1:{v4_port}"), format!("[::1]:{v6_port}")];
    let endpoint = json!({
        "path": "udp", "type": "UdpEndpoint", "allow": rules, "deny": ["*:25"],
    });
    let server = server(json!({ "endpoints": [endpoint] })).await;
    let connection = server.connect().await.unwrap();

    for (host, port) in [
        ("127.0.0.1", v4_port),
        ("::ffff:127.0.0.1", v4_port),
        ("::FFFF:7F00:0001", v4_port),
        ("::1", v6_port),
        ("0:0:0:0:0:0:0:1", v6_port),
    ] {
        echo(&mut open(&connection, host, port).await, host.as_bytes()).await;
    }
    assert_eq!((v4.count(), v6.count()), (3, 2));

    for (host, port) in [
        ("127.0.0.2", v4_port),
        ("127.0.0.1", v6_port),
        ("::1", v4_port),
        ("64:ff9b::7f00:1", v4_port),
        ("2002:7f00:1::", v4_port),
        ("0.0.0.0", v4_port),
        ("::", v6_port),
    ] {
        assert_eq!(
            attack(&connection, host, port).await,
            prohibited(),
            "{host}:{port}"
        );
    }
    // Not about the address: the request itself is not wanted.
    let denied = refused_with(403, "http_request_denied");
    assert_eq!(attack(&connection, "127.0.0.1", 25).await, denied);
    assert_eq!(attack(&connection, "192.0.2.1", 25).await, denied);
    assert_eq!((v4.count(), v6.count()), (3, 2));
}

#[tokio::test]
async fn udp_28_public_addresses_are_open() {
    let server = server(json!({ "endpoints": [udp(&[])] })).await;
    let connection = server.connect().await.unwrap();
    // Nothing is sent there. Whether there is a route is this machine's affair, and an answer of
    // its own.
    for host in ["9.9.9.9", "2620:fe::9", "::ffff:9.9.9.9"] {
        let address: IpAddr = host.parse().unwrap();
        let any = if address.to_canonical().is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let probe = std::net::UdpSocket::bind(any).unwrap();
        let has_route = probe.connect((address.to_canonical(), 443)).is_ok();
        let answer = try_open(&connection, host, 443).await.map(drop);
        match answer {
            Ok(()) => assert!(has_route, "{host}"),
            Err(error) => {
                let refused = Err(crate::common::refusal(&error));
                assert_eq!(
                    refused,
                    refused_with(502, "destination_ip_unroutable"),
                    "{host}"
                );
                assert!(!has_route, "{host}");
            }
        }
    }
}
