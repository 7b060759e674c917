//! From packets of one flow to the super-packet that stands for them.

use std::io::IoSlice;

use pasque::{BATCH_LEN, Packet};

use super::header::{Checksum, Segmentation, VirtioHeader};
use super::segment::{Flow, Kind, Segment, are_alike};
use super::*;
use crate::checksum::checksum;

/// The longest headers that a run has: IPv6 and TCP with all its options.
const MAX_HEADERS_LEN: usize = IPV6_HEADER_LEN + 60;

/// Room for a virtio header and the headers of a super-packet.
pub type Head = [u8; VirtioHeader::LEN + MAX_HEADERS_LEN];

/// Finds the packets of a batch that can be handed to the kernel together.
///
/// Only those are put together that [`Split`] would make of the super-packet again, byte for byte;
/// the one thing that may differ is an IPv4 identification that never changed and means nothing, as
/// the packet is not to be fragmented (RFC 6864 §4.1). Checksums are verified first.
#[derive(Debug, Default)]
pub struct Coalescer {
    runs: Vec<Run>,
    /// For each packet, the one that follows it in its run.
    next: Vec<u8>,
}

impl Coalescer {
    /// Sorts `packets`, of which those behind the 64th are ignored, into [`runs`](Self::runs). Without
    /// `udp`, UDP datagrams stay alone: the kernel does not take them together.
    pub fn arrange(&mut self, packets: &[Packet], udp: bool) {
        let packets = packets.get(..BATCH_LEN).unwrap_or(packets);
        self.runs.clear();
        self.next.clear();
        self.next.resize(packets.len(), 0);
        for (index, packet) in packets.iter().enumerate() {
            match Kind::of(packet) {
                Kind::Segment(segment) => self.add(packets, index, segment, udp),
                Kind::Between(addresses) => {
                    // No later packet of their flows may overtake it.
                    for run in &mut self.runs {
                        run.is_open &= run
                            .segment
                            .is_none_or(|segment| segment.flow.addresses() != addresses);
                    }
                    self.runs.push(Run::alone(index));
                }
                Kind::Unknown => self.runs.push(Run::alone(index)),
            }
        }
    }

    fn add(&mut self, packets: &[Packet], index: usize, segment: Segment, udp: bool) {
        let is_candidate = segment.is_ordinary && (segment.is_tcp || udp);
        // At most one run of a flow is open, and it is probably the last.
        let open = self
            .runs
            .iter_mut()
            .rev()
            .find(|run| run.is_of(&segment.flow));
        if let Some(run) = open {
            if is_candidate && run.accepts(packets, index, &segment) {
                if let Some(next) = self.next.get_mut(run.last) {
                    *next = index as u8;
                }
                run.take(index, &segment);
                return;
            }
            run.is_open = false;
        }
        self.runs.push(Run {
            segment: Some(segment),
            is_open: is_candidate && !segment.is_end,
            payload_len: segment.payload_len,
            ..Run::alone(index)
        });
    }

    /// What to write, in this order: every packet is in one run, and each flow in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The places of the packets of `run` in the batch, in order.
    pub fn members(&self, run: &Run) -> impl Iterator<Item = usize> + '_ {
        let follow = |&index: &usize| self.next.get(index).copied().map(usize::from);
        std::iter::successors(Some(run.first), follow).take(run.count)
    }

    /// What stands for `run` on a TUN descriptor: `head`, written here, and slices of the packets.
    /// Returns how many of `slices` are to be written.
    pub fn gather<'a>(
        &self,
        run: &Run,
        packets: &'a [Packet],
        head: &'a mut Head,
        slices: &mut [IoSlice<'a>; BATCH_LEN + 1],
    ) -> usize {
        let skipped = run.write_head(packets, head);
        let mut count = 0;
        let mut add = |bytes: &'a [u8]| {
            if let Some(slice) = slices.get_mut(count) {
                *slice = IoSlice::new(bytes);
                count += 1;
            }
        };
        add(head.get(..VirtioHeader::LEN + skipped).unwrap_or_default());
        for index in self.members(run) {
            let packet = packets.get(index).map_or(&[][..], |packet| &packet[..]);
            add(packet.get(skipped..).unwrap_or_default());
        }
        count
    }
}

/// Packets that are written together: one, or several of one flow.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    first: usize,
    last: usize,
    count: usize,
    /// The first packet's shape.
    segment: Option<Segment>,
    /// Payload of all, in bytes.
    payload_len: usize,
    identification: Identification,
    /// Whether one more could follow.
    is_open: bool,
    is_first_intact: bool,
    /// Whether the last has the flag that belongs to an end.
    is_ended: bool,
}

/// How the identifications of IPv4 packets continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identification {
    Unknown,
    Fixed,
    Counting,
}

impl Run {
    fn alone(index: usize) -> Self {
        Self {
            first: index,
            last: index,
            count: 1,
            segment: None,
            payload_len: 0,
            identification: Identification::Unknown,
            is_open: false,
            is_first_intact: false,
            is_ended: false,
        }
    }

    /// How many packets it has.
    pub fn count(&self) -> usize {
        self.count
    }

    fn is_of(&self, flow: &Flow) -> bool {
        self.is_open && self.segment.is_some_and(|segment| segment.flow == *flow)
    }

    /// Whether the packet at `index` can follow the last one.
    fn accepts(&mut self, packets: &[Packet], index: usize, segment: &Segment) -> bool {
        let Some(shape) = self.segment else {
            return false;
        };
        let (Some(first), Some(packet)) = (packets.get(self.first), packets.get(index)) else {
            return false;
        };
        let len = shape.headers + self.payload_len + segment.payload_len;
        if segment.headers != shape.headers
            || segment.payload_len > shape.payload_len
            || len > MAX_PACKET_LEN
            || !are_alike(first, packet, segment)
        {
            return false;
        }
        if segment.is_tcp && sequence_of(packet, segment) != self.next_sequence(first, &shape) {
            return false;
        }
        let Some(identification) = self.continued_by(first, packet, segment) else {
            return false;
        };
        // Last, because they read every byte.
        self.is_first_intact = self.is_first_intact || shape.is_intact(first);
        if !self.is_first_intact || !segment.is_intact(packet) {
            return false;
        }
        self.identification = identification;
        true
    }

    fn next_sequence(&self, first: &[u8], shape: &Segment) -> Option<u32> {
        Some(sequence_of(first, shape)?.wrapping_add(self.payload_len as u32))
    }

    /// How the identifications go on if `packet` follows, or `None` if they would not.
    fn continued_by(
        &self,
        first: &[u8],
        packet: &[u8],
        segment: &Segment,
    ) -> Option<Identification> {
        if segment.is_v6 {
            return Some(Identification::Unknown);
        }
        let first_id = u16::from_be_bytes(field(first, 4)?);
        let id = u16::from_be_bytes(field(packet, 4)?);
        let is_unfragmented = *packet.get(6)? & 0x40 != 0;
        let continued = if id == first_id.wrapping_add(self.count as u16) {
            Identification::Counting
        } else if id == first_id && is_unfragmented {
            Identification::Fixed
        } else {
            return None;
        };
        let fits = matches!(self.identification, Identification::Unknown)
            || self.identification == continued;
        fits.then_some(continued)
    }

    fn take(&mut self, index: usize, segment: &Segment) {
        let full_len = self.segment.map_or(0, |shape| shape.payload_len);
        self.last = index;
        self.count += 1;
        self.payload_len += segment.payload_len;
        self.is_ended = segment.is_end;
        self.is_open = !segment.is_end && segment.payload_len == full_len;
    }

    /// Writes the virtio header and, of several packets, the headers that they have in common.
    /// Returns the length of the latter, which each packet's own bytes begin with.
    fn write_head(&self, packets: &[Packet], head: &mut Head) -> usize {
        let (virtio, headers) = head.split_at_mut(VirtioHeader::LEN);
        virtio.fill(0);
        let (Some(segment), Some(first)) = (self.segment, packets.get(self.first)) else {
            return 0;
        };
        if self.count < 2 {
            return 0;
        }
        let (Some(headers), Some(originals)) = (
            headers.get_mut(..segment.headers),
            first.get(..segment.headers),
        ) else {
            return 0;
        };
        headers.copy_from_slice(originals);
        let transport_len = segment.headers - segment.transport + self.payload_len;
        let (ip, transport) = headers.split_at_mut(segment.transport);
        if segment.is_v6 {
            put(ip, 4, (transport_len as u16).to_be_bytes());
        } else {
            put(
                ip,
                2,
                ((segment.transport + transport_len) as u16).to_be_bytes(),
            );
            put(ip, 10, [0; 2]);
            put(ip, 10, checksum(ip).to_be_bytes());
        }
        if !segment.is_tcp {
            put(transport, UDP_LEN, (transport_len as u16).to_be_bytes());
        } else if let (true, Some(flags)) = (self.is_ended, transport.get_mut(TCP_FLAGS)) {
            *flags |= PSH;
        }
        // Not its complement yet: the kernel adds the rest.
        let open = !segment.pseudo_header(transport_len).checksum();
        put(transport, segment.checksum_at(), open.to_be_bytes());
        let header = VirtioHeader {
            segmentation: match (segment.is_tcp, segment.is_v6) {
                (true, false) => Segmentation::TcpV4,
                (true, true) => Segmentation::TcpV6,
                (false, _) => Segmentation::Udp,
            },
            checksum: Some(Checksum {
                start: segment.transport as u16,
                offset: segment.checksum_at() as u16,
            }),
            headers_len: segment.headers as u16,
            segment_len: segment.payload_len as u16,
        };
        virtio.copy_from_slice(&header.encode());
        segment.headers
    }
}

fn sequence_of(packet: &[u8], segment: &Segment) -> Option<u32> {
    field(packet, segment.transport + TCP_SEQUENCE).map(u32::from_be_bytes)
}
