//! Context IDs in front of HTTP Datagrams (RFC 9298 §4).

#[cfg(test)]
mod tests;

use pasque::wire::capsule;
use pasque::wire::datagram::split_context;
use pasque::{Admit, Batch, Error, Packet, Result};

use crate::MAX_PAYLOAD_LEN;
use crate::counters::Counters;

/// The context of bare UDP payloads. It is the only one in use: this end registers no other, so no
/// even or odd number of its own is ever allocated, and none of the peer's is known.
pub(crate) const UDP_PAYLOAD: u64 = 0;

/// [`UDP_PAYLOAD`] on the wire.
pub(crate) const UDP_PAYLOAD_PREFIX: [u8; 1] = [0];

/// Puts the context ID in front of a UDP payload.
pub(crate) fn add(packet: &mut Packet) {
    packet.prepend(&UDP_PAYLOAD_PREFIX);
}

/// Leaves the UDP payloads in `inbound`, without their context ID, and drops the rest.
///
/// # Errors
/// A payload longer than UDP has ends the tunnel (RFC 9298 §5).
pub(crate) fn strip(inbound: &mut Batch, counters: &mut Counters) -> Result<()> {
    let mut too_long = false;
    inbound.retain(|packet| match split_context(packet) {
        Some((UDP_PAYLOAD, prefix_len)) => {
            packet.advance(prefix_len);
            too_long |= packet.len() > MAX_PAYLOAD_LEN;
            true
        }
        Some(_) => {
            counters.unknown_context += 1;
            false
        }
        None => {
            counters.no_context += 1;
            false
        }
    });
    match too_long {
        true => Err(Error::malformed("a UDP payload above 65527 bytes")),
        false => Ok(()),
    }
}

/// Decides about a capsule before its value is kept: see [`Flow::admit_capsule`].
///
/// A DATAGRAM capsule is looked into as far as its context ID reaches. One that its socket cannot send,
/// because it has more than `link_len` bytes, is passed over unread (RFC 9298 §5).
///
/// [`Flow::admit_capsule`]: pasque::Flow::admit_capsule
pub(crate) fn admit(kind: u64, len: u64, start: &[u8], link_len: impl Fn() -> usize) -> Admit {
    if kind != capsule::DATAGRAM {
        return Admit::Skip;
    }
    let Some((context, prefix_len)) = split_context(start) else {
        return match start.len() as u64 == len {
            // Too short for a context ID: no HTTP Datagram, so the message is malformed.
            true => Admit::Reject,
            false => Admit::Peek,
        };
    };
    let payload_len = len - prefix_len as u64;
    if context != UDP_PAYLOAD {
        Admit::Skip
    } else if payload_len > MAX_PAYLOAD_LEN as u64 {
        Admit::Reject
    } else if payload_len > link_len() as u64 {
        Admit::Skip
    } else {
        Admit::Buffer
    }
}
