//! Bad configurations: each is refused, with the line, the key and what would be right.

use super::*;

/// A bad configuration, and what its error must say.
struct Mistake {
    text: String,
    line: usize,
    key: String,
    says: Vec<String>,
}

impl Mistake {
    /// [`COMPLETE`] with the line that begins with `start` exchanged for `line`.
    fn at(start: &str, line: &str, key: &str, says: &[&str]) -> Self {
        let number = line_of(start);
        Self {
            text: with_line(number, line),
            line: number,
            key: key.into(),
            says: says.iter().map(|&text| text.into()).collect(),
        }
    }

    fn check(&self) {
        let error = match parse(&self.text) {
            Ok(_) => panic!("accepted:\n{}", self.text),
            Err(error) => error,
        };
        let message = error.to_string();
        assert_eq!(error.line(), Some(self.line), "{message}\n{}", self.text);
        assert_eq!(error.key(), self.key, "{message}\n{}", self.text);
        let place = format!("conf/server.json:{}:", self.line);
        assert!(message.starts_with(&place), "{message}");
        assert!(message.contains(&self.key), "{message}");
        assert!(!message.contains('\n'), "{message}");
        for text in &self.says {
            assert!(message.contains(text), "{message:?} does not say {text:?}");
        }
    }
}

/// Lines of [`COMPLETE`] with a key and a plain value: the key, its path, and the kinds of value
/// that it takes.
const KEYS: [(&str, &str, &[&str]); 17] = [
    ("listen", "listen", &["address"]),
    ("cert_file", "cert_file", &["text"]),
    ("key_file", "key_file", &["text"]),
    ("self_signed", "self_signed", &["true"]),
    ("threads", "threads", &["5"]),
    ("name", "name", &["text"]),
    ("resolver", "resolver", &["address"]),
    ("congestion_control", "congestion_control", &[]),
    ("retry", "retry", &[]),
    ("connections", "limits.connections", &["5"]),
    ("drain_ms", "limits.drain_ms", &["5"]),
    ("path", "endpoints[0].path", &["text", "list"]),
    ("type", "endpoints[0].type", &[]),
    ("anonymous", "endpoints[0].anonymous", &["true"]),
    ("port", "endpoints[0].port", &["5"]),
    ("mode", "endpoints[0].mode", &[]),
    ("one", "endpoints[0].peers.one", &[]),
];

/// Values of every kind: the kind, the value, and how an error shows it.
const VALUES: [(&str, &str, &str); 10] = [
    ("null", "null", "null"),
    ("true", "true", "true"),
    ("5", "5", "5"),
    ("-1", "-1", "-1"),
    ("1.5", "1.5", "1.5"),
    ("1e300", "1e300", "1e+300"),
    ("text", r#""text""#, r#""text""#),
    ("list", r#"["text"]"#, "a list"),
    ("empty list", "[]", "an empty list"),
    ("object", r#"{ "a": 1 }"#, "an object"),
];

/// The text with the comma, or without one, that the line has.
fn line_for(number: usize, text: &str) -> String {
    let old = COMPLETE.lines().nth(number - 1).unwrap();
    let comma = if old.ends_with(',') { "," } else { "" };
    format!("{text}{comma}")
}

#[test]
fn every_key_refuses_every_value_of_another_kind() {
    let mut refused = 0;
    for (key, path, takes) in KEYS {
        let start = format!("\"{key}\"");
        let number = line_of(&start);
        for (kind, value, shown) in VALUES {
            if takes.contains(&kind) {
                continue;
            }
            let is_name = ["type", "mode", "retry", "congestion_control"].contains(&key);
            let says: &[&str] = match kind {
                "text" if is_name => &["unknown", "expected"],
                "text" if key == "one" => &["found \"text\": invalid IP address"],
                // An enum of a plugin may be written as an object.
                "object" if key == "mode" => &["unknown value \"a\", expected"],
                _ => &[&format!("found {shown}, expected")],
            };
            let line = line_for(number, &format!("{start}: {value}"));
            Mistake::at(&start, &line, path, says).check();
            refused += 1;
        }
    }
    assert!(refused >= 140, "{refused}");
}

#[test]
fn every_key_that_is_misspelt_is_offered_right() {
    for (key, path, _) in KEYS {
        // Names of peers are free.
        if key == "one" {
            continue;
        }
        let start = format!("\"{key}\"");
        let number = line_of(&start);
        let old = COMPLETE.lines().nth(number - 1).unwrap();
        let mut letters: Vec<_> = key.chars().collect();
        letters.swap(1, 2);
        let swapped: String = letters.iter().collect();
        let doubled = format!("{key}{}", letters[0]);
        let missing = &key[..key.len() - 1];
        let upper = key.to_uppercase();
        for wrong in [&swapped, &doubled, missing, &upper] {
            let line = old.replace(&start, &format!("{wrong:?}"));
            let wrong_path = format!("{}{wrong}", path.strip_suffix(key).unwrap());
            let offer = format!("did you mean {key:?}?");
            let mut mistake = Mistake::at(&start, &line, &wrong_path, &["unknown key", &offer]);
            if key == "type" {
                // Without its type nothing else about an endpoint can be said.
                mistake.line = line_of(r#""path": "gate""#) - 1;
                mistake.key = "endpoints[0]".into();
                mistake.says = vec![format!("missing key \"type\"; is it {wrong:?}?")];
            }
            mistake.check();
        }
    }
}

#[test]
fn every_key_may_stand_once() {
    for (key, path, _) in KEYS {
        let start = format!("\"{key}\"");
        let number = line_of(&start);
        let old = COMPLETE.lines().nth(number - 1).unwrap();
        let twice = format!("{},\n{old}", old.trim_end_matches(','));
        let says = [&*format!("already on line {number}"), "duplicate key"];
        let mut mistake = Mistake::at(&start, &twice, path, &says);
        mistake.line += 1;
        mistake.check();
    }
}

#[test]
fn every_key_that_is_needed_is_missed() {
    let gate = line_of(r#""path": "gate""#) - 1;
    for (key, path, line) in [
        ("cert_file", "", 1),
        ("key_file", "", 1),
        ("path", "endpoints[0]", gate),
        ("type", "endpoints[0]", gate),
        ("port", "endpoints[0]", gate),
    ] {
        let start = format!("\"{key}\"");
        let mut mistake = Mistake::at(&start, "", path, &[&format!("missing key {key:?}")]);
        mistake.line = line;
        mistake.check();
    }
}

#[test]
fn mistakes_of_every_other_kind() {
    let lines = include_str!("mistakes.txt").lines();
    let rows: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    for row in &rows {
        let cells: Vec<_> = row.split(" | ").collect();
        let [start, text, key, says] = cells[..] else {
            panic!("not four cells: {row}")
        };
        let line = line_for(line_of(start), text);
        Mistake::at(start, &line, key, &says.split(" & ").collect::<Vec<_>>()).check();
    }
    assert!(rows.len() >= 75, "{}", rows.len());
}

#[test]
fn what_is_not_json_is_refused_where_it_begins() {
    let table = [
        ("// the address", "JSON has no comments"),
        ("# the address", "JSON has no comments"),
        (r#""listen": /* all */ "[::]:1""#, "JSON has no comments"),
        ("'listen': 1", "key must be a string"),
        ("listen: 1", "key must be a string"),
        (r#""listen" "x""#, "expected `:`"),
        (r#""listen": x"#, "expected value"),
        (r#""listen": 01"#, "invalid number"),
        (r#""listen": .5"#, "expected value"),
        (r#""listen": NaN"#, "expected value"),
        (r#""listen": 1e999"#, "number out of range"),
        (r#""listen": "\x41""#, "invalid escape"),
        (r#""listen": "\ud800""#, "hex escape"),
        ("\"listen\": \"a\tb\"", "control character"),
    ];
    for (text, says) in table {
        Mistake::at(r#""listen""#, &format!("{text},"), "", &[says]).check();
    }
    for last in [
        r#""one""#,
        r#""2001:db8::/32""#,
        r#""root""#,
        r#""drain_ms""#,
    ] {
        let old = COMPLETE.lines().nth(line_of(last) - 1).unwrap();
        let mut mistake = Mistake::at(last, &format!("{old},"), "", &["trailing comma"]);
        mistake.line += 1;
        mistake.check();
    }
    for garbage in ["x", "{}", "]", "}", ",", "\0", "// end"] {
        let mut mistake = Mistake::at("{", "{", "", &["trailing characters"]);
        mistake.line = COMPLETE.lines().count() + 1;
        mistake.text = format!("{COMPLETE}{garbage}");
        mistake.check();
    }
    let deep = parse(&"[".repeat(100_000)).unwrap_err();
    assert!(deep.message().contains("recursion limit"), "{deep}");
}

#[test]
fn what_is_no_configuration_is_refused() {
    let table = [
        ("", "end of the file"),
        ("[]", "found an empty list, expected an object"),
        ("null", "found null, expected an object"),
        ("{}", "missing key \"cert_file\""),
        ("\u{feff}{}", "byte order mark"),
    ];
    for (text, says) in table {
        let error = parse(text).unwrap_err();
        assert!(error.message().contains(says), "{error}");
        assert_eq!(error.line(), Some(1));
    }
    let table = [
        ("", "missing key \"endpoints\""),
        (", \"endpoints\": []", "at least one endpoint"),
        (", \"endpoints\": {}", "expected a list"),
        (", \"endpoints\": [1]", "found 1, expected an object"),
        (", \"endpoints\": [[]]", "expected an object"),
        (", \"endpoints\": [{}]", "missing key \"type\""),
    ];
    for (endpoints, says) in table {
        let text = format!(r#"{{ "cert_file": "c", "key_file": "k"{endpoints} }}"#);
        let error = parse(&text).unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn every_part_of_a_configuration_is_refused() {
    for (end, _) in COMPLETE.trim_end().char_indices() {
        let error = parse(&COMPLETE[..end]).unwrap_err();
        assert!(error.message().contains("end of the file"), "{error}");
    }
}
