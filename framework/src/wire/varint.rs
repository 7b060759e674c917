//! Variable-length integers (RFC 9000 §16).
//!
//! The top two bits of the first byte give the length, 1, 2, 4 or 8 bytes. Encoding picks the
//! shortest form; decoding takes any, because RFC 9297 does not ask its peers for the shortest.

use bytes::BufMut;

use super::Prefix;

/// The largest value that can be encoded, 2^62 - 1.
pub const MAX: u64 = (1 << 62) - 1;

/// The length of the longest encoding, in bytes.
pub const MAX_LEN: usize = 8;

/// The length of the shortest encoding of `value`, in bytes (RFC 9000 §16).
pub const fn encoded_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends the shortest encoding of `value` (RFC 9000 §16).
///
/// # Panics
///
/// If `value` is above [`MAX`], or `out` is full.
pub fn encode(value: u64, out: &mut impl BufMut) {
    out.put_slice(&to_prefix(value));
}

/// The shortest encoding of `value` (RFC 9000 §16), to be put in front of a payload.
///
/// # Panics
///
/// If `value` is above [`MAX`].
pub fn to_prefix(value: u64) -> Prefix {
    assert!(value <= MAX, "{value} does not fit in 62 bits");
    let len = encoded_len(value);
    let mut bytes = (value << (64 - 8 * len)).to_be_bytes();
    bytes[0] |= (len.trailing_zeros() as u8) << 6;
    let mut prefix = Prefix::default();
    prefix.append(bytes.get(..len).unwrap_or(&bytes));
    prefix
}

/// Reads one integer from the front: its value, and how many bytes it took.
///
/// `None` if `input` ends before the integer does.
pub fn decode(input: &[u8]) -> Option<(u64, usize)> {
    let first = *input.first()?;
    let len = 1 << (first >> 6);
    let rest = input.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    });
    Some((value, len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Value and shortest encoding: RFC 9000, appendix A.1, and the borders between lengths.
    const SHORTEST: &[(u64, &[u8])] = &[
        (0, &[0x00]),
        (37, &[0x25]),
        (63, &[0x3f]),
        (64, &[0x40, 0x40]),
        (15_293, &[0x7b, 0xbd]),
        (16_383, &[0x7f, 0xff]),
        (16_384, &[0x80, 0x00, 0x40, 0x00]),
        (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
        ((1 << 30) - 1, &[0xbf, 0xff, 0xff, 0xff]),
        (1 << 30, &[0xc0, 0, 0, 0, 0x40, 0, 0, 0]),
        (
            151_288_809_941_952_652,
            &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
        ),
        (MAX, &[0xff; 8]),
    ];

    #[test]
    fn values_take_the_shortest_form() {
        for (value, bytes) in SHORTEST {
            let mut encoded = Vec::new();
            encode(*value, &mut encoded);
            assert_eq!(encoded, *bytes);
            assert_eq!(encoded_len(*value), bytes.len());
            assert_eq!(decode(bytes), Some((*value, bytes.len())));
        }
    }

    #[test]
    fn longer_forms_are_read() {
        for bytes in [
            &[0x40, 0x00][..],
            &[0x80, 0, 0, 0],
            &[0xc0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(decode(bytes), Some((0, bytes.len())));
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)));
    }

    #[test]
    fn truncated_input_has_no_value() {
        for (_, bytes) in SHORTEST {
            for len in 0..bytes.len() {
                assert_eq!(decode(&bytes[..len]), None);
            }
        }
    }

    #[test]
    #[should_panic(expected = "does not fit in 62 bits")]
    fn a_value_of_63_bits_is_refused() {
        to_prefix(MAX + 1);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in 0..=MAX, tail: Vec<u8>) {
            let mut bytes = to_prefix(value).to_vec();
            bytes.extend(tail);
            prop_assert_eq!(decode(&bytes), Some((value, encoded_len(value))));
        }

        #[test]
        fn no_input_panics(bytes: Vec<u8>) {
            if let Some((value, len)) = decode(&bytes) {
                prop_assert!(value <= MAX);
                prop_assert!(encoded_len(value) <= len && len <= bytes.len());
            }
        }
    }
}
