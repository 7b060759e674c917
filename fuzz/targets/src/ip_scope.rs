//! Any request and any routes: a target has one meaning, and what is left of the routes is legal
//! and in both.
//!
//! The first line is the target, the second the protocol, the rest a ROUTE_ADVERTISEMENT value.

use pasque_ip::capsules;
use pasque_ip::scope::{IpProto, Scope, Target};

fn parse(target: &[u8], proto: &[u8]) -> Option<(Target, IpProto)> {
    let target = str::from_utf8(target).ok()?.parse().ok()?;
    let proto = str::from_utf8(proto).ok()?.parse().ok()?;
    Some((target, proto))
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(3, |byte| *byte == b'\n');
    let mut part = || parts.next().unwrap_or_default();
    let (target, proto, value) = (part(), part(), part());
    let Some((target, proto)) = parse(target, proto) else {
        return;
    };
    let (target_text, proto_text) = (target.to_string(), proto.to_string());
    let written = (target_text.as_bytes(), proto_text.as_bytes());
    assert_eq!(parse(written.0, written.1), Some((target.clone(), proto)));

    let prefixes = match target {
        Target::Any => None,
        Target::Prefix(prefix) => Some(vec![prefix]),
        Target::Name(_) => Some(Vec::new()),
    };
    let scope = Scope::new(prefixes, proto.number());
    let Ok(routes) = capsules::decode_routes(value) else {
        return;
    };
    let within = routes.within(&scope);
    let value = capsules::encode_routes(&within);
    assert_eq!(capsules::decode_routes(&value).as_ref(), Ok(&within));
    for range in within.iter() {
        for address in [range.start(), range.end()] {
            assert!(scope.allows_family(range.is_v6()));
            assert!(scope.admits(address, proto.number().unwrap_or(range.protocol())));
            assert!(routes.admits(address, range.protocol()));
        }
    }
}
