//! Files of names: what they take, and what their errors say and do not say.

use super::*;
use crate::auth::IdentityLimits;

/// Costs next to nothing, and is the hash of nothing in particular.
const HASH: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn users(text: &str) -> Result<Users, ConfigError> {
    Users::parse(text, Path::new("users.json"))
}

fn roster(text: &str) -> Result<Roster, ConfigError> {
    Roster::parse(text, Path::new("keys.json"))
}

#[test]
fn names_of_nobody_cost_what_users_cost() {
    let dear = HASH.replace("m=8,", "m=65536,");
    let entry = |n: usize| {
        let hash = if n.is_multiple_of(4) { &dear } else { HASH };
        format!(r#""user-{n}": {{ "hash": "{hash}" }}"#)
    };
    let entries: Vec<_> = (0..40).map(entry).collect();
    let text = format!("{{ {} }}", entries.join(","));
    let [users, after_a_reload] = [users(&text).unwrap(), users(&text).unwrap()];
    let mut dear = 0;
    for n in 0..4000 {
        let name = format!("nobody-{n}");
        let cost = users.stand_in(&name).cost();
        assert!(cost == users.stand_in(&name).cost());
        assert!(cost == after_a_reload.stand_in(&name).cost());
        dear += usize::from(cost == users.get("user-0").unwrap().hash.cost());
    }
    assert!((800..1200).contains(&dear), "{dear} of 4000");
}

#[test]
fn entries_have_permissions_limits_and_an_end() {
    let text = format!(
        r#"{{ "alice": {{ "hash": "{HASH}", "permissions": ["vpn", "udp"], "tunnels": 4,
             "rate": "100M", "volume": 5000, "expires": "2030-12-31T23:59:59Z" }},
             "bob": {{ "hash": "{HASH}" }} }}"#
    );
    let users = users(&text).unwrap();
    let alice = users.get("alice").unwrap();
    assert_eq!(alice.holding.permissions, ["vpn", "udp"]);
    let limits = IdentityLimits {
        tunnels: Some(4),
        rate: Some(100_000_000),
        volume: Some(5000),
    };
    assert_eq!(alice.holding.limits, limits);
    let expires = alice.holding.expires.unwrap();
    assert_eq!(
        humantime::format_rfc3339(expires).to_string(),
        "2030-12-31T23:59:59Z"
    );
    assert_eq!(users.get("bob").unwrap().holding, Holding::default());
    assert!(users.get("carol").is_none());

    let text = format!(r#"{{ "{KEY}": {{ "name": "laptop", "permissions": ["vpn"] }} }}"#);
    let with_colons = KEY
        .as_bytes()
        .chunks(2)
        .map(|pair| str::from_utf8(pair).unwrap());
    let with_colons = with_colons.collect::<Vec<_>>().join(":").to_uppercase();
    for text in [text.replace(KEY, &with_colons), text] {
        let roster = roster(&text).unwrap();
        let key = parse_digest(KEY).unwrap();
        assert_eq!(hex(&key), KEY);
        assert_eq!(roster.get(&key).unwrap().name, "laptop");
        assert!(roster.get(&[0; 32]).is_none());
    }
}

#[test]
fn mistakes_are_located_and_secrets_not_shown() {
    let table = [
        (r#"{ "a": { "hash": "planted" } }"#, "a.hash"),
        (r#"{ "a": { "hash": 12345678 } }"#, "a.hash"),
        (r#"{ "a": { "hash": null } }"#, "a.hash"),
        (r#"{ "a": { "password": "planted" } }"#, "a"),
        (r#"{ "a": "planted" }"#, "a"),
        (r#"{ "a": {} }"#, "a"),
        (r#"{ "a:b": { "hash": "HASH" } }"#, "[\"a:b\"]"),
        (r#"{ "": { "hash": "HASH" } }"#, "[\"\"]"),
        (
            r#"{ "a": { "hash": "HASH", "permissions": "vpn" } }"#,
            "a.permissions",
        ),
        (
            r#"{ "a": { "hash": "HASH", "permissions": ["a b"] } }"#,
            "a.permissions[0]",
        ),
        (r#"{ "a": { "hash": "HASH", "rate": 0 } }"#, "a.rate"),
        (r#"{ "a": { "hash": "HASH", "rate": "fast" } }"#, "a.rate"),
        (r#"{ "a": { "hash": "HASH", "tunnels": -1 } }"#, "a.tunnels"),
        (r#"{ "a": { "hash": "HASH", "volume": null } }"#, "a.volume"),
        (
            r#"{ "a": { "hash": "HASH", "expires": "2030" } }"#,
            "a.expires",
        ),
        (r#"{ "a": { "hash": "HASH", "expires": 5 } }"#, "a.expires"),
        (
            r#"{ "a": { "hash": "HASH", "permission": ["vpn"] } }"#,
            "a.permission",
        ),
        (
            r#"{ "a": { "hash": "HASH" }, "a": { "hash": "HASH" } }"#,
            "a",
        ),
        ("[]", ""),
        ("null", ""),
        ("", ""),
    ];
    for (text, key) in table {
        let text = text.replace("HASH", HASH);
        let error = users(&text).map(|_| text.clone()).unwrap_err();
        assert_eq!(error.key(), key, "{error}");
        assert_eq!(error.line(), Some(1), "{error}");
        let message = error.to_string();
        for secret in ["planted", "12345678", "argon2id$"] {
            assert!(!message.contains(secret), "{message}");
        }
    }
    let table = [
        (
            r#"{ "00": { "name": "a" } }"#.to_owned(),
            "[\"00\"]".to_owned(),
        ),
        (format!(r#"{{ "{KEY}": {{}} }}"#), KEY.into()),
        (
            format!(r#"{{ "{KEY}": {{ "name": "" }} }}"#),
            format!("{KEY}.name"),
        ),
        (
            format!(r#"{{ "{KEY}0": {{ "name": "a" }} }}"#),
            format!("{KEY}0"),
        ),
        (
            format!(
                r#"{{ "{KEY}": {{ "name": "a" }}, "{}": {{ "name": "a" }} }}"#,
                KEY.to_uppercase()
            ),
            KEY.to_uppercase(),
        ),
    ];
    for (text, key) in table {
        let error = roster(&text).map(|_| text.clone()).unwrap_err();
        // Which of two that are equal comes first is the map's business.
        assert!(
            error.key().eq_ignore_ascii_case(&key) || key.starts_with('['),
            "{error}"
        );
    }
}

#[test]
fn who_is_shut_out_stands_on_a_line() {
    let revoked = Revoked::parse("# left\n\nalice\r\n  bob \n7\n", Path::new("revoked")).unwrap();
    for entry in ["alice", "bob", "7"] {
        assert!(revoked.contains(entry), "{entry}");
    }
    for entry in ["", "# left", "carol", "alic"] {
        assert!(!revoked.contains(entry), "{entry}");
    }
}
