//! Any template and any target: what matches expands to a target that matches alike.
//!
//! The first line is the template, the rest the target.

use pasque::template::{MatchOutcome, PathTemplate, UriTemplate};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(input) = str::from_utf8(input) else {
        return;
    };
    let (template, target) = input.split_once('\n').unwrap_or((input, ""));
    let Ok(path) = PathTemplate::parse(template) else {
        return;
    };
    assert!(path.covers(&path));
    let MatchOutcome::Match(vars) = path.match_path(target) else {
        return;
    };
    for (name, _) in vars.iter() {
        assert!(path.variables().any(|known| known == name));
    }
    let uri = UriTemplate::parse(&format!("https://p.example{template}"), &[])
        .expect("a client takes what a server takes");
    let values: Vec<_> = vars
        .iter()
        .map(|(name, value)| (name, Some(value)))
        .collect();
    let again = uri.expand(&values).path_and_query;
    assert_eq!(path.match_path(&again), MatchOutcome::Match(vars.clone()));
}
