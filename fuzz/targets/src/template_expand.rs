//! Any template and any values: a target is a URI without surprises, whatever the values hold, and
//! a server with the same template finds the values in it again.
//!
//! The first line is the template, the others are values.

use http::uri::{Authority, PathAndQuery};
use pasque::template::{MatchOutcome, PathTemplate, UriTemplate};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(input) = str::from_utf8(input) else {
        return;
    };
    let mut lines = input.split('\n');
    let template = lines.next().unwrap_or_default();
    let Ok(uri) = UriTemplate::parse(template, &[]) else {
        return;
    };
    let names: Vec<String> = uri.variables().map(str::to_owned).collect();
    let values: Vec<(&str, Option<&str>)> = names
        .iter()
        .map(|name| (name.as_str(), lines.next()))
        .collect();
    let target = uri.expand(&values);
    assert!(uri.port() != 0 && !uri.host().is_empty());
    target.authority.parse::<Authority>().expect("an authority");
    let path = &target.path_and_query;
    assert!(path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(!path.contains('#'));
    path.parse::<PathAndQuery>().expect("a path and a query");

    let Some(at) = template.find("://").map(|at| at + 3) else {
        return;
    };
    let Some(path_at) = template[at..].find('/').map(|len| at + len) else {
        return;
    };
    if let Ok(server) = PathTemplate::parse(&template[path_at..])
        && let MatchOutcome::Match(vars) = server.match_path(path)
    {
        for (name, value) in values {
            // What is empty in a path is not told apart from what is absent in a query.
            if let (Some(found), Some(value)) = (vars.get(name), value) {
                assert_eq!(found, value);
            }
        }
    }
}
