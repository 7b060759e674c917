use std::path::Path;

use pasque_files as _;
use pasque_ip as _;
use pasque_udp as _;

use super::*;

#[test]
fn who_cannot_be_found_or_is_root_is_named() {
    for (who, error) in [
        (
            "nobody-of-that-name",
            r#"there is no user "nobody-of-that-name""#,
        ),
        (
            "nobody:no-such-group",
            r#"there is no group "no-such-group""#,
        ),
        (
            "root",
            r#"user "root" may do everything: name an ordinary one"#,
        ),
    ] {
        let found = become_user(who, CapabilitySet::empty()).unwrap_err();
        assert_eq!(found.to_string(), error);
    }
}

/// A test is one of several threads.
#[test]
fn nothing_is_given_up_half() {
    if !geteuid().is_root() {
        return;
    }
    let before = capabilities(None).unwrap();
    let error = become_user("nobody", CapabilitySet::empty()).unwrap_err();
    assert!(error.to_string().contains("other threads"), "{error}");
    assert_eq!(capabilities(None).unwrap(), before);
    assert!(geteuid().is_root());
}

#[test]
fn what_is_kept_depends_on_what_is_served() {
    let kept = |endpoints: &str| {
        let text =
            format!(r#"{{ "cert_file": "c", "key_file": "k", "endpoints": [{endpoints}] }}"#);
        needed(&ServerConfig::parse(&text, Path::new("server.json")).unwrap())
    };
    let files = r#"{ "path": "f", "type": "Files", "root": "." }"#;
    let udp = r#"{ "path": "u", "type": "UdpEndpoint" }"#;
    let reporting = r#"{ "path": "r", "type": "UdpEndpoint", "packet_too_big": true }"#;
    let ip = r#"{ "path": "i", "type": "IpEndpoint", "ifprefix": "t", "addresspools": ["10.1.0.1/24"] }"#;
    let bind = CapabilitySet::NET_BIND_SERVICE;
    assert_eq!(kept(&format!("{files}, {udp}")), bind);
    assert_eq!(kept(ip), bind | CapabilitySet::NET_ADMIN);
    assert_eq!(kept(reporting), bind | CapabilitySet::NET_RAW);
}
