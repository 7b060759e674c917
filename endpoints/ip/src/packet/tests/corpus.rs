//! Crafted packets, bad ones beside good ones that differ in as little as possible.

mod chains;
mod lengths;
mod options;

use super::super::*;
use crate::packet::testing::*;

/// What a packet is to be taken for: protocol, payload offset and length, or why it is refused.
type Verdict = Result<(u8, usize, usize), Malformed>;

/// `packet` with other bytes from `offset` on.
fn with(mut packet: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    packet[offset..offset + bytes.len()].copy_from_slice(bytes);
    packet
}

fn cut(mut packet: Vec<u8>, len: usize) -> Vec<u8> {
    packet.truncate(len);
    packet
}

fn longer(mut packet: Vec<u8>, bytes: usize) -> Vec<u8> {
    packet.extend(vec![0xee; bytes]);
    packet
}

/// An IPv6 packet of the extension headers named, each of 8 bytes, in front of UDP.
fn chain(kinds: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    for position in 0..kinds.len() {
        let next = kinds.get(position + 1).copied().unwrap_or(UDP);
        // Neither a fragment nor a route of type 0; an authentication header of 8 bytes.
        rest.extend([next, 0, u8::from(kinds[position] == 43), 0, 0, 0, 0, 0]);
    }
    rest.extend(UDP_HI);
    v6(kinds.first().copied().unwrap_or(UDP), &rest)
}

/// `packet` of a length, and with the length field that says so.
fn cut_to(packet: Vec<u8>, len: usize) -> Vec<u8> {
    let payload_len = (len as u16 - 40).to_be_bytes();
    with(cut(packet, len), 4, &payload_len)
}

#[track_caller]
fn check(cases: &[(&str, Vec<u8>, Verdict)]) {
    for (name, bytes, verdict) in cases {
        let found = parse(bytes);
        let found = found.map(|header| (header.protocol, header.payload, header.total_len));
        assert_eq!(found, *verdict, "{name}: {bytes:02x?}");
    }
}
