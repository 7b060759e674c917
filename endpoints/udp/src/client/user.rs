//! A local user: an address, and what waits for its tunnel.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use pasque::{BATCH_LEN, Packet};

/// Datagrams that wait for a tunnel that is being opened: a burst, as a NAT might hold for ARP.
const EARLY_LEN: usize = BATCH_LEN;
/// Datagrams that wait for an open tunnel's turn.
const RING_LEN: usize = 8 * BATCH_LEN;
/// Bytes that wait, in either case.
const RING_BYTES: usize = 1 << 20;

/// One source address of a forward, from its first datagram to the end of its tunnel.
pub(super) struct User {
    address: SocketAddr,
    local: Option<IpAddr>,
    ring: Mutex<Ring>,
}

impl User {
    /// A user at `address` who sent to `local`, without a tunnel yet.
    pub(super) fn new(address: SocketAddr, local: Option<IpAddr>) -> Self {
        Self {
            address,
            local,
            ring: Mutex::new(Ring {
                limit: EARLY_LEN,
                ..Ring::default()
            }),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that the user knows us by.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// Adds datagrams and wakes the tunnel once. The oldest ones make place. False if it is closed.
    pub(super) fn push<'a>(&self, datagrams: impl Iterator<Item = &'a [u8]>) -> bool {
        let waker = {
            let mut ring = self.lock();
            if ring.is_closed {
                return false;
            }
            for datagram in datagrams {
                ring.push(Packet::copy_from(datagram));
            }
            ring.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The tunnel is open: more may wait from now on.
    pub(super) fn open(&self) {
        self.lock().limit = RING_LEN;
    }

    /// Takes no more datagrams, and drops those that wait.
    pub(super) fn close(&self) {
        let waker = {
            let mut ring = self.lock();
            ring.is_closed = true;
            ring.packets.clear();
            ring.bytes = 0;
            ring.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Closes, unless datagrams wait: then they are worth another tunnel.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut ring = self.lock();
        ring.is_closed |= ring.packets.is_empty();
        ring.is_closed
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Ring> {
        // A ring of packets has no invariant that a panic elsewhere could have broken.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "User({})", self.address)
    }
}

/// Datagrams on their way from the local socket to a tunnel, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    packets: VecDeque<Packet>,
    bytes: usize,
    limit: usize,
    dropped: u64,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Ring {
    pub(super) fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }

    /// Wakes `waker` at the next datagram, or at the end.
    pub(super) fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Datagrams that had to make place so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn push(&mut self, packet: Packet) {
        self.bytes += packet.len();
        self.packets.push_back(packet);
        while self.packets.len() > self.limit || self.bytes > RING_BYTES {
            self.pop();
            self.dropped += 1;
        }
    }
}
