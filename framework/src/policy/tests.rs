use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn policy(allow: &[&str], deny: &[&str]) -> EgressPolicy {
    EgressPolicy::new(rules(allow), rules(deny))
}

/// A host with two addresses that the internet can reach, and loopback.
fn host(listeners: &[&str]) -> LocalAddresses {
    let interfaces = ["127.0.0.1/8", "::1/128", "8.0.0.5/24", "2600::5/64"];
    LocalAddresses {
        listeners: listeners.iter().map(|text| text.parse().unwrap()).collect(),
        interfaces: interfaces.map(|text| text.parse().unwrap()).to_vec(),
        for_clients: Vec::new(),
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The verdict on port 443 of an address.
fn verdict(policy: &EgressPolicy, address: impl Into<IpAddr>) -> Result<(), Refusal> {
    policy.check(SocketAddr::new(address.into(), 443))
}

fn denied(range: &'static str) -> Result<(), Refusal> {
    Err(Refusal::AddressDenied { range })
}

/// Address and name of the range that closes it; an empty name where it is open.
const DEFAULT_VERDICTS: &[(&str, &str)] = &[
    ("0.0.0.0", "this-network"),
    ("0.255.255.255", "this-network"),
    ("1.0.0.0", ""),
    ("9.255.255.255", ""),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("11.0.0.0", ""),
    ("100.63.255.255", ""),
    ("100.64.0.0", "carrier-grade NAT"),
    ("100.100.100.200", "carrier-grade NAT"),
    ("100.127.255.255", "carrier-grade NAT"),
    ("100.128.0.0", ""),
    ("126.255.255.255", ""),
    ("127.0.0.0", "loopback"),
    ("127.0.0.53", "loopback"),
    ("127.255.255.255", "loopback"),
    ("128.0.0.0", ""),
    ("169.253.255.255", ""),
    ("169.254.0.0", "link-local"),
    ("169.254.169.253", "link-local"),
    ("169.254.169.254", "metadata"),
    ("169.254.255.255", "link-local"),
    ("169.255.0.0", ""),
    ("172.15.255.255", ""),
    ("172.16.0.0", "private"),
    ("172.31.255.255", "private"),
    ("172.32.0.0", ""),
    ("191.255.255.255", ""),
    ("192.0.0.0", "protocol assignment"),
    ("192.0.0.255", "protocol assignment"),
    ("192.0.1.0", ""),
    ("192.0.2.0", "documentation"),
    ("192.0.2.255", "documentation"),
    ("192.0.3.0", ""),
    ("192.88.98.255", ""),
    ("192.88.99.0", "6to4 relay"),
    ("192.88.99.255", "6to4 relay"),
    ("192.88.100.0", ""),
    ("192.167.255.255", ""),
    ("192.168.0.0", "private"),
    ("192.168.255.255", "private"),
    ("192.169.0.0", ""),
    ("198.17.255.255", ""),
    ("198.18.0.0", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.20.0.0", ""),
    ("198.51.99.255", ""),
    ("198.51.100.0", "documentation"),
    ("198.51.100.255", "documentation"),
    ("198.51.101.0", ""),
    ("203.0.112.255", ""),
    ("203.0.113.0", "documentation"),
    ("203.0.113.255", "documentation"),
    ("203.0.114.0", ""),
    ("223.255.255.255", ""),
    ("224.0.0.0", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.0", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", ""),
    ("64:ff9b::", "NAT64"),
    ("64:ff9b::8.8.8.8", "NAT64"),
    ("64:ff9b::1:0:0", ""),
    ("64:ff9b:1::", "NAT64"),
    ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "NAT64"),
    ("64:ff9b:2::", ""),
    ("100::", "discard-only"),
    ("100::ffff:ffff:ffff:ffff", "discard-only"),
    ("100:0:0:1::", ""),
    ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""),
    ("2001::", "Teredo"),
    ("2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo"),
    ("2001:1::", ""),
    ("2001:2::", "benchmarking"),
    ("2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking"),
    ("2001:2:1::", ""),
    ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", ""),
    ("2001:db8::", "documentation"),
    ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation"),
    ("2001:db9::", ""),
    ("2002::", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4"),
    ("2003::", ""),
    ("2606:4700:4700::1111", ""),
    ("3ffe:ffff::", ""),
    ("3fff::", "documentation"),
    ("3fff:fff:ffff::", "documentation"),
    ("3fff:1000::", ""),
    ("5f00::", "segment routing"),
    ("5f01::", ""),
    ("fbff:ffff::", ""),
    ("fc00::", "private"),
    ("fd00:ec2::254", "metadata"),
    ("fd00:ec2::253", "private"),
    ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "private"),
    ("fe00::", ""),
    ("fe80::", "link-local"),
    ("febf:ffff::", "link-local"),
    ("fec0::", "site-local"),
    ("feff:ffff::", "site-local"),
    ("ff00::", "multicast"),
    ("ff02::1", "multicast"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast"),
];

#[test]
fn udp_28_closed_ranges_end_where_they_should() {
    let policy = EgressPolicy::default();
    for &(text, range) in DEFAULT_VERDICTS {
        let address: IpAddr = text.parse().unwrap();
        let expected = if range.is_empty() {
            Ok(())
        } else {
            denied(range)
        };
        assert_eq!(verdict(&policy, address), expected, "{text}");
    }
}

#[test]
fn udp_28_rules_open_ranges_one_by_one() {
    let policy = policy(
        &["10.1.0.0/16", "127.0.0.1:9000", "[fd00::/8]:1000-2000"],
        &["10.1.2.0/24", "1.1.1.1", "*:25"],
    );
    let rule = |text: &str| {
        let rule = text.parse().unwrap();
        Err(Refusal::RuleDenied { rule })
    };
    let table = [
        ("10.1.0.1:1", Ok(())),
        ("10.0.255.255:1", denied("private")),
        ("10.1.2.3:1", rule("10.1.2.0/24")),
        ("127.0.0.1:9000", Ok(())),
        ("127.0.0.1:9001", denied("loopback")),
        ("127.0.0.2:9000", denied("loopback")),
        ("[fd12::1]:999", denied("private")),
        ("[fd12::1]:1000", Ok(())),
        ("[fd12::1]:2000", Ok(())),
        ("[fd12::1]:2001", denied("private")),
        ("1.1.1.1:443", rule("1.1.1.1")),
        ("1.1.1.2:443", Ok(())),
        ("10.1.0.1:25", Err(Refusal::PortDenied { port: 25 })),
        ("[2600::1]:25", Err(Refusal::PortDenied { port: 25 })),
        // Spelled differently, the same.
        ("[::ffff:10.1.0.1]:1", Ok(())),
        ("[::ffff:10.1.2.3]:1", rule("10.1.2.0/24")),
        ("[::ffff:127.0.0.1]:9000", Ok(())),
        ("[::127.0.0.1]:9001", denied("loopback")),
    ];
    for (target, expected) in table {
        assert_eq!(policy.check(socket(target)), expected, "{target}");
    }
}

#[test]
fn udp_28_the_first_deny_rule_is_named_and_beats_allow() {
    let policy = policy(&["*"], &["8.8.0.0/16", "8.0.0.0/8"]);
    let rule = "8.8.0.0/16".parse().unwrap();
    assert_eq!(
        policy.check(socket("8.8.8.8:53")),
        Err(Refusal::RuleDenied { rule })
    );
    assert_eq!(policy.check(socket("127.0.0.1:53")), Ok(()));
}

#[test]
fn udp_28_own_addresses_are_closed_on_every_port() {
    let closed = EgressPolicy::default().with_local(host(&[]));
    for text in ["8.0.0.5", "2600::5", "127.0.0.1", "::1", "::ffff:8.0.0.5"] {
        let address: IpAddr = text.parse().unwrap();
        for port in [1, 53, 443, 65535] {
            let refused = closed.check(SocketAddr::new(address, port));
            assert_eq!(refused, Err(Refusal::OwnAddress), "{text}:{port}");
        }
    }
    let broadcast = closed.check(socket("8.0.0.255:9"));
    assert_eq!(broadcast, Err(Refusal::SubnetBroadcast));
    assert_eq!(closed.check(socket("8.0.0.6:9")), Ok(()));
    assert_eq!(closed.check(socket("[2600::6]:9")), Ok(()));

    let open = policy(&["8.0.0.5:53", "8.0.0.255"], &[]).with_local(host(&[]));
    assert_eq!(open.check(socket("8.0.0.5:53")), Ok(()));
    assert_eq!(open.check(socket("8.0.0.255:9")), Ok(()));
    let other_port = open.check(socket("8.0.0.5:54"));
    assert_eq!(other_port, Err(Refusal::OwnAddress));
}

#[test]
fn udp_28_short_subnets_have_no_broadcast_address() {
    let interfaces = ["8.0.0.4/31", "8.0.0.9/32"].map(|text| text.parse().unwrap());
    let policy = EgressPolicy::default().with_local(LocalAddresses {
        interfaces: interfaces.to_vec(),
        ..LocalAddresses::default()
    });
    assert_eq!(policy.check(socket("8.0.0.5:1")), Ok(()));
    assert_eq!(policy.check(socket("8.0.0.9:1")), Err(Refusal::OwnAddress));
}

#[test]
fn udp_28_the_address_of_any_router_in_an_own_subnet_is_the_host_s() {
    let interfaces = ["2600:0:1:2::5/64", "2600:0:1:3::1/127", "2600:0:1:4::1/128"];
    let policy = EgressPolicy::default().with_local(LocalAddresses {
        interfaces: interfaces.map(|text| text.parse().unwrap()).to_vec(),
        listeners: vec![socket("[::]:443")],
        ..LocalAddresses::default()
    });
    let anycast = "2600:0:1:2::";
    assert_eq!(
        policy.check(socket(&format!("[{anycast}]:53"))),
        Err(Refusal::OwnAddress)
    );
    assert_eq!(
        policy.check(socket(&format!("[{anycast}]:443"))),
        Err(Refusal::OwnListener)
    );
    for other in [
        "2600:0:1:2::6",
        "2600:0:1:3::",
        "2600:0:1:4::",
        "2600:0:1::",
    ] {
        assert_eq!(
            policy.check(socket(&format!("[{other}]:53"))),
            Ok(()),
            "{other}"
        );
    }
}

#[test]
fn udp_28_the_own_listener_stays_closed() {
    // Listener, then targets that reach it, then targets that reach something else.
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "[::]:443",
            &[
                "127.0.0.1:443",
                "127.9.9.9:443",
                "0.0.0.0:443",
                "8.0.0.5:443",
                "[::1]:443",
                "[::]:443",
                "[2600::5]:443",
                "[::ffff:8.0.0.5]:443",
                "[64:ff9b::8.0.0.5]:443",
                "[2002:800:5::1]:443",
                "[::8.0.0.5]:443",
            ],
            &["8.0.0.5:444", "8.0.0.6:443", "[2600::6]:443"],
        ),
        (
            "0.0.0.0:443",
            &["127.0.0.1:443", "0.0.0.0:443", "8.0.0.5:443"],
            &["[::1]:443", "[2600::5]:443", "8.0.0.6:443"],
        ),
        (
            "8.0.0.5:443",
            &["8.0.0.5:443", "[::ffff:8.0.0.5]:443"],
            &["127.0.0.1:443", "[2600::5]:443", "8.0.0.5:80"],
        ),
        (
            "127.0.0.1:443",
            &["127.0.0.1:443", "0.0.0.0:443"],
            &["8.0.0.5:443", "127.0.0.2:443"],
        ),
        ("[::ffff:8.0.0.5]:443", &["8.0.0.5:443"], &["8.0.0.6:443"]),
    ];
    for (listener, own, others) in table {
        let policy = policy(&["*"], &[]).with_local(host(&[listener]));
        for target in *own {
            let refusal = policy.check(socket(target));
            assert_eq!(refusal, Err(Refusal::OwnListener), "{listener} {target}");
        }
        for target in *others {
            assert_eq!(policy.check(socket(target)), Ok(()), "{listener} {target}");
        }
    }
}

#[test]
fn udp_28_this_host_is_seen() {
    let listener = socket("0.0.0.0:443");
    let local = LocalAddresses::detect(vec![listener]).unwrap();
    let loopback: IpNetwork = "127.0.0.1/8".parse().unwrap();
    assert!(local.interfaces.contains(&loopback), "{local:?}");
    let policy = policy(&["*"], &[]).with_local(local.clone());
    for own in local.interfaces.iter().filter(|own| own.is_ipv4()) {
        let refusal = policy.check(SocketAddr::new(own.ip(), listener.port()));
        assert_eq!(refusal, Err(Refusal::OwnListener), "{own}");
    }
}

#[test]
fn udp_28_refusals_have_their_status() {
    let rule = "10.0.0.0/8:53".parse().unwrap();
    let table = [
        (Refusal::OwnListener, 502, "proxy_loop_detected"),
        (Refusal::OwnAddress, 403, "destination_ip_prohibited"),
        (Refusal::SubnetBroadcast, 403, "destination_ip_prohibited"),
        (
            Refusal::AddressDenied { range: "private" },
            403,
            "destination_ip_prohibited",
        ),
        (
            Refusal::RuleDenied { rule },
            403,
            "destination_ip_prohibited",
        ),
        (Refusal::PortDenied { port: 25 }, 403, "http_request_denied"),
    ];
    for (refusal, status, error) in table {
        assert_eq!(refusal.status().as_u16(), status, "{refusal}");
        assert_eq!(refusal.proxy_error().as_str(), error, "{refusal}");
    }
}

#[test]
fn udp_29_an_address_inside_an_address_must_pass_too() {
    let table = [
        // Allowing the translator's prefix does not open what is behind it.
        ("64:ff9b::/96", "64:ff9b::10.0.0.1", denied("private")),
        ("64:ff9b::/96", "64:ff9b::a9fe:a9fe", denied("metadata")),
        ("64:ff9b::/96", "64:ff9b::8.8.8.8", Ok(())),
        ("2002::/16", "2002:7f00:1::1", denied("loopback")),
        ("2002::/16", "2002:808:808::1", Ok(())),
        // Teredo, client 192.168.1.1 and client 8.8.8.8.
        (
            "2001::/32",
            "2001:0:808:808:0:0:3f57:fefe",
            denied("private"),
        ),
        ("2001::/32", "2001:0:808:808:0:0:f7f7:f7f7", Ok(())),
        ("1.2.3.4", "::127.0.0.1", denied("loopback")),
        ("1.2.3.4", "::8.8.8.8", Ok(())),
        ("1.2.3.4", "::ffff:0:127.0.0.1", denied("loopback")),
        ("1.2.3.4", "::ffff:0:8.8.8.8", Ok(())),
        ("::1", "::1", Ok(())),
        ("::", "::", Ok(())),
    ];
    for (allow, text, expected) in table {
        let address: IpAddr = text.parse().unwrap();
        assert_eq!(verdict(&policy(&[allow], &[]), address), expected, "{text}");
    }
}

#[test]
fn udp_30_allowed_candidates_remain_in_order() {
    let candidates = [
        "10.0.0.1:53",
        "8.8.8.8:53",
        "[::1]:53",
        "[::ffff:8.8.4.4]:53",
        "[2600::1]:53",
    ]
    .map(socket);
    let (allowed, refusal) = EgressPolicy::default().first_allowed(&candidates);
    let expected = ["8.8.8.8:53", "8.8.4.4:53", "[2600::1]:53"].map(socket);
    assert_eq!(allowed, expected);
    assert_eq!(refusal, Some(Refusal::AddressDenied { range: "private" }));

    let (allowed, refusal) = EgressPolicy::default().first_allowed(&candidates[..1]);
    assert!(allowed.is_empty() && refusal.is_some());
    let (allowed, refusal) = EgressPolicy::default().first_allowed(&[]);
    assert!(allowed.is_empty() && refusal.is_none());
}

#[test]
fn udp_31_ports_are_open_by_default_and_close_by_rule() {
    let open = EgressPolicy::default();
    for port in [0, 1, 25, 445, 65535] {
        assert_eq!(
            open.check(SocketAddr::new(Ipv4Addr::new(8, 8, 8, 8).into(), port)),
            Ok(())
        );
    }
    let closed = policy(&[], &["*:1-1023"]);
    assert_eq!(
        closed.check(socket("8.8.8.8:1023")),
        Err(Refusal::PortDenied { port: 1023 })
    );
    assert_eq!(closed.check(socket("8.8.8.8:1024")), Ok(()));
    // A packet without ports is not about any of them.
    assert_eq!(closed.check(socket("8.8.8.8:0")), Ok(()));
}

#[test]
fn canonical_keeps_the_scope() {
    assert_eq!(canonical(socket("[::ffff:8.8.8.8]:5")), socket("8.8.8.8:5"));
    let link_local = socket("[fe80::1%7]:5");
    assert_eq!(canonical(link_local), link_local);
}

/// Half of them anywhere, half of them where something is closed.
fn any_ipv4() -> impl Strategy<Value = Ipv4Addr> {
    let closed = DEFAULT_VERDICTS
        .iter()
        .filter_map(|(text, _)| text.parse().ok())
        .collect::<Vec<Ipv4Addr>>();
    prop_oneof![
        any::<u32>().prop_map(Ipv4Addr::from_bits),
        (prop::sample::select(closed), 0..3_u32).prop_map(|(near, step)| {
            Ipv4Addr::from_bits(near.to_bits().wrapping_add(step).wrapping_sub(1))
        }),
    ]
}

proptest! {
    #[test]
    fn udp_29_every_spelling_has_the_same_verdict(address in any_ipv4(), port: u16) {
        let [a, b, c, d] = address.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let spellings = [
            format!("[::ffff:{address}]:{port}"),
            format!("[::ffff:{high:x}:{low:x}]:{port}"),
            format!("[::FFFF:{high:X}:{low:X}]:{port}"),
            format!("[0:0:0:0:0:ffff:{high:04x}:{low:04x}]:{port}"),
            format!("[0000:0000:0000:0000:0000:ffff:{address}]:{port}"),
            format!("[::ffff:0:{address}]:{port}"),
            format!("[64:ff9b::{address}]:{port}"),
            format!("[2002:{high:x}:{low:x}:1:2:3:4:5]:{port}"),
            format!("[2001:0:1:2:3:4:{:x}:{:x}]:{port}", !high, !low),
        ];
        let translators = ["64:ff9b::/96", "2002::/16", "2001::/32"];
        let policy = policy(&[&translators[..], &["10.0.0.0/9"]].concat(), &["8.8.0.0/16", "*:25"])
            .with_local(host(&["[::]:443"]));
        let expected = policy.check(SocketAddr::new(address.into(), port));
        for spelling in spellings {
            prop_assert_eq!(policy.check(socket(&spelling)), expected, "{}", spelling);
        }
        // `::0.0.0.0` and `::0.0.0.1` are addresses of their own, closed under another name.
        let compatible = policy.check(socket(&format!("[::{address}]:{port}")));
        if address.to_bits() > 1 {
            prop_assert_eq!(compatible, expected);
        } else {
            prop_assert!(compatible.is_err());
        }
    }

    #[test]
    fn udp_28_nothing_special_is_open(address in any_ipv4()) {
        let special = address.is_private() || address.is_loopback() || address.is_link_local()
            || address.is_multicast() || address.is_broadcast() || address.is_documentation()
            || address.is_unspecified();
        let open = verdict(&EgressPolicy::default(), address).is_ok();
        prop_assert!(!(special && open), "{} is open", address);
    }

    #[test]
    fn udp_28_nothing_special_is_open_in_ipv6(
        head in prop_oneof![any::<u16>(), 0xfc00_u16.., Just(0)],
        tail: u128,
    ) {
        let head = u128::from(head) << (u128::BITS - u16::BITS);
        let address = Ipv6Addr::from_bits(head | tail >> u16::BITS);
        let special = address.is_multicast() || address.is_unique_local()
            || address.is_unicast_link_local() || address.is_loopback() || address.is_unspecified();
        let open = verdict(&EgressPolicy::default(), address).is_ok();
        prop_assert!(!(special && open), "{} is open", address);
    }
}

#[test]
fn ip_50_a_prefix_inside_a_closed_range_opens_it_and_a_wider_one_does_not() {
    let opened = |prefix: &str| policy(&[], &[]).open(&[prefix.parse().unwrap()]);
    let (ten, unique_local) = (opened("10.1.0.0/16"), opened("fd00:1::/32"));
    assert_eq!(verdict(&ten, [10, 1, 2, 3]), Ok(()));
    assert_eq!(verdict(&ten, [10, 2, 0, 0]), denied("private"));
    assert_eq!(
        verdict(&unique_local, Ipv6Addr::from([0xfd00, 1, 0, 0, 0, 0, 0, 9])),
        Ok(())
    );
    for wide in ["0.0.0.0/0", "10.0.0.0/7", "::/0", "8.0.0.0/8"] {
        assert_eq!(
            verdict(&opened(wide), [10, 1, 2, 3]),
            denied("private"),
            "{wide}"
        );
    }
}

#[test]
fn ip_50_of_this_hosts_addresses_only_the_one_in_the_tunnel_is_open() {
    let mut local = host(&["8.0.0.5:443"]);
    local.interfaces.push("10.1.0.1/16".parse().unwrap());
    local.interfaces.push("10.1.9.9/16".parse().unwrap());
    local.for_clients.push([10, 1, 0, 1].into());
    let tunnel = policy(&[], &[])
        .open(&["10.1.0.0/16".parse().unwrap()])
        .with_local(local);
    assert_eq!(verdict(&tunnel, [10, 1, 0, 1]), Ok(()));
    assert_eq!(verdict(&tunnel, [10, 1, 9, 9]), Err(Refusal::OwnAddress));
    assert_eq!(
        verdict(&tunnel, [10, 1, 255, 255]),
        Err(Refusal::SubnetBroadcast)
    );
    assert_eq!(verdict(&tunnel, [8, 0, 0, 5]), Err(Refusal::OwnListener));
}
