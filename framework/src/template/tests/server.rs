use super::*;

#[test]
fn udp_01_templates_with_two_readings_are_refused() {
    for template in [
        "/{a}-{b}",
        "/m?h={a}{b}",
        "/m{&a}",
        "/m{?a}{&b}",
        "/m{?a}&b={b}",
        "/m?x{?a}",
        "/m?x{&a}y",
        "/m?x{&a}{b}",
        "/m?{a}",
    ] {
        let error = PathTemplate::parse(template).unwrap_err();
        assert!(
            matches!(error, TemplateError::Unmatchable(_)),
            "{template}: {error}"
        );
    }
    for (template, twice) in [
        ("/{a}/{a}", "a"),
        ("/{a}{?a}", "a"),
        ("/{a,a}", "a"),
        ("/m?k={a}&k={b}", "k"),
    ] {
        let error = TemplateError::Duplicate(twice.to_owned());
        assert_eq!(PathTemplate::parse(template), Err(error));
    }
    for template in ["", "x/{a}", "{a}", "{?a}"] {
        assert_eq!(PathTemplate::parse(template), Err(TemplateError::EmptyPath));
    }
}

#[test]
fn udp_01_required_variables_are_asked_for() {
    assert_eq!(udp().require(&UDP), Ok(()));
    assert_eq!(
        path("/udp/{target_host}/").require(&UDP),
        Err(TemplateError::MissingVariable("target_port".into()))
    );
}

#[test]
fn udp_09_values_are_decoded_once() {
    for (sent, host) in [
        ("2001%3Adb8%3A%3A42", "2001:db8::42"),
        ("2001%3adb8::42", "2001:db8::42"),
        ("%253A", "%3A"),
        ("a%2Fb", "a/b"),
        ("a%00b", "a\0b"),
        ("a+b", "a+b"),
        ("%C3%A9", "\u{e9}"),
        ("*", "*"),
        ("%2A", "*"),
        ("a,b", "a,b"),
    ] {
        let expected = matched(&[("target_host", host), ("target_port", "443")]);
        assert_eq!(udp().match_path(&format!("/udp/{sent}/443/")), expected);
    }
}

#[test]
fn udp_09_query_variables_come_in_any_order() {
    let values = [("target_host", "h"), ("target_port", "443")];
    let written = path("/masque?h={target_host}&p={target_port}");
    assert_eq!(written.match_path("/masque?h=h&p=443"), matched(&values));
    assert_eq!(written.match_path("/masque?p=443&h=h"), matched(&values));

    let listed = path("/m?x=1{&target_host,target_port}");
    let target = "/m?target_port=443&x=1&target_host=h";
    assert_eq!(listed.match_path(target), matched(&values));
    assert_eq!(
        listed.match_path("/m?x=1&target_host=a=b"),
        matched(&[("target_host", "a=b")])
    );
}

#[test]
fn udp_09_literals_match_exactly() {
    let listed = path("/m?x=1{&target_host}");
    for target in [
        "/m?x=2&target_host=h",
        "/m?target_host=h",
        "/m",
        "/M?x=1",
        "/m/?x=1",
    ] {
        assert_eq!(listed.match_path(target), MatchOutcome::NoMatch, "{target}");
    }
    for target in [
        "/udp",
        "/udp2/h/443/",
        "/UDP/h/443/",
        "/%75dp/h/443/",
        "/x/udp/h/443/",
        "",
    ] {
        assert_eq!(udp().match_path(target), MatchOutcome::NoMatch, "{target}");
    }
    let echo = path("/echo");
    assert_eq!(echo.match_path("/echo"), matched(&[]));
    for target in ["/echo/", "/echo2", "/ech"] {
        assert_eq!(echo.match_path(target), MatchOutcome::NoMatch, "{target}");
    }
    let within = path("/u-{a}.x");
    assert_eq!(within.match_path("/u-1.x"), matched(&[("a", "1")]));
    assert_eq!(within.match_path("/u-1.y"), malformed(PathError::Form));
    assert_eq!(within.match_path("/v-1.x"), MatchOutcome::NoMatch);
}

#[test]
fn udp_09_values_joined_by_commas_are_told_apart() {
    let joined = path("/m/{target_host,target_port}");
    let expected = matched(&[("target_host", "2001:db8::42"), ("target_port", "443")]);
    assert_eq!(joined.match_path("/m/2001%3Adb8%3A%3A42,443"), expected);
    assert_eq!(joined.match_path("/m/443"), malformed(PathError::Form));
    let empty = PathError::EmptyValue("target_host".into());
    assert_eq!(joined.match_path("/m/,443"), malformed(empty));
}

#[test]
fn udp_10_targets_of_another_form_are_malformed() {
    let host = || "target_host".to_owned();
    let port = || "target_port".to_owned();
    for (target, error) in [
        ("/udp//443/", PathError::EmptyValue(host())),
        ("/udp/h//", PathError::EmptyValue(port())),
        ("/udp/h/443/x/", PathError::Form),
        ("/udp/h/443//", PathError::Form),
        ("/udp/h/443", PathError::Form),
        ("/udp/h/", PathError::Form),
        ("/udp/", PathError::Form),
        ("/udp/%zz/443/", PathError::Percent(host())),
        ("/udp/h/44%3/", PathError::Percent(port())),
        ("/udp/%/443/", PathError::Percent(host())),
        ("/udp/%ff/443/", PathError::NotUtf8(host())),
        ("/udp/h/443/?x=1", PathError::UnexpectedField),
        ("/udp/h/443/?", PathError::UnexpectedField),
    ] {
        assert_eq!(udp().match_path(target), malformed(error), "{target}");
    }
}

#[test]
fn udp_10_queries_of_another_form_are_malformed() {
    let template = path("/m?h={target_host}&p={target_port}");
    for (target, error) in [
        ("/m", PathError::MissingField("h".into())),
        ("/m?h=h", PathError::MissingField("p".into())),
        ("/m?h&p=443", PathError::MissingField("h".into())),
        ("/m?h=&p=443", PathError::EmptyValue("target_host".into())),
        ("/m?h=%zz&p=443", PathError::Percent("target_host".into())),
        ("/m?h=h&p=443&p=444", PathError::UnexpectedField),
        ("/m?h=h&p=443&", PathError::UnexpectedField),
        ("/m?h=h&p=443&q=1", PathError::UnexpectedField),
    ] {
        assert_eq!(template.match_path(target), malformed(error), "{target}");
    }
}

#[test]
fn ip_01_query_variables_may_be_absent() {
    let template = path("/masque/ip{?target,ipproto}");
    assert_eq!(template.match_path("/masque/ip"), matched(&[]));
    let MatchOutcome::Match(vars) = template.match_path("/masque/ip?ipproto=6") else {
        panic!("a variable of {{?…}} may be absent");
    };
    assert_eq!((vars.get("target"), vars.get("ipproto")), (None, Some("6")));
    let empty = PathError::EmptyValue("target".into());
    assert_eq!(template.match_path("/masque/ip?target="), malformed(empty));

    let whole_scope = path("/?user=bob");
    assert_eq!(whole_scope.match_path("/?user=bob"), matched(&[]));
    assert_eq!(whole_scope.match_path("/?user=eve"), MatchOutcome::NoMatch);
}

#[test]
fn prefixes_become_templates() {
    for prefix in ["udp", "/udp", "udp/", "/udp/"] {
        let template = PathTemplate::from_prefix(prefix, &UDP).unwrap();
        assert_eq!(template, path("/udp/{target_host}/{target_port}/"));
    }
    let text = |prefix, names: &[&str]| {
        let template = PathTemplate::from_prefix(prefix, names).unwrap();
        template.to_string()
    };
    assert_eq!(text("echo", &[]), "/echo");
    assert_eq!(text("a/b", &["c"]), "/a/b/{c}/");
    assert_eq!(text("", &["c"]), "/{c}/");
    assert_eq!(text("/", &[]), "/");
    for prefix in ["a//b", "../a", "a/.", "a?b", "a#b", "a{b}"] {
        let error = TemplateError::Prefix(prefix.to_owned());
        assert_eq!(PathTemplate::from_prefix(prefix, &UDP), Err(error.clone()));
        assert_eq!(PathTemplate::prefix(prefix), Err(error));
    }
}

#[test]
fn prefixes_match_whole_segments() {
    let files = PathTemplate::prefix("files").unwrap();
    let root = PathTemplate::prefix("").unwrap();
    let rest = |template: &PathTemplate, target| match template.match_path(target) {
        MatchOutcome::Match(vars) => vars.rest().map(str::to_owned),
        other => {
            assert_eq!(other, MatchOutcome::NoMatch);
            None
        }
    };
    assert_eq!(rest(&files, "/files").as_deref(), Some(""));
    assert_eq!(rest(&files, "/files/").as_deref(), Some("/"));
    assert_eq!(
        rest(&files, "/files/a%2Fb/c?v=1").as_deref(),
        Some("/a%2Fb/c")
    );
    assert_eq!(rest(&files, "/files2/a"), None);
    assert_eq!(rest(&files, "/file"), None);
    assert_eq!(rest(&root, "/files2/a").as_deref(), Some("/files2/a"));
    assert_eq!(rest(&root, "/").as_deref(), Some("/"));
    assert_eq!(rest(&root, "*"), None);
    assert_eq!(PathTemplate::prefix("/").unwrap(), root);
}

#[test]
fn mounts_that_are_never_reached_are_found() {
    let prefix = |text| PathTemplate::prefix(text).unwrap();
    let covered = [
        (udp(), path("/udp/{host}/{port}/")),
        (path("/{a}/{b}"), path("/x/u{c}")),
        (path("/m{?a,b}"), path("/m?b={b}&a={c}")),
        (prefix(""), udp()),
        (prefix(""), prefix("")),
        (prefix("udp"), udp()),
        (prefix("udp"), prefix("udp/x")),
        (prefix("echo"), path("/echo?x={y}")),
    ];
    for (earlier, later) in &covered {
        assert!(earlier.covers(later), "{earlier} {later}");
    }
    let reached = [
        (udp(), path("/udp/{host}/{port}")),
        (path("/x/{a}"), path("/{a}/{b}")),
        (path("/{a}/"), path("//")),
        (path("/{a}"), path("/%ff")),
        (path("/m?a={a}"), path("/m{?a}")),
        (path("/m?x=1{&a}"), path("/m?x=2{&a}")),
        (path("/m{?a}"), path("/m{?a,b}")),
        (path("/{a,b}"), path("/{a}")),
        (path("/files"), prefix("files")),
        (prefix("files"), path("/files{x}")),
        (prefix("files"), prefix("")),
    ];
    for (earlier, later) in &reached {
        assert!(!earlier.covers(later), "{earlier} {later}");
    }
    assert!(prefix("a/b").specificity() > prefix("a").specificity());
    assert_eq!(udp().specificity(), "/udp/".len());
}
