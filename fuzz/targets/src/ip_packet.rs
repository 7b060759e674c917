//! Any bytes: a packet that is parsed lies within them, reads the same without what is behind it, and is
//! one still after a hop.

use pasque_ip::packet::{self, Fragment, HopLimitReached};

/// The sum that an IPv4 header with the right checksum has (RFC 1071), word by word.
fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks_exact(2).fold(0, |sum: u16, pair| {
        let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
        sum + u16::from(carry)
    })
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    if let Ok(quoted) = packet::parse_quoted(input) {
        assert!(quoted.payload <= input.len());
        assert!(quoted.body(input).len() <= input.len());
        assert_eq!(
            packet::parse(input).is_ok(),
            quoted.total_len <= input.len()
        );
    }
    let Ok(mut header) = packet::parse(input) else {
        return;
    };
    assert!(header.payload <= header.total_len && header.total_len <= input.len());
    assert_eq!(header.source.is_ipv6(), header.destination.is_ipv6());
    if header.is_v6() && header.fragment != Fragment::Later {
        assert!(!packet::is_extension(header.protocol));
    }

    let mut bytes = input[..header.total_len].to_vec();
    assert_eq!(packet::parse(&bytes), Ok(header));
    assert_eq!(packet::parse_quoted(&bytes[..header.payload]), Ok(header));
    assert_eq!(header.ports(&bytes), header.ports(input));
    assert!(packet::parse(&bytes[..bytes.len() - 1]).is_err());

    let header_len = header.payload;
    let is_right = |bytes: &[u8]| sum(&bytes[..header_len]) == 0xffff;
    let was_right = is_right(&bytes);
    match packet::lower_hop_limit(&mut bytes, &mut header) {
        Ok(()) => {
            assert_eq!(packet::parse(&bytes), Ok(header));
            assert!(header.is_v6() || is_right(&bytes) == was_right);
        }
        Err(HopLimitReached) => assert!(header.hop_limit <= 1),
    }
}
