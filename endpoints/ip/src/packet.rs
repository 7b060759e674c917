//! What an IP packet says about itself: [`parse`] checks one packet and finds its upper-layer protocol.
//!
//! This is on the way of every packet and is given bytes of strangers: nothing here allocates, panics,
//! or reads more than the headers.
//!
//! # Fragments
//!
//! A fragment other than the first has neither ports nor a message; its protocol is the one that its own
//! header names. To judge it by that is safe: the receiver takes the protocol of the first fragment (IPv6,
//! RFC 8200 §4.5) or puts fragments of one protocol together only (IPv4, RFC 791), and the first fragment
//! is judged by the protocol behind its extension headers, which must all be in it (RFC 7112). Where such a
//! later fragment names an extension header, nobody can tell its protocol: [`Header::is_opaque`]. What an
//! opaque fragment is, no rule about protocols can admit.

mod address;
mod chain;
mod hop_limit;
mod options;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use address::{is_group, is_link_local, is_single_host};
pub use chain::{MAX_EXTENSIONS, is_extension};
pub use hop_limit::{HopLimitReached, lower_hop_limit};

/// The IPv4 header without options, in bytes.
pub const HEADER_V4_LEN: usize = 20;
/// The IPv6 header without extension headers, in bytes.
pub const HEADER_V6_LEN: usize = 40;

/// Protocol number of ICMP for IPv4.
pub const ICMP: u8 = 1;
/// Protocol number of ICMP for IPv6.
pub const ICMP_V6: u8 = 58;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who sent it, as it claims.
    pub source: IpAddr,
    /// Where it goes; of the same version as the source.
    pub destination: IpAddr,
    /// Hop limit, or TTL.
    pub hop_limit: u8,
    /// Bytes of the packet. What its buffer holds beyond them is not part of it and is to be cut.
    pub total_len: usize,
    /// Protocol of the first header that is no IPv6 extension header (RFC 9484 §4.8). 59 stands for "no
    /// next header". Of an [opaque](Self::is_opaque) fragment, the extension header that it starts in.
    pub protocol: u8,
    /// Where that header begins, in bytes from the packet's first.
    pub payload: usize,
    /// Which part of a larger packet it is.
    pub fragment: Fragment,
    /// Whether routers may not fragment it: IPv4's flag; always so in IPv6.
    pub dont_fragment: bool,
}

/// Which part of a larger packet a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is all of it, be it with a fragment header of IPv6 (RFC 6946).
    Whole,
    /// The first fragment, with the upper-layer header.
    First,
    /// Any other fragment.
    Later,
}

/// Why bytes are no packet that we pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// There are no bytes.
    #[error("empty packet")]
    Empty,
    /// The version is neither 4 nor 6.
    #[error("IP version is neither 4 nor 6")]
    Version,
    /// There are fewer bytes than the header has, or than it says that the packet has.
    #[error("packet is cut short")]
    Truncated,
    /// An IPv4 header that claims to be shorter than 20 bytes.
    #[error("IPv4 header length below 20 bytes")]
    HeaderLen,
    /// An IPv4 packet that claims to be shorter than its header.
    #[error("IPv4 total length below the header length")]
    TotalLen,
    /// IPv4 options that do not end where their header does.
    #[error("IPv4 options exceed the header")]
    Options,
    /// An IPv4 option that names the way to go: the packet's destination is not where it ends (RFC 7126
    /// §4.3 and §4.4 advise to drop it).
    #[error("IPv4 source route")]
    SourceRoute,
    /// An IPv6 packet longer than 65,575 bytes (RFC 2675), which no link here carries.
    #[error("IPv6 jumbogram")]
    Jumbogram,
    /// An IPv6 extension header that leaves the packet, or a hop-by-hop header that is not the first
    /// (RFC 8200 §4.1).
    #[error("broken chain of IPv6 extension headers")]
    Chain,
    /// More than [`MAX_EXTENSIONS`] extension headers.
    #[error("more than {MAX_EXTENSIONS} IPv6 extension headers")]
    ChainLen,
    /// A routing header of type 0 (RFC 5095), whether it has segments left or not.
    #[error("IPv6 routing header of type 0")]
    RoutingType0,
}

/// Checks that `bytes` begin with one whole IP packet and reads its headers.
///
/// What is behind the packet is ignored: [`Header::total_len`] says where to cut. The checksum of an IPv4
/// header is not checked, because the host that takes the packet does: nothing here makes a wrong one
/// right.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
    let mut header = fixed(bytes)?;
    match bytes.get(..header.total_len) {
        Some(packet) => header.follow(packet)?,
        None => return Err(Malformed::Truncated),
    }
    Ok(header)
}

/// Reads the headers of a packet of which `bytes` may be the beginning only, as ICMP errors quote it.
///
/// All headers must be in `bytes` up to [`Header::payload`]; [`Header::total_len`] may be beyond them.
pub fn parse_quoted(bytes: &[u8]) -> Result<Header, Malformed> {
    let mut header = fixed(bytes)?;
    header.follow(bytes.get(..header.total_len).unwrap_or(bytes))?;
    Ok(header)
}

impl Header {
    /// Whether it is an IPv6 packet.
    #[inline]
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// Whether it carries ICMP of its IP version. Of a [later](Fragment::Later) fragment: a part of it.
    #[inline]
    #[must_use]
    pub fn is_icmp(&self) -> bool {
        self.protocol == if self.is_v6() { ICMP_V6 } else { ICMP }
    }

    /// Whether this is a fragment whose protocol cannot be known, because it starts inside an extension
    /// header. A rule about protocols is to refuse it.
    #[inline]
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.fragment == Fragment::Later && self.is_v6() && is_extension(self.protocol)
    }

    /// Source and destination port: of TCP, UDP, UDP-Lite, SCTP and DCCP, unless it is a later fragment
    /// or has no room for them. `bytes` are those that were parsed.
    #[inline]
    #[must_use]
    pub fn ports(&self, bytes: &[u8]) -> Option<(u16, u16)> {
        let has_ports = matches!(self.protocol, TCP | UDP | DCCP | SCTP | UDP_LITE);
        if !has_ports || self.fragment == Fragment::Later {
            return None;
        }
        let &[a, b, c, d] = self.body(bytes).first_chunk()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The bytes from [`payload`](Self::payload) on, up to the end of the packet or of what is there of
    /// it. `bytes` are those that were parsed.
    #[inline]
    #[must_use]
    pub fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let end = self.total_len.min(bytes.len());
        bytes.get(self.payload..end).unwrap_or_default()
    }

    /// Reads what comes between the fixed header and the upper layer, within `packet`.
    #[inline]
    fn follow(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        if self.is_v6() {
            return chain::walk(self, packet);
        }
        if self.payload == HEADER_V4_LEN {
            return Ok(());
        }
        let options = packet.get(HEADER_V4_LEN..self.payload);
        options::check(options.ok_or(Malformed::Truncated)?)
    }
}

/// Reads the part of the header that every packet of its version has, and checks the lengths in it
/// against each other.
#[inline]
fn fixed(bytes: &[u8]) -> Result<Header, Malformed> {
    match bytes.first().ok_or(Malformed::Empty)? >> 4 {
        4 => fixed_v4(bytes.first_chunk().ok_or(Malformed::Truncated)?),
        6 => fixed_v6(bytes.first_chunk().ok_or(Malformed::Truncated)?),
        _ => Err(Malformed::Version),
    }
}

#[inline]
fn fixed_v4(bytes: &[u8; HEADER_V4_LEN]) -> Result<Header, Malformed> {
    let header_len = usize::from(bytes[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
    if header_len < HEADER_V4_LEN {
        return Err(Malformed::HeaderLen);
    }
    if total_len < header_len {
        return Err(Malformed::TotalLen);
    }
    let fragment = u16::from_be_bytes([bytes[6], bytes[7]]);
    let [.., a, b, c, d, e, f, g, h] = *bytes;
    Ok(Header {
        source: Ipv4Addr::new(a, b, c, d).into(),
        destination: Ipv4Addr::new(e, f, g, h).into(),
        hop_limit: bytes[8],
        total_len,
        protocol: bytes[9],
        payload: header_len,
        fragment: Fragment::new(fragment & 0x1fff, fragment & 0x2000 != 0),
        dont_fragment: fragment & 0x4000 != 0,
    })
}

/// The protocol is that of the first header behind the fixed one, until the chain is walked.
#[inline]
fn fixed_v6(bytes: &[u8; HEADER_V6_LEN]) -> Result<Header, Malformed> {
    let payload_len = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    let next = bytes[6];
    if payload_len == 0 && next == chain::HOP_BY_HOP {
        return Err(Malformed::Jumbogram);
    }
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    source.copy_from_slice(&bytes[8..24]);
    destination.copy_from_slice(&bytes[24..]);
    Ok(Header {
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        hop_limit: bytes[7],
        total_len: HEADER_V6_LEN + payload_len,
        protocol: next,
        payload: HEADER_V6_LEN,
        fragment: Fragment::Whole,
        dont_fragment: true,
    })
}

impl Fragment {
    #[inline]
    fn new(offset: u16, more_follow: bool) -> Self {
        match (offset, more_follow) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}
