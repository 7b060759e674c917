//! Who sends packets, and super-packets.

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
};
use pasque::Packet;

use super::super::*;
use crate::checksum::Sum;

/// Who makes a packet: etherparse computes its lengths and checksums.
#[derive(Clone, Debug)]
pub(in crate::device) struct Sender {
    pub(super) is_v6: bool,
    pub(super) port: u16,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    pub(super) traffic_class: u8,
    pub(super) options: Vec<u8>,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            is_v6: false,
            port: 5001,
            id: 7,
            dont_fragment: true,
            traffic_class: 0,
            options: Vec::new(),
        }
    }
}

impl Sender {
    pub(super) fn v6() -> Self {
        Self {
            is_v6: true,
            ..Self::default()
        }
    }

    fn ip(&self) -> IpHeaders {
        if self.is_v6 {
            let header = Ipv6Header {
                source: [0xfd; 16],
                destination: [0xfe; 16],
                traffic_class: self.traffic_class,
                flow_label: Ipv6FlowLabel::try_new(0x12345).unwrap(),
                hop_limit: 64,
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        } else {
            let mut header =
                Ipv4Header::new(0, 64, IpNumber::TCP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
            header.identification = self.id;
            header.dont_fragment = self.dont_fragment;
            header.dscp = (self.traffic_class >> 2).try_into().unwrap();
            header.ecn = (self.traffic_class & 3).try_into().unwrap();
            IpHeaders::Ipv4(header, Default::default())
        }
    }

    pub(super) fn tcp(
        &self,
        sequence: u32,
        payload: &[u8],
        change: impl Fn(&mut TcpHeader),
    ) -> Packet {
        let mut header = TcpHeader::new(self.port, 80, sequence, 500);
        header.acknowledgment_number = 99;
        header.ack = true;
        header.set_options_raw(&self.options).unwrap();
        change(&mut header);
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ip(self.ip()).tcp_header(header);
        builder.write(&mut bytes, payload).unwrap();
        Packet::copy_from(&bytes)
    }

    pub(super) fn udp(&self, payload: &[u8]) -> Packet {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ip(self.ip()).udp(self.port, 53);
        builder.write(&mut bytes, payload).unwrap();
        Packet::copy_from(&bytes)
    }

    /// `count` segments of `len` bytes each, as a host sends them.
    pub(in crate::device) fn stream(&self, count: usize, len: usize) -> Vec<Packet> {
        let mut sender = self.clone();
        let segment = |n: usize| {
            sender.id = self.id.wrapping_add(n as u16);
            let sequence = 0xffff_fc00_u32.wrapping_add((n * len) as u32);
            sender.tcp(sequence, &payload(n, len), |_| {})
        };
        (0..count).map(segment).collect()
    }
}

pub(super) fn payload(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (n * 31 + at * 7) as u8).collect()
}

/// A super-packet as a host hands it over: only the pseudo-header is in its checksum.
pub(super) fn super_packet(
    packet: &Packet,
    segmentation: Segmentation,
    transport: usize,
    segment_len: usize,
) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let protocol = match segmentation {
        Segmentation::Udp => UDP,
        Segmentation::None if packet[0] >> 4 == 4 => packet[9],
        Segmentation::None => packet[6],
        Segmentation::TcpV4 | Segmentation::TcpV6 => TCP,
    };
    let at = if protocol == UDP {
        UDP_CHECKSUM
    } else {
        TCP_CHECKSUM
    };
    let addresses = if packet[0] >> 4 == 4 {
        packet[12..20].to_vec()
    } else {
        packet[8..40].to_vec()
    };
    let len = ((packet.len() - transport) as u32).to_be_bytes();
    let pseudo = Sum::default()
        .with(&addresses)
        .with(&len)
        .with(&[0, protocol]);
    put(
        &mut packet,
        transport + at,
        (!pseudo.checksum()).to_be_bytes(),
    );
    let header = VirtioHeader {
        segmentation,
        checksum: Some(Checksum {
            start: transport as u16,
            offset: at as u16,
        }),
        headers_len: 0,
        segment_len: segment_len as u16,
    };
    [&header.encode()[..], &packet].concat()
}
