//! Any field lines as any kind of section: what is accepted holds nothing that a log, a URI or a
//! field must not hold, and can be written again; what is refused is told in one line.
//!
//! The first byte picks the section. Lines are cut by 0x1e, name and value of one by 0x1f.

use http::HeaderMap;
use pasque::wire::message::{self, Malformed};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((section, lines)) = input.split_first() else {
        return;
    };
    let lines = lines.split(|byte| *byte == 0x1e).filter_map(|line| {
        let mut parts = line.splitn(2, |byte| *byte == 0x1f);
        Some((parts.next()?, parts.next()?))
    });
    match section % 4 {
        0 => request(lines),
        1 => response(lines, false),
        2 => response(lines, true),
        _ => check(message::parse_trailers(lines), check_fields),
    }
}

fn request<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    check(message::parse_request(lines), |head| {
        check_fields(&head.headers);
        assert!(!head.headers.contains_key("host"));
        for text in [&head.authority, &head.path] {
            assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        }
        let is_plain = head.is_plain_connect();
        assert!(is_plain || head.path.starts_with('/') || head.path == "*");
        assert_eq!(head.scheme.as_deref(), (!is_plain).then_some("https"));
        let fields = message::request_fields(
            &head.method,
            "https",
            &head.authority,
            &head.path,
            head.protocol.as_deref(),
            &head.headers,
        );
        let fields = fields.expect("what was accepted can be written");
        let again = message::parse_request(fields.iter().map(|(name, value)| (*name, &**value)));
        let again = again.expect("what is written is accepted");
        assert_eq!(
            (&again.method, &again.authority, &again.path),
            (&head.method, &head.authority, &head.path)
        );
    });
}

fn response<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, tunnel: bool) {
    check(message::parse_response(lines, tunnel), |head| {
        check_fields(&head.headers);
        let fields = message::response_fields(head.status, &head.headers, tunnel);
        let fields = fields.expect("what was accepted can be written");
        let again = fields.iter().map(|(name, value)| (*name, &**value));
        let again = message::parse_response(again, tunnel).expect("what is written is accepted");
        assert_eq!(again.status, head.status);
    });
}

fn check_fields(headers: &HeaderMap) {
    assert!(headers.len() <= message::MAX_FIELDS);
    for (name, value) in headers {
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!name.as_str().bytes().any(|byte| byte.is_ascii_uppercase()));
        let is_control = |byte: &u8| *byte < 0x20 && *byte != b'\t' || *byte == 0x7f;
        assert!(!value.as_bytes().iter().any(is_control));
    }
}

fn check<T>(result: Result<T, Malformed>, is_good: impl FnOnce(&T)) {
    match result {
        Ok(accepted) => is_good(&accepted),
        Err(malformed) => {
            let text = malformed.to_string();
            assert!(
                !text.contains(char::is_control) && text.len() < 1024,
                "{text:?}"
            );
        }
    }
}
