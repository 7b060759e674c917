use pasque::config::EndpointConfig;

use super::*;

/// The message about an endpoint with these keys, without the place of the mistake.
fn mistake(keys: &str) -> String {
    let json = format!(r#"{{ "path": "ip", "type": "IpEndpoint", {keys} }}"#);
    match EndpointConfig::parse(&json) {
        Ok(_) => panic!("{keys} is accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn mistakes_are_told_where_they_are_and_in_words() {
    let pools = r#""addresspools": ["10.76.0.1/24"]"#;
    let prefix = r#""ifprefix": "tun-s""#;
    let table = [
        (pools.to_owned(), "missing key \"ifprefix\""),
        (prefix.to_owned(), "missing key \"addresspools\""),
        (
            format!(r#""ifprefix": "", {pools}"#),
            "expected 1 to 9 letters",
        ),
        (
            format!(r#""ifprefix": "ten-bytes-", {pools}"#),
            "found \"ten-bytes-\", expected 1 to 9",
        ),
        (
            format!(r#""ifprefix": "a/b", {pools}"#),
            "expected 1 to 9 letters",
        ),
        (
            format!(r#""ifprefix": "a%d", {pools}"#),
            "expected 1 to 9 letters",
        ),
        (
            format!(r#"{prefix}, "addresspools": []"#),
            "found no address pool",
        ),
        (
            format!(r#"{prefix}, "addresspools": ["10.76.0.1"]"#),
            "addresspools[0]",
        ),
        (
            format!(r#"{prefix}, "addresspools": ["10.76.0.1"]"#),
            "such as \"10.76.0.1/24\"",
        ),
        (
            format!(r#"{prefix}, "addresspools": ["10.76.0.1/33"]"#),
            "found \"10.76.0.1/33\"",
        ),
        (
            format!(r#"{prefix}, "addresspools": ["10.76.0.0/24"]"#),
            "expected the server's own",
        ),
        (
            format!(r#"{prefix}, "addresspools": ["10.76.0.1/31"]"#),
            "no room for clients",
        ),
        (
            format!(r#"{prefix}, "addresspools": ["10.76.0.1/24", "10.76.0.129/25"]"#),
            "overlap",
        ),
        (
            format!(r#"{prefix}, {pools}, "routes": []"#),
            "expected at least one network",
        ),
        (
            format!(r#"{prefix}, {pools}, "routes": ["::/0", "10.0.0.1/8"]"#),
            "routes[1]: found host bits in 10.0.0.1/8, expected the network 10.0.0.0/8",
        ),
        (
            format!(r#"{prefix}, {pools}, "routes": ["all"]"#),
            "found \"all\", expected a network",
        ),
        (
            format!(r#"{prefix}, {pools}, "accept_client_routes": ["192.168.7.1/24"]"#),
            "accept_client_routes[0]: found host bits",
        ),
        (
            format!(r#"{prefix}, {pools}, "allow": ["nonsense"]"#),
            "allow[0]",
        ),
        (
            format!(r#"{prefix}, {pools}, "interface": "one""#),
            "unknown value \"one\"",
        ),
        (
            format!(r#"{prefix}, {pools}, "device": "fast""#),
            "unknown value \"fast\"",
        ),
        (format!(r#"{prefix}, {pools}, "lease_s": -1"#), "lease_s"),
        (
            format!(r#"{prefix}, {pools}, "lease_s": 31536001"#),
            "expected 0 to 31536000",
        ),
        (
            format!(r#"{prefix}, {pools}, "mtu_probe": "no""#),
            "expected true or false",
        ),
        (
            format!(r#"{prefix}, {pools}, "rout": []"#),
            "did you mean \"routes\"?",
        ),
    ];
    for (keys, expected) in table {
        let text = mistake(&keys);
        assert!(text.contains(expected), "{keys}\n{text}");
    }
}

#[test]
fn templates_take_the_two_variables_or_leave_them_out() {
    for path in [
        "ip",
        "/vpn",
        "/.well-known/masque/ip/{target}/{ipproto}/",
        "/q{?target,ipproto}",
    ] {
        let json =
            format!(r#"{{ "path": "{path}", "type": "IpEndpoint", "ifprefix": "tun-s", {BOTH} }}"#);
        EndpointConfig::parse(&json).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[test]
fn ip_16_strangers_are_served_only_where_the_configuration_says_so() {
    let types = endpoint_types().unwrap();
    let kind = types.iter().find(|kind| kind.tag == "IpEndpoint").unwrap();
    assert!(!kind.public);
}

#[tokio::test]
async fn a_damaged_lease_file_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("leases"), b"not a lease file").unwrap();
    let keys = format!(r#"{BOTH}, "lease_file": "leases""#);
    let (device, _host) = MemoryDevice::pair(1500);
    let mut endpoint = endpoint(&keys).with_device(Arc::new(device));
    let error = endpoint
        .start(&StartContext::new(folder.path()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("lease_file"), "{error}");
}
