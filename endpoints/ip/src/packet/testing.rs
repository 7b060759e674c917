//! Packets for tests, written out where etherparse would refuse to.

use crate::checksum::checksum;

/// Bytes written in hex, with any white space between them.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect()
}

/// 192.0.2.11:4660 → 198.51.100.2:53, UDP, `hi`.
pub(crate) fn udp_v4() -> Vec<u8> {
    hex("45 00 00 1e 00 01 40 00 40 11 4e 8d c0 00 02 0b c6 33 64 02 12 34 00 35 00 0a 00 00 68 69")
}

/// The same with a router alert option.
pub(crate) fn udp_v4_with_option() -> Vec<u8> {
    hex(
        "46 00 00 22 00 01 40 00 40 11 b9 84 c0 00 02 0b c6 33 64 02 94 04 00 00
         12 34 00 35 00 0a 00 00 68 69",
    )
}

/// The UDP datagram of both, without checksum.
pub(crate) const UDP_HI: [u8; 10] = [0x12, 0x34, 0x00, 0x35, 0x00, 0x0a, 0, 0, b'h', b'i'];

/// An IPv4 packet of 192.0.2.11 to 198.51.100.2 with a TTL of 64 and a right header checksum. `fragment`
/// is the word of flags and offset, `options` a multiple of 4 bytes.
pub(crate) fn v4(protocol: u8, fragment: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
    packet.extend(((header_len + body.len()) as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 192, 0, 2, 11, 198, 51, 100, 2]);
    packet.extend(options);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

/// An IPv6 packet of 2001:db8:1234::a to 2001:db8::2 with a hop limit of 64; `rest` is what follows the
/// fixed header, `next` the type of its first header.
pub(crate) fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut packet = hex("60 00 00 00");
    packet.extend((rest.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(hex("20 01 0d b8 12 34 00 00 00 00 00 00 00 00 00 0a"));
    packet.extend(hex("20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 02"));
    packet.extend(rest);
    packet
}

/// An IPv6 extension header of 8 bytes: options of padding, or a routing header of type 1.
pub(crate) fn extension(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// An IPv6 fragment header; the `offset` counts units of 8 bytes.
pub(crate) fn fragment(next: u8, offset: u16, more_follow: bool) -> [u8; 8] {
    let [a, b] = (offset << 3 | u16::from(more_follow)).to_be_bytes();
    [next, 0, a, b, 0, 0, 0, 7]
}

/// Puts other addresses into a packet, and the right checksum into its header.
pub(crate) fn readdressed(mut packet: Vec<u8>, source: &str, destination: &str) -> Vec<u8> {
    use std::net::IpAddr;
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            let header_len = usize::from(packet[0] & 0x0f) * 4;
            packet[10..12].fill(0);
            let sum = checksum(&packet[..header_len]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
        }
        _ => panic!("{source} and {destination} are of two versions"),
    }
    packet
}
