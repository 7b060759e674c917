//! What ICMP errors of others are about.

use super::message::{self, HEAD_LEN};
use crate::packet::{self, Header};

/// The packet that an ICMP error quotes: one that went the other way, from the error's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Its headers. The packet that they tell of may be longer than what is quoted of it.
    pub header: Header,
    /// What is quoted of it.
    pub bytes: &'a [u8],
}

impl Quote<'_> {
    /// Source and destination port of the quoted packet, as [`Header::ports`].
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        self.header.ports(self.bytes)
    }
}

/// What `packet` quotes, if it is an ICMP error: by that, and not by the address of the router that sent
/// it, it belongs to a tunnel (RFC 9484 §7.2.1, §11).
///
/// `None` for everything else, and for an error whose quote ends before the upper-layer protocol is
/// known. The quote is what a stranger says; it is as true as the checks that its header then passes.
#[must_use]
pub fn quote<'a>(packet: &'a [u8], header: &Header) -> Option<Quote<'a>> {
    if !message::is_error(packet, header) {
        return None;
    }
    let bytes = message::message(packet, header)?.get(HEAD_LEN..)?;
    let quoted = packet::parse_quoted(bytes).ok()?;
    // An ICMP of one version knows nothing of the other.
    (quoted.is_v6() == header.is_v6()).then_some(Quote {
        header: quoted,
        bytes: bytes.get(..quoted.total_len).unwrap_or(bytes),
    })
}
