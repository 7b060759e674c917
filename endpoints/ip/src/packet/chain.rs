//! The way through the extension headers of IPv6 (RFC 8200 §4) to the upper-layer protocol.

use super::{Fragment, HEADER_V6_LEN, Header, Malformed};

/// Extension headers that a packet may have. One with all that RFC 8200 §4.1 lists has seven.
pub const MAX_EXTENSIONS: usize = 8;

pub(super) const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// What every extension header has at least, in bytes.
const MIN_LEN: usize = 8;

/// Whether `protocol` is the number of an IPv6 extension header that another header follows, and so none
/// that a packet or a scope is judged by. ESP (50) is not among them: what follows it cannot be read.
#[inline]
#[must_use]
pub fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION_OPTIONS
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}

/// Moves the header's protocol and payload from the fixed header of `packet` to the upper layer.
#[inline]
pub(super) fn walk(header: &mut Header, packet: &[u8]) -> Result<(), Malformed> {
    if is_extension(header.protocol) {
        return walk_extensions(header, packet);
    }
    Ok(())
}

/// Apart from `walk`, so that a packet without extension headers pays for none of it.
fn walk_extensions(header: &mut Header, packet: &[u8]) -> Result<(), Malformed> {
    for _ in 0..MAX_EXTENSIONS {
        let kind = header.protocol;
        if !is_extension(kind) {
            return Ok(());
        }
        let extension = packet.get(header.payload..).unwrap_or_default();
        let start: &[u8; MIN_LEN] = extension.first_chunk().ok_or(Malformed::Chain)?;
        let len = match kind {
            FRAGMENT => MIN_LEN,
            AUTHENTICATION => (usize::from(start[1]) + 2) * 4,
            _ => (usize::from(start[1]) + 1) * 8,
        };
        if len > extension.len() {
            return Err(Malformed::Chain);
        }
        match kind {
            // Nobody processes it elsewhere, so that no honest packet has it there.
            HOP_BY_HOP if header.payload != HEADER_V6_LEN => return Err(Malformed::Chain),
            ROUTING if start[2] == 0 => return Err(Malformed::RoutingType0),
            _ => {}
        }
        header.protocol = start[0];
        header.payload += len;
        if kind == FRAGMENT {
            let field = u16::from_be_bytes([start[2], start[3]]);
            match Fragment::new(field >> 3, field & 1 != 0) {
                // What follows is from the middle of the packet, whatever the chain says that it is.
                Fragment::Later => {
                    header.fragment = Fragment::Later;
                    return Ok(());
                }
                Fragment::First => header.fragment = Fragment::First,
                Fragment::Whole => {}
            }
        }
    }
    if is_extension(header.protocol) {
        return Err(Malformed::ChainLen);
    }
    Ok(())
}
