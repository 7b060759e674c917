//! From what the kernel hands over to the packets that it stands for.

use pasque::{Batch, Packet};
use thiserror::Error;

use super::header::{Checksum, Segmentation, VirtioHeader};
use super::*;
use crate::checksum::{Sum, checksum};

/// What the kernel handed over describes no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The virtio header is incomplete, or of a kind that was not asked for.
    #[error("the virtio header is incomplete or of an unknown kind")]
    Header,
    /// The IP version is not the one announced, or a header lies beyond the packet's end.
    #[error("the packet's headers are not those announced")]
    Layout,
    /// The pieces would have no payload, or be too long for an IP packet, or the whole is.
    #[error("the packet cannot be cut into pieces of the length announced")]
    SegmentLen,
    /// A checksum to be made lies beyond the packet's end, or there is none for the pieces.
    #[error("the checksum to be made does not lie in the packet")]
    Checksum,
}

/// The packets that one read stands for, with their lengths, identifications, sequence numbers, flags
/// and checksums as if each had been sent alone. The ECN and DSCP bits of each are those of the
/// whole.
#[derive(Clone, Debug)]
pub struct Split<'a> {
    packet: &'a [u8],
    cut: Cut,
    next: usize,
    count: usize,
}

impl<'a> Split<'a> {
    /// Takes what was read from a TUN descriptor with a virtio header.
    ///
    /// # Errors
    /// The bytes describe no packet.
    pub fn new(read: &'a [u8]) -> Result<Self, Malformed> {
        let (header, packet) = read.split_first_chunk().ok_or(Malformed::Header)?;
        let header = VirtioHeader::decode(header).ok_or(Malformed::Header)?;
        let cut = Cut::new(&header, packet)?;
        Ok(Self {
            packet,
            cut,
            next: 0,
            count: cut.count(packet),
        })
    }

    /// Moves packets to `batch` until it is full, and keeps what remains by itself.
    pub(in crate::device) fn fill(mut self, batch: &mut Batch) -> Option<Rest> {
        self.move_to(batch);
        (self.len() > 0).then(|| Rest {
            packet: self.packet.to_vec(),
            cut: self.cut,
            next: self.next,
        })
    }

    fn move_to(&mut self, batch: &mut Batch) {
        while !batch.is_full() {
            let Some(packet) = self.next() else { return };
            let pushed = batch.push(packet);
            debug_assert!(pushed.is_ok());
        }
    }
}

impl Iterator for Split<'_> {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        let index = self.next;
        if index >= self.count {
            return None;
        }
        self.next += 1;
        Some(match self.cut {
            Cut::Whole(checksum) => whole(self.packet, checksum),
            Cut::Segments(layout) => layout.segment(self.packet, index, index + 1 == self.count),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Split<'_> {}

/// What remains of a [`Split`], in at most 64 KiB of its own however many packets it stands for.
#[derive(Debug)]
pub(in crate::device) struct Rest {
    packet: Vec<u8>,
    cut: Cut,
    next: usize,
}

impl Rest {
    /// Moves packets to `batch` until it is full; true if nothing remains.
    pub(in crate::device) fn fill(&mut self, batch: &mut Batch) -> bool {
        let mut split = Split {
            packet: &self.packet,
            cut: self.cut,
            next: self.next,
            count: self.cut.count(&self.packet),
        };
        split.move_to(batch);
        self.next = split.next;
        split.len() == 0
    }
}

/// How a packet is cut, checked to fit it.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole(Option<Checksum>),
    Segments(Layout),
}

impl Cut {
    fn new(header: &VirtioHeader, packet: &[u8]) -> Result<Self, Malformed> {
        if packet.len() > MAX_PACKET_LEN + IPV6_HEADER_LEN {
            return Err(Malformed::SegmentLen);
        }
        if header.segmentation == Segmentation::None {
            if let Some(Checksum { start, offset }) = header.checksum {
                let at = usize::from(start) + usize::from(offset);
                field::<2>(packet, at).ok_or(Malformed::Checksum)?;
            }
            return Ok(Self::Whole(header.checksum));
        }
        Layout::new(header, packet).map(Self::Segments)
    }

    fn count(&self, packet: &[u8]) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Segments(layout) => {
                let payload_len = packet.len() - layout.headers;
                payload_len.div_ceil(layout.segment_len).max(1)
            }
        }
    }
}

/// Where things are in a super-packet, in bytes from its start.
#[derive(Clone, Copy, Debug)]
struct Layout {
    is_v6: bool,
    is_tcp: bool,
    /// Where the TCP or UDP header begins.
    transport: usize,
    /// Where the payload begins.
    headers: usize,
    segment_len: usize,
}

impl Layout {
    fn new(header: &VirtioHeader, packet: &[u8]) -> Result<Self, Malformed> {
        let first = *packet.first().ok_or(Malformed::Layout)?;
        let is_v6 = match first >> 4 {
            4 => false,
            6 => true,
            _ => return Err(Malformed::Layout),
        };
        let is_tcp = match header.segmentation {
            Segmentation::Udp => false,
            Segmentation::TcpV4 if !is_v6 => true,
            Segmentation::TcpV6 if is_v6 => true,
            _ => return Err(Malformed::Layout),
        };
        // The kernel's own length of the headers may cover less (`virtio_net.h`).
        let Checksum { start, .. } = header.checksum.ok_or(Malformed::Checksum)?;
        let transport = usize::from(start);
        let is_plausible = if is_v6 {
            transport >= IPV6_HEADER_LEN
        } else {
            transport >= IPV4_HEADER_LEN && transport == usize::from(first & 0x0f) * 4
        };
        let headers = transport
            + if is_tcp {
                let [offset] =
                    field(packet, transport + TCP_DATA_OFFSET).ok_or(Malformed::Layout)?;
                (usize::from(offset >> 4) * 4).max(TCP_HEADER_LEN)
            } else {
                UDP_HEADER_LEN
            };
        if !is_plausible || headers > packet.len() {
            return Err(Malformed::Layout);
        }
        let segment_len = usize::from(header.segment_len);
        let longest = headers + segment_len.min(packet.len() - headers);
        if segment_len == 0 || longest > MAX_PACKET_LEN || packet.len() - transport > MAX_PACKET_LEN
        {
            return Err(Malformed::SegmentLen);
        }
        Ok(Self {
            is_v6,
            is_tcp,
            transport,
            headers,
            segment_len,
        })
    }

    /// One piece. `packet` is the one that this was made for, and `index` below its count.
    fn segment(&self, packet: &[u8], index: usize, is_last: bool) -> Packet {
        let (headers, payload) = packet.split_at(self.headers);
        let payload = payload.chunks(self.segment_len).nth(index).unwrap_or(&[]);
        let mut segment = Packet::with_len(headers.len() + payload.len());
        let (to_headers, to_payload) = segment.split_at_mut(headers.len());
        to_headers.copy_from_slice(headers);
        to_payload.copy_from_slice(payload);

        let len = segment.len();
        let (ip, transport) = segment.split_at_mut(self.transport);
        if self.is_v6 {
            put(ip, 4, ((len - IPV6_HEADER_LEN) as u16).to_be_bytes());
        } else {
            patch_ipv4(ip, len, index);
        }
        if self.is_tcp {
            self.patch_tcp(transport, index, is_last);
        } else {
            put(transport, UDP_LEN, (transport.len() as u16).to_be_bytes());
        }
        self.finish_checksum(transport, packet.len() - self.transport);
        segment
    }

    fn patch_tcp(&self, tcp: &mut [u8], index: usize, is_last: bool) {
        if let Some(sequence) = field(tcp, TCP_SEQUENCE) {
            let skipped = (index * self.segment_len) as u32;
            let sequence = u32::from_be_bytes(sequence).wrapping_add(skipped);
            put(tcp, TCP_SEQUENCE, sequence.to_be_bytes());
        }
        // The end belongs to the last segment, and the answer to a congestion mark is given once.
        let mut removed = 0;
        if !is_last {
            removed |= FIN | PSH;
        }
        if index > 0 {
            removed |= CWR;
        }
        if let Some(flags) = tcp.get_mut(TCP_FLAGS) {
            *flags &= !removed;
        }
    }

    /// The checksum field holds the sum of the pseudo-header, in which only the length differs: the
    /// addresses there need not be those of the IP header (a routing header has its own).
    fn finish_checksum(&self, transport: &mut [u8], whole_len: usize) {
        let at = if self.is_tcp {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        };
        // In ones' complement, what was added is removed by adding its complement.
        let sum = Sum::default()
            .with(transport.get(at..at + 2).unwrap_or_default())
            .with(&(!(whole_len as u16)).to_be_bytes())
            .with(&(transport.len() as u16).to_be_bytes());
        put(transport, at, [0; 2]);
        let made = sum.with(transport).checksum();
        put(
            transport,
            at,
            if self.is_tcp { made } else { never_zero(made) }.to_be_bytes(),
        );
    }
}

fn patch_ipv4(ip: &mut [u8], len: usize, index: usize) {
    put(ip, 2, (len as u16).to_be_bytes());
    if let Some(id) = field(ip, 4) {
        let id = u16::from_be_bytes(id).wrapping_add(index as u16);
        put(ip, 4, id.to_be_bytes());
    }
    put(ip, 10, [0; 2]);
    put(ip, 10, checksum(ip).to_be_bytes());
}

/// A packet that is handed over as it is, but for its checksum.
fn whole(packet: &[u8], open: Option<Checksum>) -> Packet {
    let mut packet = Packet::copy_from(packet);
    if let Some(Checksum { start, offset }) = open {
        let (start, offset) = (usize::from(start), usize::from(offset));
        if let Some(covered) = packet.get_mut(start..) {
            // TCP, where a zero would do too, says the same with the other one.
            let made = never_zero(checksum(covered));
            put(covered, offset, made.to_be_bytes());
        }
    }
    packet
}

/// A UDP checksum of zero would say that there is none (RFC 768).
fn never_zero(checksum: u16) -> u16 {
    if checksum == 0 { u16::MAX } else { checksum }
}
