//! [`Scope`]: what a tunnel is for, as its request says (RFC 9484 §4.6).
//!
//! A request names a [`Target`] and an [`IpProto`], both of which may be `*`. The server turns them
//! into a [`Scope`], resolving the target if it is a name, and holds every packet against it.
//!
//! ```
//! use pasque_ip::scope::{Scope, Target};
//!
//! let Target::Prefix(prefix) = "192.0.2.0/24".parse()? else {
//!     panic!("a prefix was written");
//! };
//! let scope = Scope::new(Some(vec![prefix]), Some(17));
//! assert!(scope.admits("192.0.2.1".parse()?, 17));
//! assert!(scope.admits("192.0.2.1".parse()?, 1), "ICMP is exempt");
//! assert!(!scope.admits("192.0.2.1".parse()?, 6));
//! assert!(!scope.allows_family(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod proto;
mod target;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use pasque::proxy_status::ProxyError;
use pasque::template::{TemplateError, UriTemplate, Vars};
use pasque::{Error, Request, Result};

pub use self::proto::{IpProto, ProtoError};
pub use self::target::{Target, TargetError};

/// The variable that carries the target (RFC 9484 §4.6).
const TARGET: &str = "target";
/// The variable that carries the protocol number (RFC 9484 §4.6).
const IPPROTO: &str = "ipproto";
/// The `:protocol` of an IP tunnel's request (RFC 9484 §4.2).
pub const PROTOCOL: &str = "connect-ip";

/// The remote addresses and the protocol that a tunnel is for (RFC 9484 §4.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// `None`: every address. Their host bits are zero.
    prefixes: Option<Vec<IpNetwork>>,
    /// `None`: every protocol.
    protocol: Option<u8>,
}

impl Scope {
    /// Every address, every protocol: `*` and `*`.
    pub fn everything() -> Self {
        Self::default()
    }

    /// What is in one of `prefixes` (`None`: every address) and of `protocol` (`None`, or 0 as on
    /// the wire: every one). Host bits of the prefixes do not count.
    pub fn new(prefixes: Option<Vec<IpNetwork>>, protocol: Option<u8>) -> Self {
        Self {
            prefixes,
            protocol: protocol.filter(|number| *number != 0),
        }
    }

    /// The prefixes, or `None` for every address.
    pub fn prefixes(&self) -> Option<&[IpNetwork]> {
        self.prefixes.as_deref()
    }

    /// The protocol number, or `None` for every protocol. Never 0.
    pub fn protocol(&self) -> Option<u8> {
        self.protocol
    }

    /// Whether a packet of `protocol` between the client and `remote` is in the scope.
    ///
    /// ICMP is exempt from the rule on the protocol, not from that on the address (RFC 9484 §4.6).
    pub fn admits(&self, remote: IpAddr, protocol: u8) -> bool {
        let protocol_matches = self.protocol.is_none_or(|own| own == protocol);
        let address_matches = self
            .prefixes()
            .is_none_or(|own| own.iter().any(|prefix| prefix.contains(remote)));
        address_matches && (protocol_matches || is_icmp(remote, protocol))
    }

    /// Whether the scope has addresses of IPv6, if `v6`, or else of IPv4: a tunnel to an IPv4
    /// prefix is given no IPv6 address (RFC 9484 §4.6).
    pub fn allows_family(&self, v6: bool) -> bool {
        self.prefixes()
            .is_none_or(|own| own.iter().any(|prefix| prefix.is_ipv6() == v6))
    }

    /// Whether no packet is in both scopes, so that two tunnels may share an assigned address.
    ///
    /// Only addresses tell scopes apart. Two protocols do not, because the reply to a ping is in
    /// both.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        let apart = |own: &[IpNetwork], others: &[IpNetwork]| {
            let overlaps = |a: &IpNetwork| others.iter().any(|b| overlap(*a, *b));
            !own.iter().any(overlaps)
        };
        match (self.prefixes(), other.prefixes()) {
            (Some([]), _) | (_, Some([])) => true,
            (Some(own), Some(others)) => apart(own, others),
            (None, _) | (_, None) => false,
        }
    }
}

/// The request for a tunnel, as `template` says where the proxy takes them (RFC 9484 §4.2).
///
/// What may be left open is sent as `*`, which every template has room for.
///
/// # Errors
///
/// If the scope is limited and the template has no variable to say so: the tunnel would be wider
/// than was asked for.
pub fn tunnel_request(
    template: &UriTemplate,
    target: &Target,
    proto: IpProto,
) -> Result<Request, TemplateError> {
    let limits = [
        (TARGET, *target == Target::Any),
        (IPPROTO, proto == IpProto::ANY),
    ];
    for (name, is_any) in limits {
        if !is_any && !template.variables().any(|known| known == name) {
            return Err(TemplateError::MissingVariable(name.into()));
        }
    }
    let target = target.to_string();
    let proto = proto.to_string();
    let expanded = template.expand(&[(TARGET, Some(&target)), (IPPROTO, Some(&proto))]);
    let mut request = Request::tunnel(PROTOCOL, expanded.path_and_query);
    request.authority = expanded.authority;
    Ok(request)
}

/// What a request asks for. A variable that it leaves out stands for `*` (RFC 9484 §4.6).
///
/// # Errors
///
/// 400 with the proxy error `http_request_error`, if one is malformed or asks for a protocol that
/// is none: see [`TargetError`] and [`ProtoError`].
pub fn parse_scope(vars: &Vars) -> Result<(Target, IpProto)> {
    Ok((parse(vars, TARGET)?, parse(vars, IPPROTO)?))
}

fn parse<T>(vars: &Vars, name: &str) -> Result<T>
where
    T: Default + FromStr<Err: std::fmt::Display>,
{
    let Some(text) = vars.get(name) else {
        return Ok(T::default());
    };
    text.parse().map_err(|error| {
        Error::malformed(format!("{name}: {error}")).with_proxy_error(ProxyError::HttpRequestError)
    })
}

/// Whether `protocol` is the ICMP that belongs to the IP version of `address`.
pub(crate) fn is_icmp(address: IpAddr, protocol: u8) -> bool {
    const ICMP: u8 = 1;
    const ICMPV6: u8 = 58;
    match address {
        IpAddr::V4(_) => protocol == ICMP,
        IpAddr::V6(_) => protocol == ICMPV6,
    }
}

/// Whether two prefixes have an address in common: one of them then holds the other.
fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}
