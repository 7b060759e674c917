//! Any text as the target of a UDP tunnel: what is accepted has one spelling, and nothing that a
//! resolver could read as an address passes for a name.

use std::net::IpAddr;

use pasque_udp::{Host, Port, Target};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Ok(host) = text.parse::<Host>() {
        check(&host);
    }
    if let Ok(port) = text.parse::<Port>() {
        assert_eq!(port.to_string().parse(), Ok(port));
    }
    match Target::parse(text) {
        Ok(target) => {
            check(&target.host);
            assert_eq!(Target::parse(&target.to_string()), Ok(target));
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(char::is_control), "{told:?}");
        }
    }
}

fn check(host: &Host) {
    assert_eq!(host.to_string().parse().as_ref(), Ok(host));
    let Host::Name(name) = host else { return };
    assert!(name.parse::<IpAddr>().is_err());
    assert!(name.len() <= 253 && !name.ends_with('.'));
    // inet_aton takes 1, 017 and 0x7f, alone or as the last of up to four parts.
    let last = name.rsplit('.').next().unwrap_or_default();
    assert!(!last.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(!last.strip_prefix("0x").is_some_and(is_hex), "{name}");
}
