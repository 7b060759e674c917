//! [`IpClientFlow`]: one tunnel at the client.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;
use std::{fmt, io};

use ipnetwork::IpNetwork;
use pasque::{Admit, Batch, Capsule, Error, Flow, FlowCx, Result, StreamError};
use tokio::sync::watch;
use tracing::debug;

use super::server::random_id;
use super::{Core, Role, TunnelFailure, TunnelState, context};
use crate::capsules::ROUTE_ADVERTISEMENT;
use crate::device::PacketDevice;
use crate::filter::{ClientFilter, Counters, Rejection, Way};
use crate::mtu::{PathFailure, PathGuard};
use crate::packet::Header;
use crate::routes::Routes;
use crate::session::{AddressClient, ClientEvent, OutCapsule};

/// What a client wants of its tunnel.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ClientWants {
    /// The addresses to ask for: an unspecified one, such as `0.0.0.0/32`, stands for any of that prefix
    /// length. Nothing is asked for if there is none.
    pub request: Vec<IpNetwork>,
    /// Addresses configured by hand. If there are any, none is asked for, and what the proxy assigns is
    /// not used.
    pub addresses: Vec<IpNetwork>,
    /// What this end forwards to, site to site. Advertised unless it is empty.
    pub advertise: Routes,
    /// Whether the proxy has to answer an echo of 1280 bytes once there is IPv6. RFC 9484 §7.2 wants this
    /// of routers; a host may rely on what QUIC finds out.
    pub mtu_probe: bool,
}

/// One tunnel at the client: an interface whose packets go to the proxy.
///
/// What is agreed with the proxy comes out as [`TunnelState`]; giving the interface its addresses, routes
/// and MTU is somebody else's business.
pub struct IpClientFlow {
    core: Core<ClientRole>,
}

impl IpClientFlow {
    /// A tunnel for the packets of `device`, that tells `updates` what is agreed with the proxy.
    ///
    /// The device is to be registered with a runtime already. That need not be the one that polls the
    /// flow later, which has to have a timer.
    pub fn new(
        device: Arc<dyn PacketDevice>,
        wants: ClientWants,
        updates: watch::Sender<TunnelState>,
    ) -> Self {
        let guard = PathGuard::new(wants.mtu_probe);
        let mut role = ClientRole {
            session: AddressClient::with_addresses(wants.addresses.clone()),
            filter: ClientFilter::new(wants.advertise.clone()),
            state: TunnelState::default(),
            has_routes: false,
            wants,
            updates,
        };
        role.report(&guard);
        Self {
            core: Core::new(role, device, guard, random_id()),
        }
    }
}

impl Flow for IpClientFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        self.core.on_datagrams(inbound, cx)
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        self.core.on_capsule(capsule, cx)
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        self.core.poll_outbound(cx)
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        context::admit(kind, len, start)
    }
}

impl fmt::Debug for IpClientFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = &self.core.role.state.addresses;
        f.debug_tuple("IpClientFlow").field(addresses).finish()
    }
}

/// The client's part.
struct ClientRole {
    session: AddressClient,
    filter: ClientFilter,
    wants: ClientWants,
    /// Whether the proxy has said what it forwards to, be it nothing.
    has_routes: bool,
    state: TunnelState,
    updates: watch::Sender<TunnelState>,
}

impl ClientRole {
    /// Tells why the tunnel ends.
    fn fail(&mut self, failure: TunnelFailure) {
        self.state.failure = Some(failure);
        self.updates.send_replace(self.state.clone());
    }
}

impl Role for ClientRole {
    #[inline]
    fn outward(&mut self, packet: &[u8], header: &Header, _now: Instant) -> Result<Way, Rejection> {
        self.filter.outward(packet, header)
    }

    #[inline]
    fn inward(&mut self, packet: &[u8], header: &Header) -> Result<(), Rejection> {
        self.filter.inward(packet, header)
    }

    fn forwards_across(&self) -> bool {
        false
    }

    fn own_address(&self, v6: bool) -> Option<IpAddr> {
        let mut own = self.session.addresses().iter();
        own.find(|own| own.is_ipv6() == v6).map(IpNetwork::ip)
    }

    /// Nobody tells a client what address its proxy has.
    fn peer_address_v6(&self) -> Option<Ipv6Addr> {
        None
    }

    fn has_ipv6(&self) -> bool {
        self.session.addresses().iter().any(IpNetwork::is_ipv6)
    }

    fn greeting(&mut self) -> Vec<OutCapsule> {
        let request = self.session.request(&self.wants.request);
        let advertise = &self.wants.advertise;
        let routes = (!advertise.is_empty()).then(|| OutCapsule::routes(advertise));
        request.into_iter().chain(routes).collect()
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, answers: &mut Vec<OutCapsule>) -> Result<bool> {
        let event = self
            .session
            .on_capsule(capsule.kind, capsule.value, answers)
            .map_err(|error| {
                self.fail(TunnelFailure::Malformed(error.to_string().into()));
                Error::from(error)
            })?;
        let had_routes = self.has_routes;
        self.has_routes |= capsule.kind == ROUTE_ADVERTISEMENT;
        match event {
            ClientEvent::None => Ok(self.has_routes != had_routes),
            ClientEvent::Addresses | ClientEvent::Routes => Ok(true),
            ClientEvent::Refused => {
                let failure = TunnelFailure::Refused;
                self.fail(failure.clone());
                Err(Error::internal(failure.to_string())
                    .with_stream_error(StreamError::RequestCancelled))
            }
        }
    }

    fn report(&mut self, path: &PathGuard) {
        let addresses = self.session.addresses().to_vec();
        self.filter.set_held(&addresses);
        let routes = self.has_routes.then(|| self.session.routes().clone());
        if let Some(routes) = &routes {
            self.filter.set_routes(routes.clone());
        }
        let state = TunnelState {
            addresses,
            routes,
            mtu: path.link_mtu(self.has_ipv6()),
            path_mtu: path.mtu(),
            failure: None,
        };
        if state != self.state {
            self.state = state;
            self.updates.send_replace(self.state.clone());
        }
    }

    fn on_path_failure(&mut self, failure: PathFailure) {
        self.fail(TunnelFailure::Path(failure));
    }

    fn on_device_failure(&mut self, error: &io::Error) {
        self.fail(TunnelFailure::Device(error.to_string().into()));
    }

    fn on_end(&mut self, total: &Counters) {
        debug!(counters = ?total, "IP tunnel ended");
    }

    /// A client has one tunnel, whose log says at the end what there was.
    fn count(&mut self, _recent: &Counters) {}
}
