//! What serde says, in the words of someone who writes a configuration.
//!
//! An endpoint's type is known only to its own `Deserialize`, and what that expects is told nowhere
//! but in its message. serde's messages are read here; one that is not recognised is passed on.

use std::fmt::Write;

use serde_json::Value;

use super::locate::{End, JsonPath, Step};

/// Strings are shown up to this many characters.
const SHOWN_LEN: usize = 64;

/// How close two names must be for one to be offered in place of the other: 1 is the same name.
const NEAR: f64 = 0.85;

/// Words of serde that name a Rust type, and what to write in JSON.
const EXPECTED: [(&str, &str); 20] = [
    ("a boolean", "true or false"),
    ("a map", "an object"),
    ("a nonzero u16", "a whole number from 1 to 65535"),
    ("a nonzero u32", "a whole number from 1 to 4294967295"),
    ("a nonzero usize", "a whole number above 0"),
    ("a sequence", "a list"),
    ("f32", "a number"),
    ("f64", "a number"),
    ("i16", "a whole number from -32768 to 32767"),
    ("i32", "a whole number from -2147483648 to 2147483647"),
    ("i64", "a whole number"),
    ("i8", "a whole number from -128 to 127"),
    ("path string", "a path"),
    ("string or map", "a name"),
    ("u16", "a whole number from 0 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number, 0 or more"),
    ("u8", "a whole number from 0 to 255"),
    ("unit", "null"),
    ("usize", "a whole number, 0 or more"),
];

/// A message of serde about the value `found` at `path`, and which end of the entry it is about.
/// `also` are keys that the object may have and its type knows nothing of.
pub(super) fn reword(
    message: &str,
    path: &JsonPath,
    found: Option<&Value>,
    also: &[&str],
) -> (String, End) {
    let last_key = match path.0.last() {
        Some(Step::Key(key)) => key.as_str(),
        _ => "",
    };
    let unknown_key = format!("unknown field `{last_key}`, ");
    if let Some(expected) = message.strip_prefix(&unknown_key) {
        let known = [also, &quoted_names(expected)].concat();
        return (unknown("key", last_key, &known), End::Key);
    }
    if let Some(name) = message.strip_prefix("missing field `") {
        return (missing_key(name.trim_end_matches('`'), found), End::Value);
    }
    let variant = message
        .strip_prefix("unknown variant `")
        .and_then(after_name);
    if let (Some(name), Some(expected)) = (found.and_then(variant_name), variant) {
        return (unknown("value", name, &quoted_names(expected)), End::Value);
    }
    let expected = message.strip_prefix("invalid ").and_then(expectation);
    let text = match (found, expected) {
        (Some(found), Some(expected)) => format!("found {}, expected {expected}", describe(found)),
        // A text that a type made up itself. It may have left out what it is about.
        (Some(found), None) if !message.starts_with("found ") && !is_nested(found) => {
            format!("found {}: {message}", describe(found))
        }
        _ => message.into(),
    };
    (text, End::Value)
}

/// `unknown key "rout"; did you mean "routes"?`, or the names there are when none is near.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let shown = quote(name);
    match nearest(name, known) {
        Some(near) => format!("unknown {what} {shown}; did you mean {near:?}?"),
        None if known.is_empty() => format!("unknown {what} {shown}, expected none"),
        None => format!("unknown {what} {shown}, expected {}", one_of(known)),
    }
}

/// Says that the object `found` lacks the key `name`.
pub(super) fn missing_key(name: &str, found: Option<&Value>) -> String {
    let keys = found.and_then(Value::as_object).into_iter().flatten();
    let keys: Vec<_> = keys.map(|(key, _)| key.as_str()).collect();
    match nearest(name, &keys) {
        Some(near) => format!("missing key {name:?}; is it {near:?}?"),
        None => format!("missing key {name:?}"),
    }
}

/// The one of `known` that `name` was probably meant to be.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    let closeness = |other: &str| strsim::jaro_winkler(&name, &other.to_lowercase());
    known
        .iter()
        .map(|&other| (closeness(other), other))
        .filter(|(closeness, _)| *closeness >= NEAR)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, other)| other)
}

/// `"a", "b" or "c"`.
pub(super) fn one_of(names: &[&str]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        let separator = match names.len() - index {
            _ if index == 0 => "",
            1 => " or ",
            _ => ", ",
        };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{name:?}");
    }
    text
}

/// A value as an error shows it: in full when it is short, by its kind when it is not.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) if items.is_empty() => "an empty list".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Text in quotes, cut where it is long, with control characters escaped.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(SHOWN_LEN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn is_nested(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// What `type: found, expected …` expects, in our words.
fn expectation(message: &str) -> Option<&str> {
    let expected = &message[message.rfind(", expected ")? + ", expected ".len()..];
    if expected.starts_with("struct ") {
        return Some("an object");
    }
    let known = EXPECTED.binary_search_by_key(&expected, |(theirs, _)| theirs);
    let ours = known.ok().and_then(|index| EXPECTED.get(index));
    Some(ours.map_or(expected, |(_, ours)| ours))
}

/// The name of an enum's variant, which is a string or the only key of an object.
fn variant_name(value: &Value) -> Option<&str> {
    match value {
        Value::Object(entries) => entries.keys().next().map(String::as_str),
        _ => value.as_str(),
    }
}

/// What follows the name that an error begins with. The name is from the file and may hold any
/// character; the list after it is the type's own.
fn after_name(message: &str) -> Option<&str> {
    message.rfind("`, expected ").map(|end| &message[end..])
}

/// Every second piece between backticks, which is where serde puts names.
fn quoted_names(list: &str) -> Vec<&str> {
    list.trim_start_matches('`')
        .split('`')
        .skip(1)
        .step_by(2)
        .collect()
}
