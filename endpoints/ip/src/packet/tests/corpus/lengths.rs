use super::*;

#[test]
fn ip_40_lengths_and_versions() {
    use Malformed::*;
    let v4_ok = Ok((17, 20, 30));
    let v6_ok = Ok((17, 40, 50));
    let udp_v6 = || v6(17, &UDP_HI);
    let mut versions: Vec<_> = (0..16)
        .filter(|version| ![4, 6].contains(version))
        .map(|version: u8| {
            (
                "another version",
                with(udp_v4(), 0, &[version << 4 | 5]),
                Err(Version),
            )
        })
        .collect();
    let mut cases = vec![
        ("no bytes", vec![], Err(Empty)),
        ("one zero", vec![0], Err(Version)),
        ("one byte of IPv4", vec![0x45], Err(Truncated)),
        ("one byte of IPv6", vec![0x60], Err(Truncated)),
        ("zeros", vec![0; 64], Err(Version)),
        ("ones", vec![0xff; 64], Err(Version)),
        (
            "text",
            b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
            Err(Truncated),
        ),
        (
            "an ethernet frame",
            hex("ff ff ff ff ff ff 02 00 00 00 00 01 08 00 45 00"),
            Err(Version),
        ),
        // IPv4
        ("UDP", udp_v4(), v4_ok),
        ("with an option", udp_v4_with_option(), Ok((17, 24, 34))),
        (
            "with all options there can be",
            v4(17, 0, &[1; 40], &UDP_HI),
            Ok((17, 60, 70)),
        ),
        (
            "nothing but a header",
            v4(17, 0, &[], &[]),
            Ok((17, 20, 20)),
        ),
        (
            "nothing but a header with options",
            v4(17, 0, &[1; 40], &[]),
            Ok((17, 60, 60)),
        ),
        (
            "a long packet",
            v4(6, 0, &[], &[0; 65_515]),
            Ok((6, 20, 65_535)),
        ),
        ("trailing bytes", longer(udp_v4(), 7), v4_ok),
        ("one trailing byte", longer(udp_v4(), 1), v4_ok),
        ("half of the header", cut(udp_v4(), 10), Err(Truncated)),
        (
            "one byte of the header missing",
            cut(udp_v4(), 19),
            Err(Truncated),
        ),
        ("the payload missing", cut(udp_v4(), 20), Err(Truncated)),
        ("one byte missing", cut(udp_v4(), 29), Err(Truncated)),
        (
            "options missing",
            cut(v4(17, 0, &[1; 8], &[]), 24),
            Err(Truncated),
        ),
        ("IHL 0", with(udp_v4(), 0, &[0x40]), Err(HeaderLen)),
        ("IHL 1", with(udp_v4(), 0, &[0x41]), Err(HeaderLen)),
        ("IHL 4", with(udp_v4(), 0, &[0x44]), Err(HeaderLen)),
        (
            "IHL 4 and the length that fits",
            with(udp_v4(), 0, &[0x44, 0, 0, 16]),
            Err(HeaderLen),
        ),
        (
            "IHL 15 in 30 bytes",
            with(udp_v4(), 0, &[0x4f]),
            Err(TotalLen),
        ),
        (
            "IHL 15, 60 claimed, 30 there",
            with(udp_v4(), 0, &[0x4f, 0, 0, 60]),
            Err(Truncated),
        ),
        (
            "IHL 8 with a total length of 31",
            with(v4(17, 0, &[1; 12], &[]), 2, &[0, 31]),
            Err(TotalLen),
        ),
        (
            "IHL 8 with a total length of 32",
            with(v4(17, 0, &[1; 12], &[]), 2, &[0, 32]),
            Ok((17, 32, 32)),
        ),
        ("total length 0", with(udp_v4(), 2, &[0, 0]), Err(TotalLen)),
        ("total length 1", with(udp_v4(), 2, &[0, 1]), Err(TotalLen)),
        (
            "total length 19",
            with(udp_v4(), 2, &[0, 19]),
            Err(TotalLen),
        ),
        (
            "total length 20",
            with(udp_v4(), 2, &[0, 20]),
            Ok((17, 20, 20)),
        ),
        (
            "total length 29",
            with(udp_v4(), 2, &[0, 29]),
            Ok((17, 20, 29)),
        ),
        (
            "total length 31",
            with(udp_v4(), 2, &[0, 31]),
            Err(Truncated),
        ),
        (
            "total length 65535",
            with(udp_v4(), 2, &[0xff, 0xff]),
            Err(Truncated),
        ),
        (
            "total length in the wrong byte order",
            with(udp_v4(), 2, &[30, 0]),
            Err(Truncated),
        ),
        (
            "a wrong header checksum, for the receiver",
            with(udp_v4(), 10, &[0, 0]),
            v4_ok,
        ),
        ("the reserved flag", with(udp_v4(), 6, &[0xc0, 0]), v4_ok),
        (
            "IPv6 that says it is IPv4",
            with(udp_v6(), 0, &[0x45, 0, 0, 50]),
            Ok((1, 20, 50)),
        ),
        // IPv6
        ("UDP", udp_v6(), v6_ok),
        ("a header and nothing", v6(59, &[]), Ok((59, 40, 40))),
        ("a header and nothing of UDP", v6(17, &[]), Ok((17, 40, 40))),
        ("one byte of UDP", v6(17, &[0]), Ok((17, 40, 41))),
        (
            "bytes behind no next header",
            v6(59, &[1, 2, 3]),
            Ok((59, 40, 43)),
        ),
        ("a long packet", v6(6, &[0; 65_535]), Ok((6, 40, 65_575))),
        ("trailing bytes", longer(udp_v6(), 9), v6_ok),
        (
            "trailing bytes behind a bare header",
            longer(v6(59, &[]), 14),
            Ok((59, 40, 40)),
        ),
        (
            "trailing bytes that TCP could be in",
            longer(v6(6, &[]), 20),
            Ok((6, 40, 40)),
        ),
        ("20 bytes of header", cut(udp_v6(), 20), Err(Truncated)),
        ("39 bytes of header", cut(v6(59, &[]), 39), Err(Truncated)),
        ("the payload missing", cut(udp_v6(), 40), Err(Truncated)),
        ("one byte missing", cut(udp_v6(), 49), Err(Truncated)),
        (
            "payload length 0",
            with(udp_v6(), 4, &[0, 0]),
            Ok((17, 40, 40)),
        ),
        (
            "payload length 9",
            with(udp_v6(), 4, &[0, 9]),
            Ok((17, 40, 49)),
        ),
        (
            "payload length 11",
            with(udp_v6(), 4, &[0, 11]),
            Err(Truncated),
        ),
        (
            "payload length 50, as IPv4 counts",
            with(udp_v6(), 4, &[0, 50]),
            Err(Truncated),
        ),
        (
            "payload length 65535",
            with(udp_v6(), 4, &[0xff, 0xff]),
            Err(Truncated),
        ),
        (
            "traffic class and flow label",
            with(udp_v6(), 0, &[0x6f, 0xff, 0xff, 0xff]),
            v6_ok,
        ),
        (
            "hop limit 0, to be passed to no one",
            with(udp_v6(), 7, &[0]),
            v6_ok,
        ),
        (
            "IPv4 that says it is IPv6",
            with(udp_v4(), 0, &[0x65]),
            Err(Truncated),
        ),
        (
            "IPv4 that says it is IPv6, with room",
            with(longer(udp_v4(), 26), 0, &[0x65]),
            Ok((64, 40, 41)),
        ),
    ];
    cases.append(&mut versions);
    assert!(cases.len() >= 70, "{}", cases.len());
    check(&cases);
}

/// Packets cut at every length, with the length field as it was and as it should be.
#[test]
fn ip_40_good_packets_cut_anywhere_are_refused_or_shorter() {
    let option = v4(17, 0, &hex("94 04 00 00"), &UDP_HI);
    let chained = chain(&[0, 60, 43, 44, 51, 60]);
    for packet in [udp_v4(), option, v6(17, &UDP_HI), chained] {
        let header = parse(&packet).unwrap();
        for len in 0..packet.len() {
            let short = cut(packet.clone(), len);
            let error = parse(&short).unwrap_err();
            assert_eq!(
                error,
                if len == 0 {
                    Malformed::Empty
                } else {
                    Malformed::Truncated
                }
            );

            let quoted = parse_quoted(&short);
            assert_eq!(quoted.is_ok(), len >= header.payload, "{len} bytes quoted");
            if let Ok(quoted) = quoted {
                assert_eq!(quoted, header);
            }
        }
        // A packet that says how short it is, is one where the cut is behind the headers.
        for len in 0..packet.len() {
            let honest = match header.is_v6() {
                true if len >= 40 => cut_to(packet.clone(), len),
                false if len >= 20 => {
                    with(cut(packet.clone(), len), 2, &(len as u16).to_be_bytes())
                }
                _ => continue,
            };
            assert_eq!(parse(&honest).is_ok(), len >= header.payload, "{len} bytes");
        }
    }
}
