//! Which packets could be pieces of one super-packet.

use super::*;
use crate::checksum::{Sum, checksum};

/// Who talks to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    // Compared from the top: it is the ports that tell most flows apart.
    ports: [u8; 4],
    protocol: u8,
    addresses: Addresses,
}

impl Flow {
    pub(super) fn addresses(&self) -> Addresses {
        self.addresses
    }
}

/// Source and destination; those of IPv4 are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    is_v6: bool,
    bytes: [u8; 32],
}

impl Addresses {
    fn of_v4(packet: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        *bytes.first_chunk_mut::<8>()? = field(packet, 12)?;
        Some(Self {
            is_v6: false,
            bytes,
        })
    }

    fn of_v6(packet: &[u8]) -> Option<Self> {
        let bytes = field(packet, 8)?;
        Some(Self { is_v6: true, bytes })
    }
}

/// A packet in the eyes of coalescing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A whole TCP segment or UDP datagram without IP options or extension headers.
    Segment(Segment),
    /// Something else between two addresses: a fragment, say. It may belong to any of their flows.
    Between(Addresses),
    /// No IP packet.
    Unknown,
}

impl Kind {
    pub(super) fn of(packet: &[u8]) -> Self {
        let version = packet.first().map_or(0, |first| first >> 4);
        let addresses = match version {
            4 => Addresses::of_v4(packet),
            6 => Addresses::of_v6(packet),
            _ => None,
        };
        let Some(addresses) = addresses else {
            return Self::Unknown;
        };
        Segment::parse(packet, addresses).map_or(Self::Between(addresses), Self::Segment)
    }
}

/// Where things are in a TCP segment or UDP datagram, in bytes from the start of its packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) flow: Flow,
    pub(super) is_tcp: bool,
    pub(super) is_v6: bool,
    /// Where the TCP or UDP header begins.
    pub(super) transport: usize,
    /// Where the payload begins.
    pub(super) headers: usize,
    pub(super) payload_len: usize,
    /// Whether it is of the ordinary kind that may stand beside others: it has a payload, no flag but
    /// ACK and PSH, no urgent data, and a checksum.
    pub(super) is_ordinary: bool,
    /// Whether it ends what it is a piece of (PSH).
    pub(super) is_end: bool,
}

impl Segment {
    fn parse(packet: &[u8], addresses: Addresses) -> Option<Self> {
        let is_v6 = addresses.is_v6;
        let (transport, protocol) = if is_v6 {
            let payload_len = usize::from(u16::from_be_bytes(field(packet, 4)?));
            if IPV6_HEADER_LEN + payload_len != packet.len() {
                return None;
            }
            (IPV6_HEADER_LEN, *packet.get(6)?)
        } else {
            let [version, _, a, b, _, _, fragment @ .., _, protocol] = field::<10>(packet, 0)?;
            let is_plain = version == 0x45 && matches!(fragment, [0 | 0x40, 0]);
            if !is_plain || usize::from(u16::from_be_bytes([a, b])) != packet.len() {
                return None;
            }
            (IPV4_HEADER_LEN, protocol)
        };
        let header = packet.get(transport..)?;
        let (headers_len, is_ordinary, is_end) = match protocol {
            TCP => parse_tcp(header)?,
            UDP => parse_udp(header)?,
            _ => return None,
        };
        let payload_len = header.len().checked_sub(headers_len)?;
        Some(Self {
            flow: Flow {
                ports: field(header, 0)?,
                protocol,
                addresses,
            },
            is_tcp: protocol == TCP,
            is_v6,
            transport,
            headers: transport + headers_len,
            payload_len,
            is_ordinary: is_ordinary && payload_len > 0,
            is_end,
        })
    }

    /// The sum of the pseudo-header for `transport_len` bytes (RFC 9293 §3.1, RFC 8200 §8.1).
    pub(super) fn pseudo_header(&self, transport_len: usize) -> Sum {
        // Of 16 bits, because nothing here is longer; in the sum it is the same as 32.
        let [a, b] = (transport_len as u16).to_be_bytes();
        Sum::default()
            .with(&self.flow.addresses.bytes)
            .with(&[0, self.flow.protocol, a, b])
    }

    /// Whether the checksums are those that a sender computes. In a super-packet they would be made
    /// anew, and hide the damage.
    pub(super) fn is_intact(&self, packet: &[u8]) -> bool {
        let Some((ip, transport)) = packet.split_at_checked(self.transport) else {
            return false;
        };
        // Of the two zeros of ones' complement a sender writes one: IP and TCP this, UDP the other.
        let is_ip_intact = self.is_v6 || (field(ip, 10) != Some([0xff; 2]) && checksum(ip) == 0);
        let at = self.checksum_at();
        let unused = if self.is_tcp { [0xff; 2] } else { [0; 2] };
        is_ip_intact
            && field(transport, at) != Some(unused)
            && self
                .pseudo_header(transport.len())
                .with(transport)
                .checksum()
                == 0
    }

    /// Where the checksum is, in bytes from the TCP or UDP header.
    pub(super) fn checksum_at(&self) -> usize {
        if self.is_tcp {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        }
    }
}

/// The length of the header, whether the segment is ordinary, whether it is an end.
fn parse_tcp(tcp: &[u8]) -> Option<(usize, bool, bool)> {
    let [offset, flags] = field(tcp, TCP_DATA_OFFSET)?;
    let headers_len = usize::from(offset >> 4) * 4;
    if headers_len < TCP_HEADER_LEN {
        return None;
    }
    let is_ordinary = offset & 0x0f == 0 && flags & !PSH == ACK;
    Some((headers_len, is_ordinary, flags & PSH != 0))
}

fn parse_udp(udp: &[u8]) -> Option<(usize, bool, bool)> {
    let len = u16::from_be_bytes(field(udp, UDP_LEN)?);
    if usize::from(len) != udp.len() {
        return None;
    }
    let has_checksum = field(udp, UDP_CHECKSUM)? != [0; 2];
    Some((UDP_HEADER_LEN, has_checksum, false))
}

/// Whether the headers of two packets of one flow differ only as those of neighbours do; identification
/// and sequence number are not looked at.
pub(super) fn are_alike(first: &[u8], next: &[u8], segment: &Segment) -> bool {
    let same = |from: usize, to: usize| first.get(from..to) == next.get(from..to);
    let ip = if segment.is_v6 {
        // Version, traffic class and flow label; next header and hop limit.
        same(0, 4) && same(6, 8)
    } else {
        // DSCP and ECN; fragmentation, time to live and protocol.
        same(1, 2) && same(6, 10)
    };
    let at = |offset| segment.transport + offset;
    let tcp = !segment.is_tcp
        || (same(at(TCP_ACKNOWLEDGMENT), at(TCP_FLAGS))
            && same(at(TCP_WINDOW), at(TCP_CHECKSUM))
            && same(at(TCP_URGENT), segment.headers));
    ip && tcp
}
