//! What all ICMP messages have in common: their type, and the packet around them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pasque::Packet;

use crate::checksum::{self, Sum};
use crate::packet::{Fragment, HEADER_V4_LEN, HEADER_V6_LEN, Header, ICMP, ICMP_V6};

/// An ICMP message without its body, in bytes; the same in both versions.
pub(super) const HEAD_LEN: usize = 8;

/// The hop limit of what we send, unless a message wants another.
pub(super) const HOP_LIMIT: u8 = 64;

const REDIRECT_V6: u8 = 137;

/// Whether `packet` is an ICMP error (RFC 1122 §3.2.2, RFC 4443 §2.1). Of a fragmented one, only the
/// first fragment shows it.
#[inline]
#[must_use]
pub fn is_error(packet: &[u8], header: &Header) -> bool {
    kind(packet, header).is_some_and(|kind| is_error_type(header.is_v6(), kind))
}

/// Whether `packet` is neighbour or router discovery (RFC 4861), redirects included, which have no place
/// in a tunnel (RFC 9484 §7.1).
#[inline]
#[must_use]
pub fn is_neighbour_discovery(packet: &[u8], header: &Header) -> bool {
    header.is_v6() && kind(packet, header).is_some_and(|kind| matches!(kind, 133..=REDIRECT_V6))
}

/// Whether this packet is ICMP that nobody may answer with an error (RFC 1122 §3.2.2, RFC 4443 §2.4(e)):
/// an error, a redirect, or one that ends before its type.
pub(super) fn is_never_answered(packet: &[u8], header: &Header) -> bool {
    let v6 = header.is_v6();
    header.is_icmp()
        && kind(packet, header)
            .is_none_or(|kind| is_error_type(v6, kind) || (v6 && kind == REDIRECT_V6))
}

/// The ICMP message in `packet`, or what the first fragment has of it. `None` if it carries none.
#[inline]
pub(super) fn message<'a>(packet: &'a [u8], header: &Header) -> Option<&'a [u8]> {
    let shows_it = header.is_icmp() && header.fragment != Fragment::Later;
    shows_it.then(|| header.body(packet))
}

/// The type of the ICMP message in `packet`.
#[inline]
fn kind(packet: &[u8], header: &Header) -> Option<u8> {
    message(packet, header)?.first().copied()
}

/// The whole ICMP message in `packet`, if it is there in one piece and with the right checksum.
pub(super) fn intact_message<'a>(packet: &'a [u8], header: &Header) -> Option<&'a [u8]> {
    if header.fragment != Fragment::Whole {
        return None;
    }
    let message = message(packet, header)?;
    let sum = if header.is_v6() {
        Sum::pseudo_header(header.source, header.destination, ICMP_V6, message.len())
    } else {
        Sum::default()
    };
    (sum.with(message).checksum() == 0).then_some(message)
}

/// An IPv4 packet with the message of `head` and `body`. Its checksums are filled in; that in `head` is zero.
pub(super) fn packet_v4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    service: u8,
    head: [u8; HEAD_LEN],
    body: &[u8],
) -> Packet {
    let mut packet = Packet::with_len(HEADER_V4_LEN + HEAD_LEN + body.len());
    let total_len = length_field(packet.len());
    let mut header = [0; HEADER_V4_LEN];
    header[..2].copy_from_slice(&[0x45, service]);
    header[2..4].copy_from_slice(&total_len);
    // "Don't fragment": no identification is needed (RFC 6864 §4.1).
    header[4..12].copy_from_slice(&[0, 0, 0x40, 0, HOP_LIMIT, ICMP, 0, 0]);
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let header_sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&header_sum.to_be_bytes());

    fill(&mut packet, &header, head, body, Sum::default());
    packet
}

/// An IPv6 packet with the message of `head` and `body`. Its checksum is filled in; that in `head` is zero.
pub(super) fn packet_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    head: [u8; HEAD_LEN],
    body: &[u8],
) -> Packet {
    let mut packet = Packet::with_len(HEADER_V6_LEN + HEAD_LEN + body.len());
    let message_len = HEAD_LEN + body.len();
    let mut header = [0; HEADER_V6_LEN];
    header[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    header[4..6].copy_from_slice(&length_field(message_len));
    header[6..8].copy_from_slice(&[ICMP_V6, hop_limit]);
    header[8..24].copy_from_slice(&source.octets());
    header[24..].copy_from_slice(&destination.octets());

    let (source, destination) = (IpAddr::V6(source), IpAddr::V6(destination));
    let sum = Sum::pseudo_header(source, destination, ICMP_V6, message_len);
    fill(&mut packet, &header, head, body, sum);
    packet
}

/// Fills `packet`, which has exactly that length, with a header and a message. The checksum of the
/// message comes on top of `sum`.
fn fill(packet: &mut [u8], header: &[u8], mut head: [u8; HEAD_LEN], body: &[u8], sum: Sum) {
    let sum = sum.with(&head).with(body).checksum();
    head[2..4].copy_from_slice(&sum.to_be_bytes());
    let (front, message) = packet.split_at_mut(header.len());
    let (front_of_message, rest) = message.split_at_mut(HEAD_LEN);
    front.copy_from_slice(header);
    front_of_message.copy_from_slice(&head);
    rest.copy_from_slice(body);
}

fn is_error_type(v6: bool, kind: u8) -> bool {
    if v6 {
        kind < 128
    } else {
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    }
}

fn length_field(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}
