//! [`AddressClient`]: the half that uses addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use pasque::wire::capsule::{ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT};

use super::ids::UsedIds;
use super::{MAX_ACCEPTED, MAX_RANGES, MAX_REQUESTED, OutCapsule, SessionError};
use crate::capsules::{
    AssignedAddress, RequestedAddress, decode_assign, decode_request, decode_routes,
};
use crate::routes::Routes;

/// The client's half of a tunnel: what it asked for and was given.
#[derive(Debug)]
pub struct AddressClient {
    /// The last Request ID that was used; the first one is 1 (RFC 9484 §4.7.2).
    last_id: u64,
    asked: Vec<Asked>,
    has_static: bool,
    addresses: Vec<IpNetwork>,
    routes: Routes,
    used_ids: UsedIds,
}

/// A request, and what became of it.
#[derive(Debug)]
struct Asked {
    request_id: u64,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    None,
    Assigned,
    Refused,
}

/// What a capsule from the server changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Nothing that matters outside.
    None,
    /// [`AddressClient::addresses`].
    Addresses,
    /// [`AddressClient::routes`].
    Routes,
    /// Everything that was asked for is refused, and there is no address: the tunnel is of no use.
    Refused,
}

impl AddressClient {
    /// A client that takes the addresses the server gives it.
    pub fn new() -> Self {
        Self::with_addresses(Vec::new())
    }

    /// A client that has its addresses from elsewhere, if there are any here: it asks for none,
    /// and does not use what the server gives it (RFC 9484 §4.7.1).
    pub fn with_addresses(addresses: Vec<IpNetwork>) -> Self {
        Self {
            last_id: 0,
            asked: Vec::new(),
            has_static: !addresses.is_empty(),
            addresses,
            routes: Routes::default(),
            used_ids: UsedIds::default(),
        }
    }

    /// What most clients ask for: one address of each IP version, whichever it is.
    pub fn any_address() -> [IpNetwork; 2] {
        let addresses: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        addresses.map(IpNetwork::from)
    }

    /// Asks for addresses and prefixes. An unspecified address means that only the prefix length
    /// matters.
    ///
    /// `None` if there is nothing to ask for, because the client has addresses of its own or
    /// `wanted` is empty.
    pub fn request(&mut self, wanted: &[IpNetwork]) -> Option<OutCapsule> {
        if self.has_static || wanted.is_empty() {
            return None;
        }
        self.asked.retain(|asked| asked.answer == Answer::None);
        let request = |prefix: &IpNetwork| {
            self.last_id += 1;
            let request_id = self.last_id;
            let answer = Answer::None;
            self.asked.push(Asked { request_id, answer });
            RequestedAddress {
                request_id,
                prefix: *prefix,
            }
        };
        let entries: Vec<_> = wanted.iter().map(request).collect();
        Some(OutCapsule::request(&entries))
    }

    /// Takes a capsule from the server. What there is to answer is added to `out`. Types other than
    /// the three of RFC 9484 are ignored.
    ///
    /// # Errors
    ///
    /// The server broke a rule or says too much. Nothing has changed, and the stream is to be
    /// aborted.
    pub fn on_capsule(
        &mut self,
        kind: u64,
        value: &[u8],
        out: &mut Vec<OutCapsule>,
    ) -> Result<ClientEvent, SessionError> {
        match kind {
            ADDRESS_ASSIGN => self.on_assign(&decode_assign(value)?),
            ROUTE_ADVERTISEMENT => self.on_routes(decode_routes(value)?),
            ADDRESS_REQUEST => self.on_request(&decode_request(value)?, out),
            _ => Ok(ClientEvent::None),
        }
    }

    /// The addresses and prefixes to use as source.
    pub fn addresses(&self) -> &[IpNetwork] {
        &self.addresses
    }

    /// Where the server sends packets to. What of it is used is a local choice.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Whether there is no address yet, and an answer may still bring one.
    pub fn is_waiting(&self) -> bool {
        let is_open = |asked: &Asked| asked.answer == Answer::None;
        self.addresses.is_empty() && self.asked.iter().any(is_open)
    }

    fn on_assign(&mut self, assigned: &[AssignedAddress]) -> Result<ClientEvent, SessionError> {
        let (usable, refused): (Vec<_>, Vec<_>) =
            assigned.iter().partition(|entry| is_usable(entry));
        SessionError::check_len("ADDRESS_ASSIGN", usable.len(), MAX_ACCEPTED)?;
        if self.has_static {
            return Ok(ClientEvent::None);
        }
        for asked in &mut self.asked {
            let answers = |entry: &&AssignedAddress| entry.request_id == asked.request_id;
            if usable.iter().any(answers) {
                asked.answer = Answer::Assigned;
            } else if refused.iter().any(answers) {
                asked.answer = Answer::Refused;
            }
        }
        // The list is whole: what it lacks is withdrawn. Request IDs say what it answers, not what
        // may be used (RFC 9484 §4.7.1).
        let mut addresses = Vec::with_capacity(usable.len());
        for entry in usable {
            if !addresses.contains(&entry.prefix) {
                addresses.push(entry.prefix);
            }
        }
        let has_changed = addresses != self.addresses;
        self.addresses = addresses;
        let is_refused = |asked: &Asked| asked.answer == Answer::Refused;
        let all_refused = !self.asked.is_empty() && self.asked.iter().all(is_refused);
        Ok(match has_changed {
            _ if all_refused && self.addresses.is_empty() => ClientEvent::Refused,
            true => ClientEvent::Addresses,
            false => ClientEvent::None,
        })
    }

    fn on_routes(&mut self, routes: Routes) -> Result<ClientEvent, SessionError> {
        SessionError::check_len("ROUTE_ADVERTISEMENT", routes.iter().len(), MAX_RANGES)?;
        if routes == self.routes {
            return Ok(ClientEvent::None);
        }
        self.routes = routes;
        Ok(ClientEvent::Routes)
    }

    /// A client has no addresses to give.
    fn on_request(
        &mut self,
        requested: &[RequestedAddress],
        out: &mut Vec<OutCapsule>,
    ) -> Result<ClientEvent, SessionError> {
        SessionError::check_len("ADDRESS_REQUEST", requested.len(), MAX_REQUESTED)?;
        self.used_ids.add(requested)?;
        let refuse =
            |entry: &RequestedAddress| AssignedAddress::refusal(entry.request_id, entry.prefix);
        let refusals: Vec<_> = requested.iter().map(refuse).collect();
        out.push(OutCapsule::assign(&refusals));
        Ok(ClientEvent::None)
    }
}

impl Default for AddressClient {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether an entry is something to configure: no refusal, and nothing that would take over the
/// host's own addresses. The latter counts as a refusal.
fn is_usable(entry: &AssignedAddress) -> bool {
    let address = entry.prefix.ip();
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast())
}
