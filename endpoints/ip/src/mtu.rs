//! [`PathGuard`]: how long an IP packet in the tunnel may be, and whether that is enough for IPv6.
//!
//! A tunnel carries one IP packet per HTTP Datagram, and a datagram cannot be fragmented: what the path
//! of the QUIC connection carries is the MTU of the tunnel (RFC 9484 §10.1). IPv6 works on no link that
//! carries less than 1280 bytes (RFC 8200 §5), so a tunnel with IPv6 is aborted when its path turns out
//! to be narrower (RFC 9484 §7.2). That QUIC's own discovery found the path wide enough says nothing
//! about what is behind an HTTP intermediary, which is why a router sends an echo through the tunnel.
//!
//! The guard knows no clock and no socket: it is told the time, and says what to do.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// Bytes that every IPv6 link carries in one packet (RFC 8200 §5).
pub const MIN_MTU_V6: u32 = 1280;

/// Bytes of data in an echo request that makes a packet of [`MIN_MTU_V6`] (RFC 9484 §7.2).
pub const ECHO_DATA_LEN: usize = 1232;

/// Bytes of the context ID in front of a packet: 0, in its shortest form.
const CONTEXT_LEN: usize = 1;

/// The longest IP packet of IPv4, in bytes.
const MAX_PACKET_LEN: usize = 65_535;

/// The MTU of a tunnel whose datagrams travel as capsules, which have no limit of their own: that of the
/// links where most packets come from and go to.
const UNLIMITED_MTU: u32 = 1500;

/// How long a path may be too narrow for IPv6. QUIC starts with 1200 bytes, at first and after a change
/// of the path, and takes a few round trips to find what fits.
const GRACE: Duration = Duration::from_secs(5);

/// By how much a server is more patient than its clients.
const HEAD_START: Duration = Duration::from_secs(3);

/// Time for the answer to an echo, and how many are sent.
const ECHO_PATIENCE: Duration = Duration::from_secs(1);
const ECHOES: u16 = 5;

/// Between two checks while something is going on, and for how long after a change that is the case.
const RESTLESS: Duration = Duration::from_secs(1);
const RESTLESS_FOR: Duration = Duration::from_secs(10);

/// Between two checks otherwise.
const CALM: Duration = Duration::from_secs(10);

/// Watches over the length of the packets that one tunnel carries.
#[derive(Debug)]
pub struct PathGuard {
    /// Bytes of the longest packet; 0 until it is known.
    mtu: u32,
    /// When that was found out.
    changed: Option<Instant>,
    /// Since when it has not been enough.
    narrow_since: Option<Instant>,
    /// How long that may go on.
    grace: Duration,
    proof: Proof,
}

/// What is known of the whole way to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Known from elsewhere, or not to be proven by us.
    NotWanted,
    Wanted,
    /// So many echoes were sent, the last one then.
    Awaited {
        echoes: u16,
        sent: Instant,
    },
    Given,
}

/// What there is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Give the interface this [MTU](PathGuard::link_mtu), in bytes.
    SetMtu(u32),
    /// Send an echo request with [`ECHO_DATA_LEN`] bytes of data and this sequence number.
    SendEcho {
        /// From 1 on.
        sequence: u16,
    },
    /// Abort the tunnel.
    Abort(PathFailure),
}

/// Why a path carries no IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFailure {
    /// QUIC packets on it are too short.
    #[error(
        "the path carries IP packets of {mtu} bytes, but IPv6 needs {MIN_MTU_V6}: its MTU is too \
         small for a tunnel with IPv6"
    )]
    Narrow {
        /// The tunnel's MTU, in bytes.
        mtu: u32,
    },
    /// Nobody answered the echoes (RFC 9484 §7.2).
    #[error(
        "no answer to {ECHOES} ICMPv6 echo requests of {MIN_MTU_V6} bytes: the peer does not answer \
         them, or something on the way drops packets that long"
    )]
    NoEcho,
}

impl PathGuard {
    /// A guard that has seen nothing yet. It sends echoes if `prove`, which is a router's duty unless the
    /// path is known by other means (RFC 9484 §7.2).
    pub fn new(prove: bool) -> Self {
        Self {
            mtu: 0,
            changed: None,
            narrow_since: None,
            grace: GRACE,
            proof: match prove {
                true => Proof::Wanted,
                false => Proof::NotWanted,
            },
        }
    }

    /// The same, a few seconds more patient than the peer, whose user is told why a tunnel ends if it
    /// is the peer that ends it.
    #[must_use]
    pub fn letting_the_peer_speak_first(self) -> Self {
        Self {
            grace: GRACE + HEAD_START,
            ..self
        }
    }

    /// What is to be done `now`, where a datagram's payload may have `max_len` bytes (0: not known yet)
    /// and IPv6 addresses are assigned or not. To be asked until it says `None`.
    pub fn check(&mut self, now: Instant, max_len: usize, has_ipv6: bool) -> Option<Duty> {
        if max_len == 0 {
            return None;
        }
        let mtu = mtu_of(max_len);
        if mtu != self.mtu {
            self.mtu = mtu;
            self.changed = Some(now);
            return Some(Duty::SetMtu(self.link_mtu(has_ipv6)));
        }
        if !has_ipv6 || mtu >= MIN_MTU_V6 {
            self.narrow_since = None;
        }
        if !has_ipv6 {
            self.start_over();
            return None;
        }
        if mtu < MIN_MTU_V6 {
            self.start_over();
            let since = *self.narrow_since.get_or_insert(now);
            let is_over = now.saturating_duration_since(since) >= self.grace;
            return is_over.then_some(Duty::Abort(PathFailure::Narrow { mtu }));
        }
        self.prove(now)
    }

    /// Takes the answer to the echo of this sequence number. False if it was not asked for.
    pub fn take_answer(&mut self, sequence: u16) -> bool {
        match self.proof {
            Proof::Awaited { echoes, .. } if (1..=echoes).contains(&sequence) => {
                self.proof = Proof::Given;
                true
            }
            _ => false,
        }
    }

    /// Whether an echo waits for its answer.
    pub fn is_waiting(&self) -> bool {
        matches!(self.proof, Proof::Awaited { .. })
    }

    /// Bytes of the longest packet that the tunnel carries; 0 until it is known.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// The MTU that an interface to the tunnel should have, in bytes; 0 until it is known.
    ///
    /// Linux drops IPv6 from an interface of less than 1280 bytes, for good. So it never gets less while
    /// there is IPv6: what does not fit for a while is dropped with Packet Too Big.
    pub fn link_mtu(&self, has_ipv6: bool) -> u32 {
        match has_ipv6 && self.mtu > 0 {
            true => self.mtu.max(MIN_MTU_V6),
            false => self.mtu,
        }
    }

    /// How long the next [`check`](Self::check) may wait if nothing else happens.
    pub fn next_check(&self, now: Instant) -> Duration {
        let is_new = self
            .changed
            .is_none_or(|changed| now.saturating_duration_since(changed) < RESTLESS_FOR);
        match is_new || self.narrow_since.is_some() || self.is_waiting() {
            true => RESTLESS,
            false => CALM,
        }
    }

    fn prove(&mut self, now: Instant) -> Option<Duty> {
        let sequence = match self.proof {
            Proof::NotWanted | Proof::Given => return None,
            Proof::Wanted => 1,
            Proof::Awaited { sent, .. } if now.saturating_duration_since(sent) < ECHO_PATIENCE => {
                return None;
            }
            Proof::Awaited { echoes: ECHOES, .. } => {
                return Some(Duty::Abort(PathFailure::NoEcho));
            }
            Proof::Awaited { echoes, .. } => echoes + 1,
        };
        self.proof = Proof::Awaited {
            echoes: sequence,
            sent: now,
        };
        Some(Duty::SendEcho { sequence })
    }

    /// What was proven is of no use for another path.
    fn start_over(&mut self) {
        if self.proof != Proof::NotWanted {
            self.proof = Proof::Wanted;
        }
    }
}

fn mtu_of(max_len: usize) -> u32 {
    let len = max_len.saturating_sub(CONTEXT_LEN);
    if len >= MAX_PACKET_LEN {
        return UNLIMITED_MTU;
    }
    // It fits: it is below 65,535.
    len as u32
}
