//! Context IDs in front of HTTP Datagrams (RFC 9484 §6).

use pasque::wire::capsule;
use pasque::wire::datagram::split_context;
use pasque::{Admit, Batch, Packet};

use crate::filter::{DropReason, Tally};

/// The context of whole IP packets. It is the only one in use: this end registers no other, and none of
/// the peer's is known.
const IP_PACKET: u64 = 0;

/// [`IP_PACKET`] on the wire.
const IP_PACKET_PREFIX: [u8; 1] = [0];

/// The capsules that a tunnel knows (RFC 9484 §4.7, RFC 9297 §3.5).
const KNOWN: [u64; 4] = [
    capsule::DATAGRAM,
    capsule::ADDRESS_ASSIGN,
    capsule::ADDRESS_REQUEST,
    capsule::ROUTE_ADVERTISEMENT,
];

/// Bytes of a datagram with an IP packet of `len` bytes.
#[inline]
pub(super) fn datagram_len(len: usize) -> usize {
    IP_PACKET_PREFIX.len() + len
}

/// Puts the context ID in front of an IP packet.
#[inline]
pub(super) fn add(packet: &mut Packet) {
    packet.prepend(&IP_PACKET_PREFIX);
}

/// Leaves the IP packets in `inbound`, without their context ID, and drops the rest.
pub(super) fn strip(inbound: &mut Batch, tally: &mut Tally) {
    tally.received += inbound.len() as u64;
    inbound.retain(|packet| match split_context(packet) {
        Some((IP_PACKET, prefix_len)) => {
            packet.advance(prefix_len);
            true
        }
        Some(_) => {
            tally.drop_one(DropReason::UnknownContext);
            false
        }
        None => {
            tally.drop_one(DropReason::NoContext);
            false
        }
    });
}

/// Decides about a capsule before its value is kept: see [`Flow::admit_capsule`](pasque::Flow).
///
/// A DATAGRAM capsule is looked into as far as its context ID reaches: what is of no use is passed over
/// unread, and what has no room for a context ID is no HTTP Datagram (RFC 9297 §3.3).
pub(super) fn admit(kind: u64, len: u64, start: &[u8]) -> Admit {
    if kind != capsule::DATAGRAM {
        return capsule::admit_known(kind, len, &KNOWN);
    }
    match split_context(start) {
        Some((IP_PACKET, _)) => capsule::admit_known(kind, len, &KNOWN),
        Some(_) => Admit::Skip,
        None if start.len() as u64 == len => Admit::Reject,
        None => Admit::Peek,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strip_all(datagrams: &[&[u8]]) -> (Vec<Vec<u8>>, Tally) {
        let mut batch = Batch::new();
        for datagram in datagrams {
            batch.push(Packet::copy_from(datagram)).unwrap();
        }
        let mut tally = Tally::default();
        strip(&mut batch, &mut tally);
        (batch.iter().map(|packet| packet.to_vec()).collect(), tally)
    }

    #[test]
    fn ip_39_context_0_is_one_packet_and_others_are_dropped() {
        let datagrams: [&[u8]; 6] = [b"\0ip", b"\x40\0long form", b"\x02hi", b"\x05", b"", b"\0"];
        let (packets, tally) = strip_all(&datagrams);
        assert_eq!(packets, [&b"ip"[..], b"long form", b""]);
        assert_eq!(tally.received, 6);
        assert_eq!(tally.dropped(DropReason::UnknownContext), 2);
        assert_eq!(tally.dropped(DropReason::NoContext), 1);

        let mut packet = Packet::copy_from(b"ip");
        add(&mut packet);
        assert_eq!(&packet[..], b"\0ip");
        assert_eq!(packet.len(), datagram_len(2));
    }

    #[test]
    fn ip_39_as_a_capsule_what_is_of_no_use_is_passed_over_unread() {
        assert_eq!(admit(capsule::DATAGRAM, 1000, b""), Admit::Peek);
        assert_eq!(admit(capsule::DATAGRAM, 1000, b"\x40"), Admit::Peek);
        assert_eq!(admit(capsule::DATAGRAM, 1000, b"\0"), Admit::Buffer);
        assert_eq!(admit(capsule::DATAGRAM, 65_535 + 8, b"\0"), Admit::Buffer);
        assert_eq!(admit(capsule::DATAGRAM, 65_535 + 9, b"\0"), Admit::Skip);
        assert_eq!(admit(capsule::DATAGRAM, 1000, b"\x02"), Admit::Skip);
        assert_eq!(admit(capsule::DATAGRAM, 0, b""), Admit::Reject);
        assert_eq!(admit(capsule::DATAGRAM, 1, b"\x40"), Admit::Reject);
    }

    #[test]
    fn the_three_capsules_are_kept_up_to_64_kib_and_others_skipped() {
        for kind in 1..=3 {
            assert_eq!(admit(kind, 0, b""), Admit::Buffer);
            assert_eq!(admit(kind, 64 * 1024, b""), Admit::Buffer);
            assert_eq!(admit(kind, 64 * 1024 + 1, b""), Admit::Reject);
        }
        assert_eq!(admit(0x17, 1 << 30, b""), Admit::Skip);
    }
}
