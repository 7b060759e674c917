//! The packets of the conformance list, and one or more per rule.

use super::super::*;
use crate::checksum::checksum;
use crate::packet::testing::*;

#[test]
fn ip_40_a_packet_is_read_from_its_version_to_its_last_byte() {
    assert_eq!(
        parse(&udp_v4()),
        Ok(Header {
            source: "192.0.2.11".parse().unwrap(),
            destination: "198.51.100.2".parse().unwrap(),
            hop_limit: 64,
            total_len: 30,
            protocol: 17,
            payload: 20,
            fragment: Fragment::Whole,
            dont_fragment: true,
        })
    );
    assert_eq!(
        parse(&v6(17, &UDP_HI)),
        Ok(Header {
            source: "2001:db8:1234::a".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
            hop_limit: 64,
            total_len: 50,
            protocol: 17,
            payload: 40,
            fragment: Fragment::Whole,
            dont_fragment: true,
        })
    );
}

#[test]
fn ip_40_bytes_behind_the_packet_are_not_part_of_it() {
    for packet in [udp_v4(), v6(17, &UDP_HI), v6(6, &UDP_HI[..2])] {
        let header = parse(&packet).unwrap();
        let mut longer = packet.clone();
        longer.extend([1, 2, 3, 4]);
        assert_eq!(parse(&longer), Ok(header));
        assert_eq!(header.total_len, packet.len());
        // Ports are read from the packet, and not from behind it.
        assert_eq!(header.ports(&longer), header.ports(&packet));
        assert_eq!(header.body(&longer), header.body(&packet));
    }
}

#[test]
fn ip_40_a_header_of_ipv6_without_payload_is_a_packet() {
    for next in [6, 17, 50, 58, 59, 255] {
        let header = parse(&v6(next, &[])).unwrap();
        assert_eq!(
            (header.protocol, header.payload, header.total_len),
            (next, 40, 40)
        );
        assert_eq!(header.ports(&v6(next, &[])), None);
    }
}

#[test]
fn ip_45_hop_by_hop_then_first_fragment_then_udp() {
    let rest = "2c 00 01 04 00 00 00 00 11 00 00 01 00 00 00 07 12 34 00 35 00 0a 00 00 68 69";
    let packet = v6(0, &hex(rest));
    let header = parse(&packet).unwrap();
    assert_eq!((header.protocol, header.payload), (17, 56));
    assert_eq!(header.fragment, Fragment::First);
    assert_eq!(header.ports(&packet), Some((4660, 53)));
}

#[test]
fn ip_45_tcp_does_not_hide_behind_destination_options() {
    let packet = v6(60, &hex("06 00 01 04 00 00 00 00 04 d2 00 50"));
    let header = parse(&packet).unwrap();
    assert_eq!((header.protocol, header.payload), (6, 48));
    assert_eq!(header.ports(&packet), Some((1234, 80)));
}

#[test]
fn ip_45_every_extension_header_is_walked_by_its_own_length() {
    for kind in [0, 43, 60, 135, 139, 140] {
        let mut rest = vec![17, 2, 1, 0];
        rest.extend([0; 20]);
        rest.extend(UDP_HI);
        assert!(is_extension(kind));
        let header = parse(&v6(kind, &rest)).unwrap();
        assert_eq!((header.protocol, header.payload), (17, 64), "{kind}");
    }
    // The authentication header counts words of 4 bytes, two fewer than it has.
    let mut rest = vec![17, 4];
    rest.extend([0; 22]);
    rest.extend(UDP_HI);
    let header = parse(&v6(51, &rest)).unwrap();
    assert_eq!((header.protocol, header.payload), (17, 64));
    // A fragment header has 8 bytes, whatever its second byte says.
    let mut atomic = fragment(17, 0, false);
    atomic[1] = 255;
    let header = parse(&v6(44, &[&atomic[..], &UDP_HI].concat())).unwrap();
    assert_eq!((header.protocol, header.payload), (17, 48));
    assert_eq!(header.fragment, Fragment::Whole);
}

#[test]
fn ip_45_everything_else_ends_the_walk() {
    for protocol in (0..=255).filter(|protocol| !is_extension(*protocol)) {
        let header = parse(&v6(60, &extension(protocol))).unwrap();
        assert_eq!((header.protocol, header.payload), (protocol, 48));
    }
    // In IPv4 there is no chain: what would be an extension header is the protocol.
    for protocol in 0..=255 {
        for word in [0, 0x2000, 0x2001] {
            let header = parse(&v4(protocol, word, &[], &extension(6))).unwrap();
            assert_eq!((header.protocol, header.payload), (protocol, 20));
            assert!(!header.is_opaque());
        }
    }
}

#[test]
fn ip_45_a_chain_is_eight_headers_long_at_most() {
    let chain = |len: usize| {
        let mut rest = [extension(60)].repeat(len - 1);
        rest.push(extension(6));
        parse(&v6(60, rest.as_flattened())).map(|header| (header.protocol, header.payload))
    };
    assert_eq!(chain(1), Ok((6, 48)));
    assert_eq!(chain(MAX_EXTENSIONS), Ok((6, 40 + 64)));
    assert_eq!(chain(MAX_EXTENSIONS + 1), Err(Malformed::ChainLen));
    assert_eq!(chain(1000), Err(Malformed::ChainLen));
}

#[test]
fn ip_45_later_fragments_keep_to_the_documented_rule() {
    let data = [0xff; 16];
    let later = |next| [&fragment(next, 185, true)[..], &data].concat();

    let packet = v6(44, &later(17));
    let header = parse(&packet).unwrap();
    assert_eq!((header.protocol, header.payload), (17, 48));
    assert_eq!(header.fragment, Fragment::Later);
    assert_eq!(header.ports(&packet), None);
    assert!(!header.is_opaque());

    // Nothing in its data is taken for a header, which might say what a sender likes to be.
    for next in [43, 44, 51, 60, 135, 139, 140] {
        let header = parse(&v6(44, &later(next))).unwrap();
        assert_eq!((header.protocol, header.payload), (next, 48));
        assert!(header.is_opaque(), "{next}");
    }
    // The last fragment is a later one, too.
    let last = [&fragment(6, 1, false)[..], &data].concat();
    assert_eq!(parse(&v6(44, &last)).unwrap().fragment, Fragment::Later);
    // The first one must have the whole chain (RFC 7112).
    let first = [&fragment(60, 0, true)[..], &extension(6)[..4]].concat();
    assert_eq!(parse(&v6(44, &first)), Err(Malformed::Chain));
}

#[test]
fn ip_45_fragments_of_ipv4_are_told_apart() {
    for (word, fragment, dont_fragment) in [
        (0x0000, Fragment::Whole, false),
        (0x4000, Fragment::Whole, true),
        (0x8000, Fragment::Whole, false),
        (0x2000, Fragment::First, false),
        (0x2001, Fragment::Later, false),
        (0x0001, Fragment::Later, false),
        (0x1000, Fragment::Later, false),
        (0x1fff, Fragment::Later, false),
        (0x6000, Fragment::First, true),
    ] {
        let packet = v4(17, word, &[], &UDP_HI);
        let header = parse(&packet).unwrap();
        assert_eq!(
            (header.fragment, header.dont_fragment),
            (fragment, dont_fragment),
            "{word:04x}"
        );
        assert_eq!(header.ports(&packet).is_none(), fragment == Fragment::Later);
    }
}

#[test]
fn ip_45_ports_are_those_of_protocols_that_have_them() {
    for protocol in 0..=255 {
        let packet = v4(protocol, 0, &[], &UDP_HI);
        let ports = parse(&packet).unwrap().ports(&packet);
        let has_ports = [6, 17, 33, 132, 136].contains(&protocol);
        assert_eq!(ports, has_ports.then_some((4660, 53)), "{protocol}");
        // Nor are there ports where the packet ends between them.
        let short = v4(protocol, 0, &[], &UDP_HI[..3]);
        assert_eq!(parse(&short).unwrap().ports(&short), None);
    }
}

#[test]
fn ip_45_icmp_is_that_of_the_packets_version() {
    assert!(parse(&v4(1, 0, &[], &[8; 8])).unwrap().is_icmp());
    assert!(!parse(&v4(58, 0, &[], &[8; 8])).unwrap().is_icmp());
    assert!(parse(&v6(58, &[128; 8])).unwrap().is_icmp());
    assert!(!parse(&v6(1, &[128; 8])).unwrap().is_icmp());
}

#[test]
fn ip_46_the_hop_limit_falls_by_one() {
    let mut packet = v6(17, &UDP_HI);
    let mut header = parse(&packet).unwrap();
    assert_eq!(lower_hop_limit(&mut packet, &mut header), Ok(()));
    assert_eq!(header.hop_limit, 63);
    let mut expected = v6(17, &UDP_HI);
    expected[7] = 63;
    assert_eq!(packet, expected);
}

#[test]
fn ip_47_a_hop_limit_that_is_used_up_is_not_lowered() {
    for hop_limit in [0, 1] {
        let (mut packet_v4, mut packet_v6) = (udp_v4(), v6(17, &UDP_HI));
        packet_v4[8] = hop_limit;
        packet_v6[7] = hop_limit;
        for packet in [&mut packet_v4, &mut packet_v6] {
            let before = packet.clone();
            let mut header = parse(packet).unwrap();
            assert_eq!(lower_hop_limit(packet, &mut header), Err(HopLimitReached));
            assert_eq!((&*packet, header.hop_limit), (&before, hop_limit));
        }
    }
    let mut packet = v6(17, &UDP_HI);
    packet[7] = 2;
    let mut header = parse(&packet).unwrap();
    assert_eq!(lower_hop_limit(&mut packet, &mut header), Ok(()));
    assert_eq!((packet[7], header.hop_limit), (1, 1));
}

#[test]
fn ip_48_the_header_checksum_is_right_after_a_hop() {
    let mut packet = udp_v4();
    let mut header = parse(&packet).unwrap();
    lower_hop_limit(&mut packet, &mut header).unwrap();
    assert_eq!(packet[8..12], hex("3f 11 4f 8d"));
    assert_eq!(checksum(&packet[..20]), 0);
    assert_eq!(packet[12..], udp_v4()[12..]);
    assert_eq!(parse(&packet), Ok(header));
}

#[test]
fn ip_48_the_header_checksum_covers_options() {
    let mut packet = udp_v4_with_option();
    let mut header = parse(&packet).unwrap();
    assert_eq!(
        (header.payload, header.ports(&packet)),
        (24, Some((4660, 53)))
    );
    lower_hop_limit(&mut packet, &mut header).unwrap();
    assert_eq!(packet[8..12], hex("3f 11 ba 84"));
    assert_eq!(checksum(&packet[..24]), 0);
}

#[test]
fn ip_48_a_wrong_header_checksum_stays_wrong() {
    let mut packet = udp_v4();
    packet[10] ^= 0x10;
    let mut header = parse(&packet).unwrap();
    lower_hop_limit(&mut packet, &mut header).unwrap();
    assert_ne!(checksum(&packet[..20]), 0);
}

#[test]
fn ip_48_a_header_of_another_packet_does_no_harm() {
    let (header_v4, header_v6) = (parse(&udp_v4()).unwrap(), parse(&v6(59, &[])).unwrap());
    for len in 0..12 {
        for mut header in [header_v4, header_v6] {
            assert_eq!(lower_hop_limit(&mut vec![0x45; len], &mut header), Ok(()));
            assert_eq!(header.ports(&vec![0x45; len]), None);
        }
    }
}

#[test]
fn ip_62_a_packet_that_may_be_fragmented_is_known() {
    let mut packet = udp_v4();
    assert!(parse(&packet).unwrap().dont_fragment);
    packet[6] = 0;
    assert!(!parse(&packet).unwrap().dont_fragment);
    assert!(parse(&v6(17, &UDP_HI)).unwrap().dont_fragment);
}

#[test]
fn ip_63_congestion_marks_and_service_are_left_alone() {
    for service in [0x00_u8, 0x01, 0x02, 0x03, 46 << 2, 0xff] {
        let mut packet = udp_v4();
        packet[1] = service;
        let mut header = parse(&packet).unwrap();
        lower_hop_limit(&mut packet, &mut header).unwrap();
        assert_eq!(packet[1], service);

        let mut packet = v6(17, &UDP_HI);
        packet[..2].copy_from_slice(&[0x60 | service >> 4, service << 4]);
        let mut header = parse(&packet).unwrap();
        lower_hop_limit(&mut packet, &mut header).unwrap();
        assert_eq!(packet[..2], [0x60 | service >> 4, service << 4]);
    }
}

#[test]
fn ip_70_routing_header_type_0_is_refused_wherever_it_stands() {
    let routing = |kind, segments_left| [17, 0, kind, segments_left, 0, 0, 0, 0];
    for segments_left in [0, 1, 255] {
        let type_0 = routing(0, segments_left);
        assert_eq!(
            parse(&v6(43, &[&type_0[..], &UDP_HI].concat())),
            Err(Malformed::RoutingType0)
        );
        for before in [extension(43), fragment(43, 0, true), fragment(43, 0, false)] {
            let kind = if before[2] == 1 { 60 } else { 44 };
            let rest = [&before[..], &type_0, &UDP_HI].concat();
            assert_eq!(parse(&v6(kind, &rest)), Err(Malformed::RoutingType0));
        }
    }
    for kind in 1..=255 {
        let rest = [&routing(kind, 1)[..], &UDP_HI].concat();
        assert_eq!(parse(&v6(43, &rest)).unwrap().protocol, 17);
    }
}
