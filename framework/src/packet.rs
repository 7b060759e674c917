//! [`Packet`], a buffer holding one datagram, and [`Batch`], what one socket or device read brings.

use std::{fmt, ops};

use crate::pool;

/// Free bytes that a pooled packet keeps in front of its payload.
///
/// Enough for every prefix written in place on the way out: a quarter stream ID (8 bytes at most,
/// RFC 9297 §2.1) and a context ID (8 bytes at most, RFC 9298 §5).
pub const HEADROOM: usize = 16;

/// Packets that one [`Batch`] holds: what the kernel hands over or takes in one offloaded read or
/// write (`UDP_GRO` and `UDP_SEGMENT` both stop at 64).
pub const BATCH_LEN: usize = 64;

/// One datagram in a buffer that usually has free bytes in front of it.
///
/// Dereferences to the payload. [`advance`](Self::advance) removes a prefix in place and
/// [`prepend`](Self::prepend) writes one in place, so that a header costs no copy. Dropping a
/// packet returns its buffer to the pool of the current thread.
pub struct Packet {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Packet {
    /// Takes a buffer from the pool and copies `payload` into it, leaving [`HEADROOM`] in front.
    pub fn copy_from(payload: &[u8]) -> Self {
        let mut packet = Self::with_len(payload.len());
        packet.copy_from_slice(payload);
        packet
    }

    /// Takes a buffer with a payload of `len` bytes; the payload's content is unspecified.
    pub fn with_len(len: usize) -> Self {
        let buffer = pool::take(HEADROOM + len);
        Self {
            buffer,
            start: HEADROOM,
            end: HEADROOM + len,
        }
    }

    /// Shortens the payload to its first `len` bytes; does nothing when it is not longer.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// Removes the first `len` bytes of the payload, which become headroom. Removes everything when
    /// the payload is shorter.
    pub fn advance(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }

    /// Writes `prefix` in front of the payload: in place when the headroom suffices, else by moving
    /// the payload to a larger buffer.
    #[expect(
        clippy::indexing_slicing,
        reason = "there is room for the prefix: that is what is looked at first"
    )]
    pub fn prepend(&mut self, prefix: &[u8]) {
        if self.start < prefix.len() {
            let mut moved = Self::with_len(prefix.len() + self.len());
            moved[prefix.len()..].copy_from_slice(self);
            moved.start += prefix.len();
            *self = moved;
        }
        let start = self.start - prefix.len();
        self.buffer[start..self.start].copy_from_slice(prefix);
        self.start = start;
    }
}

impl From<Vec<u8>> for Packet {
    /// Adopts the bytes without a copy. Such a packet has no headroom until it is advanced.
    fn from(buffer: Vec<u8>) -> Self {
        let end = buffer.len();
        Self {
            buffer,
            start: 0,
            end,
        }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        pool::give_back(std::mem::take(&mut self.buffer));
    }
}

impl ops::Deref for Packet {
    type Target = [u8];

    #[expect(
        clippy::indexing_slicing,
        reason = "`start <= end <= buffer.len()` always"
    )]
    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

impl ops::DerefMut for Packet {
    #[expect(
        clippy::indexing_slicing,
        reason = "`start <= end <= buffer.len()` always"
    )]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }
}

impl AsRef<[u8]> for Packet {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Packet({} bytes)", self.len())
    }
}

/// Up to [`BATCH_LEN`] packets that travel together.
#[derive(Debug, Default)]
pub struct Batch {
    packets: Vec<Packet>,
}

impl Batch {
    /// An empty batch. Its storage is allocated at the first push and then reused.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a packet, or hands it back when the batch is full.
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.is_full() {
            return Err(packet);
        }
        self.packets.push(packet);
        Ok(())
    }

    /// Removes all packets, in order.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = Packet> + '_ {
        self.packets.drain(..)
    }

    /// Removes and drops all packets.
    pub fn clear(&mut self) {
        self.packets.clear();
    }

    /// Removes and drops the first `count` packets.
    pub fn drop_first(&mut self, count: usize) {
        self.packets.drain(..count.min(self.packets.len()));
    }

    /// Removes and drops all but the first `count` packets.
    pub fn truncate(&mut self, count: usize) {
        self.packets.truncate(count);
    }

    /// The packets, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Packet> + '_ {
        self.packets.iter()
    }

    /// The packets, in order.
    pub fn as_slice(&self) -> &[Packet] {
        &self.packets
    }

    /// Keeps the packets for which `keep` is true. `keep` may change a packet.
    pub fn retain(&mut self, keep: impl FnMut(&mut Packet) -> bool) {
        self.packets.retain_mut(keep);
    }

    /// How many packets it holds.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether it holds no packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether [`push`](Self::push) would hand the packet back.
    pub fn is_full(&self) -> bool {
        self.packets.len() >= BATCH_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_written_and_removed_in_place() {
        let mut packet = Packet::copy_from(b"payload");
        let before = packet.as_ptr();
        packet.prepend(&[0x0b, 0x00]);
        assert_eq!(&packet[..], b"\x0b\x00payload");
        packet.advance(2);
        assert_eq!(packet.as_ptr(), before);
        assert_eq!(&packet[..], b"payload");
    }

    #[test]
    fn an_adopted_vector_gains_headroom_by_advance_or_by_moving() {
        let mut adopted = Packet::from(b"\x0b\x00hi".to_vec());
        adopted.advance(2);
        adopted.prepend(&[1, 2, 3]);
        assert_eq!(&adopted[..], b"\x01\x02\x03hi");
        adopted.advance(99);
        assert!(adopted.is_empty());
    }

    #[test]
    fn a_prefix_longer_than_the_headroom_keeps_the_payload() {
        let mut packet = Packet::copy_from(&[7; 5000]);
        packet.prepend(&[1; HEADROOM + 1]);
        assert_eq!(packet.len(), 5000 + HEADROOM + 1);
        assert!(packet[..HEADROOM + 1].iter().all(|&b| b == 1));
        assert!(packet[HEADROOM + 1..].iter().all(|&b| b == 7));
    }

    #[test]
    fn a_full_batch_hands_the_packet_back() {
        let mut batch = Batch::new();
        for n in 0..BATCH_LEN {
            batch.push(Packet::copy_from(&[n as u8])).unwrap();
        }
        let refused = batch.push(Packet::copy_from(b"one more")).unwrap_err();
        assert_eq!(&refused[..], b"one more");
        assert_eq!(batch.drain().len(), BATCH_LEN);
        assert!(batch.is_empty());
    }
}
