//! [`AddressServer`]: the half that gives addresses and routes.

use ipnetwork::IpNetwork;
use pasque::wire::capsule::{ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT};

use super::ids::UsedIds;
use super::{MAX_ASSIGNED, MAX_RANGES, MAX_REQUESTED, OutCapsule, SessionError};
use crate::capsules::{
    AssignedAddress, RequestedAddress, decode_assign, decode_request, decode_routes,
};
use crate::pool::Lease;
use crate::routes::Routes;
use crate::scope::Scope;

/// The server's half of a tunnel: what the client was given, and what it says.
#[derive(Debug)]
pub struct AddressServer {
    lease: Lease,
    /// One for each of the lease's addresses, with the Request ID that it answers. 0 is for those
    /// given unprompted, until a request adopts them.
    assigned: Vec<AssignedAddress>,
    routes: Routes,
    /// The client's routes count within this only.
    accepted: Scope,
    /// And nothing of this.
    reserved: Vec<IpNetwork>,
    client_routes: Routes,
    used_ids: UsedIds,
}

/// What a capsule from the client changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// Nothing that matters outside.
    None,
    /// [`AddressServer::assigned`].
    AddressesChanged,
    /// [`AddressServer::client_routes`].
    ClientRoutesChanged,
}

impl AddressServer {
    /// A tunnel that starts with the addresses of `lease`, and may send to `routes`.
    pub fn new(lease: Lease, routes: Routes) -> Self {
        let unprompted = |prefix: &IpNetwork| AssignedAddress {
            request_id: 0,
            prefix: *prefix,
        };
        let has = |v6: bool| {
            lease
                .addresses()
                .iter()
                .any(|prefix| prefix.is_ipv6() == v6)
        };
        Self {
            assigned: lease.addresses().iter().map(unprompted).collect(),
            // A packet needs a source address of its own IP version (RFC 9484 §4.6).
            routes: routes.only(has(false), has(true)),
            accepted: Scope::new(Some(Vec::new()), None),
            reserved: Vec::new(),
            client_routes: Routes::default(),
            used_ids: UsedIds::default(),
            lease,
        }
    }

    /// Lets the client have networks behind it: what it advertises counts within `prefixes`.
    #[must_use]
    pub fn accept_client_routes(self, prefixes: Vec<IpNetwork>) -> Self {
        let accepted = Scope::new(Some(prefixes), None);
        Self { accepted, ..self }
    }

    /// Keeps `networks` from being behind the client, whatever it advertises: other clients have their
    /// addresses there.
    #[must_use]
    pub fn reserve(self, networks: Vec<IpNetwork>) -> Self {
        Self {
            reserved: networks,
            ..self
        }
    }

    /// Says that this will be dropped soon, by another thread: see [`Lease::begin_end`].
    pub(crate) fn begin_end(&mut self) {
        self.lease.begin_end();
    }

    /// What to say as soon as the tunnel is open: addresses, so that the client need not ask for
    /// them, and routes.
    pub fn greeting(&self) -> Vec<OutCapsule> {
        let routes = OutCapsule::routes(&self.routes);
        if self.assigned.is_empty() {
            // An empty list would say that something is withdrawn.
            return vec![routes];
        }
        vec![OutCapsule::assign(&self.assigned), routes]
    }

    /// Offers `routes` from here on. Returns what is to be said to a client that has been
    /// [greeted](Self::greeting), if anything.
    pub(crate) fn offer(&mut self, routes: Routes) -> Option<OutCapsule> {
        let has = |v6: bool| self.assigned().iter().any(|own| own.is_ipv6() == v6);
        let routes = routes.only(has(false), has(true));
        if routes == self.routes {
            return None;
        }
        self.routes = routes;
        Some(OutCapsule::routes(&self.routes))
    }

    /// Takes a capsule from the client. What there is to answer is added to `out`. Types other than
    /// the three of RFC 9484 are ignored.
    ///
    /// # Errors
    ///
    /// The client broke a rule or asks for too much. Nothing has changed, and the stream is to be
    /// aborted.
    pub fn on_capsule(
        &mut self,
        kind: u64,
        value: &[u8],
        out: &mut Vec<OutCapsule>,
    ) -> Result<ServerEvent, SessionError> {
        match kind {
            ADDRESS_REQUEST => self.on_request(&decode_request(value)?, out),
            ROUTE_ADVERTISEMENT => self.on_routes(&decode_routes(value)?),
            ADDRESS_ASSIGN => {
                // Addresses for this end: legal, and of no use to it.
                decode_assign(value)?;
                Ok(ServerEvent::None)
            }
            _ => Ok(ServerEvent::None),
        }
    }

    /// The addresses and prefixes that the client may use as source.
    pub fn assigned(&self) -> &[IpNetwork] {
        self.lease.addresses()
    }

    /// Where the client may send to: the routes of the IP versions it has addresses of.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The networks behind the client, as far as they are accepted.
    pub fn client_routes(&self) -> &Routes {
        &self.client_routes
    }

    fn on_request(
        &mut self,
        requested: &[RequestedAddress],
        out: &mut Vec<OutCapsule>,
    ) -> Result<ServerEvent, SessionError> {
        SessionError::check_len("ADDRESS_REQUEST", requested.len(), MAX_REQUESTED)?;
        self.used_ids.add(requested)?;
        let before = self.lease.addresses().to_vec();
        let mut refusals = Vec::new();
        for entry in requested {
            if !self.grant(entry) {
                refusals.push(AssignedAddress::refusal(entry.request_id, entry.prefix));
            }
        }
        // The whole list, in which a refusal appears just this once (RFC 9484 §4.7.2).
        out.push(OutCapsule::assign(
            &[&self.assigned[..], &refusals].concat(),
        ));
        Ok(match self.lease.addresses() == before {
            true => ServerEvent::None,
            false => ServerEvent::AddressesChanged,
        })
    }

    /// Assigns something to a request, if that is possible.
    fn grant(&mut self, entry: &RequestedAddress) -> bool {
        if let Some(index) = self.adoptable(entry)
            && let Some(assigned) = self.assigned.get_mut(index)
        {
            assigned.request_id = entry.request_id;
            if entry.has_preference() && self.lease.replace(assigned.prefix, entry.prefix) {
                assigned.prefix = entry.prefix;
            }
            return true;
        }
        if self.assigned.len() >= MAX_ASSIGNED {
            return false;
        }
        let Some(prefix) = self.lease.request(entry.prefix) else {
            return false;
        };
        let request_id = entry.request_id;
        self.assigned.push(AssignedAddress { request_id, prefix });
        true
    }

    /// Which of the addresses given unprompted becomes the answer to `entry`: the one it names, or
    /// else the first of the same IP version. Who asks for an address is not given two.
    fn adoptable(&self, entry: &RequestedAddress) -> Option<usize> {
        let fits = |assigned: &AssignedAddress| {
            assigned.request_id == 0
                && assigned.prefix.is_ipv6() == entry.prefix.is_ipv6()
                && assigned.prefix.prefix() == entry.prefix.prefix()
        };
        let is_named =
            |assigned: &AssignedAddress| fits(assigned) && assigned.prefix == entry.prefix;
        let named = self.assigned.iter().position(is_named);
        named.or_else(|| self.assigned.iter().position(fits))
    }

    fn on_routes(&mut self, routes: &Routes) -> Result<ServerEvent, SessionError> {
        SessionError::check_len("ROUTE_ADVERTISEMENT", routes.iter().len(), MAX_RANGES)?;
        let accepted = routes.within(&self.accepted).without(&self.reserved);
        if accepted == self.client_routes {
            return Ok(ServerEvent::None);
        }
        self.client_routes = accepted;
        Ok(ServerEvent::ClientRoutesChanged)
    }
}
