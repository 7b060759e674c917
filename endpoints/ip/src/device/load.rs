//! [`Load`], what one read of an interface brought, and [`Reads`], what one call brings.

use std::fmt;

use pasque::{BATCH_LEN, Packet};

use super::offload::SuperPacket;

/// Bytes of the buffer of an ordinary packet, however short that is.
pub(crate) const BLOCK: usize = 2048;

/// What one read of an interface brought: one packet, or many of one flow that are not cut apart yet.
///
/// As long as it has to wait it stays whole: it is then one entry of a queue, and its packets are made
/// when they are sent, while they are in the cache.
pub struct Load(Kind);

enum Kind {
    Packet(Packet),
    Super(SuperPacket),
    Empty,
}

impl Load {
    pub(super) fn of_super(packet: SuperPacket) -> Self {
        Self(Kind::Super(packet))
    }

    /// How many packets are left of it.
    pub fn packets(&self) -> usize {
        match &self.0 {
            Kind::Packet(_) => 1,
            Kind::Super(packet) => packet.count(),
            Kind::Empty => 0,
        }
    }

    /// The bytes of all packets that are left.
    pub fn len(&self) -> usize {
        match &self.0 {
            Kind::Packet(packet) => packet.len(),
            Kind::Super(packet) => packet.len(),
            Kind::Empty => 0,
        }
    }

    /// The bytes of memory that it takes, those of packets that are not left included.
    pub fn footprint(&self) -> usize {
        match &self.0 {
            Kind::Packet(packet) => packet.len().max(BLOCK),
            Kind::Super(packet) => packet.footprint(),
            Kind::Empty => 0,
        }
    }

    /// Whether no packet is left.
    pub fn is_empty(&self) -> bool {
        self.packets() == 0
    }

    /// A packet that stands for all that are left: their headers differ in nothing but length,
    /// identification, sequence number, flags and checksums.
    pub fn whole(&self) -> &[u8] {
        match &self.0 {
            Kind::Packet(packet) => packet,
            Kind::Super(packet) => packet.whole(),
            Kind::Empty => &[],
        }
    }

    /// Cuts what is behind the packet, which is `len` bytes long.
    pub(crate) fn truncate(&mut self, len: usize) {
        if let Kind::Packet(packet) = &mut self.0 {
            packet.truncate(len);
        }
    }
}

impl From<Packet> for Load {
    fn from(packet: Packet) -> Self {
        Self(Kind::Packet(packet))
    }
}

/// The packets, in order.
impl Iterator for Load {
    type Item = Packet;

    #[inline]
    fn next(&mut self) -> Option<Packet> {
        if let Kind::Super(packet) = &mut self.0 {
            return packet.next();
        }
        match std::mem::replace(&mut self.0, Kind::Empty) {
            Kind::Packet(packet) => Some(packet),
            _ => None,
        }
    }
}

/// What one call reads: loads of up to [`BATCH_LEN`] packets in all, or fewer, and one more.
#[derive(Debug)]
pub struct Reads {
    loads: Vec<Load>,
    packets: usize,
    most: usize,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            loads: Vec::new(),
            packets: 0,
            most: BATCH_LEN,
        }
    }
}

impl Reads {
    /// Adds a load.
    pub fn push(&mut self, load: Load) {
        self.packets += load.packets();
        self.loads.push(load);
    }

    /// Removes all loads, in order.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = Load> + '_ {
        self.packets = 0;
        self.loads.drain(..)
    }

    /// How many packets it holds.
    pub fn len(&self) -> usize {
        self.packets
    }

    /// Whether it holds no packet.
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Whether nothing is to be added.
    pub fn is_full(&self) -> bool {
        self.packets >= self.most
    }

    /// Lets the next call read `most` packets, and not more than it ever does.
    pub fn limit(&mut self, most: usize) {
        self.most = most.clamp(1, BATCH_LEN);
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Load({} packets, {} bytes)", self.packets(), self.len())
    }
}
