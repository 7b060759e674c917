//! The ranges that are closed unless a rule opens them, and IPv4 addresses inside IPv6 ones.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

/// A prefix of addresses as integers, so that a packet's destination is judged without allocating.
struct Range<Bits> {
    network: Bits,
    mask: Bits,
    name: &'static str,
}

const fn v4(network: [u8; 4], prefix_len: u32, name: &'static str) -> Range<u32> {
    let mask = u32::MAX << (u32::BITS - prefix_len);
    let network = u32::from_be_bytes(network);
    assert!(network & !mask == 0, "host bits are set");
    Range {
        network,
        mask,
        name,
    }
}

/// `network` is the prefix's leading segments; the others are zero.
const fn v6<const N: usize>(network: [u16; N], prefix_len: u32, name: &'static str) -> Range<u128> {
    let mask = u128::MAX << (u128::BITS - prefix_len);
    let mut bits = 0;
    let mut shift = u128::BITS;
    let mut rest = network.as_slice();
    while let [segment, after @ ..] = rest {
        shift -= u16::BITS;
        bits |= (*segment as u128) << shift;
        rest = after;
    }
    assert!(bits & !mask == 0, "host bits are set");
    Range {
        network: bits,
        mask,
        name,
    }
}

/// What the IANA registry of special-purpose IPv4 addresses does not call globally reachable, and
/// multicast. The first match gives the name, so narrow ranges precede the wide ones around them.
const CLOSED_V4: &[Range<u32>] = &[
    v4([0, 0, 0, 0], 8, "this-network"),           // RFC 791 §3.2
    v4([10, 0, 0, 0], 8, "private"),               // RFC 1918
    v4([100, 64, 0, 0], 10, "carrier-grade NAT"),  // RFC 6598
    v4([127, 0, 0, 0], 8, "loopback"),             // RFC 1122 §3.2.1.3
    v4([169, 254, 169, 254], 32, "metadata"),      // every large cloud
    v4([169, 254, 0, 0], 16, "link-local"),        // RFC 3927
    v4([172, 16, 0, 0], 12, "private"),            // RFC 1918
    v4([192, 0, 0, 0], 24, "protocol assignment"), // RFC 6890 §2.1
    v4([192, 0, 2, 0], 24, "documentation"),       // RFC 5737, TEST-NET-1
    v4([192, 88, 99, 0], 24, "6to4 relay"),        // RFC 7526
    v4([192, 168, 0, 0], 16, "private"),           // RFC 1918
    v4([198, 18, 0, 0], 15, "benchmarking"),       // RFC 2544
    v4([198, 51, 100, 0], 24, "documentation"),    // RFC 5737, TEST-NET-2
    v4([203, 0, 113, 0], 24, "documentation"),     // RFC 5737, TEST-NET-3
    v4([224, 0, 0, 0], 4, "multicast"),            // RFC 5771
    v4([255, 255, 255, 255], 32, "broadcast"),     // RFC 919 §7
    v4([240, 0, 0, 0], 4, "reserved"),             // RFC 1112 §4
];

/// The same for IPv6. What carries IPv4 is closed as well: it ends at a translator nearby.
const CLOSED_V6: &[Range<u128>] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified"), // RFC 4291 §2.5.2
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),    // RFC 4291 §2.5.3
    v6([0x64, 0xff9b], 96, "NAT64"),                  // RFC 6052 §2.1
    v6([0x64, 0xff9b, 1], 48, "NAT64"),               // RFC 8215, local use
    v6([0x100], 64, "discard-only"),                  // RFC 6666
    v6([0x2001, 0], 32, "Teredo"),                    // RFC 4380
    v6([0x2001, 2], 48, "benchmarking"),              // RFC 5180
    v6([0x2001, 0xdb8], 32, "documentation"),         // RFC 3849
    v6([0x2002], 16, "6to4"),                         // RFC 3056
    v6([0x3fff], 20, "documentation"),                // RFC 9637
    v6([0x5f00], 16, "segment routing"),              // RFC 9602
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, "metadata"), // Amazon EC2
    v6([0xfc00], 7, "private"),                       // RFC 4193, unique local
    v6([0xfe80], 10, "link-local"),                   // RFC 4291 §2.5.6
    v6([0xfec0], 10, "site-local"),                   // RFC 3879, deprecated but still routed
    v6([0xff00], 8, "multicast"),                     // RFC 4291 §2.7
];

/// The name of the closed range `address` is in, if any.
pub(super) fn closed(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let bits = address.to_bits();
            let range = CLOSED_V4.iter().find(|r| bits & r.mask == r.network)?;
            Some(range.name)
        }
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let range = CLOSED_V6.iter().find(|r| bits & r.mask == r.network)?;
            Some(range.name)
        }
    }
}

/// Whether `network` lies inside one closed range as a whole.
pub(super) fn is_closed_whole(network: IpNetwork) -> bool {
    let len = u32::from(network.prefix());
    match network {
        IpNetwork::V4(network) => {
            let bits = network.network().to_bits();
            let encloses =
                |r: &Range<u32>| bits & r.mask == r.network && len >= r.mask.count_ones();
            CLOSED_V4.iter().any(encloses)
        }
        IpNetwork::V6(network) => {
            let bits = network.network().to_bits();
            let encloses =
                |r: &Range<u128>| bits & r.mask == r.network && len >= r.mask.count_ones();
            CLOSED_V6.iter().any(encloses)
        }
    }
}

/// The IPv4 address that a packet to `address` may end up at, once a translator or a tunnel on the
/// way has looked inside. IPv4-mapped addresses are not meant: they were unwrapped before.
pub(super) fn embedded_ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let low_half =
        |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << u16::BITS | u32::from(low));
    match address.segments() {
        // The unspecified address and loopback are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible (RFC 4291 §2.5.5.1), IPv4-translated (RFC 2765 §2.1), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(low_half(high, low)),
        // 6to4, RFC 3056 §2: the site's router.
        [0x2002, high, low, ..] => Some(low_half(high, low)),
        // Teredo, RFC 4380 §4: the client, with every bit inverted.
        [0x2001, 0, .., high, low] => Some(low_half(!high, !low)),
        _ => None,
    }
}
