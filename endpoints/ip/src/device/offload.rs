//! Super-packets: many packets of one flow in one system call (the virtio network header of
//! `linux/virtio_net.h`, as `IFF_VNET_HDR` puts it in front of what a TUN descriptor reads and
//! writes).
//!
//! Nothing here does input or output. [`Split`] makes packets of what the kernel hands over, and
//! [`Coalescer`] finds what can be handed to the kernel together; each undoes the other.

pub(super) mod buffers;
mod coalesce;
mod header;
mod segment;
mod split;
#[cfg(test)]
pub(super) mod tests;

pub use coalesce::{Coalescer, Head, Run};
pub use header::{Checksum, Segmentation, VirtioHeader};
pub(super) use split::SuperPacket;
pub use split::{Malformed, Split};

/// The longest packet that two bytes of length describe, in bytes.
const MAX_PACKET_LEN: usize = 65_535;

const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the fields of TCP and UDP are, counted from the start of their header.
const TCP_SEQUENCE: usize = 4;
const TCP_ACKNOWLEDGMENT: usize = 8;
const TCP_DATA_OFFSET: usize = 12;
const TCP_FLAGS: usize = 13;
const TCP_WINDOW: usize = 14;
const TCP_CHECKSUM: usize = 16;
const TCP_URGENT: usize = 18;
const UDP_LEN: usize = 4;
const UDP_CHECKSUM: usize = 6;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;

/// The `N` bytes at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes `value` at `at`, if it fits there.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value;
    }
}
