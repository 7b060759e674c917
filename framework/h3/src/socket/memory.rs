//! A network in memory: latency, loss, a rate and an MTU between sockets that are not there.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quiche::{RecvInfo, SendInfo};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use super::{RECV_SLOTS, Received, Run, Sent};

/// Packets that wait at a receiver; more are dropped, as by a socket.
const QUEUE_LEN: usize = 4096;

/// How long packets wait where the rate is limited; those that would wait longer are dropped, as by
/// a router.
const QUEUE_TIME: Duration = Duration::from_millis(50);

/// What the network does to every packet.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// Time from sender to receiver.
    pub latency: Duration,
    /// Share of packets that vanish, 0 to 1.
    pub loss: f64,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f64,
    /// Share of packets that overtake the one before them, 0 to 1.
    pub reorder: f64,
    /// The largest UDP payload that passes, in bytes. A longer one vanishes, and nobody is told.
    pub mtu: usize,
    /// What each receiver gets at most, in bytes per second; 0 for no limit.
    pub rate: u32,
    /// Seed of the random choices.
    pub seed: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            mtu: 1452,
            rate: 0,
            seed: 1,
        }
    }
}

/// Sockets by address, and what lies between them.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    conditions: Conditions,
    random: StdRng,
    inboxes: HashMap<SocketAddr, Arc<Inbox>>,
    next_port: u16,
    /// Addresses that a sender's packets seem to come from, as behind a NAT.
    rebound: HashMap<SocketAddr, SocketAddr>,
}

impl Network {
    /// A network under `conditions`.
    pub fn new(conditions: Conditions) -> Self {
        Self(Arc::new(Mutex::new(State {
            conditions,
            random: StdRng::seed_from_u64(conditions.seed),
            inboxes: HashMap::new(),
            next_port: 10_000,
            rebound: HashMap::new(),
        })))
    }

    /// The conditions for packets sent now.
    pub fn conditions(&self) -> Conditions {
        self.lock().conditions
    }

    /// Changes the conditions for packets sent from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        self.lock().conditions = conditions;
    }

    /// Changes the largest UDP payload that passes from now on.
    pub fn set_mtu(&self, mtu: usize) {
        self.lock().conditions.mtu = mtu;
    }

    /// Lets everything that `socket` sends come from a new port, as when a NAT forgets its mapping:
    /// answers to the new port arrive, and what is sent to the old one does not. Returns the new
    /// address.
    pub fn rebind(&self, socket: SocketAddr) -> SocketAddr {
        self.renumber(socket, socket.ip())
    }

    /// [`rebind`](Self::rebind) to another host's address, as when a device changes its network.
    pub fn renumber(&self, socket: SocketAddr, ip: IpAddr) -> SocketAddr {
        let mut state = self.lock();
        state.next_port += 1;
        let outside = SocketAddr::new(ip, state.next_port);
        let old = state.rebound.insert(socket, outside).unwrap_or(socket);
        if let Some(inbox) = state.inboxes.remove(&old) {
            state.inboxes.insert(outside, inbox);
        }
        outside
    }

    /// A new socket.
    pub(crate) fn socket(&self) -> Memory {
        let mut state = self.lock();
        state.next_port += 1;
        let local = SocketAddr::from(([127, 0, 0, 1], state.next_port));
        let inbox = Arc::<Inbox>::default();
        state.inboxes.insert(local, inbox.clone());
        Memory {
            local,
            inbox,
            network: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, packet: &[u8]) {
        let Conditions {
            latency,
            loss,
            duplicate,
            reorder,
            mtu,
            rate,
            ..
        } = self.conditions;
        let from = self.rebound.get(&from).copied().unwrap_or(from);
        if packet.len() > mtu || (loss > 0.0 && self.random.random_bool(loss)) {
            return;
        }
        let copies = 1 + usize::from(duplicate > 0.0 && self.random.random_bool(duplicate));
        let Some(inbox) = self.inboxes.get(&to) else {
            return;
        };
        let mut inside = inbox.lock();
        let now = Instant::now();
        for _ in 0..copies {
            let starts = inside.busy_until.map_or(now, |busy| busy.max(now));
            if inside.queue.len() >= QUEUE_LEN || starts > now + QUEUE_TIME {
                continue;
            }
            let takes = match rate {
                0 => Duration::ZERO,
                rate => Duration::from_secs_f64(packet.len() as f64 / f64::from(rate)),
            };
            inside.busy_until = Some(starts + takes);
            let overtakes = reorder > 0.0 && self.random.random_bool(reorder);
            let at = inside.queue.len() - usize::from(overtakes && !inside.queue.is_empty());
            let due = starts + takes + latency;
            inside.queue.insert(at, (due, from, packet.to_vec()));
        }
        drop(inside);
        inbox.arrived.notify_one();
    }
}

#[derive(Debug, Default)]
struct Inbox {
    inside: Mutex<Inside>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    queue: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    /// When the line to this receiver has carried what was sent.
    busy_until: Option<Instant>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket on a [`Network`].
#[derive(Debug)]
pub(crate) struct Memory {
    local: SocketAddr,
    inbox: Arc<Inbox>,
    network: Network,
}

impl Memory {
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn try_recv(&mut self, into: &mut Received) -> io::Result<()> {
        let now = Instant::now();
        let queue = &mut self.inbox.lock().queue;
        for buffer in into.buffers.iter_mut().take(RECV_SLOTS) {
            if queue.front().is_none_or(|(due, ..)| *due > now) {
                break;
            }
            let Some((_, from, packet)) = queue.pop_front() else {
                break;
            };
            let Some(space) = buffer.get_mut(..packet.len()) else {
                continue;
            };
            space.copy_from_slice(&packet);
            let info = RecvInfo {
                from,
                to: self.local,
            };
            into.runs.push(Run {
                info,
                len: packet.len(),
                stride: packet.len().max(1),
            });
        }
        if into.runs.is_empty() {
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn try_send(&mut self, packets: &[u8], segment: usize, info: &SendInfo) -> Sent {
        let mut state = self.network.lock();
        for packet in packets.chunks(segment) {
            state.deliver(self.local, info.to, packet);
        }
        Sent::All
    }

    pub(super) async fn readable(&self) {
        loop {
            let due = self.inbox.lock().queue.front().map(|(due, ..)| *due);
            match due {
                None => self.inbox.arrived.notified().await,
                Some(due) if due <= Instant::now() => return,
                Some(due) => tokio::time::sleep_until(due.into()).await,
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        let inbox = &self.inbox;
        state.inboxes.retain(|_, other| !Arc::ptr_eq(other, inbox));
    }
}
