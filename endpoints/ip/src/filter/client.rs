//! [`ClientFilter`]: the client's rules.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{DropReason, Rejection, Way, check_link};
use crate::icmp::Problem;
use crate::packet::{self, Header};
use crate::routes::Routes;

/// What the client lets through.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// Its own addresses.
    held: Vec<IpNetwork>,
    /// What it forwards to, site to site.
    advertised: Routes,
    /// What the proxy forwards to, once it has said so.
    routes: Option<Routes>,
}

impl ClientFilter {
    /// The rules of a client that forwards to `advertised` and has no address yet.
    pub fn new(advertised: Routes) -> Self {
        Self {
            advertised,
            ..Self::default()
        }
    }

    /// The client has these addresses now.
    pub fn set_held(&mut self, held: &[IpNetwork]) {
        self.held = held.to_vec();
    }

    /// The proxy forwards to `routes` now.
    pub fn set_routes(&mut self, routes: Routes) {
        self.routes = Some(routes);
    }

    /// Judges a packet from the proxy to the interface (RFC 9484 §4.7.3, §7.2).
    ///
    /// Where it is from does not matter: ICMP errors come from any router (RFC 9484 §7.2.1).
    #[inline]
    pub fn outward(&self, packet: &[u8], header: &Header) -> Result<Way, Rejection> {
        check_link(packet, header, true)?;
        if header.destination == IpAddr::V6(super::ALL_NODES) {
            return Ok(Way::Here);
        }
        if self.is_ours(header.source, header.protocol) {
            return Err(DropReason::OwnTunnel.silently());
        }
        if !self.is_ours(header.destination, header.protocol) {
            return Err(DropReason::DestinationNotAssigned.silently());
        }
        Ok(Way::On)
    }

    /// Judges a packet from the interface to the proxy: the proxy would drop what breaks these rules,
    /// and a local sender learns of it sooner this way.
    #[inline]
    pub fn inward(&self, packet: &[u8], header: &Header) -> Result<(), Rejection> {
        check_link(packet, header, false)?;
        if !self.is_ours(header.source, header.protocol) {
            let reason = DropReason::SourceNotAssigned;
            // Before there is an address, the system tries many things.
            return Err(match self.held.is_empty() {
                true => reason.silently(),
                false => reason.telling(Problem::SourceNotAllowed),
            });
        }
        if self.is_ours(header.destination, header.protocol) {
            return Err(DropReason::OwnTunnel.silently());
        }
        let is_routed = self
            .routes
            .as_ref()
            .is_none_or(|routes| routes.admits(header.destination, header.protocol));
        if packet::is_group(header.destination) && (self.routes.is_none() || !is_routed) {
            return Err(DropReason::Multicast.silently());
        }
        match is_routed {
            true => Ok(()),
            false => Err(DropReason::NoRoute.telling(Problem::NoRoute)),
        }
    }

    /// Whether this end has `address`, or has advertised it for `protocol`.
    #[inline]
    fn is_ours(&self, address: IpAddr, protocol: u8) -> bool {
        self.held.iter().any(|held| held.contains(address))
            || self.advertised.admits(address, protocol)
    }
}
