//! The last packet of a path that the peer has left.
//!
//! quiche keeps congestion control and recovery per path, that is per pair of addresses, and treats
//! a NAT that changes a client's port as a new one. It validates the new path as RFC 9000 §9 asks
//! and sends there at once; but what was under way on the old path it counts as neither lost nor
//! arrived, because nothing sent there is ever acknowledged again. It trickles out two packets per
//! probe timeout, each timeout twice as long as the one before, while the receiver waits for them.
//!
//! So the old path sends one packet more, and it goes to where the peer is now: to the peer, it is a
//! packet like any other. Its acknowledgment declares lost what was sent before it on the old path,
//! and all of that goes out again at once.

use std::time::{Duration, Instant};

use quiche::{PathStats, RecvInfo, SendInfo};

use super::http::Buffers;
use super::path::Addresses;
use super::path_mtu::BASE;

/// How long the first packet waits for its acknowledgment beyond a round trip. Each further one
/// waits twice as long.
const PATIENCE: Duration = Duration::from_millis(50);

/// Packets that are sent at most, while the peer stays where it is.
const ATTEMPTS: u32 = 6;

/// To an address that is not validated goes at most so many times what came from there
/// (RFC 9000 §8.1).
const AMPLIFICATION: usize = 3;

/// The paths that the peer has left, and that do not know it yet.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    left: Vec<Left>,
}

#[derive(Debug)]
struct Left {
    path: Addresses,
    /// Packets sent so far.
    attempts: u32,
    /// Whether one is to be sent.
    is_due: bool,
    /// When the next one is.
    next: Option<Instant>,
    /// What changes with the first acknowledgment, as it was before.
    before: Option<Mark>,
}

/// What quiche knows of a path from acknowledgments. A path that is not in use gets no other.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    rtt: Duration,
    variation: Duration,
    lost: usize,
}

impl Mark {
    fn of(path: &PathStats) -> Self {
        Self {
            rtt: path.rtt,
            variation: path.rttvar,
            lost: path.lost,
        }
    }
}

impl Farewells {
    /// The peer is not on this path any more.
    pub(super) fn add(&mut self, path: Addresses) {
        if !self.left.iter().any(|left| left.path == path) {
            self.left.push(Left {
                path,
                attempts: 0,
                is_due: false,
                next: None,
                before: None,
            });
        }
    }

    /// The peer is on this path now. What was sent to where it was before may not have reached it.
    pub(super) fn restart(&mut self, in_use: Addresses) {
        self.left.retain(|left| left.path != in_use);
        for left in &mut self.left {
            (left.attempts, left.is_due, left.next) = (0, true, None);
        }
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.left.iter().filter_map(|left| left.next).min()
    }

    /// Sends again what has not arrived in time.
    pub(super) fn on_time(&mut self, quic: &quiche::Connection<Buffers>, now: Instant) {
        if self.deadline().is_none_or(|next| next > now) {
            return;
        }
        self.left.retain_mut(|left| {
            left.is_due |= left.next.take_if(|next| *next <= now).is_some();
            let is_same = |before: &Mark| {
                stats(quic, left.path).is_some_and(|path| Mark::of(&path) == *before)
            };
            left.before.as_ref().is_none_or(is_same)
        });
    }

    /// Makes a packet that is due, for the path `in_use`.
    pub(super) fn next_packet(
        &mut self,
        quic: &mut quiche::Connection<Buffers>,
        space: &mut [u8],
        in_use: Addresses,
        now: Instant,
    ) -> quiche::Result<(usize, SendInfo)> {
        for left in self.left.iter_mut().filter(|left| left.is_due) {
            left.is_due = false;
            let Some(path) = stats(quic, left.path) else {
                continue;
            };
            left.before.get_or_insert(Mark::of(&path));
            left.attempts += 1;
            let rtt = stats(quic, in_use).map_or(Duration::ZERO, |path| path.rtt);
            let pause = (rtt + PATIENCE) * 2u32.pow(left.attempts - 1);
            left.next = (left.attempts < ATTEMPTS).then_some(now + pause);
            let (local, peer) = left.path;
            // To an address that is not validated yet quiche sends no more than three times of what
            // came from there. This packet goes to one that is: what "comes" here is nothing, and
            // all it does is to let the packet out. It is padded to all that it may be, so that
            // nothing is left for the address itself.
            let (from, to) = (peer, local);
            let _ = quic.recv(&mut [0; BASE / AMPLIFICATION], RecvInfo { from, to });
            let limit = BASE.min(space.len());
            let space = space.get_mut(..limit).unwrap_or_default();
            let made = quic
                .send_ack_eliciting_on_path(local, peer)
                .and_then(|()| quic.send_on_path(space, Some(local), Some(peer)));
            // There is none while the path's congestion window is full and its probe timeout has
            // not run out.
            if let Ok((len, info)) = made {
                let (from, to) = in_use;
                return Ok((len, SendInfo { from, to, ..info }));
            }
        }
        Err(quiche::Error::Done)
    }
}

/// What quiche knows of a path.
pub(super) fn stats(quic: &quiche::Connection<Buffers>, path: Addresses) -> Option<PathStats> {
    quic.path_stats()
        .find(|stats| (stats.local_addr, stats.peer_addr) == path)
}
