//! Errors about packets that are not passed on (RFC 9484 §7.2.1).

use std::net::IpAddr;

use pasque::Packet;

use super::message::{self, HEAD_LEN, HOP_LIMIT};
use crate::packet::{self, Fragment, HEADER_V4_LEN, HEADER_V6_LEN, Header};

/// What every IPv4 host takes in one piece, and so all that an error may have (RFC 1812 §4.3.2.3).
const MAX_QUOTE_V4_LEN: usize = 576 - HEADER_V4_LEN - HEAD_LEN;
/// What every IPv6 link carries, and so all that an error may have (RFC 4443 §2.4(c)).
const MAX_QUOTE_V6_LEN: usize = 1280 - HEADER_V6_LEN - HEAD_LEN;

/// Precedence 6, which an error should have in IPv4 (RFC 1812 §4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// Why a packet is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Its source is not the sender's to use.
    SourceNotAllowed,
    /// No route leads to its destination.
    NoRoute,
    /// Policy or scope forbids its destination or protocol.
    Prohibited,
    /// It is longer than where it is to go.
    TooBig {
        /// Bytes of the longest packet that would fit.
        mtu: u32,
    },
    /// It was forwarded as often as it may be.
    HopLimit,
}

/// The error that tells the sender of `packet` about the `problem`, from `source`: a whole IP packet.
///
/// `None` where the standards want silence (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4(e)): about
/// an ICMP error or redirect; about a packet to a group, unless it is too big, in IPv6; about a packet from
/// no single host; about later fragments. Also if an IPv4 packet is too big but may be fragmented, and if
/// `source` is a group, or of the other IP version. Whoever calls this limits the rate
/// ([`ErrorLimiter`](super::ErrorLimiter)).
#[must_use]
pub fn error(problem: Problem, packet: &[u8], header: &Header, source: IpAddr) -> Option<Packet> {
    if is_silenced(problem, packet, header) || packet::is_group(source) {
        return None;
    }
    let packet = packet.get(..header.total_len).unwrap_or(packet);
    let quote = |max_len| packet.get(..max_len).unwrap_or(packet);
    match (source, header.source) {
        (IpAddr::V4(source), IpAddr::V4(sender)) => Some(message::packet_v4(
            source,
            sender,
            INTERNETWORK_CONTROL,
            problem.head_v4(),
            quote(MAX_QUOTE_V4_LEN),
        )),
        (IpAddr::V6(source), IpAddr::V6(sender)) => Some(message::packet_v6(
            source,
            sender,
            HOP_LIMIT,
            problem.head_v6(),
            quote(MAX_QUOTE_V6_LEN),
        )),
        _ => None,
    }
}

fn is_silenced(problem: Problem, packet: &[u8], header: &Header) -> bool {
    let too_big = matches!(problem, Problem::TooBig { .. });
    header.fragment == Fragment::Later
        || !packet::is_single_host(header.source)
        // Path MTU discovery works for groups, too, but only in IPv6.
        || (packet::is_group(header.destination) && !(too_big && header.is_v6()))
        || (too_big && !header.dont_fragment)
        || message::is_never_answered(packet, header)
}

impl Problem {
    /// Type, code, and what follows the checksum, in IPv4 (RFC 792; RFC 1812 §5.2.7.1; RFC 1191 §4).
    fn head_v4(self) -> [u8; HEAD_LEN] {
        let (kind, code) = match self {
            Self::NoRoute => (3, 0),
            Self::SourceNotAllowed | Self::Prohibited => (3, 13),
            Self::TooBig { .. } => (3, 4),
            Self::HopLimit => (11, 0),
        };
        let mtu = match self {
            Self::TooBig { mtu } => u16::try_from(mtu).unwrap_or(u16::MAX),
            _ => 0,
        };
        let [a, b] = mtu.to_be_bytes();
        [kind, code, 0, 0, 0, 0, a, b]
    }

    /// Type, code, and what follows the checksum, in IPv6 (RFC 4443 §3).
    fn head_v6(self) -> [u8; HEAD_LEN] {
        let (kind, code, word) = match self {
            Self::NoRoute => (1, 0, 0),
            Self::Prohibited => (1, 1, 0),
            Self::SourceNotAllowed => (1, 5, 0),
            Self::TooBig { mtu } => (2, 0, mtu),
            Self::HopLimit => (3, 0, 0),
        };
        let [a, b, c, d] = word.to_be_bytes();
        [kind, code, 0, 0, a, b, c, d]
    }
}
