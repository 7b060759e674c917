//! Echo: the probe for a path that carries IPv6, and the answer to others (RFC 9484 §7.2).

use std::net::{IpAddr, Ipv6Addr};

use pasque::Packet;

use super::message::{self, HEAD_LEN, HOP_LIMIT};
use crate::packet::{self, Header};

const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// The probe is for the other end of the tunnel and for nobody behind it.
const PROBE_HOP_LIMIT: u8 = 1;

/// Zeros to be sent as data: as many as a packet can have.
static DATA: [u8; u16::MAX as usize - HEAD_LEN] = [0; u16::MAX as usize - HEAD_LEN];

/// The two numbers by which a reply belongs to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Who asks, of all who do on one host.
    pub id: u16,
    /// Which of its requests.
    pub sequence: u16,
}

/// An ICMPv6 echo request with `data_len` bytes of zero and a hop limit of 1: a packet of 48 bytes more
/// than that. 1232 make the 1280 bytes that prove a path (RFC 9484 §7.2); more than 65,527 are cut.
#[must_use]
pub fn echo_request_v6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    echo: Echo,
    data_len: usize,
) -> Packet {
    let [a, b] = echo.id.to_be_bytes();
    let [c, d] = echo.sequence.to_be_bytes();
    let head = [REQUEST_V6, 0, 0, 0, a, b, c, d];
    let data = DATA.get(..data_len).unwrap_or(&DATA);
    message::packet_v6(source, destination, PROBE_HOP_LIMIT, head, data)
}

/// The reply, from `source`, to `packet`, if that is a whole, intact echo request from a single host.
/// `None` also if `source` is a group, or of the other IP version.
///
/// Whether the request was for us is for the caller to know.
#[must_use]
pub fn echo_reply_to(packet: &[u8], header: &Header, source: IpAddr) -> Option<Packet> {
    if !packet::is_single_host(header.source) || packet::is_group(source) {
        return None;
    }
    let (head, data) = message::intact_message(packet, header)?.split_first_chunk()?;
    let &[request, 0, _, _, a, b, c, d] = head else {
        return None;
    };
    let reply = |kind| [kind, 0, 0, 0, a, b, c, d];
    match (source, header.source, request) {
        (IpAddr::V4(source), IpAddr::V4(sender), REQUEST_V4) => {
            // RFC 1812 §4.3.2.5: the same service as the request had. Congestion that the request met
            // is not the reply's.
            let service = packet.get(1)? & !0b11;
            let head = reply(REPLY_V4);
            Some(message::packet_v4(source, sender, service, head, data))
        }
        (IpAddr::V6(source), IpAddr::V6(sender), REQUEST_V6) => {
            let head = reply(REPLY_V6);
            Some(message::packet_v6(source, sender, HOP_LIMIT, head, data))
        }
        _ => None,
    }
}

/// What `packet` answers, if it is a whole, intact echo reply. Its [`Header::total_len`] says how much
/// the path has carried.
#[must_use]
pub fn parse_echo_reply(packet: &[u8], header: &Header) -> Option<Echo> {
    let expected = if header.is_v6() { REPLY_V6 } else { REPLY_V4 };
    match *message::intact_message(packet, header)?.first_chunk()? {
        [kind, 0, _, _, a, b, c, d] if kind == expected => Some(Echo {
            id: u16::from_be_bytes([a, b]),
            sequence: u16::from_be_bytes([c, d]),
        }),
        _ => None,
    }
}
