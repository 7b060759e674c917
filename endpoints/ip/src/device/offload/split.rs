//! From what the kernel hands over to the packets that it stands for.

use pasque::Packet;
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
    progress: Progress,
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
        let progress = Progress {
            cut,
            next: 0,
            count: cut.count(packet),
        };
        Ok(Self { packet, progress })
    }

    /// How far it is, without what was read.
    pub(in crate::device) fn progress(&self) -> Progress {
        self.progress
    }
}

impl Iterator for Split<'_> {
    type Item = Packet;

    fn next(&mut self) -> Option<Packet> {
        self.progress.next(self.packet)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.progress.left();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Split<'_> {}

/// How a packet is cut, and how far that is.
#[derive(Clone, Copy, Debug)]
pub(in crate::device) struct Progress {
    cut: Cut,
    next: usize,
    count: usize,
}

impl Progress {
    fn left(&self) -> usize {
        self.count - self.next
    }

    #[inline]
    fn next(&mut self, packet: &[u8]) -> Option<Packet> {
        let index = self.next;
        if index >= self.count {
            return None;
        }
        self.next += 1;
        Some(match self.cut {
            Cut::Whole(checksum) => whole(packet, checksum),
            Cut::Segments(layout) => layout.segment(packet, index, index + 1 == self.count),
        })
    }

    /// Bytes of the packets that are left.
    fn len(&self, packet: &[u8]) -> usize {
        match self.cut {
            Cut::Whole(_) => packet.len() * self.left(),
            Cut::Segments(layout) => {
                let payload = packet.len() - layout.headers;
                let gone = (self.next * layout.segment_len).min(payload);
                payload - gone + layout.headers * self.left()
            }
        }
    }
}

/// A [`Split`] that owns what was read, in a [buffer](super::buffers).
pub(in crate::device) struct SuperPacket {
    /// With the virtio header in front.
    read: Vec<u8>,
    progress: Progress,
}

impl SuperPacket {
    /// What the bytes `read` stand for, as [`Split`] found it.
    pub(in crate::device) fn new(read: Vec<u8>, progress: Progress) -> Self {
        Self { read, progress }
    }

    /// How many packets are left.
    pub(in crate::device) fn count(&self) -> usize {
        self.progress.left()
    }

    /// Bytes of the packets that are left.
    pub(in crate::device) fn len(&self) -> usize {
        self.progress.len(self.whole())
    }

    /// Bytes of memory that it takes.
    pub(in crate::device) fn footprint(&self) -> usize {
        self.read.capacity()
    }

    /// The packet as it was handed over.
    pub(in crate::device) fn whole(&self) -> &[u8] {
        self.read.get(VirtioHeader::LEN..).unwrap_or_default()
    }

    /// The next packet.
    #[inline]
    pub(in crate::device) fn next(&mut self) -> Option<Packet> {
        let packet = self.read.get(VirtioHeader::LEN..).unwrap_or_default();
        self.progress.next(packet)
    }
}

impl Drop for SuperPacket {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.read));
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
