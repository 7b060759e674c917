mod echo;
mod errors;
mod limiter;
mod quotes;
mod random;

use std::net::IpAddr;

use super::*;
use crate::packet::{Header, parse};

const PROXY_V4: &str = "192.0.2.1";
const PROXY_V6: &str = "2001:db8:1234::1";

const PROBLEMS: [Problem; 5] = [
    Problem::SourceNotAllowed,
    Problem::NoRoute,
    Problem::Prohibited,
    Problem::TooBig { mtu: 1308 },
    Problem::HopLimit,
];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The proxy's address in the IP version of a packet.
fn proxy(header: &Header) -> IpAddr {
    address(if header.is_v6() { PROXY_V6 } else { PROXY_V4 })
}

/// The error about a packet, from the proxy, as bytes.
#[track_caller]
fn error_about(problem: Problem, packet: &[u8]) -> Option<Vec<u8>> {
    let header = parse(packet).unwrap();
    error(problem, packet, &header, proxy(&header)).map(|packet| packet.to_vec())
}

/// Has etherparse check the headers and checksums of an ICMP packet; gives type and code, the word behind
/// the checksum, and the body.
#[track_caller]
fn judged(packet: &[u8]) -> (u8, u8, [u8; 4], &[u8]) {
    use etherparse::{Icmpv4Header, IpSlice, TransportSlice};
    let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
    let ip = IpSlice::from_slice(packet).unwrap();
    assert!(!ip.is_fragmenting_payload());
    match sliced.transport.unwrap() {
        TransportSlice::Icmpv4(message) => {
            let header = ip.ipv4().unwrap().header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), packet.len());
            let Icmpv4Header {
                icmp_type,
                checksum,
            } = message.header();
            assert_eq!(checksum, icmp_type.calc_checksum(message.payload()));
            let word = message.bytes5to8();
            (message.type_u8(), message.code_u8(), word, &packet[28..])
        }
        TransportSlice::Icmpv6(message) => {
            let header = ip.ipv6().unwrap().header().to_header();
            assert_eq!(usize::from(header.payload_length) + 40, packet.len());
            assert!(message.is_checksum_valid(header.source, header.destination));
            let word = message.bytes5to8();
            (message.type_u8(), message.code_u8(), word, &packet[48..])
        }
        other => panic!("{other:?} is no ICMP"),
    }
}
