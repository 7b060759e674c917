use ipnetwork::IpNetwork;
use proptest::prelude::*;

use super::*;

#[test]
fn rules_are_read_and_written() {
    let table = [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.1/32"),
        ("127.0.0.1:9000", "127.0.0.1/32:9000"),
        ("10.0.0.0/8:53", "10.0.0.0/8:53"),
        ("10.0.0.0/8:1000-2000", "10.0.0.0/8:1000-2000"),
        ("10.0.0.0/8:53-53", "10.0.0.0/8:53"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("[fd00::/8]:53", "[fd00::/8]:53"),
        ("[fd00::/8]", "fd00::/8"),
        ("[::1]:1-65535", "[::1/128]:1-65535"),
        ("fd00::/8", "fd00::/8"),
        ("::/0", "::/0"),
        ("::1", "::1/128"),
        ("*:25", "*:25"),
        ("*:1-1023", "*:1-1023"),
        ("*", "*"),
    ];
    for (text, written) in table {
        let rule: Rule = text.parse().unwrap();
        assert_eq!(rule.to_string(), written);
        assert_eq!(written.parse(), Ok(rule));
    }
}

#[test]
fn malformed_rules_are_explained() {
    let expected = "expected an address, a prefix or \"*\", then an optional port: \
                    \"192.0.2.1\", \"10.0.0.0/8:53\", \"[fd00::/8]:1000-2000\", \"*:25\"";
    let malformed = [
        "",
        " ",
        " *",
        "**",
        "*/8",
        "all",
        "localhost",
        "localhost:80",
        "10.0.0/8",
        "10.0.0.256",
        "010.0.0.1",
        "0x7f.1",
        "[10.0.0.0/8]:53",
        "[::1",
        "::1]",
        "[::1]53",
        "[]",
        "[]:53",
        ":53",
        "/8",
        "fe80::1%eth0",
        "1.2.3.4:5:6",
        "[*]:53",
        "10.0.0.0\u{2044}8",
    ];
    for text in malformed {
        let error = text.parse::<Rule>().expect_err(text);
        assert_eq!(error.to_string(), format!("found {text:?}, {expected}"));
    }
    let explained = [
        (
            "10.0.0.1/8",
            "found host bits in 10.0.0.1/8, expected the network 10.0.0.0/8 or the address 10.0.0.1",
        ),
        (
            "fd00::1/8",
            "found host bits in fd00::1/8, expected the network fd00::/8 or the address fd00::1",
        ),
        (
            "::ffff:10.0.0.1",
            "found the IPv4-mapped ::ffff:10.0.0.1/128, expected the IPv4 form",
        ),
        (
            "::ffff:0.0.0.0/96",
            "found the IPv4-mapped ::ffff:0.0.0.0/96, expected the IPv4 form",
        ),
        (
            "*:2000-1000",
            "found the port range 2000-1000, expected the lower port first",
        ),
    ];
    for (text, message) in explained {
        assert_eq!(text.parse::<Rule>().expect_err(text).to_string(), message);
    }
}

#[test]
fn malformed_prefix_lengths_are_explained() {
    let table = [
        ("10.0.0.0/33", "33", 32),
        ("10.0.0.0/", "", 32),
        ("10.0.0.0/+8", "+8", 32),
        ("10.0.0.0/8/8", "8/8", 32),
        ("10.0.0.0/255.0.0.0", "255.0.0.0", 32),
        ("10.0.0.0/256:53", "256", 32),
        ("::/129", "129", 128),
        ("fd00::/8:53", "8:53", 128),
    ];
    for (text, found, longest) in table {
        let error = text.parse::<Rule>().expect_err(text);
        let expected =
            format!("found the prefix length {found:?} in {text:?}, expected 0 to {longest}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn malformed_ports_are_explained() {
    let found = [
        "0", "", "65536", "+53", "-1", "0-9", "1-", "1-2-3", "http", "25 ", "5,6",
    ];
    for ports in found {
        for target in ["*", "10.0.0.0/8", "[::1]"] {
            let text = format!("{target}:{ports}");
            let error = text.parse::<Rule>().expect_err(&text);
            let expected = format!(
                "found the port {ports:?}, expected 1 to 65535 or a range such as \"1000-2000\""
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}

#[test]
fn rules_are_json_strings() {
    let rules: [Rule; 2] = serde_json::from_str(r#"["10.0.0.0/8:53", "*"]"#).unwrap();
    assert_eq!(rules.map(|rule| rule.to_string()), ["10.0.0.0/8:53", "*"]);
    let error = serde_json::from_str::<Rule>(r#""*:0""#).unwrap_err();
    assert!(
        error.to_string().starts_with("found the port \"0\""),
        "{error}"
    );
    let error = serde_json::from_str::<Rule>("25").unwrap_err();
    assert!(error.to_string().contains("expected a string"), "{error}");
}

proptest! {
    #[test]
    fn rules_survive_being_written(
        address: IpAddr, prefix_len in 0..=128_u8, first in 1_u16.., last in 1_u16.., kind in 0..3,
    ) {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let network = IpNetwork::new(address, prefix_len.min(longest)).unwrap();
        let network = format!("{}/{}", network.network(), network.prefix());
        let ports = format!("{}-{}", first.min(last), first.max(last));
        let text = match kind {
            0 => network,
            1 if address.is_ipv6() => format!("[{network}]:{ports}"),
            1 => format!("{network}:{ports}"),
            _ => format!("*:{ports}"),
        };
        // The odd mapped prefix is refused, and says so.
        prop_assume!(!matches!(text.parse::<Rule>(), Err(RuleError::Mapped(_))));
        let rule: Rule = text.parse().unwrap();
        prop_assert_eq!(rule.to_string().parse(), Ok(rule));
    }

    #[test]
    fn no_text_breaks_the_parser(text in "[0-9a-f:./*\\[\\]-]{0,24}") {
        if let Ok(rule) = text.parse::<Rule>() {
            prop_assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }
}
