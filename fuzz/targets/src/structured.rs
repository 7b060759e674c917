//! Any field values: what is shown of a `proxy-status` is one line without control characters, and
//! what we write of it is read again.
//!
//! Lines of the field are cut by line feeds.

use pasque::proxy_status::{self, ProxyStatus};
use pasque::structured;

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    structured::capsule_protocol(input.split(|byte| *byte == b'\n'));

    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Some(summary) = proxy_status::parse(text) {
        let shown = summary.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
    let status = ProxyStatus::new(text)
        .with_next_hop(text)
        .with_rcode(text)
        .with_details(text);
    let written = status.to_string_with_details();
    assert!(written.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    let summary = proxy_status::parse(&written).expect("what we write can be read");
    assert_eq!(
        summary.rcode.map(|rcode| rcode.chars().count()),
        Some(text.chars().count())
    );
}
