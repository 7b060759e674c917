use super::*;
use crate::packet::testing::*;
use crate::packet::{self, UDP};

/// UDP of a length, IP headers included, that no router may fragment.
fn of_len(v6_packet: bool, len: usize) -> Vec<u8> {
    let body = |header_len: usize| [&UDP_HI[..], &vec![0x5a; len - header_len - 10]].concat();
    if v6_packet {
        v6(UDP, &body(40))
    } else {
        v4(UDP, 0x4000, &[], &body(20))
    }
}

#[test]
fn ip_52_each_event_has_its_type_and_code() {
    let mtu = [0, 0, 0x05, 0x1c];
    let none = [0; 4];
    for (problem, of_v6, of_v4) in [
        (Problem::SourceNotAllowed, (1, 5, none), (3, 13, none)),
        (Problem::NoRoute, (1, 0, none), (3, 0, none)),
        (Problem::Prohibited, (1, 1, none), (3, 13, none)),
        (Problem::TooBig { mtu: 1308 }, (2, 0, mtu), (3, 4, mtu)),
        (Problem::HopLimit, (3, 0, none), (11, 0, none)),
    ] {
        for (packet, expected) in [(of_len(true, 100), of_v6), (of_len(false, 100), of_v4)] {
            let told = error_about(problem, &packet).unwrap();
            let (kind, code, word, quoted) = judged(&told);
            assert_eq!((kind, code, word), expected, "{problem:?}");
            assert_eq!(quoted, packet, "{problem:?}");
        }
    }
}

#[test]
fn ip_52_the_error_goes_from_the_given_source_to_the_sender() {
    for packet in [of_len(true, 100), of_len(false, 100)] {
        let about = parse(&packet).unwrap();
        let told = error_about(Problem::NoRoute, &packet).unwrap();
        let header = parse(&told).unwrap();
        assert_eq!(
            (header.source, header.destination),
            (proxy(&about), about.source)
        );
        assert_eq!((header.hop_limit, header.total_len), (64, told.len()));
        assert!(header.is_icmp());
    }
}

#[test]
fn ip_52_the_bytes_of_an_error() {
    let told = error_about(Problem::HopLimit, &udp_v4()).unwrap();
    let mut expected =
        hex("45 c0 00 3a 00 00 40 00 40 01 b5 f6 c0 00 02 01 c0 00 02 0b 0b 00 7a 23 00 00 00 00");
    expected.extend(udp_v4());
    assert_eq!(told, expected);
}

#[test]
fn ip_52_an_mtu_beyond_the_field_is_told_as_the_most_it_holds() {
    let too_big = Problem::TooBig { mtu: 0x1_2345 };
    let told = error_about(too_big, &of_len(false, 100)).unwrap();
    assert_eq!(judged(&told).2, [0, 0, 0xff, 0xff]);
    let told = error_about(too_big, &of_len(true, 100)).unwrap();
    assert_eq!(judged(&told).2, [0, 1, 0x23, 0x45]);
}

#[test]
fn ip_52_too_big_is_told_in_ipv4_only_if_df_is_set() {
    let mut packet = of_len(false, 1400);
    assert!(error_about(Problem::TooBig { mtu: 1308 }, &packet).is_some());
    packet[6] = 0;
    assert!(error_about(Problem::TooBig { mtu: 1308 }, &packet).is_none());
    assert!(error_about(Problem::NoRoute, &packet).is_some());
}

#[test]
fn ip_57_a_packet_too_big_for_the_tunnel_is_told_the_tunnels_mtu() {
    for v6_packet in [false, true] {
        let told = error_about(Problem::TooBig { mtu: 1308 }, &of_len(v6_packet, 1400)).unwrap();
        assert_eq!(judged(&told).2, 1308_u32.to_be_bytes());
    }
}

#[test]
fn ip_53_an_error_is_never_about_an_error() {
    let message = |kind: u8| {
        let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
        message.extend(udp_v4());
        message
    };
    for problem in PROBLEMS {
        for kind in 0..=255 {
            let told = error_about(problem, &v4(1, 0x4000, &[], &message(kind)));
            assert_eq!(told.is_none(), [3, 4, 5, 11, 12].contains(&kind), "{kind}");
            let told = error_about(problem, &v6(58, &message(kind)));
            assert_eq!(told.is_none(), kind < 128 || kind == 137, "{kind}");
            // Extension headers do not hide it.
            let behind = [&extension(58)[..], &message(kind)].concat();
            let told = error_about(problem, &v6(60, &behind));
            assert_eq!(told.is_none(), kind < 128 || kind == 137, "{kind}");
            // Nor does its first fragment.
            let first = [&fragment(58, 0, true)[..], &message(kind)].concat();
            let told = error_about(problem, &v6(44, &first));
            assert_eq!(told.is_none(), kind < 128 || kind == 137, "{kind}");
        }
        // What is no message may have been an error.
        assert!(error_about(problem, &v4(1, 0x4000, &[], &[])).is_none());
        assert!(error_about(problem, &v6(58, &[])).is_none());
        // One byte tells them apart.
        assert!(error_about(problem, &v6(58, &[128])).is_some());
        assert!(error_about(problem, &v6(58, &[1])).is_none());
        // What is behind the packet, does not.
        let mut longer = v6(58, &[]);
        longer.push(128);
        assert!(error_about(problem, &longer).is_none());
    }
}

#[test]
fn ip_53_no_error_about_groups_but_packet_too_big() {
    for problem in PROBLEMS {
        let too_big = matches!(problem, Problem::TooBig { .. });
        for group in ["224.0.0.1", "239.1.1.1", "255.255.255.255"] {
            let packet = readdressed(of_len(false, 1400), "192.0.2.11", group);
            assert!(error_about(problem, &packet).is_none(), "{group}");
        }
        for group in ["ff02::1", "ff0e::1"] {
            let packet = readdressed(of_len(true, 1400), "2001:db8::a", group);
            assert_eq!(error_about(problem, &packet).is_some(), too_big, "{group}");
        }
    }
}

#[test]
fn ip_53_no_error_to_what_is_no_single_host() {
    for problem in PROBLEMS {
        for source in [
            "0.0.0.0",
            "0.0.0.1",
            "127.0.0.1",
            "127.255.0.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            let packet = readdressed(of_len(false, 100), source, "198.51.100.2");
            assert!(error_about(problem, &packet).is_none(), "{source}");
        }
        for source in ["::", "::1", "ff02::1", "ff0e::1", "::ffff:127.0.0.1"] {
            let packet = readdressed(of_len(true, 100), source, "2001:db8::2");
            assert!(error_about(problem, &packet).is_none(), "{source}");
            // Not even where a group may be told.
            let packet = readdressed(of_len(true, 100), source, "ff0e::1");
            assert!(error_about(problem, &packet).is_none(), "{source}");
        }
    }
}

#[test]
fn ip_53_an_error_is_about_first_fragments_only() {
    for problem in PROBLEMS {
        for (word, is_first) in [(0x6000, true), (0x6001, false), (0x4001, false)] {
            let told = error_about(problem, &v4(17, word, &[], &UDP_HI));
            assert_eq!(told.is_some(), is_first, "{word:04x}");
        }
        for (offset, more_follow) in [(0, true), (0, false), (1, true), (9, false)] {
            let rest = [&fragment(17, offset, more_follow)[..], &UDP_HI].concat();
            assert_eq!(error_about(problem, &v6(44, &rest)).is_some(), offset == 0);
        }
    }
}

#[test]
fn ip_53_no_error_from_the_other_ip_version() {
    let (packet_v4, packet_v6) = (udp_v4(), v6(17, &UDP_HI));
    let (v4, v6) = (parse(&packet_v4).unwrap(), parse(&packet_v6).unwrap());
    assert!(error(Problem::NoRoute, &packet_v4, &v4, address(PROXY_V6)).is_none());
    assert!(error(Problem::NoRoute, &packet_v6, &v6, address(PROXY_V4)).is_none());
}

#[test]
fn ip_53_no_error_from_a_group() {
    // As a device gets it whose errors come from where the packet was to go.
    let too_big = Problem::TooBig { mtu: 1308 };
    let packet = readdressed(of_len(true, 1400), "2001:db8::a", "ff0e::1");
    let header = parse(&packet).unwrap();
    assert!(error(too_big, &packet, &header, header.destination).is_none());
    assert!(error(too_big, &packet, &header, address(PROXY_V6)).is_some());
}

#[test]
fn ip_54_as_much_is_quoted_as_fits() {
    for (v6_packet, headers, max_len) in [(false, 28, 576), (true, 48, 1280)] {
        let most = max_len - headers;
        for len in [60, most - 1, most, most + 1, 1400, 1500, 65_535] {
            let packet = of_len(v6_packet, len);
            let told = error_about(Problem::TooBig { mtu: 1308 }, &packet).unwrap();
            assert_eq!(told.len(), (headers + len).min(max_len));
            let (.., quoted) = judged(&told);
            assert_eq!(quoted, &packet[..len.min(most)]);
        }
    }
    assert_eq!(1280 - 48, 1232);
}

#[test]
fn ip_54_what_is_behind_the_packet_is_not_quoted() {
    for v6_packet in [false, true] {
        let packet = of_len(v6_packet, 100);
        let mut longer = packet.clone();
        longer.extend([0xee; 20]);
        let told = error_about(Problem::NoRoute, &longer).unwrap();
        assert_eq!(judged(&told).3, packet);
    }
}

#[test]
fn ip_54_a_pooled_buffer_shows_nothing_of_what_was_in_it() {
    let packet = of_len(true, 100);
    let clean = error_about(Problem::NoRoute, &packet).unwrap();
    drop(pasque::Packet::copy_from(&[0xa5; 2000]));
    assert_eq!(error_about(Problem::NoRoute, &packet).unwrap(), clean);
}

#[test]
fn ip_66_neighbour_discovery_is_known() {
    for kind in 0..=255 {
        let expected = (133..=137).contains(&kind);
        for packet in [
            v6(58, &[kind, 0, 0, 0, 0, 0, 0, 0]),
            v6(60, &[&extension(58)[..], &[kind]].concat()),
        ] {
            let header = parse(&packet).unwrap();
            assert_eq!(is_neighbour_discovery(&packet, &header), expected, "{kind}");
        }
        let other = v4(1, 0, &[], &[kind]);
        assert!(!is_neighbour_discovery(&other, &parse(&other).unwrap()));
        let other = v6(17, &[kind]);
        assert!(!is_neighbour_discovery(&other, &parse(&other).unwrap()));
    }
}

#[test]
fn ip_47_time_exceeded_is_the_answer_to_a_used_up_hop_limit() {
    for (mut packet, field, expected) in [(udp_v4(), 8, (11, 0)), (v6(17, &UDP_HI), 7, (3, 0))] {
        packet[field] = 1;
        let mut header = parse(&packet).unwrap();
        packet::lower_hop_limit(&mut packet, &mut header).unwrap_err();
        let told = error_about(Problem::HopLimit, &packet).unwrap();
        let (kind, code, _, quoted) = judged(&told);
        assert_eq!((kind, code), expected);
        assert_eq!(quoted, packet);
    }
}
