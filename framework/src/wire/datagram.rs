//! What stands in front of an HTTP Datagram's payload.
//!
//! In a QUIC DATAGRAM frame that is the quarter stream ID (RFC 9297 §2.1), which the
//! framework owns. The context ID behind it (RFC 9298 §4; RFC 9484 §6) belongs to
//! the extension, hence to the plugin.

use thiserror::Error;

use super::{Prefix, varint};

/// The largest quarter stream ID: a stream ID has 62 bits (RFC 9297 §2.1).
pub const MAX_QUARTER_STREAM_ID: u64 = (1 << 60) - 1;

/// Why a QUIC datagram is no HTTP Datagram.
///
/// Either case ends the connection with H3_DATAGRAM_ERROR (RFC 9297 §2.1).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DatagramError {
    /// The datagram ends before its quarter stream ID does.
    #[error("a datagram of {len} bytes ends inside its quarter stream ID")]
    Truncated {
        /// The length of the whole datagram.
        len: usize,
    },
    /// The quarter stream ID names no possible stream.
    #[error("quarter stream ID {0} is above 2^60 - 1")]
    QuarterStreamIdTooLarge(u64),
}

/// Reads the quarter stream ID: the ID of the request's stream, and the length of the prefix
/// (RFC 9297 §2.1).
///
/// # Errors
///
/// A [`DatagramError`], which ends the connection, not only the stream.
pub fn decode_stream_id(datagram: &[u8]) -> Result<(u64, usize), DatagramError> {
    let Some((quarter, prefix_len)) = varint::decode(datagram) else {
        return Err(DatagramError::Truncated {
            len: datagram.len(),
        });
    };
    if quarter > MAX_QUARTER_STREAM_ID {
        return Err(DatagramError::QuarterStreamIdTooLarge(quarter));
    }
    Ok((quarter * 4, prefix_len))
}

/// The quarter stream ID that leads every datagram of the request on `stream_id`
/// (RFC 9297 §2.1).
///
/// Only streams that the client opened for both directions carry requests: their IDs are the
/// multiples of 4.
pub fn stream_prefix(stream_id: u64) -> Prefix {
    debug_assert!(
        stream_id.is_multiple_of(4),
        "stream {stream_id} carries no request"
    );
    varint::to_prefix(stream_id / 4)
}

/// Reads the context ID at the front of a payload: its value, and how many bytes it took
/// (RFC 9298 §5; RFC 9484 §6).
///
/// `None` if the payload has no room for one.
pub fn split_context(payload: &[u8]) -> Option<(u64, usize)> {
    varint::decode(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hdg_07_any_form_is_routed_and_the_shortest_is_sent() {
        for datagram in [&b"\x0b\x00hi"[..], b"\x40\x0b\x40\x00hi"] {
            let (stream_id, prefix_len) = decode_stream_id(datagram).unwrap();
            let payload = &datagram[prefix_len..];
            let (context, context_len) = split_context(payload).unwrap();
            assert_eq!((stream_id, context), (44, 0));
            assert_eq!(&payload[context_len..], b"hi");
        }
        assert_eq!(&*stream_prefix(44), [0x0b]);
        assert_eq!(&*stream_prefix(400), [0x40, 0x64]);
    }

    #[test]
    fn hdg_08_quarter_stream_ids_above_60_bits_are_refused() {
        assert_eq!(
            decode_stream_id(&[0xd0, 0, 0, 0, 0, 0, 0, 0]),
            Err(DatagramError::QuarterStreamIdTooLarge(1 << 60))
        );
        let largest = [0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(
            decode_stream_id(&largest),
            Ok((4 * MAX_QUARTER_STREAM_ID, 8))
        );
        assert_eq!(&*stream_prefix(4 * MAX_QUARTER_STREAM_ID), largest);
    }

    #[test]
    fn hdg_09_datagrams_without_a_whole_quarter_stream_id_are_refused() {
        for datagram in [&[][..], &[0x40], &[0x80, 0, 0]] {
            assert_eq!(
                decode_stream_id(datagram),
                Err(DatagramError::Truncated {
                    len: datagram.len()
                })
            );
        }
    }

    #[test]
    fn a_payload_without_room_has_no_context() {
        assert_eq!(split_context(&[]), None);
        assert_eq!(split_context(&[0x40]), None);
        assert_eq!(split_context(&[0x00]), Some((0, 1)));
    }

    proptest! {
        #[test]
        fn hdg_07_every_stream_gets_its_datagrams(
            quarter in 0..=MAX_QUARTER_STREAM_ID,
            payload: Vec<u8>,
        ) {
            let prefix = stream_prefix(4 * quarter);
            let datagram = [&prefix, &payload[..]].concat();
            prop_assert_eq!(decode_stream_id(&datagram), Ok((4 * quarter, prefix.len())));
        }

        #[test]
        fn hdg_09_no_datagram_panics(datagram: Vec<u8>) {
            if let Ok((stream_id, prefix_len)) = decode_stream_id(&datagram) {
                prop_assert!(prefix_len <= datagram.len());
                prop_assert!(stream_prefix(stream_id).len() <= prefix_len);
                let context_len = split_context(&datagram[prefix_len..]).map_or(0, |(_, len)| len);
                prop_assert!(prefix_len + context_len <= datagram.len());
            }
        }
    }
}
