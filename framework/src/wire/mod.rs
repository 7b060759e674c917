//! The bytes of HTTP Datagrams and the Capsule Protocol (RFC 9297), without any input or output.
//!
//! ```text
//! QUIC DATAGRAM frame:   quarter stream ID | payload             datagram
//! HTTP/3 DATA frames:    type | length | value | type | …        capsule
//! payload:               context ID | what the extension carries datagram
//! ```
//!
//! Every number is a [`varint`]. What is decoded here came from a peer and may be anything: no
//! function panics on its input, and none keeps more of it than its caller agreed to.

pub mod capsule;
pub mod datagram;
pub mod message;
pub mod varint;

use std::ops::Deref;

/// The most bytes that a [`Prefix`] holds: a capsule's type and length in their longest form.
const MAX_PREFIX_LEN: usize = 2 * varint::MAX_LEN;

/// The few bytes that go in front of a payload, kept inline so that none is allocated per packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    bytes: [u8; MAX_PREFIX_LEN],
    len: usize,
}

impl Prefix {
    #[expect(
        clippy::indexing_slicing,
        reason = "no prefix has more than two numbers"
    )]
    fn append(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

impl Deref for Prefix {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
