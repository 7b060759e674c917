use http::StatusCode;
use pasque::template::{MatchOutcome, PathTemplate};
use proptest::prelude::*;

use super::*;

const PATH: &str = "/.well-known/masque/ip/{target}/{ipproto}/";

fn prefix(text: &str) -> Target {
    Target::Prefix(text.parse().unwrap())
}

fn proto(number: u8) -> IpProto {
    IpProto::try_from(number).unwrap()
}

/// What a server at `template` makes of this path.
fn received(template: &str, path: &str) -> Result<(Target, IpProto)> {
    match PathTemplate::parse(template).unwrap().match_path(path) {
        MatchOutcome::Match(vars) => parse_scope(&vars),
        outcome => panic!("{path} does not match {template}: {outcome:?}"),
    }
}

#[test]
fn ip_01_requests_are_expanded_as_the_template_says() {
    for (template, target, proto, path) in [
        (
            "https://p.example/.well-known/masque/ip/{target}/{ipproto}/",
            Target::Any,
            IpProto::ANY,
            "/.well-known/masque/ip/%2A/%2A/",
        ),
        (
            "https://p.example/.well-known/masque/ip/{target}/{ipproto}/",
            prefix("2001:db8::/32"),
            proto(17),
            "/.well-known/masque/ip/2001%3Adb8%3A%3A%2F32/17/",
        ),
        (
            "https://p.example/.well-known/masque/ip/{target}/{ipproto}/",
            prefix("192.0.2.0/24"),
            proto(6),
            "/.well-known/masque/ip/192.0.2.0%2F24/6/",
        ),
        (
            "https://p.example:4443/masque/ip{?target,ipproto}",
            Target::Any,
            proto(6),
            "/masque/ip?target=%2A&ipproto=6",
        ),
        (
            "https://masque.example.org/?user=bob",
            Target::Any,
            IpProto::ANY,
            "/?user=bob",
        ),
    ] {
        let template = UriTemplate::parse(template, &[]).unwrap();
        let request = tunnel_request(&template, &target, proto).unwrap();
        assert_eq!(request.path, path);
        assert_eq!(request.method, http::Method::CONNECT);
        assert_eq!(request.protocol.as_deref(), Some("connect-ip"));
    }
    let template = UriTemplate::parse("https://p.example:4443/ip{?target,ipproto}", &[]).unwrap();
    let request = tunnel_request(&template, &Target::Any, IpProto::ANY).unwrap();
    assert_eq!(request.authority, "p.example:4443");
    // A client that leaves out what it does not want to limit is understood as well.
    let expanded = template.expand(&[(TARGET, None), (IPPROTO, Some("6"))]);
    assert_eq!(expanded.path_and_query, "/ip?ipproto=6");
}

#[test]
fn ip_01_templates_have_no_operators_but_those_for_queries() {
    for operator in ["+", "#", ".", "/", ";", "=", "!", "@", "|"] {
        let template = format!("https://p.example/{{{operator}target,ipproto}}");
        let error = UriTemplate::parse(&template, &[]).unwrap_err();
        let operator = operator.chars().next().unwrap();
        assert_eq!(error, TemplateError::Operator(operator));
    }
}

#[test]
fn ip_01_a_limit_that_the_template_cannot_say_is_refused() {
    let missing = |name: &str| Err(TemplateError::MissingVariable(name.into()));
    let without_both = UriTemplate::parse("https://p.example/?user=bob", &[]).unwrap();
    let request = |template, target, proto| tunnel_request(template, &target, proto).map(drop);
    assert_eq!(
        request(&without_both, prefix("192.0.2.0/24"), IpProto::ANY),
        missing("target")
    );
    assert_eq!(
        request(&without_both, Target::Any, proto(17)),
        missing("ipproto")
    );
    let without_proto = UriTemplate::parse("https://p.example/{target}", &[]).unwrap();
    assert_eq!(
        request(&without_proto, prefix("192.0.2.0/24"), IpProto::ANY),
        Ok(())
    );
    assert_eq!(
        request(&without_proto, Target::Any, proto(17)),
        missing("ipproto")
    );
}

#[test]
fn ip_02_present_variables_are_not_empty() {
    assert_eq!("".parse::<Target>(), Err(TargetError::Name(String::new())));
    assert_eq!(
        "".parse::<IpProto>(),
        Err(ProtoError::Malformed(String::new()))
    );
    for empty in [TARGET, IPPROTO] {
        let vars: Vars = [(empty, "")].into_iter().collect();
        let error = parse_scope(&vars).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }
    // What stands for "any" is never left out by us.
    assert_eq!(Target::Any.to_string(), "*");
    assert_eq!(IpProto::ANY.to_string(), "*");
}

#[test]
fn ip_03_a_star_may_be_encoded_or_left_out() {
    let everything = (Target::Any, IpProto::ANY);
    for (template, path) in [
        (PATH, "/.well-known/masque/ip/*/*/"),
        (PATH, "/.well-known/masque/ip/%2A/%2A/"),
        (PATH, "/.well-known/masque/ip/%2a/*/"),
        ("/ip{?target,ipproto}", "/ip"),
        ("/ip{?target,ipproto}", "/ip?target=*"),
        ("/ip{?target,ipproto}", "/ip?ipproto=%2A"),
        ("/", "/"),
    ] {
        assert_eq!(received(template, path).unwrap(), everything, "{path}");
    }
    // Decoded once only.
    let error = received(PATH, "/.well-known/masque/ip/%252A/%2A/").unwrap_err();
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        received(PATH, "/.well-known/masque/ip/2001%3Adb8%3A%3A%2F32/17/").unwrap(),
        (prefix("2001:db8::/32"), proto(17))
    );
}

#[test]
fn ip_04_prefixes_are_plain_and_have_no_host_bits() {
    for sent in [
        "192.0.2.1%2F24",
        "192.0.2.0%2F33",
        "192.0.2.0%2F024",
        "2001%3Adb8%3A%3A%2F129",
        "2001%3Adb8%3A%3A%2F0032",
        "2001%3Adb8%3A%3A1%2F64",
        "192.0.2.0%2F",
        "192.0.2.0%2F+8",
        "10.0.0.0%2F+8",
        "10.0.0.0%2F%208",
        "10.0.0.0%2F-1",
        "192.0.2.0%2F24%2F24",
        "192.0.2.0%2F255.255.255.0",
        "fe80%3A%3A1%25eth0",
        "fe80%3A%3A%25eth0%2F64",
        "%5B2001%3Adb8%3A%3A%5D",
        "%2F24",
        "*%2F0",
        "example.org%2F24",
        "192.0.2%2F24",
        "0xc0.0.2.1",
        "3221225985",
        "192.0.2.1.",
        "a..b",
        "a%20b",
        "a%00",
        "b%C3%BCcher.example",
    ] {
        let path = format!("/.well-known/masque/ip/{sent}/*/");
        let error = received(PATH, &path).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{sent}");
        assert_eq!(error.stream_error(), pasque::StreamError::Message, "{sent}");
        assert_eq!(error.proxy_error(), Some(ProxyError::HttpRequestError));
    }
    for (sent, target) in [
        ("0.0.0.0%2F0", prefix("0.0.0.0/0")),
        ("192.0.2.1%2F32", prefix("192.0.2.1/32")),
        ("192.0.2.1", prefix("192.0.2.1/32")),
        ("10.0.0.0%2F08", prefix("10.0.0.0/8")),
        ("%3A%3A%2F0", prefix("::/0")),
        ("2001%3Adb8%3A%3A%2F032", prefix("2001:db8::/32")),
        ("2001:DB8:0::1", prefix("2001:db8::1/128")),
        ("Example.ORG.", Target::Name("example.org".into())),
        (
            "xn--bcher-kva.example",
            Target::Name("xn--bcher-kva.example".into()),
        ),
    ] {
        let path = format!("/.well-known/masque/ip/{sent}/*/");
        assert_eq!(received(PATH, &path).unwrap().0, target, "{sent}");
    }
}

#[test]
fn ip_04_errors_say_what_was_found_and_what_is_expected() {
    let error = |text: &str| text.parse::<Target>().unwrap_err().to_string();
    assert_eq!(
        error("192.0.2.1/24"),
        "found host bits in 192.0.2.1/24, expected the network 192.0.2.0/24"
    );
    assert_eq!(
        error("192.0.2.0/33"),
        "found the prefix length \"33\", expected 0 to 32 in plain digits"
    );
    assert_eq!(
        error("2001:db8::/129"),
        "found the prefix length \"129\", expected 0 to 128 in plain digits"
    );
    assert_eq!(
        error("fe80::1%eth0"),
        "found the zone in \"fe80::1%eth0\", which has a meaning on one machine only: leave it out"
    );
    assert_eq!(
        error("example.org/24"),
        "found \"example.org/24\", expected an address before the \"/\""
    );
    let error = received(PATH, "/.well-known/masque/ip/*/tcp/").unwrap_err();
    assert_eq!(
        error.to_string(),
        "ipproto: found \"tcp\", expected \"*\" or up to three digits from 0 to 255"
    );
}

#[test]
fn ip_05_protocols_are_up_to_three_digits() {
    for text in [
        "256", "999", "-1", "+6", "tcp", "0017", "6 ", " 6", "0x6", "٦", "**",
    ] {
        let malformed = Err(ProtoError::Malformed(text.into()));
        assert_eq!(text.parse::<IpProto>(), malformed, "{text}");
        let vars: Vars = [(IPPROTO, text)].into_iter().collect();
        let error = parse_scope(&vars).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{text}");
    }
    for (text, number) in [("017", 17), ("17", 17), ("1", 1), ("001", 1), ("255", 255)] {
        assert_eq!(text.parse::<IpProto>().unwrap().number(), Some(number));
    }
    // Well formed, and refused for what it means only.
    assert_eq!("0".parse::<IpProto>(), Err(ProtoError::Extension(0)));
    assert_eq!("000".parse::<IpProto>(), Err(ProtoError::Extension(0)));
}

#[test]
fn ip_06_ipv6_extension_headers_are_no_protocols() {
    for number in 0..=u8::MAX {
        let is_extension = [0, 43, 44, 51, 60, 135, 139, 140].contains(&number);
        let parsed = number.to_string().parse::<IpProto>();
        assert_eq!(parsed, IpProto::try_from(number));
        match is_extension {
            true => assert_eq!(parsed, Err(ProtoError::Extension(number))),
            false => assert_eq!(parsed.unwrap().number(), Some(number)),
        }
    }
    let error = received(PATH, "/.well-known/masque/ip/*/44/").unwrap_err();
    assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    assert_eq!(error.proxy_error(), Some(ProxyError::HttpRequestError));
}

fn scope(prefixes: &[&str], protocol: Option<u8>) -> Scope {
    let prefixes = prefixes.iter().map(|text| text.parse().unwrap());
    Scope::new(Some(prefixes.collect()), protocol)
}

#[test]
fn ip_09_a_prefix_limits_the_tunnel_to_its_ip_version() {
    for (scope, v4, v6) in [
        (Scope::everything(), true, true),
        (Scope::new(None, Some(17)), true, true),
        (scope(&["192.0.2.0/24"], None), true, false),
        (scope(&["2001:db8::/32"], None), false, true),
        (
            scope(&["192.0.2.7/32", "2001:db8::7/128"], None),
            true,
            true,
        ),
        (scope(&[], None), false, false),
    ] {
        assert_eq!(
            (scope.allows_family(false), scope.allows_family(true)),
            (v4, v6)
        );
    }
}

#[test]
fn ip_10_packets_have_the_target_and_the_protocol_and_icmp_the_target() {
    let udp = scope(&["192.0.2.0/24", "2001:db8::/32"], Some(17));
    for (remote, protocol, admitted) in [
        ("192.0.2.1", 17, true),
        ("192.0.2.1", 6, false),
        ("192.0.3.1", 17, false),
        ("192.0.2.1", 1, true),
        ("192.0.3.1", 1, false),
        ("192.0.2.1", 58, false),
        ("2001:db8::1", 17, true),
        ("2001:db8::1", 58, true),
        ("2001:db8::1", 1, false),
        ("2001:db9::1", 58, false),
    ] {
        let remote = remote.parse().unwrap();
        assert_eq!(
            udp.admits(remote, protocol),
            admitted,
            "{remote} {protocol}"
        );
        assert!(Scope::everything().admits(remote, protocol));
    }
    // As on the wire, 0 stands for every protocol.
    assert_eq!(Scope::new(None, Some(0)), Scope::everything());
    let with_host_bits = scope(&["192.0.2.99/24"], None);
    assert!(with_host_bits.admits("192.0.2.1".parse().unwrap(), 6));
}

#[test]
fn ip_30_only_scopes_without_a_common_address_are_disjoint() {
    let all = Scope::everything();
    let net = scope(&["192.0.2.0/24"], None);
    for (one, two, disjoint) in [
        (&all, &all, false),
        (&all, &net, false),
        (&net, &scope(&["192.0.2.7/32"], None), false),
        (&net, &scope(&["192.0.0.0/16"], None), false),
        (&net, &scope(&["192.0.3.0/24"], None), true),
        (
            &net,
            &scope(&["198.51.100.0/24", "192.0.2.0/25"], None),
            false,
        ),
        (&net, &scope(&["2001:db8::/32"], None), true),
        // A ping's reply has no protocol to tell them apart.
        (
            &scope(&["192.0.2.0/24"], Some(6)),
            &scope(&["192.0.2.0/24"], Some(17)),
            false,
        ),
        (&all, &scope(&[], None), true),
    ] {
        assert_eq!(one.is_disjoint(two), disjoint, "{one:?} {two:?}");
        assert_eq!(two.is_disjoint(one), disjoint, "{one:?} {two:?}");
    }
}

proptest! {
    #[test]
    fn ip_04_a_target_survives_its_own_spelling(address: IpAddr, len in 0..=128_u8) {
        let len = if address.is_ipv4() { len % 33 } else { len };
        let network = IpNetwork::new(address, len).unwrap().network();
        let target = Target::Prefix(IpNetwork::new(network, len).unwrap());
        prop_assert_eq!(target.to_string().parse(), Ok(target));
    }

    #[test]
    fn no_text_panics(text: String) {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
        if let Ok(proto) = text.parse::<IpProto>() {
            prop_assert_eq!(proto.to_string().parse(), Ok(proto));
        }
    }

    /// Texts of the characters that targets are made of get further than noise.
    #[test]
    fn no_near_target_panics(text in "[0-9a-fx.:/%*_-]{0,24}") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }
    }
}
