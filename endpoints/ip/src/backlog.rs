//! [`Backlog`]: what waits for a tunnel that sends less than the host wants to send.
//!
//! ```text
//! push ──▶ hash of the packet's flow ──▶ ┌ queue ┐
//!                                        │ queue │ ──▶ new flows first, then in turn ──▶ pop
//!                                        └ queue ┘                             │
//!                                                        what has waited too long is dropped
//! ```
//!
//! The packets of one flow stay in order and wait behind each other; those of different flows do not. A
//! ping, or a look-up of a name, is not held up by a download beside it (FQ-CoDel, RFC 8290). A flow whose
//! packets keep waiting longer than [`TARGET`](pasque::codel::TARGET) is told by a loss (CoDel, RFC 8289), so that no
//! sender keeps a queue that only delays it.
//!
//! The backlog knows no clock: it is told the time.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use pasque::Packet;
use pasque::codel::Codel;

use crate::device::{BLOCK, Load};
use crate::held::Held;
use crate::packet::{Fragment, Header};

/// Queues of one backlog. Flows that share one by chance wait for each other.
const QUEUES: usize = 128;

/// Bytes that a flow sends before another one has its turn: half a super-packet. Less would take apart
/// what the other end's interface takes together.
const QUANTUM: usize = 32 << 10;

/// Packets that wait at most, give or take a batch: the receive window that Linux allows one TCP
/// connection (6 MiB), so that a single download does not fill it. When it is full no more is read, and
/// the rest waits in the kernel.
const MAX_PACKETS: usize = 4608;

/// The same in bytes, for packets longer than Ethernet's.
const MAX_BYTES: usize = 8 << 20;

/// What every backlog may hold even if others hold much, in bytes of memory: a dozen packets, or the
/// super-packet that begins in it. What leaves at once does not wait here.
const OWN_SHARE: usize = 32 << 10;

/// A queue that keeps more places than this when it is empty gives them back.
const KEPT_PLACES: usize = 8;

/// What waits for one tunnel. A super-packet waits uncut.
pub(crate) struct Backlog {
    /// Empty until something has to wait.
    queues: Vec<Queue>,
    /// Flows that have just begun, and flows that have had their turn.
    new: VecDeque<usize>,
    old: VecDeque<usize>,
    packets: usize,
    bytes: usize,
    /// Bytes of memory.
    footprint: usize,
    held: Held,
    dropped: u64,
    hasher: RandomState,
    /// The flow of the last packet and its queue: packets come in runs.
    last: Option<(FlowKey, usize)>,
}

/// What the packets of one flow have in common: addresses, protocol, and ports where there are any.
type FlowKey = (IpAddr, IpAddr, u8, Option<(u16, u16)>);

/// The packets of one flow.
#[derive(Default)]
struct Queue {
    loads: VecDeque<Waiting>,
    bytes: usize,
    /// Bytes that the flow may still send in this turn.
    credit: usize,
    /// Whether the queue stands in one of the lists.
    is_listed: bool,
    codel: Codel,
}

struct Waiting {
    load: Load,
    /// Bytes of memory that it takes until its last packet is gone.
    footprint: usize,
    since: Instant,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            packets: 0,
            bytes: 0,
            footprint: 0,
            held: Held::default(),
            dropped: 0,
            hasher: RandomState::new(),
            last: None,
        }
    }
}

impl Backlog {
    /// One that shares what may be held with the queues of `account` alone.
    #[cfg(test)]
    pub(crate) fn of(account: &'static crate::held::Account) -> Self {
        Self {
            held: Held::of(account),
            ..Self::default()
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// How many packets wait.
    pub(crate) fn len(&self) -> usize {
        self.packets
    }

    /// Whether no more is to be read for now.
    pub(crate) fn is_full(&self) -> bool {
        self.packets >= MAX_PACKETS
            || self.bytes >= MAX_BYTES
            || self.footprint >= self.held.share(OWN_SHARE)
    }

    /// How many more packets may be read for now, at least one.
    pub(crate) fn free(&self) -> usize {
        let free = self.held.share(OWN_SHARE).saturating_sub(self.footprint);
        (free / BLOCK).max(1)
    }

    /// Adds a load, whose packets have this header, behind those of its flow.
    pub(crate) fn push(&mut self, load: Load, header: &Header, now: Instant) {
        if self.queues.is_empty() {
            self.queues.resize_with(QUEUES, Queue::default);
        }
        let index = self.queue_of(load.whole(), header);
        let Some(queue) = self.queues.get_mut(index) else {
            return;
        };
        self.packets += load.packets();
        self.bytes += load.len();
        queue.bytes += load.len();
        let footprint = load.footprint();
        self.footprint += footprint;
        queue.loads.push_back(Waiting {
            load,
            footprint,
            since: now,
        });
        if !std::mem::replace(&mut queue.is_listed, true) {
            queue.credit = QUANTUM;
            self.new.push_back(index);
        }
    }

    /// The packet that goes next.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Packet> {
        loop {
            let is_new = !self.new.is_empty();
            let list = if is_new { &mut self.new } else { &mut self.old };
            let index = *list.front()?;
            let queue = self.queues.get_mut(index)?;
            if queue.credit == 0 {
                queue.credit = QUANTUM;
                list.pop_front();
                self.old.push_back(index);
                continue;
            }
            let taken = queue.take(now);
            self.packets -= taken.packets;
            self.bytes -= taken.bytes;
            self.footprint -= taken.footprint;
            match taken.packet {
                Some(packet) => {
                    self.dropped += taken.packets as u64 - 1;
                    queue.credit = queue.credit.saturating_sub(packet.len());
                    return Some(packet);
                }
                None => {
                    self.dropped += taken.packets as u64;
                    list.pop_front();
                    // A flow that pauses for a moment is not a new one when it goes on: it would
                    // always come first.
                    if is_new && !self.old.is_empty() {
                        self.old.push_back(index);
                    } else {
                        queue.retire();
                    }
                }
            }
        }
    }

    /// Packets dropped since this was asked last because they had waited too long.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Tells the other queues of the process how much this one holds.
    pub(crate) fn settle(&mut self) {
        self.held.set(self.footprint);
    }

    fn queue_of(&mut self, packet: &[u8], header: &Header) -> usize {
        // Not all fragments of a packet have the ports, and they should stay together.
        let is_whole = header.fragment == Fragment::Whole;
        let ports = header.ports(packet).filter(|_| is_whole);
        let key = (header.source, header.destination, header.protocol, ports);
        match self.last {
            Some((last, index)) if last == key => index,
            _ => {
                let index = (self.hasher.hash_one(key) % QUEUES as u64) as usize;
                self.last = Some((key, index));
                index
            }
        }
    }
}

/// What left a queue at once: at most one packet that goes, behind those that are dropped.
#[derive(Default)]
struct Taken {
    packet: Option<Packet>,
    packets: usize,
    bytes: usize,
    footprint: usize,
}

impl Queue {
    fn take(&mut self, now: Instant) -> Taken {
        let mut taken = Taken::default();
        while let Some(waiting) = self.loads.front_mut() {
            let Waiting {
                load,
                footprint,
                since,
            } = waiting;
            let Some(packet) = load.next() else {
                taken.footprint += *footprint;
                self.loads.pop_front();
                continue;
            };
            taken.packets += 1;
            taken.bytes += packet.len();
            self.bytes -= packet.len();
            let waited = now.saturating_duration_since(*since);
            if load.is_empty() {
                taken.footprint += *footprint;
                self.loads.pop_front();
            }
            if !self.codel.drops(waited, self.bytes, now) {
                taken.packet = Some(packet);
                break;
            }
        }
        taken
    }

    /// Nothing waits here any more.
    fn retire(&mut self) {
        self.is_listed = false;
        if self.loads.capacity() > KEPT_PLACES {
            self.loads = VecDeque::new();
        }
    }
}
