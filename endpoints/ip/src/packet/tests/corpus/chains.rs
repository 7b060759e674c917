use super::*;

/// An IPv6 packet with these bytes behind the fixed header, and then UDP.
fn before_udp(kind: u8, bytes: &str) -> Vec<u8> {
    v6(kind, &[&hex(bytes)[..], &UDP_HI].concat())
}

#[test]
fn ip_45_chains_of_ipv6() {
    use Malformed::*;
    // `chain` makes links of 8 bytes.
    let ok = |links: usize| Ok((17, 40 + 8 * links, 50 + 8 * links));
    check(&[
        ("no extension", chain(&[]), ok(0)),
        ("hop-by-hop", chain(&[0]), ok(1)),
        ("routing", chain(&[43]), ok(1)),
        ("atomic fragment", chain(&[44]), ok(1)),
        ("authentication", chain(&[51]), ok(1)),
        ("destination options", chain(&[60]), ok(1)),
        ("mobility", chain(&[135]), ok(1)),
        ("host identity", chain(&[139]), ok(1)),
        ("shim6", chain(&[140]), ok(1)),
        (
            "the order of RFC 8200",
            chain(&[0, 60, 43, 44, 51, 60]),
            ok(6),
        ),
        ("any other order", chain(&[51, 44, 60, 43]), ok(4)),
        ("the same twice", chain(&[60, 60]), ok(2)),
        ("two fragment headers", chain(&[44, 44]), ok(2)),
        ("eight", chain(&[0, 60, 60, 60, 60, 60, 60, 60]), ok(8)),
        (
            "nine",
            chain(&[0, 60, 60, 60, 60, 60, 60, 60, 60]),
            Err(ChainLen),
        ),
        (
            "nine kinds",
            chain(&[0, 43, 44, 51, 60, 135, 139, 140, 60]),
            Err(ChainLen),
        ),
        ("a hundred", chain(&[60; 100]), Err(ChainLen)),
        (
            "eight and then it breaks",
            cut_to(chain(&[60; 9]), 40 + 68),
            Err(ChainLen),
        ),
        ("hop-by-hop second", chain(&[60, 0]), Err(Chain)),
        ("hop-by-hop twice", chain(&[0, 0]), Err(Chain)),
        (
            "hop-by-hop behind a fragment header",
            chain(&[44, 0]),
            Err(Chain),
        ),
    ]);
    check(&[
        (
            "routing type 0",
            before_udp(43, "11 00 00 00 00 00 00 00"),
            Err(RoutingType0),
        ),
        (
            "routing type 0, segments left",
            before_udp(43, "11 00 00 01 00 00 00 00"),
            Err(RoutingType0),
        ),
        (
            "routing type 0 with an address",
            before_udp(
                43,
                "11 02 00 01 00 00 00 00 20 01 0d b8 00 00 00 00 00 00 00 00 00 00 00 01",
            ),
            Err(RoutingType0),
        ),
        (
            "routing type 0 behind options",
            before_udp(60, "2b 00 01 04 00 00 00 00 11 00 00 00 00 00 00 00"),
            Err(RoutingType0),
        ),
        (
            "routing type 2",
            before_udp(43, "11 00 02 01 00 00 00 00"),
            ok(1),
        ),
        (
            "segment routing",
            before_udp(43, "11 00 04 01 00 00 00 00"),
            ok(1),
        ),
        (
            "routing type 0 that is too long",
            before_udp(43, "11 09 00 00 00 00 00 00"),
            Err(Chain),
        ),
    ]);
    check(&[
        ("no byte of the extension", v6(60, &[]), Err(Chain)),
        ("one byte of it", v6(60, &[17]), Err(Chain)),
        ("seven bytes of it", v6(60, &extension(17)[..7]), Err(Chain)),
        ("all of it", v6(60, &extension(17)), Ok((17, 48, 48))),
        (
            "seven bytes of a fragment header",
            v6(44, &fragment(17, 0, true)[..7]),
            Err(Chain),
        ),
        (
            "seven bytes of authentication",
            v6(51, &[17, 0, 0, 0, 0, 0, 0]),
            Err(Chain),
        ),
        (
            "a length of all there is",
            before_udp(60, "11 01 01 04 00 00 00 00 00 00 00 00 00 00 00 00"),
            Ok((17, 56, 66)),
        ),
        (
            "a length to the packet's end",
            v6(60, &[17, 2].repeat(12)),
            Ok((17, 64, 64)),
        ),
        ("one unit beyond", v6(60, &[17, 3].repeat(12)), Err(Chain)),
        (
            "length 255",
            before_udp(60, "11 ff 01 04 00 00 00 00"),
            Err(Chain),
        ),
        (
            "authentication one word beyond",
            v6(51, &[17, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(Chain),
        ),
        (
            "authentication of 12 bytes",
            v6(51, &[17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Ok((17, 52, 52)),
        ),
        (
            "the second extension missing",
            v6(60, &extension(60)),
            Err(Chain),
        ),
        (
            "the chain goes on behind the packet",
            longer(v6(60, &extension(60)), 8),
            Err(Chain),
        ),
        (
            "no next header behind options",
            v6(60, &extension(59)),
            Ok((59, 48, 48)),
        ),
        (
            "ESP in front of more",
            v6(50, &extension(60)),
            Ok((50, 40, 48)),
        ),
        (
            "ESP behind options",
            v6(60, &[extension(50), extension(60)].concat()),
            Ok((50, 48, 56)),
        ),
        ("IPv6 in IPv6", v6(41, &v6(17, &UDP_HI)), Ok((41, 40, 90))),
        (
            "an experiment, which is no extension",
            v6(253, &extension(17)),
            Ok((253, 40, 48)),
        ),
    ]);
    check(&[
        (
            "a jumbogram",
            with(v6(0, &hex("11 00 c2 04 00 01 00 00")), 4, &[0, 0]),
            Err(Jumbogram),
        ),
        ("what could be one", v6(0, &[]), Err(Jumbogram)),
        (
            "hop-by-hop with a length",
            v6(0, &hex("11 00 c2 04 00 01 00 00")),
            Ok((17, 48, 48)),
        ),
        (
            "no payload, and no hop-by-hop either",
            with(chain(&[60]), 4, &[0, 0]),
            Err(Chain),
        ),
    ]);
    check(&[
        (
            "a first fragment",
            v6(44, &[&fragment(17, 0, true)[..], &UDP_HI].concat()),
            ok(1),
        ),
        (
            "a later one",
            v6(44, &[&fragment(17, 1, true)[..], &UDP_HI].concat()),
            ok(1),
        ),
        (
            "the last one",
            v6(44, &fragment(17, 0x1fff, false)),
            Ok((17, 48, 48)),
        ),
        (
            "a first one without its upper layer",
            v6(44, &fragment(17, 0, true)),
            Ok((17, 48, 48)),
        ),
        (
            "a first one without its chain",
            v6(44, &fragment(60, 0, true)),
            Err(Chain),
        ),
        (
            "a first one with half of its chain",
            v6(44, &[fragment(60, 0, true), extension(60)].concat()),
            Err(Chain),
        ),
        (
            "a later one of destination options",
            v6(44, &fragment(60, 1, true)),
            Ok((60, 48, 48)),
        ),
        (
            "a later one in a first one",
            v6(44, &[fragment(44, 0, true), fragment(6, 9, true)].concat()),
            Ok((6, 56, 56)),
        ),
        (
            "in the middle of a chain",
            v6(
                60,
                &[extension(44), fragment(60, 0, true), extension(17)].concat(),
            ),
            Ok((17, 64, 64)),
        ),
        (
            "a later one whose data looks like options",
            v6(44, &[fragment(60, 5, true), extension(6)].concat()),
            Ok((60, 48, 56)),
        ),
    ]);
}
