//! [`Shared`]: one interface for all clients (`"interface": "shared"`).
//!
//! ```text
//!                     ┌ reader of a queue ┐ by destination   ┌ inbox ┐
//!  interface, routes ─┤                   ├──────────────────┤       ├─ IpFlow ─ client
//!  of the pools       └ one per worker    ┘                  └ inbox ┘
//!            ▲                                                   ▲ from another client
//!            └──────────────── SharedPort::try_send ─────────────┘
//! ```
//!
//! Fewer descriptors and no interface that comes and goes with a client; in return the program switches,
//! and an administrator sees all clients behind one name.

mod inbox;
mod port;
mod readers;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ipnetwork::IpNetwork;
use pasque::{Batch, Error, Result};
use tokio::sync::watch;
use tracing::error;

use self::inbox::{Inbox, OpenInbox};
use self::port::{SharedPort, SharedSeat};
use self::readers::Readers;
use crate::device::{self, DeviceKind, Load, PacketDevice, Reads};
use crate::filter::{Counters, DropReason, Register, SharedCounters};
use crate::flow::{ClientState, Seat};
use crate::icmp::{self, ErrorLimiter, Problem};
use crate::link::{Link, LinkAddress, LinkState, follow};
use crate::mtu::MIN_MTU_V6;
use crate::packet;

/// One interface, and the tunnels behind it.
pub(crate) struct Shared {
    /// For those that the readers and seats need it to live.
    this: Weak<Self>,
    readers: Readers,
    inboxes: Arc<Register<Arc<Inbox>>>,
    own: Vec<IpNetwork>,
    client_to_client: bool,
    counters: SharedCounters,
    clients: Mutex<HashMap<u64, ClientState>>,
    states: watch::Sender<LinkState>,
    errors: Mutex<ErrorLimiter>,
}

/// What a shared interface is made for.
#[derive(Clone, Debug)]
pub(crate) struct SharedOptions {
    /// The server's own addresses, with the length of their pools' prefixes.
    pub(crate) own: Vec<IpNetwork>,
    /// Whether clients may reach each other.
    pub(crate) client_to_client: bool,
    /// Where drops are counted that no tunnel sees.
    pub(crate) counters: SharedCounters,
}

impl Shared {
    /// Makes the interface `name`, with a queue for each worker there can be, and sets it up.
    ///
    /// # Errors
    /// What keeps this process from making it, or that the name is taken.
    pub(crate) async fn open(
        name: &str,
        kind: DeviceKind,
        options: SharedOptions,
    ) -> Result<Arc<Self>> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (queues, interface) = device::open(name, kind, workers).map_err(unavailable)?;
        let shared = Self::new(Readers::of_queues(queues), options);
        let mut link = Link::new(&interface).await.map_err(unavailable)?;
        link.set_up().await.map_err(unavailable)?;
        let state = shared.states.borrow().clone();
        link.apply(&state).await.map_err(unavailable)?;
        tokio::spawn(follow(link, shared.states.subscribe()));
        Ok(shared)
    }

    /// The same with a device that is there already.
    pub(crate) fn with_device(device: Arc<dyn PacketDevice>, options: SharedOptions) -> Arc<Self> {
        Self::new(Readers::of_devices([device]), options)
    }

    fn new(readers: Readers, options: SharedOptions) -> Arc<Self> {
        let SharedOptions {
            own,
            client_to_client,
            counters,
        } = options;
        let (states, _) = watch::channel(link_state(&own, &HashMap::new()));
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            readers,
            inboxes: Arc::default(),
            own,
            client_to_client,
            counters,
            clients: Mutex::default(),
            states,
            errors: Mutex::default(),
        })
    }

    /// A place for one more client, whose tunnel runs on the current runtime.
    ///
    /// # Errors
    /// There is no interface any more.
    pub(crate) fn take_seat(&self) -> Result<(Arc<dyn PacketDevice>, Box<dyn Seat>)> {
        let queue = self.readers.queue_here(&self.this).map_err(unavailable)?;
        let inbox = Arc::new(Inbox::default());
        let shared = self
            .this
            .upgrade()
            .ok_or_else(|| unavailable("it was stopped"))?;
        let port = SharedPort::new(shared.clone(), queue, inbox.clone());
        Ok((Arc::new(port), Box::new(SharedSeat::new(shared, inbox))))
    }

    /// Reads no more.
    pub(crate) fn stop(&self) {
        self.readers.stop();
    }

    /// Hands what came from the interface to the tunnels.
    fn switch(&self, reads: &mut Reads, device: &dyn PacketDevice) {
        let inboxes = self.inboxes.read();
        let mut open: Option<(*const Inbox, OpenInbox<'_>)> = None;
        let mut strays = Vec::new();
        for load in reads.drain() {
            let inbox = destination(load.whole()).and_then(|address| inboxes.get(address));
            let Some(inbox) = inbox else {
                strays.push(load);
                continue;
            };
            // What is for one client comes in runs: one lock for each.
            match &mut open {
                Some((which, open)) if *which == Arc::as_ptr(inbox) => open.push(load),
                _ => {
                    drop(open.take());
                    open.insert((Arc::as_ptr(inbox), inbox.open())).1.push(load);
                }
            }
        }
        drop(open);
        drop(inboxes);
        if !strays.is_empty() {
            self.refuse(strays, device);
        }
    }

    /// Drops packets to clients that are not there, and tells their senders.
    #[cold]
    fn refuse(&self, strays: Vec<Load>, device: &dyn PacketDevice) {
        let mut counters = Counters::default();
        let mut replies = Batch::new();
        let now = tokio::time::Instant::now().into_std();
        for packet in strays.into_iter().flatten() {
            let Ok(header) = packet::parse(&packet) else {
                counters.inward.lose(1, DropReason::DestinationNotAssigned);
                continue;
            };
            let reason = match header.destination {
                address if packet::is_link_local(address) => DropReason::LinkLocal,
                address if packet::is_group(address) => DropReason::Multicast,
                _ => DropReason::DestinationNotAssigned,
            };
            counters.inward.lose(1, reason);
            if reason == DropReason::DestinationNotAssigned
                && self.may_tell(now)
                && let Some(error) =
                    icmp::error(Problem::NoRoute, &packet, &header, header.destination)
            {
                counters.errors_sent += 1;
                let _ = replies.push(error);
            }
        }
        // A device that is gone is noticed by its reader.
        let _ = device.try_send(&mut replies);
        self.counters.add(&counters);
    }

    fn may_tell(&self, now: std::time::Instant) -> bool {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.admit(now)
    }

    /// The interface is gone: all tunnels end.
    fn lose(&self, error: &io::Error) {
        error!("the clients' interface is gone: {error}");
        self.inboxes.read().values().for_each(|inbox| inbox.close());
    }

    /// A client is this now, or gone.
    fn update(&self, id: u64, client: Option<ClientState>) {
        let mut clients = self.clients();
        match client {
            Some(client) => drop(clients.insert(id, client)),
            None => drop(clients.remove(&id)),
        }
        let state = link_state(&self.own, &clients);
        drop(clients);
        self.states.send_if_modified(|known| {
            let is_new = *known != state;
            *known = state;
            is_new
        });
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<u64, ClientState>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the interface should be, with these clients behind it.
///
/// Its MTU is that of the narrowest tunnel, so that the kernel fragments what may be fragmented. A tunnel
/// that carries less than any IPv6 link does not count: its own packets are dropped with Packet Too Big.
fn link_state(own: &[IpNetwork], clients: &HashMap<u64, ClientState>) -> LinkState {
    let known = clients.values().map(|client| client.mtu);
    let narrowest = known.filter(|mtu| *mtu > 0).min().unwrap_or(MIN_MTU_V6);
    let network = |own: &IpNetwork| IpNetwork::new(own.network(), own.prefix()).ok();
    let mut routes: Vec<_> = own.iter().filter_map(network).collect();
    let mut accepted: Vec<_> = clients.values().flat_map(|client| &client.routes).collect();
    accepted.sort_unstable();
    accepted.dedup();
    routes.extend(accepted);
    // Alone: with the length of its pool, the kernel would take the last address of an IPv4 pool for a
    // broadcast address and the first one of an IPv6 pool for its own, as the subnet's router.
    let alone = |own: &IpNetwork| LinkAddress::new(own.ip().into());
    LinkState {
        mtu: narrowest.max(MIN_MTU_V6),
        addresses: own.iter().map(alone).collect(),
        routes,
    }
}

/// Where a packet goes. The tunnel will look at the rest of it.
#[inline]
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let bytes: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        }
        6 => {
            let bytes: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::proxy(
        pasque::proxy_status::ProxyError::ProxyInternalError,
        "no tunnel interface",
    )
    .with_source(error)
}
