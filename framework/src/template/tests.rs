mod client;
mod server;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const ORIGIN: &str = "https://p.example";

const UDP: [&str; 2] = ["target_host", "target_port"];

/// The values of the rows about expansion.
const HOST_AND_PORT: [(&str, Option<&str>); 2] = [
    ("target_host", Some("2001:db8::42")),
    ("target_port", Some("443")),
];

fn expand(template: &str, values: &[(&str, Option<&str>)]) -> RequestTarget {
    UriTemplate::parse(template, &[]).unwrap().expand(values)
}

fn path(template: &str) -> PathTemplate {
    PathTemplate::parse(template).unwrap()
}

fn udp() -> PathTemplate {
    PathTemplate::from_prefix("udp", &UDP).unwrap()
}

fn matched(values: &[(&str, &str)]) -> MatchOutcome {
    MatchOutcome::Match(values.iter().copied().collect())
}

fn malformed(error: PathError) -> MatchOutcome {
    MatchOutcome::Malformed(error)
}

/// The error that both ends give for a path and query template.
fn path_error(template: &str) -> TemplateError {
    use TemplateError::*;

    let error = PathTemplate::parse(template).unwrap_err();
    let at_client = UriTemplate::parse(&format!("{ORIGIN}{template}"), &[]).unwrap_err();
    let shifted = match error.clone() {
        Brace { at } => Brace {
            at: at + ORIGIN.len(),
        },
        Percent { at } => Percent {
            at: at + ORIGIN.len(),
        },
        Character { found, at } => Character {
            found,
            at: at + ORIGIN.len(),
        },
        other => other,
    };
    assert_eq!(at_client, shifted);
    error
}

#[test]
fn udp_01_bad_expressions_are_refused_at_both_ends() {
    for operator in "+#./;=!@|,".chars() {
        let template = format!("/{{{operator}target_host}}");
        assert_eq!(path_error(&template), TemplateError::Operator(operator));
    }
    for name in ["target_host:3", "target_host*"] {
        let template = format!("/{{{name}}}");
        assert_eq!(path_error(&template), TemplateError::Modifier(name.into()));
    }
    for (expression, name) in [
        ("", ""),
        ("?", ""),
        ("a,", ""),
        ("a,,b", ""),
        ("a-b", "a-b"),
        ("a..b", "a..b"),
        (".a", "."),
        ("%2", "%2"),
        ("a{b", "a{b"),
        ("a&b", "a&b"),
    ] {
        let error = path_error(&format!("/{{{expression}}}"));
        if name == "." {
            assert_eq!(error, TemplateError::Operator('.'));
        } else {
            assert_eq!(error, TemplateError::Name(name.into()));
        }
    }
    assert_eq!(path_error("/a{b"), TemplateError::Brace { at: 2 });
    assert_eq!(path_error("/a}b"), TemplateError::Brace { at: 2 });
    assert_eq!(path_error("/{a}}"), TemplateError::Brace { at: 4 });
    for name in ["a", "A_9", "a.b", "%C3%A9"] {
        assert!(PathTemplate::parse(&format!("/{{{name}}}")).is_ok());
    }
}

#[test]
fn udp_01_characters_outside_a_uri_are_refused_at_both_ends() {
    for found in [
        ' ', '\u{e9}', '\0', '\n', '\u{7f}', '"', '<', '>', '\\', '^', '`', '|',
    ] {
        let error = path_error(&format!("/x{found}{{a}}"));
        assert_eq!(error, TemplateError::Character { found, at: 2 });
    }
    assert_eq!(path_error("/{a}/%zz"), TemplateError::Percent { at: 5 });
    assert_eq!(path_error("/{a}/%2"), TemplateError::Percent { at: 5 });
    assert_eq!(path_error("/{a}#x"), TemplateError::Fragment);
    assert_eq!(
        path_error("/x#{a}"),
        TemplateError::VariableOutsidePathAndQuery
    );
    assert_eq!(path_error("?x={a}"), TemplateError::EmptyPath);
}

/// Templates of every form that both ends take, all with the variables `a` and `b`.
const FORMS: &[&str] = &[
    "/{a}/{b}/",
    "/x/{b}/{a}",
    "/x-{a}/y{b}z",
    "/m/{a,b}",
    "/m{?a,b}",
    "/m?h={a}&p={b}",
    "/m?x=1{&b,a}",
    "/{a}?x&y=({b})",
    "/{a}{?b}",
    "/m?x{&a}&y{&b}",
];

/// A template or a target, of pieces with which chance meets the rules.
fn path_text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "/", "/", "/", "?", "&", "=", ",", "{a}", "{b,c}", "{?d}", "{&e}", "a", "b", "d=", "e=",
        "%61", "%2c", "%ff", "%zz", "{", "}", "%", "\u{e9}",
    ];
    vec(select(PIECES), 0..8).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn udp_09_what_a_client_expands_a_server_matches(
        form in 0..FORMS.len(),
        a in "\\PC{1,12}",
        b in ".{1,12}",
    ) {
        let uri = UriTemplate::parse(&format!("{ORIGIN}{}", FORMS[form]), &["a", "b"]).unwrap();
        let target = uri.expand(&[("a", Some(&a)), ("b", Some(&b))]);
        let outcome = path(FORMS[form]).match_path(&target.path_and_query);
        let MatchOutcome::Match(vars) = outcome else {
            return Err(TestCaseError::fail(format!("{}: {outcome:?}", target.path_and_query)));
        };
        prop_assert_eq!(vars.get("a"), Some(&*a));
        prop_assert_eq!(vars.get("b"), Some(&*b));
    }

    #[test]
    fn udp_10_no_template_and_no_target_panics(template: String, target: String) {
        check_match(&template, &target)?;
    }

    #[test]
    fn udp_10_what_matches_expands_and_matches_again(
        template in path_text(),
        target in path_text(),
    ) {
        check_match(&template, &target)?;
    }

    #[test]
    fn mounts_behind_a_covering_one_are_never_reached(
        earlier in path_text(),
        later in path_text(),
        target in path_text(),
    ) {
        let parsed = [&earlier, &later].map(|template| PathTemplate::parse(template));
        if let [Ok(earlier), Ok(later)] = parsed
            && earlier.covers(&later)
            && let MatchOutcome::Match(_) = later.match_path(&target)
        {
            let is_match = matches!(earlier.match_path(&target), MatchOutcome::Match(_));
            prop_assert!(is_match, "{} lets {} pass to {}", earlier, target, later);
        }
    }
}

/// What holds for any two texts: also the fuzz target `template_match`.
fn check_match(template: &str, target: &str) -> Result<(), TestCaseError> {
    let Ok(path) = PathTemplate::parse(template) else {
        return Ok(());
    };
    prop_assert!(path.covers(&path));
    let MatchOutcome::Match(vars) = path.match_path(target) else {
        return Ok(());
    };
    for (name, _) in vars.iter() {
        prop_assert!(path.variables().any(|known| known == name));
    }
    let uri = UriTemplate::parse(&format!("{ORIGIN}{template}"), &[]);
    let values: Vec<_> = vars
        .iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    let again = uri.unwrap().expand(&values);
    prop_assert_eq!(
        path.match_path(&again.path_and_query),
        MatchOutcome::Match(vars.clone())
    );
    Ok(())
}
