//! What a packet says, and whether its lengths and checksums are true.

use etherparse::{NetSlice, SlicedPacket, TcpHeader, TransportSlice};

use crate::checksum::checksum;

/// Headers that differ between the packets of a super-packet; fails if a checksum or length is wrong.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) id: Option<u16>,
    pub(super) traffic_class: u8,
    pub(super) tcp: Option<TcpHeader>,
    pub(super) payload: Vec<u8>,
}

pub(super) fn see(packet: &[u8]) -> Seen {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let (id, traffic_class, transport) = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(usize::from(header.total_len), packet.len());
            let class = header.dscp.value() << 2 | header.ecn.value();
            (Some(header.identification), class, header.header_len())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            assert_eq!(usize::from(header.payload_length()) + 40, packet.len());
            let extensions = packet.len() - 40 - ip.payload().payload.len();
            (None, header.traffic_class(), 40 + extensions)
        }
        _ => panic!("no IP packet"),
    };
    let (source, destination) = if packet[0] >> 4 == 4 {
        (&packet[12..16], &packet[16..20])
    } else {
        (&packet[8..24], &packet[24..40])
    };
    let segment = &packet[transport..];
    let (tcp, payload, protocol) = match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => (Some(tcp.to_header()), tcp.payload().to_vec(), 6),
        TransportSlice::Udp(udp) => {
            assert_eq!(usize::from(udp.length()), segment.len());
            assert_ne!(udp.checksum(), 0);
            (None, udp.payload().to_vec(), 17)
        }
        _ => panic!("neither TCP nor UDP"),
    };
    let pseudo = [
        source,
        destination,
        &[0, protocol],
        &(segment.len() as u16).to_be_bytes(),
    ];
    let sum = [&pseudo.concat(), segment].concat();
    assert_eq!(checksum(&sum), 0);
    Seen {
        id,
        traffic_class,
        tcp,
        payload,
    }
}
