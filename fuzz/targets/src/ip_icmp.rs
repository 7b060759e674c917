//! Any packet: every error about it is a packet that quotes it and that nobody answers; what it quotes or
//! asks itself is read or left.
//!
//! The first byte picks the problem; the rest is the packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pasque_ip::icmp::{self, Problem};
use pasque_ip::packet::{self, Header};

fn problem(choice: u8) -> Problem {
    match choice % 5 {
        0 => Problem::SourceNotAllowed,
        1 => Problem::NoRoute,
        2 => Problem::Prohibited,
        3 => Problem::TooBig { mtu: 1308 },
        _ => Problem::HopLimit,
    }
}

fn proxy(header: &Header) -> IpAddr {
    if header.is_v6() {
        Ipv6Addr::from(0x2001_0db8 << 96 | 1).into()
    } else {
        Ipv4Addr::new(192, 0, 2, 1).into()
    }
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let Ok(header) = packet::parse(bytes) else {
        return;
    };
    if let Some(quote) = icmp::quote(bytes, &header) {
        assert!(icmp::is_error(bytes, &header));
        assert!(quote.header.payload <= quote.bytes.len());
        let _ = quote.ports();
    }
    if let Some(reply) = icmp::echo_reply_to(bytes, &header, proxy(&header)) {
        let header = packet::parse(&reply).expect("a reply is a packet");
        assert!(icmp::parse_echo_reply(&reply, &header).is_some());
    }

    let Some(told) = icmp::error(problem(*choice), bytes, &header, proxy(&header)) else {
        return;
    };
    let about = header;
    let header = packet::parse(&told).expect("an error is a packet");
    assert!(
        header.total_len == told.len() && told.len() <= if header.is_v6() { 1280 } else { 576 }
    );
    assert!(icmp::is_error(&told, &header));
    assert_eq!(header.destination, about.source);
    // A chain may be longer than what a quote holds.
    if let Some(quote) = icmp::quote(&told, &header) {
        assert_eq!(quote.header, about);
    }
    for choice in 0..5 {
        assert!(icmp::error(problem(choice), &told, &header, proxy(&header)).is_none());
    }
}
