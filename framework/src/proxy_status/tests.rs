use super::*;

const ALL: [ProxyError; 15] = [
    ProxyError::DnsTimeout,
    ProxyError::DnsError,
    ProxyError::DestinationNotFound,
    ProxyError::DestinationUnavailable,
    ProxyError::DestinationIpProhibited,
    ProxyError::DestinationIpUnroutable,
    ProxyError::ConnectionRefused,
    ProxyError::ConnectionTerminated,
    ProxyError::ConnectionTimeout,
    ProxyError::ConnectionLimitReached,
    ProxyError::HttpRequestError,
    ProxyError::HttpRequestDenied,
    ProxyError::ProxyInternalError,
    ProxyError::ProxyConfigurationError,
    ProxyError::ProxyLoopDetected,
];

#[test]
fn ps_01_the_name_is_a_token_or_else_a_string() {
    let table = [
        ("psq.example.net", "psq.example.net;error=dns_error"),
        ("1st proxy", r#""1st proxy";error=dns_error"#),
        ("", r#""";error=dns_error"#),
        (r#"a"b\c"#, r#""a\"b\\c";error=dns_error"#),
        ("bür\n;x=1", r#""b?r?;x=1";error=dns_error"#),
    ];
    for (name, expected) in table {
        let status = ProxyStatus::new(name).with_error(ProxyError::DnsError);
        assert_eq!(status.to_string(), expected, "{name:?}");
    }
}

#[test]
fn ps_02_every_parameter_has_its_type() {
    let status = ProxyStatus {
        received_status: Some(StatusCode::NOT_FOUND),
        info_code: Some(15),
        ..ProxyStatus::new("psq")
            .with_error(ProxyError::DnsError)
            .with_rcode("NXDOMAIN")
            .with_next_hop("[2001:db8::6]:443")
            .with_details("naïve \"x\" \\ \r\n")
    };
    let value = status.to_string_with_details();
    assert!(value.is_ascii());

    let members: List = Parser::new(&value).parse().unwrap();
    let [ListEntry::Item(member)] = members.as_slice() else {
        panic!("not one item: {value}");
    };
    assert_eq!(member.bare_item.as_token().unwrap().as_str(), "psq");
    let parameter = |name: &str| &member.params[KeyRef::from_str(name).unwrap()];
    let string = |name| parameter(name).as_string().unwrap().as_str();
    let integer = |name| i64::from(parameter(name).as_integer().unwrap());
    assert_eq!(parameter("error").as_token().unwrap().as_str(), "dns_error");
    assert_eq!(string("rcode"), "NXDOMAIN");
    assert_eq!(integer("info-code"), 15);
    assert_eq!(string("next-hop"), "[2001:db8::6]:443");
    assert_eq!(integer("received-status"), 404);
    assert_eq!(string("details"), r#"na?ve "x" \ ??"#);
}

#[test]
fn ps_03_every_error_has_its_status() {
    let statuses = ALL.map(|error| (error.as_str(), error.status().as_u16()));
    let expected = [
        ("dns_timeout", 504),
        ("dns_error", 502),
        ("destination_not_found", 500),
        ("destination_unavailable", 503),
        ("destination_ip_prohibited", 403),
        ("destination_ip_unroutable", 502),
        ("connection_refused", 502),
        ("connection_terminated", 502),
        ("connection_timeout", 504),
        ("connection_limit_reached", 503),
        ("http_request_error", 400),
        ("http_request_denied", 403),
        ("proxy_internal_error", 500),
        ("proxy_configuration_error", 500),
        ("proxy_loop_detected", 502),
    ];
    assert_eq!(statuses, expected);
}

#[test]
fn ps_04_success_names_the_next_hop() {
    let status = ProxyStatus::new("psq").with_next_hop("192.0.2.6:443");
    assert_eq!(status.to_string(), r#"psq;next-hop="192.0.2.6:443""#);
}

#[test]
fn ps_06_details_are_off_by_default() {
    let status = ProxyStatus::new("psq")
        .with_error(ProxyError::ProxyInternalError)
        .with_details("cannot reach 10.0.0.7");
    assert_eq!(status.to_string(), "psq;error=proxy_internal_error");
    assert_eq!(
        status.to_string_with_details(),
        r#"psq;error=proxy_internal_error;details="cannot reach 10.0.0.7""#
    );
}

#[test]
fn ps_08_the_last_member_counts() {
    let value = r#"origin.example; error=connection_refused, ("inner" list);x=1, "1st proxy";
        received-status=502, edge; error=tls_certificate_error; details="no \"name\"";
        rcode="NXDOMAIN"; info-code=9; next-hop=backend:8001; new=?0; newer=2.5"#
        .replace('\n', " ");
    let summary = parse(&value).unwrap();
    let expected = Summary {
        proxy: "edge".into(),
        error: Some("tls_certificate_error".into()),
        rcode: Some("NXDOMAIN".into()),
        info_code: Some(9),
        next_hop: Some("backend:8001".into()),
        received_status: None,
        details: Some(r#"no "name""#.into()),
        other: vec![("new".into(), "?0".into()), ("newer".into(), "2.5".into())],
    };
    assert_eq!(summary, expected);
    assert_eq!(
        summary.to_string(),
        r#"edge: tls_certificate_error, NXDOMAIN, no "name""#
    );
}

#[test]
fn ps_08_odd_types_are_kept_as_text() {
    let summary = parse(r#"edge; error="as string"; received-status=-7; info-code=x"#).unwrap();
    assert_eq!(summary.error.as_deref(), Some("as string"));
    assert_eq!((summary.received_status, summary.info_code), (None, None));
    let other = [("received-status", "-7"), ("info-code", "x")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(summary.other, other);
}

#[test]
fn ps_08_junk_is_ignored() {
    let junk = [
        "%%%",
        "",
        " ",
        "a b",
        "psq; error=",
        "psq;;",
        "é",
        "5",
        "(a b)",
        "psq, %%%",
        "psq,",
    ];
    for value in junk {
        assert_eq!(parse(value), None, "{value:?}");
    }
}

#[test]
fn ps_08_what_the_server_writes_the_client_reads() {
    for error in ALL {
        let written = ProxyStatus::new("psq").with_error(error).with_rcode("X");
        let read = parse(&written.to_string()).unwrap();
        assert_eq!(read.error.as_deref(), Some(error.as_str()));
        assert_eq!(
            (read.proxy.as_str(), read.rcode.as_deref()),
            ("psq", Some("X"))
        );
    }
}
