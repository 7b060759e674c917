//! Packets, byte by byte, and what is read from them: written from the RFCs, without the code under
//! test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// The fields of an IP header that tests care about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// TTL or hop limit.
    pub(crate) hop_limit: u8,
    /// DSCP in the upper six bits, ECN in the lower two.
    pub(crate) traffic_class: u8,
    /// Of IPv4: the flags and the fragment's offset.
    pub(crate) fragment: u16,
    /// Protocol, or next header.
    pub(crate) protocol: u8,
}

impl Header {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            hop_limit: 64,
            traffic_class: 0,
            fragment: 0,
            protocol,
        }
    }

    /// A packet with this header. Source and destination are of one version.
    pub(crate) fn packet(self, payload: &[u8]) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut packet = vec![0x45, self.traffic_class];
                packet.extend((20 + payload.len() as u16).to_be_bytes());
                packet.extend([0x12, 0x34]);
                packet.extend(self.fragment.to_be_bytes());
                packet.extend([self.hop_limit, self.protocol, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                let sum = checksum(&[&packet]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                packet.extend(payload);
                packet
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut packet = vec![
                    0x60 | self.traffic_class >> 4,
                    self.traffic_class << 4,
                    0,
                    0,
                ];
                packet.extend((payload.len() as u16).to_be_bytes());
                packet.extend([self.protocol, self.hop_limit]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(payload);
                packet
            }
            mixed => panic!("two versions of IP: {mixed:?}"),
        }
    }

    /// The header of `packet` and what follows it, options included; `None` of what is no packet.
    pub(crate) fn parse(packet: &[u8]) -> Option<(Self, &[u8])> {
        match packet.first()? >> 4 {
            4 => {
                let (header, payload) = packet.split_at_checked(20)?;
                let address =
                    |at: usize| Ipv4Addr::from_octets(header[at..at + 4].try_into().unwrap());
                let parsed = Self {
                    source: address(12).into(),
                    destination: address(16).into(),
                    hop_limit: header[8],
                    traffic_class: header[1],
                    fragment: u16::from_be_bytes([header[6], header[7]]),
                    protocol: header[9],
                };
                Some((parsed, payload))
            }
            6 => {
                let (header, payload) = packet.split_at_checked(40)?;
                let address =
                    |at: usize| Ipv6Addr::from_octets(header[at..at + 16].try_into().unwrap());
                let parsed = Self {
                    source: address(8).into(),
                    destination: address(24).into(),
                    hop_limit: header[7],
                    traffic_class: header[0] << 4 | header[1] >> 4,
                    fragment: 0,
                    protocol: header[6],
                };
                Some((parsed, payload))
            }
            _ => None,
        }
    }
}

/// A UDP packet with a right checksum.
pub(crate) fn udp(header: Header, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend((8 + payload.len() as u16).to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(payload);
    let sum = checksum(&[&pseudo_header(header, UDP, segment.len()), &segment]);
    segment[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
    Header {
        protocol: UDP,
        ..header
    }
    .packet(&segment)
}

/// The first segment of a TCP connection, without options.
pub(crate) fn tcp_syn(header: Header, ports: (u16, u16)) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let sum = checksum(&[&pseudo_header(header, TCP, segment.len()), &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    Header {
        protocol: TCP,
        ..header
    }
    .packet(&segment)
}

/// An ICMP message of the version of `header`. `rest` begins with the second word of the message.
pub(crate) fn icmp(header: Header, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let protocol = icmp_protocol(header.source);
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    let sum = match protocol {
        ICMP => checksum(&[&message]),
        _ => checksum(&[&pseudo_header(header, ICMPV6, message.len()), &message]),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    Header { protocol, ..header }.packet(&message)
}

/// An echo request.
pub(crate) fn echo_request(header: Header, id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let kind = if header.source.is_ipv4() { 8 } else { 128 };
    icmp(header, kind, 0, &echo_rest(id, sequence, data))
}

/// What follows kind, code and checksum of an echo request.
pub(crate) fn echo_rest(id: u16, sequence: u16, data: &[u8]) -> Vec<u8> {
    let [a, b] = id.to_be_bytes();
    let [c, d] = sequence.to_be_bytes();
    [&[a, b, c, d], data].concat()
}

/// The number of the ICMP that belongs to the version of `address`.
pub(crate) fn icmp_protocol(address: IpAddr) -> u8 {
    if address.is_ipv4() { ICMP } else { ICMPV6 }
}

/// RFC 1071.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(header: Header, protocol: u8, len: usize) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let tail = match header.source {
        IpAddr::V4(_) => vec![0, protocol, (len >> 8) as u8, len as u8],
        IpAddr::V6(_) => vec![0, 0, (len >> 8) as u8, len as u8, 0, 0, 0, protocol],
    };
    [octets(header.source), octets(header.destination), tail].concat()
}

#[test]
fn the_vectors_of_the_rfc_come_out() {
    let header = Header {
        fragment: 0x4000,
        ..Header::new([192, 0, 2, 11].into(), [198, 51, 100, 2].into(), UDP)
    };
    let mut packet = udp(header, (4660, 53), b"hi");
    // Its identification is 1, and it has no UDP checksum.
    packet[4..6].copy_from_slice(&[0, 1]);
    packet[10..12].copy_from_slice(&[0, 0]);
    assert_eq!(checksum(&[&packet[..20]]), 0x4e8d);
    assert_eq!(packet.len(), 30);
    let source: IpAddr = "2001:db8:1234::a".parse().unwrap();
    let header = Header::new(source, "ff02::1".parse().unwrap(), ICMPV6);
    let probe = echo_request(
        Header {
            hop_limit: 1,
            ..header
        },
        1,
        1,
        &[0; 1232],
    );
    assert_eq!(probe[..8], [0x60, 0, 0, 0, 4, 0xd8, 0x3a, 1]);
    assert_eq!(probe[40..48], [0x80, 0, 0x3b, 0xf0, 0, 1, 0, 1]);
    assert_eq!(
        Header::parse(&probe).unwrap().0,
        Header {
            hop_limit: 1,
            ..header
        }
    );
}
