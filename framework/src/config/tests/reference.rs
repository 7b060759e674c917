//! `docs/configuration.md` says what is true.

use serde_json::{Value, json};

use super::*;

const REFERENCE: &str = include_str!("../../docs/configuration.md");

/// The cells of the table under a heading, without its first two lines.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = REFERENCE.split_once(&format!("## {heading}\n")).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &'static str| row.trim_matches('|').split(" | ").map(str::trim).collect();
    rows.map(cells).collect()
}

fn key(row: &[&'static str]) -> &'static str {
    row[0].trim_matches('`')
}

fn with_limits(limits: &Value) -> Result<Limits, ConfigError> {
    let endpoint = json!({ "path": "p", "type": "TestUnit" });
    let config = json!({
        "cert_file": "c", "key_file": "k", "limits": limits, "endpoints": [endpoint],
    });
    parse(&config.to_string()).map(|config| config.limits)
}

/// The keys that an unknown one's error lists.
fn keys_at(key: &str, config: &Value) -> Vec<String> {
    let error = parse(&config.to_string()).unwrap_err();
    assert_eq!(error.key(), key);
    let (_, list) = error.message().split_once("expected ").unwrap();
    list.split(['"'])
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_key_is_listed_in_order() {
    let listed = |heading: &str| -> Vec<_> { table(heading).iter().map(|row| key(row)).collect() };
    assert_eq!(keys_at("zzz", &json!({ "zzz": 1 })), listed("The server"));
    let limits = json!({ "limits": { "zzz": 1 } });
    assert_eq!(keys_at("limits.zzz", &limits), listed("Limits"));
}

#[test]
fn every_default_of_a_limit_is_the_documented_one() {
    let mut limits = json!({});
    for row in table("Limits") {
        limits[key(&row)] = row[1].parse::<u64>().unwrap().into();
    }
    assert_eq!(with_limits(&limits).unwrap(), Limits::default());
}

#[test]
fn every_range_of_a_limit_is_the_documented_one() {
    for row in table("Limits") {
        let name = key(&row);
        let (low, high) = row[2].split_once(" to ").unwrap();
        let (low, high): (u64, u64) = (low.parse().unwrap(), high.parse().unwrap());
        for number in [low, high] {
            // A tunnel is a request: one limit follows the other.
            let with = json!({ "requests_per_connection": 10_000, name: number });
            with_limits(&with).unwrap();
        }
        let wrong = [
            json!(high + 1),
            json!(-1),
            json!(low as f64 + 0.5),
            json!(u64::MAX),
            json!("1"),
        ];
        for number in wrong.into_iter().chain(low.checked_sub(1).map(Value::from)) {
            let error = with_limits(&json!({ name: number })).unwrap_err();
            assert_eq!(error.key(), format!("limits.{name}"));
            let range = format!("found {number}, expected a whole number from {low} to {high}");
            assert!(error.message() == range, "{error}");
        }
    }
}

#[test]
fn the_example_has_the_documented_keys() {
    let (_, example) = REFERENCE.split_once("```json\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    // The built-in types are not linked here; those of the tests stand in.
    let example = example
        .replace("Files", "TestFolder")
        .replace(r#", "deny": ["*:25"]"#, "");
    let example = example.replace("UdpEndpoint", "TestProxy");
    let config = parse(&example).unwrap();
    config.check_relay(&[config.listen_address()]).unwrap();
    assert_eq!(config.into_router().unwrap().mounts().len(), 2);
}
