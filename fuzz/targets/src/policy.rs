//! Any rules and any address: a rule reads as it is written, every spelling of an address has one
//! verdict, `deny` never opens anything, and what is closed stays closed unless a rule opens it.
//!
//! Two bytes are the port, sixteen the address, and the rest is lines: rules that begin with `+` are
//! allowed, others denied.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pasque::policy::{EgressPolicy, Rule};

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((port, rest)) = input.split_first_chunk() else {
        return;
    };
    let Some((address, lines)) = rest.split_first_chunk::<16>() else {
        return;
    };
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for line in String::from_utf8_lossy(lines).split('\n').take(16) {
        match line.strip_prefix('+') {
            Some(rule) => allow.extend(parse(rule)),
            None => deny.extend(parse(line)),
        }
    }
    let port = u16::from_be_bytes(*port);
    let v6 = Ipv6Addr::from(*address);
    let [.., a, b, c, d] = *address;
    let v4 = Ipv4Addr::new(a, b, c, d);

    let closed = EgressPolicy::new(Vec::new(), deny.clone());
    let without_deny = EgressPolicy::new(allow.clone(), Vec::new());
    let policy = EgressPolicy::new(allow, deny);
    for address in [IpAddr::V6(v6), IpAddr::V4(v4)] {
        let target = SocketAddr::new(address, port);
        if policy.check(target).is_ok() {
            assert!(without_deny.check(target).is_ok());
        }
        if closed.check(target).is_ok() {
            assert!(policy.check(target).is_ok());
            assert!(is_public(address.to_canonical()), "{address}");
        }
        let (allowed, refusal) = policy.first_allowed(&[target]);
        assert_eq!(allowed.is_empty(), refusal.is_some());
    }

    let verdict = |address: IpAddr| policy.check(SocketAddr::new(address, port));
    assert_eq!(verdict(v4.to_ipv6_mapped().into()), verdict(v4.into()));
    // NAT64 (RFC 6052), 6to4 (RFC 3056): a way to the address inside is closed where that is.
    let [e, f] = [[a, b], [c, d]].map(u16::from_be_bytes);
    for around in [
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, e, f),
        Ipv6Addr::new(0x2002, e, f, 0, 0, 0, 0, 1),
    ] {
        if verdict(around.into()).is_ok() {
            assert!(verdict(v4.into()).is_ok(), "{around}");
        }
    }
}

fn parse(text: &str) -> Option<Rule> {
    match text.parse::<Rule>() {
        Ok(rule) => {
            assert_eq!(rule.to_string().parse(), Ok(rule));
            Some(rule)
        }
        Err(error) => {
            let told = error.to_string();
            assert!(!told.contains(char::is_control), "{told:?}");
            None
        }
    }
}

/// What the standard library knows of addresses, as a second opinion.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified()
                || v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation())
        }
        IpAddr::V6(v6) => {
            !(v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_multicast())
        }
    }
}
