//! [`TunnelState`]: what a tunnel has agreed on with its peer.

use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::mtu::{MIN_MTU_V6, PathFailure};
use crate::routes::Routes;

/// What a client has agreed on with its proxy, for whoever keeps the interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunnelState {
    /// The addresses that this end may use: those that the proxy assigned, or that were configured by
    /// hand.
    pub addresses: Vec<IpNetwork>,
    /// What the proxy forwards to; `None` before it has said so.
    pub routes: Option<Routes>,
    /// What the MTU of the interface should be, in bytes: the longest IP packet that a datagram carries
    /// now, but never below 1280 while there is an IPv6 address. 0 until it is known.
    pub mtu: u32,
    /// That length, however short it is.
    pub path_mtu: u32,
    /// Why this end ends the tunnel, once it does.
    pub failure: Option<TunnelFailure>,
}

impl TunnelState {
    /// Why the tunnel cannot last, if it has addresses of IPv6 and a path that does not carry them
    /// (RFC 9484 §7.2).
    pub(crate) fn shortcoming(&self) -> Option<PathFailure> {
        let is_narrow = (1..MIN_MTU_V6).contains(&self.path_mtu);
        let mtu = self.path_mtu;
        (is_narrow && self.has_ipv6()).then_some(PathFailure::Narrow { mtu })
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpNetwork::is_ipv6)
    }
}

/// Why a client ends its tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelFailure {
    /// It was given no address of any IP version that it asked for (RFC 9484 §4.7.2).
    #[error("the proxy refused every address that it was asked for")]
    Refused,
    /// The path does not carry IPv6 (RFC 9484 §7.2).
    #[error(transparent)]
    Path(PathFailure),
    /// The proxy broke the rules of the capsules (RFC 9297 §3.3).
    #[error("the proxy broke the protocol: {0}")]
    Malformed(Arc<str>),
    /// The interface does not work any more.
    #[error("the tunnel's interface is gone: {0}")]
    Device(Arc<str>),
}
