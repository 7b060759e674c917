//! Which targets a tunnel may reach: one function, asked by every plugin.
//!
//! A proxy stands where its clients do not: beside private networks, cloud metadata services and
//! the loopback services of its own host. Deny lists around such a place fail in three known ways:
//! a second path nobody covered, a spelling nobody thought of, and a check on a name whose address
//! then changes. So there is one [`EgressPolicy::check`], for UDP targets and IP packets alike, and
//! it judges the final socket address, after name resolution and with IPv4 unwrapped from IPv6.
//!
//! The first of these that applies decides (RFC 9298 §7, RFC 9484 §11):
//!
//! 1. the server's own listeners are refused, whatever the rules say: that would be a loop;
//! 2. a `deny` rule matches: refused;
//! 3. an `allow` rule matches: allowed;
//! 4. addresses of this host and broadcast addresses of its subnets are refused, on every port;
//! 5. what the configuration [opens](EgressPolicy::open) on purpose is allowed;
//! 6. the closed ranges are refused: whatever is not a public unicast address;
//! 7. everything else is allowed.
//!
//! An IPv6 address that carries an IPv4 address (NAT64, 6to4, Teredo and their like) must pass
//! twice, once as itself and once as the address inside.

mod host;
mod local;
mod ranges;
mod rule;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use ipnetwork::IpNetwork;

pub use self::host::HostPolicy;
pub use self::local::LocalAddresses;
pub use self::rule::{Rule, RuleError};
use crate::proxy_status::ProxyError;

/// What one endpoint lets its tunnels reach. The module's page has the order of the verdict.
///
/// An endpoint takes the rules from its own JSON, as two optional keys:
///
/// ```
/// # use pasque::policy::{EgressPolicy, Rule};
/// #[derive(serde::Deserialize)]
/// struct Proxy {
///     #[serde(default)]
///     allow: Vec<Rule>,
///     #[serde(default)]
///     deny: Vec<Rule>,
/// }
///
/// let proxy: Proxy = serde_json::from_str(r#"{ "allow": ["10.0.0.0/8:53"], "deny": ["*:25"] }"#)?;
/// let policy = EgressPolicy::new(proxy.allow, proxy.deny);
/// assert!(policy.check("10.1.2.3:53".parse()?).is_ok());
/// assert!(policy.check("10.1.2.3:80".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct EgressPolicy {
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    opened: Vec<IpNetwork>,
    local: LocalAddresses,
}

impl EgressPolicy {
    /// A policy of the closed ranges, changed by `allow` and `deny`.
    ///
    /// It does not know this host's own addresses yet: [`with_local`](Self::with_local) adds them.
    pub fn new(allow: Vec<Rule>, deny: Vec<Rule>) -> Self {
        Self {
            allow,
            deny,
            opened: Vec::new(),
            local: LocalAddresses::default(),
        }
    }

    /// Opens those of `prefixes` that lie inside one closed range as a whole: whoever writes
    /// `10.1.0.0/16` means private addresses. A wider prefix such as `0.0.0.0/0` opens nothing, and
    /// neither opens this host's own addresses.
    #[must_use]
    pub fn open(mut self, prefixes: &[IpNetwork]) -> Self {
        let closed = prefixes
            .iter()
            .copied()
            .filter(|prefix| ranges::is_closed_whole(*prefix));
        self.opened.extend(closed);
        self
    }

    /// The same rules on a host that has the addresses `local`.
    #[must_use]
    pub fn with_local(self, local: LocalAddresses) -> Self {
        Self { local, ..self }
    }

    /// Whether a packet may be sent to `target`, the final address. Call it before any packet is,
    /// and send to the address that was checked, not to a name that is resolved again.
    ///
    /// A packet of a protocol without ports is asked about with port 0, which no rule on a port
    /// matches.
    pub fn check(&self, target: SocketAddr) -> Result<(), Refusal> {
        let address = target.ip().to_canonical();
        self.judge(address, target.port())?;
        match ranges::embedded_ipv4(address) {
            Some(embedded) => self.judge(embedded.into(), target.port()),
            None => Ok(()),
        }
    }

    /// The candidates that may be reached, in their order, and the first refusal among the others.
    ///
    /// Of a name with allowed and refused addresses an allowed one is used; the refusal is the
    /// answer only when nothing is left. IPv4-mapped candidates come back as IPv4, so that a socket
    /// of the right family is opened for them.
    pub fn first_allowed(&self, candidates: &[SocketAddr]) -> (Vec<SocketAddr>, Option<Refusal>) {
        let mut allowed = Vec::with_capacity(candidates.len());
        let mut first_refusal = None;
        for &candidate in candidates {
            match self.check(candidate) {
                Ok(()) => allowed.push(canonical(candidate)),
                Err(refusal) => first_refusal = first_refusal.or(Some(refusal)),
            }
        }
        (allowed, first_refusal)
    }

    fn judge(&self, address: IpAddr, port: u16) -> Result<(), Refusal> {
        let matches = |rule: &&Rule| rule.matches(address, port);
        if self.local.is_listener(address, port) {
            return Err(Refusal::OwnListener);
        }
        if let Some(rule) = self.deny.iter().find(matches) {
            return Err(if rule.is_about_ports_only() {
                Refusal::PortDenied { port }
            } else {
                Refusal::RuleDenied { rule: *rule }
            });
        }
        if self.allow.iter().any(|rule| matches(&rule)) {
            return Ok(());
        }
        if self.local.is_closed(address) {
            return Err(Refusal::OwnAddress);
        }
        if self.local.is_subnet_broadcast(address) {
            return Err(Refusal::SubnetBroadcast);
        }
        if self.opened.iter().any(|prefix| prefix.contains(address)) {
            return Ok(());
        }
        match ranges::closed(address) {
            Some(range) => Err(Refusal::AddressDenied { range }),
            None => Ok(()),
        }
    }
}

/// Why a target may not be reached.
///
/// The text is for the server's log. The peer sees only [`proxy_error`](Self::proxy_error) and its
/// status: which rule or interface was hit would map the network for it (RFC 9209 §4).
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The target is a socket this server itself listens on.
    #[error("the target is this server's own listener")]
    OwnListener,
    /// The target is an address of this host.
    #[error("the target is an address of this host; an `allow` rule opens it")]
    OwnAddress,
    /// The target is the broadcast address of a subnet this host is on.
    #[error("the target is the broadcast address of a local subnet; an `allow` rule opens it")]
    SubnetBroadcast,
    /// The target is in a range that is closed unless an `allow` rule opens it.
    #[error("the target's range is closed ({range}); an `allow` rule opens it")]
    AddressDenied {
        /// What the range is for, such as `private` or `loopback`.
        range: &'static str,
    },
    /// A `deny` rule that names addresses matches.
    #[error("the `deny` rule {rule} matches")]
    RuleDenied {
        /// The first rule that matches.
        rule: Rule,
    },
    /// A `deny` rule that names only ports, such as `*:25`, matches.
    #[error("a `deny` rule closes port {port}")]
    PortDenied {
        /// The target's port.
        port: u16,
    },
}

impl Refusal {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.proxy_error().status()
    }

    /// The error to name in Proxy-Status.
    pub fn proxy_error(&self) -> ProxyError {
        match self {
            Self::OwnListener => ProxyError::ProxyLoopDetected,
            Self::PortDenied { .. } => ProxyError::HttpRequestDenied,
            Self::OwnAddress
            | Self::SubnetBroadcast
            | Self::AddressDenied { .. }
            | Self::RuleDenied { .. } => ProxyError::DestinationIpProhibited,
        }
    }
}

/// The address a socket should use: IPv4-mapped IPv6 unwrapped, everything else unchanged.
pub fn canonical(target: SocketAddr) -> SocketAddr {
    match target.ip().to_canonical() {
        IpAddr::V4(address) => SocketAddr::new(address.into(), target.port()),
        // As it was, because a link-local address needs its scope.
        IpAddr::V6(_) => target,
    }
}
