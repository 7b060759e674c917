//! ICMP messages that say how long a datagram may be: Packet Too Big, and what IPv4 has for it.

#[cfg(test)]
mod tests;

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

/// IPv4 and UDP headers, without options, in bytes.
pub(crate) const HEADERS_V4_LEN: usize = 20 + UDP_HEADER_LEN;
/// IPv6 and UDP headers, without extensions, in bytes.
pub(crate) const HEADERS_V6_LEN: usize = 40 + UDP_HEADER_LEN;
const UDP_HEADER_LEN: usize = 8;

/// An ICMP message without what it quotes, in bytes; the same in both versions.
const ICMP_HEADER_LEN: usize = 8;

/// What every IPv4 host takes in one piece, and so all that an ICMP message may have (RFC 1812
/// §4.3.2.3).
const MAX_QUOTE_V4_LEN: usize = 576 - 20 - ICMP_HEADER_LEN;
/// What every IPv6 link carries, and so all that an ICMPv6 message may have (RFC 4443 §2.4).
const MAX_QUOTE_V6_LEN: usize = 1280 - 40 - ICMP_HEADER_LEN;

/// The protocol number of UDP.
const UDP: u8 = 17;

/// The hop count in a quoted header. The one that the packet had is not known any more, and nobody looks
/// at it.
const HOPS: u8 = 64;

/// A datagram that was too long, as it is known behind the socket that took it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooLong<'a> {
    /// Who sent it, and is to be told.
    pub(crate) from: SocketAddr,
    /// The local address that it came to.
    pub(crate) to: SocketAddr,
    /// What it carries.
    pub(crate) payload: &'a [u8],
    /// How much it might have carried, in bytes.
    pub(crate) max_payload_len: usize,
}

impl TooLong<'_> {
    /// The message for the sender, from the ICMP type on. `None` if the addresses are of two families,
    /// which is no datagram.
    ///
    /// The headers of the datagram are quoted as they may have been: the ports and addresses, by which
    /// the sender finds its socket, are the true ones.
    pub(crate) fn message(&self) -> Option<Vec<u8>> {
        match (self.from, self.to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => Some(self.message_v4(from, to)),
            (SocketAddr::V6(from), SocketAddr::V6(to)) => Some(self.message_v6(from, to)),
            _ => None,
        }
    }

    /// Destination Unreachable, "fragmentation needed", with the MTU of RFC 1191 §4.
    fn message_v4(&self, from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
        let mtu = clamp(self.max_payload_len + HEADERS_V4_LEN);
        let mut message = vec![3, 4, 0, 0, 0, 0];
        message.extend(mtu.to_be_bytes());

        let mut header = vec![0x45, 0];
        header.extend(clamp(HEADERS_V4_LEN + self.payload.len()).to_be_bytes());
        // No identification. "Don't fragment" is set, or there would have been no reason to drop it.
        header.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
        header.extend(from.ip().octets());
        header.extend(to.ip().octets());
        set_checksum(&mut header, 10);

        message.extend(header);
        self.quote(&mut message, MAX_QUOTE_V4_LEN - HEADERS_V4_LEN);
        set_checksum(&mut message, 2);
        message
    }

    /// Packet Too Big (RFC 4443 §3.2). Its checksum, which covers the outer addresses too, is for the
    /// kernel to fill in (RFC 3542 §3.1).
    ///
    /// An MTU below 1280 is told as it is. The sender's IP layer takes no notice of it (RFC 8201 §4),
    /// but hands it to the program, which can.
    fn message_v6(&self, from: SocketAddrV6, to: SocketAddrV6) -> Vec<u8> {
        let mtu = clamp(self.max_payload_len + HEADERS_V6_LEN);
        let mut message = vec![2, 0, 0, 0];
        message.extend(u32::from(mtu).to_be_bytes());

        message.extend([0x60, 0, 0, 0]);
        message.extend(self.udp_len().to_be_bytes());
        message.extend([UDP, HOPS]);
        message.extend(from.ip().octets());
        message.extend(to.ip().octets());
        self.quote(&mut message, MAX_QUOTE_V6_LEN - HEADERS_V6_LEN);
        message
    }

    /// Adds the UDP header and up to `max_len` bytes of the payload.
    fn quote(&self, message: &mut Vec<u8>, max_len: usize) {
        message.extend(self.from.port().to_be_bytes());
        message.extend(self.to.port().to_be_bytes());
        message.extend(self.udp_len().to_be_bytes());
        // No checksum: a receiver cannot check it against a part of the payload.
        message.extend([0, 0]);
        message.extend(self.payload.get(..max_len).unwrap_or(self.payload));
    }

    fn udp_len(&self) -> u16 {
        clamp(UDP_HEADER_LEN + self.payload.len())
    }
}

/// A length for a field of 16 bits.
fn clamp(len: usize) -> u16 {
    len.try_into().unwrap_or(u16::MAX)
}

/// Fills in the Internet checksum (RFC 1071) of all `bytes`, whose field at `offset` is zero.
fn set_checksum(bytes: &mut [u8], offset: usize) {
    let checksum = !sum(bytes);
    if let Some(field) = bytes.get_mut(offset..offset + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The ones' complement sum of `bytes` as numbers of 16 bits: all ones where the checksum is right.
fn sum(bytes: &[u8]) -> u16 {
    let (pairs, last) = bytes.as_chunks();
    let last = last.first().map(|&byte| [byte, 0]);
    let words = pairs.iter().copied().chain(last).map(u16::from_be_bytes);
    words.fold(0, |sum, word| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}
