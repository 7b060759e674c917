use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Host {
    Host::Name(text.into())
}

#[test]
fn udp_04_host_and_port_are_never_empty() {
    let ports = ["", "0", "65536", "+443", "-1", "0x50", "443a", "4 43"];
    for port in ports {
        let error = Target::parse(&format!("host:{port}")).unwrap_err();
        assert_eq!(error, TargetError::Port(port.into()));
    }
    assert_eq!(Target::parse("host"), Err(TargetError::NoPort));
    assert_eq!(Target::parse(""), Err(TargetError::NoPort));
    assert_eq!(Target::parse(":53"), Err(TargetError::Host(String::new())));
    assert_eq!(
        Target::parse("[]:53"),
        Err(TargetError::Ipv6(String::new()))
    );
    for (port, number) in [("1", 1), ("65535", 65535), ("0443", 443)] {
        let target = Target::parse(&format!("host:{port}")).unwrap();
        assert_eq!(target.port.number(), number);
    }
}

#[test]
fn udp_05_ipv6_is_written_in_brackets_and_sent_without() {
    let target = Target::parse("[2001:db8::42]:443").unwrap();
    assert_eq!(target.host.to_string(), "2001:db8::42");
    assert_eq!(target.to_string(), "[2001:db8::42]:443");
    let template = pasque::template::UriTemplate::default_udp("example.org").unwrap();
    let request = crate::tunnel_request(&template, &target);
    assert_eq!(
        request.path,
        "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/"
    );
    assert_eq!(request.authority, "example.org");
    assert_eq!(request.protocol.as_deref(), Some("connect-udp"));

    for zoned in ["[fe80::1%eth0]:53", "[fe80::1%25eth0]:53", "[fe80::1%]:53"] {
        let error = Target::parse(zoned).unwrap_err();
        assert!(matches!(error, TargetError::Zone(_)), "{zoned}");
    }
    for unclear in ["2001:db8::42:443", "::1", "[::1:53", "fe80::1%eth0:53"] {
        assert_eq!(
            Target::parse(unclear),
            Err(TargetError::Brackets),
            "{unclear}"
        );
    }
    assert_eq!(Target::parse("[::1]"), Err(TargetError::NoPort));
    assert_eq!(Target::parse("[::1]53"), Err(TargetError::NoPort));
    assert!(matches!(
        Target::parse("[host]:53"),
        Err(TargetError::Ipv6(_))
    ));
}

#[test]
fn udp_06_names_go_out_as_a_labels() {
    for (text, sent) in [
        ("bücher.example:53", "xn--bcher-kva.example"),
        ("BÜCHER.example:53", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example:53", "xn--bcher-kva.example"),
        ("Example.ORG.:53", "example.org"),
        ("_dns.example:53", "_dns.example"),
        ("例え。テスト:53", "xn--r8jz45g.xn--zckzah"),
    ] {
        let target = Target::parse(text).unwrap();
        assert_eq!(target.host, name(sent), "{text}");
    }
    for text in ["\u{fffd}.example:53", "a\u{200d}.example:53", "bü cher:53"] {
        assert!(Target::parse(text).is_err(), "{text}");
    }
}

#[test]
fn udp_10_ports_are_plain_digits() {
    for bad in [
        "",
        "0",
        "00",
        "65536",
        "+443",
        "-1",
        "4 43",
        " 443",
        "0x50",
        "443a",
        "４４３",
        "1e3",
    ] {
        assert_eq!(
            bad.parse::<Port>(),
            Err(TargetError::Port(bad.into())),
            "{bad}"
        );
    }
    for (good, number) in [("65535", 65535), ("1", 1), ("0443", 443)] {
        assert_eq!(good.parse::<Port>().unwrap().number(), number);
    }
}

#[test]
fn udp_11_hosts_are_addresses_or_names() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
    assert_eq!(longest.len(), 253);
    for (text, host) in [
        ("192.0.2.6", Host::Address([192, 0, 2, 6].into())),
        (
            "2001:db8::42",
            Host::Address("2001:db8::42".parse().unwrap()),
        ),
        (
            "2001:DB8:0:0::42",
            Host::Address("2001:db8::42".parse().unwrap()),
        ),
        (
            "::ffff:192.0.2.6",
            Host::Address("::ffff:192.0.2.6".parse().unwrap()),
        ),
        ("example.org", name("example.org")),
        ("EXAMPLE.org.", name("example.org")),
        ("_a-1._b", name("_a-1._b")),
        ("1.2.3.4.example", name("1.2.3.4.example")),
        ("xn--bcher-kva.example", name("xn--bcher-kva.example")),
        (&label, name(&label)),
        (&longest, name(&longest)),
    ] {
        assert_eq!(text.parse::<Host>(), Ok(host), "{text}");
    }

    let too_long_label = "a".repeat(64);
    let too_long = format!("{longest}a");
    let hosts = [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "a\0b",
        "a\nb",
        "a%00b",
        "a:b",
        "[::1]",
        "::1]",
        "fe80::1%eth0",
        "fe80::1%25eth0",
        "::1%",
        "bücher.example",
        "a\\b",
        "a@b",
        "a?b",
        "a#b",
        "１２７.0.0.1",
        "127。0。0。1",
        &too_long_label,
        &too_long,
    ];
    for text in hosts {
        assert!(text.parse::<Host>().is_err(), "{text:?}");
    }
}

#[test]
fn udp_29_numbers_are_no_names() {
    for text in [
        "2130706433",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "127.0.0.01",
        "0",
        "1.2.3.4.5",
        "256.0.0.1",
        "127.0.0.0x1",
        "00.0.0.0",
        "4294967295",
    ] {
        assert_eq!(
            text.parse::<Host>(),
            Err(TargetError::OddAddress(text.into())),
            "{text}"
        );
    }
}

proptest! {
    #[test]
    fn a_target_survives_its_own_spelling(address: std::net::IpAddr, port in 1_u16..) {
        let target = Target { host: address.into(), port: port.to_string().parse().unwrap() };
        prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
    }

    #[test]
    fn no_text_panics(text: String) {
        let _ = (Target::parse(&text), text.parse::<Host>(), text.parse::<Port>());
    }
}
