//! [`IpFlow`]: one tunnel at the server.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;
use std::{fmt, io};

use ipnetwork::IpNetwork;
use pasque::{Admit, Batch, Capsule, Endpoint, Error, Flow, FlowCx, Result};
use tokio::runtime::Handle;
use tracing::{debug, info, warn};

use super::core::send_capsules;
use super::{Core, Role, context};
use crate::device::PacketDevice;
use crate::endpoint::IpEndpoint;
use crate::filter::{Counters, Place, Rejection, ServerFilter, ServerRules, SharedCounters, Way};
use crate::mtu::{PathFailure, PathGuard};
use crate::packet::Header;
use crate::scope::Scope;
use crate::session::{AddressServer, OutCapsule, ServerEvent};

/// Prefixes of a client's routes that are used at most: one capsule could name a million.
const MAX_CLIENT_PREFIXES: usize = 256;

/// A tunnel's place at the server's side: what leads the client's packets to it.
///
/// Dropping it gives the place back.
pub(crate) trait Seat: Send + 'static {
    /// The client is this now.
    fn update(&mut self, client: &ClientState);

    /// Whether packets from client to client are forwarded by this program and not by the kernel.
    fn forwards_across(&self) -> bool {
        false
    }

    /// Whether the kernel takes its time over giving it back.
    fn is_slow_to_leave(&self) -> bool {
        false
    }
}

/// What a client has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientState {
    /// Its addresses.
    pub(crate) addresses: Vec<IpNetwork>,
    /// The networks behind it that were accepted.
    pub(crate) routes: Vec<IpNetwork>,
    /// What its tunnel carries, in bytes; 0 if that is not known yet.
    pub(crate) mtu: u32,
}

/// What makes a tunnel at the server.
pub(crate) struct ServerTunnel {
    // Fields are dropped in this order.
    pub(crate) device: Arc<dyn PacketDevice>,
    pub(crate) seat: Box<dyn Seat>,
    pub(crate) membership: Place<()>,
    pub(crate) session: AddressServer,
    pub(crate) filter: ServerFilter,
    pub(crate) rules: Arc<ServerRules>,
    pub(crate) counters: SharedCounters,
    /// Whether the client has to answer an echo (RFC 9484 §7.2).
    pub(crate) mtu_probe: bool,
    /// For the log.
    pub(crate) client: String,
}

/// One tunnel at the server: an interface, or a part of one, and the client's addresses.
pub struct IpFlow {
    /// `None` only while it is dropped.
    core: Option<Core<ServerRole>>,
}

impl IpFlow {
    pub(crate) fn new(tunnel: ServerTunnel) -> Self {
        let role = ServerRole {
            seat: tunnel.seat,
            membership: tunnel.membership,
            session: tunnel.session,
            filter: tunnel.filter,
            rules: tunnel.rules,
            counters: tunnel.counters,
            client: tunnel.client,
        };
        let guard = PathGuard::new(tunnel.mtu_probe).letting_the_peer_speak_first();
        let mut core = Core::new(role, tunnel.device, guard, random_id());
        core.role.report(&core.guard);
        Self { core: Some(core) }
    }

    /// Lets this tunnel's packets wait in `backlog`.
    #[cfg(test)]
    pub(super) fn set_backlog(&mut self, backlog: crate::backlog::Backlog) {
        if let Some(core) = &mut self.core {
            core.backlog = backlog;
        }
    }
}

impl Flow for IpFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        match &mut self.core {
            Some(core) => core.on_datagrams(inbound, cx),
            None => Ok(()),
        }
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        match &mut self.core {
            Some(core) => core.on_capsule(capsule, cx),
            None => Ok(()),
        }
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        match &mut self.core {
            Some(core) => core.poll_outbound(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The tunnel goes on with its addresses; routes that are others now are advertised anew, and every
    /// packet meets the new rules.
    fn on_reload(
        &mut self,
        endpoint: &(dyn Endpoint + 'static),
        cx: &mut FlowCx<'_>,
    ) -> Result<()> {
        let (Some(core), Some(endpoint)) = (&mut self.core, endpoint.downcast_ref::<IpEndpoint>())
        else {
            return Err(Error::internal("no IP endpoint"));
        };
        let role = &mut core.role;
        let terms = endpoint.terms(role.filter.scope())?;
        if !Arc::ptr_eq(&terms.rules.clients, &role.rules.clients) {
            return Err(Error::internal("the endpoint has other address pools"));
        }
        let news = role.session.offer(terms.routes);
        let routes = role.session.routes().clone();
        role.filter.renew(terms.rules.clone(), routes);
        role.rules = terms.rules;
        if core.has_greeted {
            send_capsules(news.as_slice(), cx);
        }
        Ok(())
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        context::admit(kind, len, start)
    }
}

impl Drop for IpFlow {
    /// The kernel takes milliseconds to remove an interface, which no other tunnel is to wait for.
    fn drop(&mut self) {
        let Some(mut core) = self.core.take() else {
            return;
        };
        if core.role.seat.is_slow_to_leave()
            && let Ok(runtime) = Handle::try_current()
        {
            core.role.session.begin_end();
            runtime.spawn_blocking(move || drop(core));
        }
    }
}

impl fmt::Debug for IpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.core {
            Some(core) => write!(f, "IpFlow(of {})", core.role.client),
            None => f.write_str("IpFlow"),
        }
    }
}

/// The server's part. Fields are dropped in this order: the addresses come last.
struct ServerRole {
    seat: Box<dyn Seat>,
    membership: Place<()>,
    session: AddressServer,
    filter: ServerFilter,
    rules: Arc<ServerRules>,
    counters: SharedCounters,
    client: String,
}

impl Role for ServerRole {
    #[inline]
    fn outward(&mut self, packet: &[u8], header: &Header, now: Instant) -> Result<Way, Rejection> {
        self.filter.outward(packet, header, now)
    }

    #[inline]
    fn inward(&mut self, packet: &[u8], header: &Header) -> Result<(), Rejection> {
        self.filter.inward(packet, header)
    }

    fn forwards_across(&self) -> bool {
        self.seat.forwards_across()
    }

    fn own_address(&self, v6: bool) -> Option<IpAddr> {
        let mut own = self.rules.own.iter();
        own.find(|address| address.is_ipv6() == v6).copied()
    }

    fn peer_address_v6(&self) -> Option<Ipv6Addr> {
        let mut assigned = self.session.assigned().iter();
        assigned.find_map(|prefix| match prefix {
            IpNetwork::V6(host) if host.prefix() == 128 => Some(host.ip()),
            _ => None,
        })
    }

    fn has_ipv6(&self) -> bool {
        self.session.assigned().iter().any(IpNetwork::is_ipv6)
    }

    fn greeting(&mut self) -> Vec<OutCapsule> {
        self.session.greeting()
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, answers: &mut Vec<OutCapsule>) -> Result<bool> {
        let event = self
            .session
            .on_capsule(capsule.kind, capsule.value, answers)?;
        Ok(event != ServerEvent::None)
    }

    fn report(&mut self, path: &PathGuard) {
        let accepted = self.session.client_routes().clone();
        let mut prefixes = accepted.prefixes();
        let routes: Vec<_> = prefixes.by_ref().take(MAX_CLIENT_PREFIXES).collect();
        if prefixes.next().is_some() {
            warn!(
                client = self.client,
                "the client advertises more than {MAX_CLIENT_PREFIXES} prefixes: the rest is not used"
            );
        }
        let addresses = self.session.assigned().to_vec();
        let held = self.membership.set_client(&addresses, &routes);
        if held.len() < routes.len() {
            debug!(
                client = self.client,
                "the client advertises what is behind another one: that does not count"
            );
        }
        let routes = held;
        let counted = accepted.within(&Scope::new(Some(routes.clone()), None));
        self.filter.set_client(&addresses, counted);
        self.seat.update(&ClientState {
            addresses,
            routes,
            mtu: path.link_mtu(self.has_ipv6()),
        });
    }

    fn on_path_failure(&mut self, failure: PathFailure) {
        info!(client = self.client, "IP tunnel aborted: {failure}");
    }

    fn on_device_failure(&mut self, error: &io::Error) {
        warn!(
            client = self.client,
            "IP tunnel lost its interface: {error}"
        );
    }

    fn on_end(&mut self, total: &Counters) {
        debug!(client = self.client, counters = ?total, "IP tunnel ended");
    }

    fn count(&mut self, recent: &Counters) {
        self.counters.add(recent);
    }
}

/// A number that the hosts behind this one hardly use, too.
pub(super) fn random_id() -> u16 {
    RandomState::new().hash_one(()) as u16
}
