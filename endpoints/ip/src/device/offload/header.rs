//! The virtio network header: what the kernel says about the packet behind it, and hears.

/// In how many pieces a packet stands for the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Segmentation {
    /// One: the packet as it is.
    #[default]
    None,
    /// TCP segments over IPv4.
    TcpV4,
    /// TCP segments over IPv6.
    TcpV6,
    /// UDP datagrams over either (`UDP_SEGMENT`).
    Udp,
}

/// A checksum that only covers the pseudo-header so far. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Where the bytes begin that it is to cover, up to the packet's end.
    pub start: u16,
    /// Where it is, counted from `start`.
    pub offset: u16,
}

/// `struct virtio_net_hdr`. Lengths are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VirtioHeader {
    /// What the packet is to be cut into.
    pub segmentation: Segmentation,
    /// The checksum that is still to be made, of each piece.
    pub checksum: Option<Checksum>,
    /// The headers that each piece begins with. Not to be relied on from the kernel.
    pub headers_len: u16,
    /// The payload of each piece but the last, which may have less.
    pub segment_len: u16,
}

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CHECKSUM: u8 = 1;

/// `VIRTIO_NET_HDR_GSO_NONE`, `_TCPV4`, `_TCPV6`, `_UDP_L4`
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;

/// `VIRTIO_NET_HDR_GSO_ECN`: the first segment has CWR. The packet shows that too.
const GSO_ECN: u8 = 0x80;

impl VirtioHeader {
    /// Its length on a descriptor, in bytes.
    pub const LEN: usize = 10;

    /// Reads what the kernel wrote; `None` for a kind of segmentation that was never asked for.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        // The byte order is this machine's: `TUNSETVNETLE` and `TUNSETVNETBE` are not used.
        let [flags, kind, a, b, c, d, e, f, g, h] = *bytes;
        let segmentation = match kind & !GSO_ECN {
            GSO_NONE => Segmentation::None,
            GSO_TCP_V4 => Segmentation::TcpV4,
            GSO_TCP_V6 => Segmentation::TcpV6,
            GSO_UDP => Segmentation::Udp,
            _ => return None,
        };
        let checksum = (flags & NEEDS_CHECKSUM != 0).then(|| Checksum {
            start: u16::from_ne_bytes([e, f]),
            offset: u16::from_ne_bytes([g, h]),
        });
        Some(Self {
            segmentation,
            checksum,
            headers_len: u16::from_ne_bytes([a, b]),
            segment_len: u16::from_ne_bytes([c, d]),
        })
    }

    /// The bytes for the kernel.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let kind = match self.segmentation {
            Segmentation::None => GSO_NONE,
            Segmentation::TcpV4 => GSO_TCP_V4,
            Segmentation::TcpV6 => GSO_TCP_V6,
            Segmentation::Udp => GSO_UDP,
        };
        let (flags, start, offset) = match self.checksum {
            Some(Checksum { start, offset }) => (NEEDS_CHECKSUM, start, offset),
            None => (0, 0, 0),
        };
        let [a, b] = self.headers_len.to_ne_bytes();
        let [c, d] = self.segment_len.to_ne_bytes();
        let [e, f] = start.to_ne_bytes();
        let [g, h] = offset.to_ne_bytes();
        [flags, kind, a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back() {
        let header = VirtioHeader {
            segmentation: Segmentation::TcpV6,
            checksum: Some(Checksum {
                start: 40,
                offset: 16,
            }),
            headers_len: 72,
            segment_len: 1348,
        };
        let bytes = header.encode();
        assert_eq!(bytes[..2], [1, 4]);
        assert_eq!(VirtioHeader::decode(&bytes), Some(header));
        let none = VirtioHeader::default();
        assert_eq!(none.encode(), [0; 10]);
        assert_eq!(VirtioHeader::decode(&[0; 10]), Some(none));
    }

    #[test]
    fn ecn_is_no_kind_of_its_own_and_unknown_kinds_are_refused() {
        let mut bytes = [0; 10];
        bytes[1] = 0x81;
        let header = VirtioHeader::decode(&bytes).unwrap();
        assert_eq!(header.segmentation, Segmentation::TcpV4);
        // `VIRTIO_NET_HDR_F_DATA_VALID` asks for nothing.
        bytes[0] = 2;
        assert_eq!(VirtioHeader::decode(&bytes).unwrap().checksum, None);
        // UFO (3) cuts datagrams into IP fragments.
        for kind in [2, 3, 6, 0x40, 0x83] {
            bytes[1] = kind;
            assert_eq!(VirtioHeader::decode(&bytes), None, "{kind}");
        }
    }
}
