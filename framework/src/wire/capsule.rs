//! Capsules: typed, length-prefixed values on a request stream (RFC 9297 §3.2).
//!
//! ```
//! use pasque::wire::capsule::{self, Capsule, CapsuleDecoder};
//!
//! let mut stream = Vec::new();
//! capsule::write(capsule::DATAGRAM, b"\0hi", &mut stream);
//!
//! let mut decoder = CapsuleDecoder::default();
//! let mut chunk = &stream[..];
//! let decoded = decoder.next(&mut chunk, |kind, len, _| capsule::admit_datagrams_only(kind, len));
//! let value = b"\0hi";
//! assert_eq!(decoded, Ok(Some(Capsule { kind: capsule::DATAGRAM, value })));
//! assert_eq!(decoder.finish(), Ok(()));
//! ```

mod decoder;
#[cfg(test)]
mod tests;

use bytes::BufMut;
use thiserror::Error;

pub use self::decoder::CapsuleDecoder;
use super::{Prefix, varint};

/// An HTTP Datagram on the stream (RFC 9297 §3.5).
pub const DATAGRAM: u64 = 0x00;

/// The addresses that the receiver may use as source (RFC 9484 §4.7.1).
pub const ADDRESS_ASSIGN: u64 = 0x01;

/// The addresses that the sender would like to be assigned (RFC 9484 §4.7.2).
pub const ADDRESS_REQUEST: u64 = 0x02;

/// The addresses that the sender forwards packets to (RFC 9484 §4.7.3).
pub const ROUTE_ADVERTISEMENT: u64 = 0x03;

/// The longest DATAGRAM value of use, in bytes: a context ID and the longest IP packet or UDP
/// payload. Longer ones are discarded (RFC 9297 §3.5).
pub const MAX_DATAGRAM_LEN: u64 = varint::MAX_LEN as u64 + 65_535;

/// The longest value of any other capsule that is kept by default, in bytes.
pub const MAX_VALUE_LEN: u64 = 64 * 1024;

/// The most bytes of a value that [`Admit::Peek`] is shown: enough for a context ID.
pub const MAX_START_LEN: usize = varint::MAX_LEN;

/// One capsule (RFC 9297 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capsule<'a> {
    /// The capsule type.
    pub kind: u64,
    /// The capsule value, whole.
    pub value: &'a [u8],
}

/// What to do with a capsule, decided before any of its value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Hand it out once it is whole. This agrees to hold its length in memory.
    Buffer,
    /// Pass over it, keeping nothing.
    Skip,
    /// End the stream with [`CapsuleError::Rejected`].
    Reject,
    /// Ask again with one more byte of the value. Where no more is to be had, because all of it or
    /// [`MAX_START_LEN`] bytes are shown, this is taken as [`Admit::Skip`].
    Peek,
}

/// The rule for an extension that has only the `known` types and sets no limits of its own.
///
/// Other types are skipped (RFC 9297 §3.2), and so are DATAGRAM capsules above
/// [`MAX_DATAGRAM_LEN`] (§3.5). A known type above [`MAX_VALUE_LEN`] is rejected: ignoring,
/// say, a list of routes would leave the two ends with different ideas of it.
pub fn admit_known(kind: u64, len: u64, known: &[u64]) -> Admit {
    if !known.contains(&kind) {
        return Admit::Skip;
    }
    match kind {
        DATAGRAM if len > MAX_DATAGRAM_LEN => Admit::Skip,
        DATAGRAM => Admit::Buffer,
        _ if len > MAX_VALUE_LEN => Admit::Reject,
        _ => Admit::Buffer,
    }
}

/// The rule for an extension that has no capsules but DATAGRAM: see [`admit_known`].
pub fn admit_datagrams_only(kind: u64, len: u64) -> Admit {
    admit_known(kind, len, &[DATAGRAM])
}

/// Why a stream of capsules is a malformed message (RFC 9297 §3.3).
///
/// The request stream is then aborted with H3_MESSAGE_ERROR.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CapsuleError {
    /// The receiver's rule answered [`Admit::Reject`].
    #[error("a capsule of type {kind:#x} may not be {len} bytes long here")]
    Rejected {
        /// The capsule type.
        kind: u64,
        /// The length of the capsule value, in bytes.
        len: u64,
    },
    /// The stream ended before the capsule did.
    #[error("the stream ended inside a capsule")]
    Truncated,
}

/// The type and length in front of a value of `len` bytes (RFC 9297 §3.2).
///
/// # Panics
///
/// If `kind` is above [`varint::MAX`].
pub fn encode_header(kind: u64, len: usize) -> Prefix {
    let mut header = varint::to_prefix(kind);
    header.append(&varint::to_prefix(len as u64));
    header
}

/// Appends one whole capsule (RFC 9297 §3.2).
///
/// # Panics
///
/// If `kind` is above [`varint::MAX`], or `out` is full.
pub fn write(kind: u64, value: &[u8], out: &mut impl BufMut) {
    out.put_slice(&encode_header(kind, value.len()));
    out.put_slice(value);
}
