use super::*;
use crate::packet::Fragment;
use crate::packet::testing::*;

/// An ICMP error of a type that quotes these bytes, from a router that neither tunnel knows.
fn quoting(v6_packet: bool, kind: u8, quoted: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(quoted);
    if v6_packet {
        readdressed(v6(58, &message), "2001:db8:ffff::9", "2001:db8:1234::a")
    } else {
        readdressed(v4(1, 0, &[], &message), "192.0.2.254", "192.0.2.11")
    }
}

fn quote_in(packet: &[u8]) -> Option<Quote<'_>> {
    quote(packet, &parse(packet).unwrap())
}

#[test]
fn ip_10_an_error_from_any_router_shows_the_packet_it_is_about() {
    let packet = quoting(false, 11, &udp_v4());
    let quote = quote_in(&packet).unwrap();
    assert_eq!(quote.header, parse(&udp_v4()).unwrap());
    assert_eq!(quote.ports(), Some((4660, 53)));

    let packet = quoting(true, 3, &v6(17, &UDP_HI));
    let quote = quote_in(&packet).unwrap();
    assert_eq!(quote.header, parse(&v6(17, &UDP_HI)).unwrap());
    assert_eq!(quote.header.source, address("2001:db8:1234::a"));
    assert_eq!(quote.ports(), Some((4660, 53)));
}

#[test]
fn ip_10_a_quoted_protocol_is_told_from_another() {
    for protocol in [1, 6, 17, 47, 50, 132] {
        let packet = quoting(false, 3, &v4(protocol, 0, &[], &UDP_HI));
        assert_eq!(quote_in(&packet).unwrap().header.protocol, protocol);
        let packet = quoting(true, 1, &v6(protocol, &UDP_HI));
        assert_eq!(quote_in(&packet).unwrap().header.protocol, protocol);
        // Behind extension headers, too.
        let packet = quoting(
            true,
            1,
            &v6(60, &[&extension(protocol)[..], &UDP_HI].concat()),
        );
        assert_eq!(quote_in(&packet).unwrap().header.protocol, protocol);
    }
}

#[test]
fn ip_10_only_errors_quote() {
    for kind in 0..=255 {
        let quotes = quote_in(&quoting(false, kind, &udp_v4())).is_some();
        assert_eq!(quotes, [3, 4, 5, 11, 12].contains(&kind), "{kind}");
        let quotes = quote_in(&quoting(true, kind, &v6(17, &UDP_HI))).is_some();
        assert_eq!(quotes, kind < 128, "{kind}");
    }
    // Neither does UDP that looks like one, nor ICMP of the other version.
    let message = [&[3, 0, 0, 0, 0, 0, 0, 0][..], &udp_v4()].concat();
    assert!(quote_in(&v4(17, 0, &[], &message)).is_none());
    assert!(quote_in(&v4(58, 0, &[], &message)).is_none());
    assert!(quote_in(&v6(1, &message)).is_none());
    // Nor the middle of one.
    assert!(quote_in(&v4(1, 0x2001, &[], &message)).is_none());
    assert!(quote_in(&v4(1, 0x2000, &[], &message)).is_some());
}

#[test]
fn ip_10_an_error_of_one_version_is_not_about_the_other() {
    assert!(quote_in(&quoting(false, 3, &v6(17, &UDP_HI))).is_none());
    assert!(quote_in(&quoting(true, 1, &udp_v4())).is_none());
}

#[test]
fn ip_56_two_tunnels_are_told_apart_by_what_is_quoted() {
    let to_udp = quoting(false, 3, &v4(17, 0, &[], &UDP_HI));
    let to_tcp = quoting(false, 3, &v4(6, 0, &[], &UDP_HI));
    let of = |packet| {
        let quote = quote_in(packet).unwrap();
        (
            quote.header.source,
            quote.header.destination,
            quote.header.protocol,
        )
    };
    let (source, destination) = (address("192.0.2.11"), address("198.51.100.2"));
    assert_eq!(of(&to_udp), (source, destination, 17));
    assert_eq!(of(&to_tcp), (source, destination, 6));
}

#[test]
fn ip_56_a_quote_may_be_cut_behind_its_headers() {
    let chained = v6(
        0,
        &[&extension(60)[..], &extension(17), &[0; 1400]].concat(),
    );
    for (v6_packet, kind, quoted) in [
        (false, 11, v4(17, 0x4000, &[], &[7; 1400])),
        (false, 3, v4(17, 0x4000, &[1; 12], &[7; 1400])),
        (true, 2, v6(17, &[7; 1400])),
        (true, 3, chained),
    ] {
        let full = parse(&quoted).unwrap();
        for len in 0..full.payload + 12 {
            let packet = quoting(v6_packet, kind, &quoted[..len]);
            let found = quote_in(&packet);
            assert_eq!(found.is_some(), len >= full.payload, "{len} bytes");
            if let Some(found) = found {
                assert_eq!(found.header, full);
                assert_eq!(found.bytes, &quoted[..len]);
                assert_eq!(found.ports().is_some(), len >= full.payload + 4);
            }
        }
    }
}

#[test]
fn ip_56_what_follows_the_quote_is_not_part_of_it() {
    let padded = [
        &udp_v4()[..],
        &[0; 98],
        &[0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4],
    ]
    .concat();
    let packet = quoting(false, 11, &padded);
    let found = quote_in(&packet).unwrap();
    assert_eq!(found.bytes, udp_v4());
    // No chain goes on in it.
    let padded = [&v6(60, &extension(60))[..], &extension(17), &UDP_HI].concat();
    assert!(quote_in(&quoting(true, 3, &padded)).is_none());
    // Nor is what follows the error.
    let mut longer = quoting(false, 11, &udp_v4()[..20]);
    longer.extend(&udp_v4()[20..]);
    let found = quote_in(&longer).unwrap();
    assert_eq!(found.bytes, &udp_v4()[..20]);
    assert_eq!(found.ports(), None);
}

#[test]
fn ip_56_a_quoted_fragment_is_known_as_one() {
    let rest = [&fragment(17, 185, true)[..], &UDP_HI].concat();
    let packet = quoting(true, 2, &v6(44, &rest));
    let found = quote_in(&packet).unwrap();
    assert_eq!(found.header.fragment, Fragment::Later);
    assert_eq!(found.ports(), None);

    let opaque = [&fragment(60, 185, true)[..], &UDP_HI].concat();
    let packet = quoting(true, 2, &v6(44, &opaque));
    assert!(quote_in(&packet).unwrap().header.is_opaque());
}

#[test]
fn ip_56_a_quote_that_is_no_packet_of_ours_is_none() {
    let with = |at: usize, byte| {
        let mut packet = udp_v4();
        packet[at] = byte;
        packet
    };
    for quoted in [
        vec![],
        vec![0; 40],
        vec![0xff; 40],
        with(0, 0x44),
        with(0, 0x4f),
        with(0, 0x55),
        with(3, 19),
        v4(17, 0, &hex("83 04 04 00"), &UDP_HI),
    ] {
        assert!(
            quote_in(&quoting(false, 3, &quoted)).is_none(),
            "{quoted:02x?}"
        );
    }
    for quoted in [
        v6(43, &[17, 0, 0, 0, 0, 0, 0, 0]),
        v6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(9)),
        v6(0, &[]),
        v6(60, &[17, 255]),
    ] {
        assert!(
            quote_in(&quoting(true, 1, &quoted)).is_none(),
            "{quoted:02x?}"
        );
    }
}

#[test]
fn ip_56_an_error_about_an_error_still_names_a_protocol() {
    // Nobody may send it; the quoted packet is ICMP, which is what a scope judges.
    let inner = quoting(false, 3, &udp_v4());
    let packet = quoting(false, 3, &inner);
    assert_eq!(quote_in(&packet).unwrap().header.protocol, 1);
}

#[test]
fn ip_55_our_own_errors_quote_the_packet() {
    for packet in [udp_v4(), v6(17, &UDP_HI), v6(6, &[9; 1400])] {
        let told = error_about(Problem::TooBig { mtu: 1308 }, &packet).unwrap();
        let found = quote_in(&told).unwrap();
        assert_eq!(found.header, parse(&packet).unwrap());
        assert_eq!(found.bytes, &packet[..packet.len().min(1232)]);
    }
}
