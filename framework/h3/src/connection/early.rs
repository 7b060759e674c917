//! Datagrams that arrive before the tunnel they belong to (RFC 9297 §2.1): held for about a round
//! trip, under a hard cap.

use std::time::{Duration, Instant};

use pasque::Packet;
use pasque::config::Limits;

/// The datagrams that one connection holds.
#[derive(Debug)]
pub(super) struct Early {
    held: Vec<(u64, Instant, Packet)>,
    bytes: usize,
    max_len: usize,
    max_bytes: usize,
    lifetime: Duration,
}

impl Early {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            held: Vec::new(),
            bytes: 0,
            max_len: limits.early_datagrams,
            max_bytes: limits.early_datagram_bytes,
            lifetime: limits.early_datagram,
        }
    }

    /// Holds a datagram for `stream`; returns whether there was room.
    pub(super) fn hold(&mut self, stream: u64, packet: Packet, now: Instant) -> bool {
        if self.held.len() >= self.max_len || self.bytes + packet.len() > self.max_bytes {
            return false;
        }
        self.bytes += packet.len();
        self.held.push((stream, now + self.lifetime, packet));
        true
    }

    /// Removes what is held for `stream`, in order of arrival.
    pub(super) fn take(&mut self, stream: u64) -> Vec<Packet> {
        if self.held.is_empty() {
            return Vec::new();
        }
        let taken: Vec<_> = self
            .held
            .extract_if(.., |(id, ..)| *id == stream)
            .map(|(.., packet)| packet)
            .collect();
        self.bytes -= taken.iter().map(|packet| packet.len()).sum::<usize>();
        taken
    }

    /// Forgets what was held too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.held.retain(|(_, due, _)| *due > now);
        self.bytes = self.held.iter().map(|(.., packet)| packet.len()).sum();
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.first().map(|(_, due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hdg_12_early_datagrams_are_held_under_a_cap_and_forgotten() {
        let mut early = Early::new(&Limits::default());
        let now = Instant::now();
        let held = (0..17)
            .filter(|n| early.hold(4, Packet::copy_from(&[*n]), now))
            .count();
        assert_eq!(held, 16);
        assert_eq!(early.take(0).len(), 0);
        let order: Vec<u8> = early.take(4).iter().map(|packet| packet[0]).collect();
        assert_eq!(order, (0..16).collect::<Vec<u8>>());
        assert_eq!((early.bytes, early.deadline()), (0, None));

        assert!(early.hold(8, Packet::copy_from(&[0; 32 << 10]), now));
        assert!(
            !early.hold(8, Packet::copy_from(&[0]), now),
            "the cap in bytes"
        );
        early.expire(now + Duration::from_millis(499));
        assert!(early.deadline().is_some());
        early.expire(now + Duration::from_millis(500));
        assert_eq!((early.bytes, early.held.capacity()), (0, 0));
    }
}
