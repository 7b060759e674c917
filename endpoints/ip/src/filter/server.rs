//! [`ServerFilter`]: the server's rules.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnetwork::IpNetwork;
use pasque::policy::HostPolicy;

use super::policy::PolicyCache;
use super::{ALL_NODES, Clients, DropReason, Rejection, Way, check_link};
use crate::icmp::{self, Problem};
use crate::packet::{self, Header};
use crate::routes::Routes;
use crate::scope::Scope;

/// What all tunnels of one endpoint have in common.
#[derive(Debug)]
pub struct ServerRules {
    /// The endpoint's own addresses in its clients' networks.
    pub own: Vec<IpAddr>,
    /// The clients' addresses.
    pub clients: Arc<Clients>,
    /// Whether clients may reach each other.
    pub client_to_client: bool,
    /// What may be reached beyond.
    pub policy: HostPolicy,
}

/// What the server lets through, for one tunnel.
#[derive(Debug)]
pub struct ServerFilter {
    rules: Arc<ServerRules>,
    /// What the tunnel was asked for.
    scope: Scope,
    /// What was advertised to the client, all of it within the scope.
    routes: Routes,
    /// The client's addresses.
    assigned: Vec<IpNetwork>,
    /// What is behind the client, as far as it was accepted.
    accepted: Routes,
    policy: PolicyCache,
}

impl ServerFilter {
    /// The rules for a client that has no address yet.
    pub fn new(rules: Arc<ServerRules>, scope: Scope, routes: Routes) -> Self {
        Self {
            rules,
            scope,
            routes,
            assigned: Vec::new(),
            accepted: Routes::default(),
            policy: PolicyCache::new(),
        }
    }

    /// Judges by `rules` and `routes` from here on.
    pub fn renew(&mut self, rules: Arc<ServerRules>, routes: Routes) {
        self.rules = rules;
        self.routes = routes;
        self.policy = PolicyCache::new();
    }

    /// What the tunnel was asked for.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    #[cfg(test)]
    pub(super) fn rules(&self) -> &ServerRules {
        &self.rules
    }

    /// The client has these addresses now, and these routes of it are accepted.
    pub fn set_client(&mut self, assigned: &[IpNetwork], accepted: Routes) {
        self.assigned = assigned.to_vec();
        self.accepted = accepted;
    }

    /// Judges a packet from the client to the interface.
    #[inline]
    pub fn outward(
        &mut self,
        packet: &[u8],
        header: &Header,
        now: Instant,
    ) -> Result<Way, Rejection> {
        let (destination, protocol) = (header.destination, header.protocol);
        check_link(packet, header, true)?;
        if !self.is_clients(header.source, protocol) {
            return Err(DropReason::SourceNotAssigned.telling(Problem::SourceNotAllowed));
        }
        if destination == IpAddr::V6(ALL_NODES) {
            return Ok(Way::Here);
        }
        let is_routed = self.routes.admits(destination, protocol);
        if packet::is_group(destination) && !is_routed {
            return Err(DropReason::Multicast.silently());
        }
        if !self.scope.admits(destination, protocol) {
            return Err(DropReason::Scope.telling(Problem::Prohibited));
        }
        if self.is_clients(destination, protocol) {
            return Err(DropReason::OwnTunnel.silently());
        }
        if !is_routed {
            return Err(DropReason::NoRoute.telling(Problem::NoRoute));
        }
        let is_across = self.is_other_client(destination);
        if is_across && !self.rules.client_to_client {
            return Err(DropReason::OtherClient.telling(Problem::Prohibited));
        }
        let port = header.ports(packet).map_or(0, |(_, port)| port);
        let host = &self.rules.policy;
        let is_allowed = match self.policy.recall(host, destination, port, now) {
            Some(is_allowed) => is_allowed,
            // Where nobody is there, the host would send it to its default route.
            None if is_across && !self.rules.clients.have(destination) => {
                return Err(DropReason::NoRoute.telling(Problem::NoRoute));
            }
            None => self.policy.judge(destination, port),
        };
        match is_allowed {
            true if is_across => Ok(Way::Across),
            true => Ok(Way::On),
            false => Err(DropReason::Policy.telling(Problem::Prohibited)),
        }
    }

    /// Judges a packet from the interface to the client. Who sent it is told nothing: to strangers there
    /// is no tunnel.
    #[inline]
    pub fn inward(&self, packet: &[u8], header: &Header) -> Result<(), Rejection> {
        let (source, protocol) = (header.source, header.protocol);
        check_link(packet, header, false)?;
        if !self.is_clients(header.destination, protocol) {
            return Err(DropReason::DestinationNotAssigned.silently());
        }
        if icmp::is_error(packet, header) {
            return match self.is_about_client(packet, header) {
                true => Ok(()),
                false => Err(DropReason::Scope.silently()),
            };
        }
        if !self.scope.admits(source, protocol) {
            return Err(DropReason::Scope.silently());
        }
        if self.is_clients(source, protocol) {
            return Err(DropReason::OwnTunnel.silently());
        }
        if self.rules.own.contains(&source) {
            return Ok(());
        }
        if !self.routes.admits(source, protocol) {
            return Err(DropReason::NoRoute.silently());
        }
        if self.is_other_client(source) && !self.rules.client_to_client {
            return Err(DropReason::OtherClient.silently());
        }
        Ok(())
    }

    /// Whether an ICMP error is about a packet that this client could have sent. By that alone it is
    /// judged: routers answer from an address of their own (RFC 9484 §7.2.1), and another tunnel may
    /// use the same address for another scope (RFC 9484 §11).
    fn is_about_client(&self, packet: &[u8], header: &Header) -> bool {
        icmp::quote(packet, header).is_some_and(|quote| {
            let (destination, protocol) = (quote.header.destination, quote.header.protocol);
            // The routes lie within the scope.
            self.is_clients(quote.header.source, protocol)
                && self.routes.admits(destination, protocol)
        })
    }

    /// Whether another client has `address`, or could have it.
    #[inline]
    fn is_other_client(&self, address: IpAddr) -> bool {
        self.rules.clients.may_have(address) && !self.rules.own.contains(&address)
    }

    /// Whether the client has `address`, or what it advertised for `protocol` was accepted.
    #[inline]
    fn is_clients(&self, address: IpAddr, protocol: u8) -> bool {
        self.assigned.iter().any(|own| own.contains(address))
            || self.accepted.admits(address, protocol)
    }
}
