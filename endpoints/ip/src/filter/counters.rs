//! What a tunnel counts. Plain numbers: one flow owns them, and a packet costs one or two additions.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::packet::Malformed;

/// Why a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// An HTTP Datagram too short for a context ID (RFC 9484 §6).
    NoContext,
    /// An HTTP Datagram of a context that nobody registered (RFC 9484 §6).
    UnknownContext,
    /// Not one whole IP packet, or one that nobody should pass on.
    Malformed(Malformed),
    /// Link-local source or destination (RFC 9484 §7.2).
    LinkLocal,
    /// IPv6 neighbour or router discovery (RFC 9484 §7.1).
    NeighbourDiscovery,
    /// To a group that no route leads to (RFC 9484 §7.2).
    Multicast,
    /// Its source is not its sender's to use (RFC 9484 §7.2, §11).
    SourceNotAssigned,
    /// Its destination is no address of whom it was to go to.
    DestinationNotAssigned,
    /// Outside the target or protocol that the tunnel was asked for (RFC 9484 §4.6).
    Scope,
    /// Outside what the receiving end has advertised (RFC 9484 §4.7.3).
    NoRoute,
    /// Refused by the egress policy.
    Policy,
    /// It would come back to the end that it is from.
    OwnTunnel,
    /// From one client to another, which the endpoint does not allow.
    OtherClient,
    /// Longer than the tunnel carries (RFC 9484 §10.1).
    TooBig,
    /// Forwarded as often as it may be (RFC 9484 §7.2).
    HopLimit,
    /// The interface did not take it.
    Device,
    /// The tunnel was too slow: the queue in front of it was full.
    QueueFull,
}

/// Reasons there are, with each kind of malformed packet for itself.
const REASONS: usize = 27;

impl DropReason {
    /// Every reason.
    pub fn all() -> impl Iterator<Item = Self> {
        use Malformed as M;
        let malformed = [
            M::Empty,
            M::Version,
            M::Truncated,
            M::HeaderLen,
            M::TotalLen,
            M::Options,
            M::SourceRoute,
            M::Jumbogram,
            M::Chain,
            M::ChainLen,
            M::RoutingType0,
        ];
        let others = [
            Self::NoContext,
            Self::UnknownContext,
            Self::LinkLocal,
            Self::NeighbourDiscovery,
            Self::Multicast,
            Self::SourceNotAssigned,
            Self::DestinationNotAssigned,
            Self::Scope,
            Self::NoRoute,
            Self::Policy,
            Self::OwnTunnel,
            Self::OtherClient,
            Self::TooBig,
            Self::HopLimit,
            Self::Device,
            Self::QueueFull,
        ];
        others
            .into_iter()
            .chain(malformed.into_iter().map(Self::Malformed))
    }

    const fn index(self) -> usize {
        match self {
            Self::NoContext => 0,
            Self::UnknownContext => 1,
            Self::LinkLocal => 2,
            Self::NeighbourDiscovery => 3,
            Self::Multicast => 4,
            Self::SourceNotAssigned => 5,
            Self::DestinationNotAssigned => 6,
            Self::Scope => 7,
            Self::NoRoute => 8,
            Self::Policy => 9,
            Self::OwnTunnel => 10,
            Self::OtherClient => 11,
            Self::TooBig => 12,
            Self::HopLimit => 13,
            Self::Device => 14,
            Self::QueueFull => 15,
            Self::Malformed(malformed) => 16 + malformed as usize,
        }
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// What became of the packets of one direction. Each that was received is in one of the others:
/// `received == passed + answered + total_dropped()`, but for the few that a flow holds at the moment.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Packets that came.
    pub received: u64,
    /// Handed to the interface, or to the tunnel.
    pub passed: u64,
    /// Echo requests and replies that were for this end itself.
    pub answered: u64,
    dropped: [u64; REASONS],
}

impl Tally {
    /// Packets dropped for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped
            .get(reason.index())
            .copied()
            .unwrap_or_default()
    }

    /// Packets dropped, for whatever reason.
    pub fn total_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Counts a packet that was received before and is dropped now.
    #[inline]
    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        self.drop_many(1, reason);
    }

    /// Counts packets that are dropped some time after they were received.
    #[inline]
    pub(crate) fn drop_many(&mut self, count: u64, reason: DropReason) {
        if let Some(dropped) = self.dropped.get_mut(reason.index()) {
            *dropped += count;
        }
    }

    /// Counts packets that were received and dropped before any flow saw them.
    pub(crate) fn lose(&mut self, count: u64, reason: DropReason) {
        self.received += count;
        self.drop_many(count, reason);
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.passed += other.passed;
        self.answered += other.answered;
        for (own, others) in self.dropped.iter_mut().zip(other.dropped) {
            *own += others;
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Tally");
        fields
            .field("received", &self.received)
            .field("passed", &self.passed)
            .field("answered", &self.answered);
        for reason in DropReason::all().filter(|reason| self.dropped(*reason) > 0) {
            fields.field(&format!("{reason:?}"), &self.dropped(reason));
        }
        fields.finish()
    }
}

/// What happened to the packets of one tunnel, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// From the peer to this end's interface.
    pub outward: Tally,
    /// From the interface to the peer.
    pub inward: Tally,
    /// ICMP errors that senders at either side were sent.
    pub errors_sent: u64,
}

impl Counters {
    /// Adds what another tunnel, or the same one since, has counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.outward.add(&other.outward);
        self.inward.add(&other.inward);
        self.errors_sent += other.errors_sent;
    }
}

/// What all tunnels of an endpoint have counted: those that ended, and the others as of some seconds ago.
/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SharedCounters(Arc<Mutex<Counters>>);

impl SharedCounters {
    /// The sums so far.
    pub fn read(&self) -> Counters {
        // Plain numbers, whatever happened to the thread that added some.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, recent: &Counters) {
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sums.add(recent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        let mut places: Vec<_> = DropReason::all().map(DropReason::index).collect();
        places.sort_unstable();
        assert_eq!(places, (0..REASONS).collect::<Vec<_>>());
    }

    #[test]
    fn sums_add_up_and_show_what_there_is() {
        let mut tally = Tally {
            received: 3,
            passed: 1,
            ..Tally::default()
        };
        tally.drop_one(DropReason::Scope);
        tally.drop_one(Malformed::Empty.into());
        tally.lose(2, DropReason::QueueFull);
        let mut counters = Counters::default();
        for _ in 0..2 {
            counters.add(&Counters {
                outward: tally,
                ..Counters::default()
            });
        }
        assert_eq!(counters.outward.received, 10);
        assert_eq!(counters.outward.total_dropped(), 8);
        assert_eq!(counters.outward.dropped(DropReason::QueueFull), 4);
        assert_eq!(
            format!("{tally:?}"),
            "Tally { received: 5, passed: 1, answered: 0, Scope: 1, QueueFull: 2, Malformed(Empty): 1 }"
        );
    }
}
