//! What a packet pays for being forwarded (RFC 9484 §7.2).

use super::Header;
use crate::checksum;

/// The packet has been forwarded as often as it may. It is to be dropped, and its sender told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hop limit reached")]
pub struct HopLimitReached;

/// Lowers the hop limit (TTL) of `packet` by one, and the `header` that was parsed from it; keeps the
/// checksum of an IPv4 header, of any length, as right as it was.
///
/// For a packet that we forward ourselves. Where the kernel forwards, it does this.
#[inline]
pub fn lower_hop_limit(packet: &mut [u8], header: &mut Header) -> Result<(), HopLimitReached> {
    if header.hop_limit <= 1 {
        return Err(HopLimitReached);
    }
    header.hop_limit -= 1;
    if header.is_v6() {
        if let [_, _, _, _, _, _, _, hop_limit, ..] = packet {
            *hop_limit = header.hop_limit;
        }
    } else if let [_, _, _, _, _, _, _, _, ttl, protocol, a, b, ..] = packet {
        let old = u16::from_be_bytes([*ttl, *protocol]);
        *ttl = header.hop_limit;
        let new = u16::from_be_bytes([*ttl, *protocol]);
        let sum = checksum::update(u16::from_be_bytes([*a, *b]), old, new);
        [*a, *b] = sum.to_be_bytes();
    }
    Ok(())
}
