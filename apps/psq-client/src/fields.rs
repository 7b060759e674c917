//! Fields that the user adds to every request.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that are the protocol's own business: those of one connection (RFC 9114 §4.2), and those
/// that this program or its engine sets.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "capsule-protocol",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-range",
    "keep-alive",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that are nobody else's business.
const SECRET: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// Whether a line of the form `Name: value` holds credentials.
pub(crate) fn is_secret(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or(line).trim();
    SECRET
        .iter()
        .any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Reads lines of the form `Name: value`.
///
/// # Errors
/// What is wrong with a line. The value is never repeated: it may be a secret.
pub(crate) fn parse<'a>(lines: impl IntoIterator<Item = &'a String>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line
            .trim_start()
            .strip_prefix(':')
            .map_or_else(|| line.split_once(':'), |_| None)
            .ok_or("expected 'Name: value'; names that start with a colon are not yours to set")?;
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("{name:?} is no field name"))?;
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("{name} is set by the protocol: leave it out"));
        }
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_| format!("the value of {name} has characters that no field may have"))?;
        // Hides it from logs, and keeps it out of the compression's tables (RFC 9204 §7.1.3).
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(line: &str) -> Result<HeaderMap, String> {
        parse([&line.to_owned()])
    }

    #[test]
    fn a_line_is_a_field() {
        let headers = parse_one("Authorization:  Basic YTpi ").unwrap();
        assert_eq!(headers["authorization"], "Basic YTpi");
        let twice = parse(&["a: 1".to_owned(), "a: 2".to_owned()]).unwrap();
        assert_eq!(twice.get_all("a").iter().count(), 2);
    }

    #[test]
    fn what_the_protocol_sets_cannot_be_set() {
        for line in [
            ":path: /",
            ":authority: x",
            "Connection: close",
            "TE: gzip",
            "host: x",
        ] {
            assert!(parse_one(line).is_err(), "{line}");
        }
        for line in [
            "",
            "name",
            ": value",
            "na me: x",
            "a\u{e9}: x",
            "a: b\r\nc: d",
            "a : b",
        ] {
            assert!(parse_one(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn credentials_are_known_by_their_fields() {
        for line in ["Authorization: x", " cookie:x", "proxy-authorization"] {
            assert!(is_secret(line), "{line}");
        }
        assert!(!is_secret("x-authorization: x") && !is_secret("x: authorization"));
    }

    #[test]
    fn values_are_shown_nowhere() {
        let headers = parse_one("authorization: Bearer hunter2").unwrap();
        assert!(!format!("{headers:?}").contains("hunter2"));
        let error = parse_one("authorization: hunter2\u{0}").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
