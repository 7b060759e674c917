use super::*;

fn refused(template: &str) -> TemplateError {
    UriTemplate::parse(template, &UDP).unwrap_err()
}

#[test]
fn udp_01_bad_templates_are_refused() {
    use TemplateError::*;

    let rows = [
        ("/udp/{target_host}/{target_port}/", NotHttps),
        ("http://p.example/{target_host}/{target_port}", NotHttps),
        ("p.example/{target_host}/{target_port}", NotHttps),
        ("", NotHttps),
        ("{target_host}{target_port}", NotHttps),
        ("https:///x/{target_host}/{target_port}", EmptyAuthority),
        (
            "https://p.example?h={target_host}&p={target_port}",
            EmptyPath,
        ),
        ("https://p.example{?target_host,target_port}", EmptyPath),
        ("https://p.example", EmptyPath),
        (
            "https://{target_host}/x/{target_port}",
            VariableOutsidePathAndQuery,
        ),
        (
            "https://p.example{target_host}/x/{target_port}",
            VariableOutsidePathAndQuery,
        ),
        (
            "https://p.example/x/{target_host}/#{target_port}",
            VariableOutsidePathAndQuery,
        ),
        (
            "https://p.example/x/{target_host}/{target_port}#top",
            Fragment,
        ),
        (
            "https://p.example/{target_host}/",
            MissingVariable("target_port".into()),
        ),
        (
            "https://p.example/{Target_Host}/{target_port}",
            MissingVariable("target_host".into()),
        ),
    ];
    for (template, error) in rows {
        assert_eq!(refused(template), error, "{template}");
    }
}

#[test]
fn udp_01_authorities_are_a_host_and_a_port() {
    let bad = [
        ":443",
        "user@p.example",
        "p.example:",
        "p.example:0",
        "p.example:65536",
        "p.example:+443",
        "p.example:x",
        "a:b:443",
        "::1",
        "[::1",
        "[p.example]",
        "[]",
        "p%2eexample",
        "[::1]443",
    ];
    for authority in bad {
        let template = format!("https://{authority}/{{target_host}}/{{target_port}}");
        let error = TemplateError::Authority(authority.to_owned());
        assert_eq!(refused(&template), error);
        assert_eq!(UriTemplate::default_udp(authority), Err(error));
    }
    assert!(UriTemplate::default_udp("").is_err());
    assert!(UriTemplate::default_udp("p.example/x").is_err());
    assert!(UriTemplate::default_udp("p.example?x").is_err());

    let template = UriTemplate::default_udp("[2001:db8::1]:8443").unwrap();
    assert_eq!((template.host(), template.port()), ("2001:db8::1", 8443));
    let template = UriTemplate::default_udp("[2001:db8::1]").unwrap();
    assert_eq!((template.host(), template.port()), ("2001:db8::1", 443));
    let template = UriTemplate::default_udp("p.example").unwrap();
    assert_eq!((template.host(), template.port()), ("p.example", 443));
}

#[test]
fn udp_02_undefined_variables_vanish() {
    let rows = [
        (
            "/{target_host}/{target_port}/{?user}",
            "/2001%3Adb8%3A%3A42/443/",
        ),
        ("/{user,target_port}", "/443"),
        ("/m{?user,target_port}", "/m?target_port=443"),
        ("/m?x=1{&user,target_port}", "/m?x=1&target_port=443"),
        ("/m?x=1{&user}", "/m?x=1"),
        ("/m?u={user}", "/m?u="),
        ("/{TARGET_PORT}", "/"),
    ];
    for (template, expected) in rows {
        let target = expand(&format!("https://p.example{template}"), &HOST_AND_PORT);
        assert_eq!(target.path_and_query, expected, "{template}");
    }
    let undefined = [("user", None)];
    assert_eq!(
        expand("https://p.example/{?user}", &undefined).path_and_query,
        "/"
    );
    let empty = [("user", Some(""))];
    assert_eq!(
        expand("https://p.example/{?user}", &empty).path_and_query,
        "/?user="
    );
}

#[test]
fn udp_03_templates_expand_into_three_pseudo_headers() {
    let rows = [
        (
            "https://example.org/.well-known/masque/udp/{target_host}/{target_port}/",
            "example.org",
            "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/",
        ),
        (
            "https://proxy.example.org:4443/masque?h={target_host}&p={target_port}",
            "proxy.example.org:4443",
            "/masque?h=2001%3Adb8%3A%3A42&p=443",
        ),
        (
            "https://proxy.example.org:4443/masque{?target_host,target_port}",
            "proxy.example.org:4443",
            "/masque?target_host=2001%3Adb8%3A%3A42&target_port=443",
        ),
        (
            "https://p.example/m?x=1{&target_host,target_port}",
            "p.example",
            "/m?x=1&target_host=2001%3Adb8%3A%3A42&target_port=443",
        ),
        (
            "HTTPS://p.example:443/m/{target_host,target_port}",
            "p.example",
            "/m/2001%3Adb8%3A%3A42,443",
        ),
    ];
    for (template, authority, path_and_query) in rows {
        let template = UriTemplate::parse(template, &UDP).unwrap();
        let expected = RequestTarget {
            scheme: "https",
            authority: authority.into(),
            path_and_query: path_and_query.into(),
        };
        assert_eq!(template.expand(&HOST_AND_PORT), expected);
        assert_eq!(template.variables().collect::<Vec<_>>(), UDP);
    }
}

#[test]
fn udp_03_all_but_unreserved_characters_are_encoded() {
    let values = [("a", Some("Az09-._~ /%:*+\u{e9}"))];
    let target = expand("https://p.example/{a}", &values);
    assert_eq!(target.path_and_query, "/Az09-._~%20%2F%25%3A%2A%2B%C3%A9");
}

#[test]
fn udp_07_host_and_port_make_the_default_template() {
    let target = UriTemplate::default_udp("p.example:4443")
        .unwrap()
        .expand(&HOST_AND_PORT);
    assert_eq!(target.authority, "p.example:4443");
    let path = "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/";
    assert_eq!(target.path_and_query, path);

    let target = UriTemplate::default_ip("p.example")
        .unwrap()
        .expand(&[("target", Some("*")), ("ipproto", Some("*"))]);
    assert_eq!(target.authority, "p.example");
    assert_eq!(target.path_and_query, "/.well-known/masque/ip/%2A/%2A/");
}

#[test]
fn ip_01_both_variables_are_optional() {
    let default = "https://p.example/.well-known/masque/ip/{target}/{ipproto}/";
    let query = "https://p.example:4443/masque/ip{?target,ipproto}";
    let none = "https://masque.example.org/?user=bob";
    let v6 = [("target", Some("2001:db8::/32")), ("ipproto", Some("17"))];
    let v4 = [("target", Some("192.0.2.0/24")), ("ipproto", Some("6"))];
    let tcp = [("target", None), ("ipproto", Some("6"))];
    let rows = [
        (
            default,
            v6,
            "/.well-known/masque/ip/2001%3Adb8%3A%3A%2F32/17/",
        ),
        (default, v4, "/.well-known/masque/ip/192.0.2.0%2F24/6/"),
        (query, tcp, "/masque/ip?ipproto=6"),
        (none, v4, "/?user=bob"),
    ];
    for (template, values, expected) in rows {
        assert_eq!(expand(template, &values).path_and_query, expected);
    }
    assert_eq!(
        UriTemplate::parse("https://p.example/{+target}", &[]),
        Err(TemplateError::Operator('+'))
    );
}
