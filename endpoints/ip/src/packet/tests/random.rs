//! Any bytes at all, and packets with a few bytes changed: against the rules, and against etherparse.

use etherparse::{IpSlice, Ipv4Header, Ipv6FragmentHeader};
use proptest::prelude::*;

use super::super::*;
use crate::checksum::checksum;
use crate::packet::testing::*;

/// Whatever was parsed, this holds.
fn check(bytes: &[u8], header: &Header) {
    let fixed_len = if header.is_v6() {
        HEADER_V6_LEN
    } else {
        HEADER_V4_LEN
    };
    assert!(fixed_len <= header.payload);
    assert!(header.payload <= header.total_len);
    assert!(header.total_len <= bytes.len());
    assert_eq!(header.is_v6(), header.destination.is_ipv6());
    assert_eq!(header.body(bytes).len(), header.total_len - header.payload);

    let packet = &bytes[..header.total_len];
    assert_eq!(parse(packet), Ok(*header));
    assert_eq!(parse_quoted(bytes), Ok(*header));
    assert_eq!(header.ports(bytes), header.ports(packet));
    assert!(parse(&packet[..packet.len() - 1]).is_err());
    // Of a quote, only the headers need be there.
    assert_eq!(parse_quoted(&packet[..header.payload]), Ok(*header));
    if header.is_v6() && header.fragment != Fragment::Later {
        assert!(!is_extension(header.protocol));
    }
    check_hop(packet.to_vec(), *header);
}

fn check_hop(mut packet: Vec<u8>, mut header: Header) {
    let before = packet.clone();
    let was_right = header.is_v6() || checksum(&packet[..header.payload]) == 0;
    let (field, checksum_field) = if header.is_v6() {
        (7, 7..8)
    } else {
        (8, 10..12)
    };
    match lower_hop_limit(&mut packet, &mut header) {
        Err(HopLimitReached) => assert!(before[field] <= 1 && packet == before),
        Ok(()) => {
            assert_eq!(packet[field], before[field] - 1);
            assert_eq!(parse(&packet), Ok(header));
            assert_eq!(
                header.is_v6() || checksum(&packet[..header.payload]) == 0,
                was_right
            );
            packet[field] = before[field];
            packet[checksum_field.clone()].copy_from_slice(&before[checksum_field]);
            assert_eq!(packet, before);
        }
    }
}

/// Compares with etherparse, where both say something. It takes more than we do: routing type 0, chains of
/// any length, and options of any content. It also reads on in later fragments, takes an authentication
/// header in IPv4 for an extension header and the rest of the buffer for a packet that claims to be empty.
/// It stops at extension headers that it does not know, and refuses one that we leave to the receiver: an
/// authentication header without content.
fn compare(bytes: &[u8]) {
    match (IpSlice::from_slice(bytes), parse(bytes)) {
        (Ok(theirs), Ok(ours)) => {
            assert_eq!(ours.source, theirs.source_addr());
            assert_eq!(ours.destination, theirs.destination_addr());
            let reads_on = ours.is_opaque() || (!ours.is_v6() && ours.protocol == 51);
            let unbounded = ours.is_v6() && ours.total_len == HEADER_V6_LEN;
            let unknown = matches!(theirs.payload_ip_number().0, 135 | 139 | 140);
            if reads_on || unbounded || unknown {
                return;
            }
            assert_eq!(ours.protocol, theirs.payload_ip_number().0);
            assert_eq!(
                ours.fragment != Fragment::Whole,
                theirs.is_fragmenting_payload()
            );
            assert_eq!(ours.body(bytes), theirs.payload().payload);
        }
        (Ok(theirs), Err(error)) => match error {
            Malformed::RoutingType0 | Malformed::ChainLen => assert!(theirs.ipv6().is_some()),
            Malformed::SourceRoute | Malformed::Options => assert!(bytes[0] & 0x0f > 5),
            Malformed::Jumbogram => assert_eq!(bytes[4..7], [0, 0, 0]),
            // An empty packet whose buffer goes on, or a chain behind a header that it does not know.
            Malformed::Chain => {
                let unknown = matches!(theirs.payload_ip_number().0, 135 | 139 | 140);
                assert!(unknown || bytes[4..6] == [0, 0], "{error}");
            }
            _ => panic!("only we say: {error}"),
        },
        (Err(error), Ok(ours)) => {
            let is_auth = |kind: u8| kind == 51;
            let has_auth = if ours.is_v6() {
                is_auth(bytes[6]) || bytes[HEADER_V6_LEN..ours.payload].contains(&51)
            } else {
                is_auth(ours.protocol)
            };
            // It also looks for headers in what follows a fragment header.
            assert!(has_auth || ours.is_opaque(), "{error}");
        }
        (Err(_), Err(_)) => {}
    }
}

/// Extension headers that follow one another as their numbers say, with a type of the first.
fn chain() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let kind = prop::sample::select(vec![0_u8, 43, 43, 44, 44, 51, 60, 60, 135, 139, 140]);
    let link = (kind, any::<[u8; 4]>(), 0..3_usize);
    let upper = prop::sample::select(vec![6_u8, 17, 58, 59, 50, 47, 1, 132, 0, 60]);
    (prop::collection::vec(link, 0..10), upper).prop_map(|(links, upper)| {
        let mut rest = Vec::new();
        for (position, (kind, bytes, extra)) in links.iter().enumerate() {
            let next = links.get(position + 1).map_or(upper, |(kind, ..)| *kind);
            let more = &bytes[..2];
            let (len_field, len) = match kind {
                44 => (0, 8),
                // 8 bytes are legal in a walk, and not for etherparse.
                51 => (1 + 2 * extra, 12 + 8 * extra),
                _ => (*extra, 8 + 8 * extra),
            };
            let mut link = vec![next, len_field as u8];
            link.extend(more);
            link.resize(len, bytes[2]);
            if *kind == 44 && bytes[3] < 128 {
                // Half of the fragments are first ones, or atomic.
                link[2..4].copy_from_slice(&[0, bytes[0] & 1]);
            }
            rest.extend(link);
        }
        (links.first().map_or(upper, |(kind, ..)| *kind), rest)
    })
}

/// Packets that are right, but for what a chain may have in it.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let body = || prop::collection::vec(any::<u8>(), 0..40);
    let options = prop::collection::vec(any::<[u8; 4]>(), 0..=10);
    let protocol = prop::sample::select(vec![1_u8, 6, 17, 50, 51, 58, 60, 132]);
    let with_v4 = (protocol, any::<u16>(), options, any::<bool>(), body()).prop_map(
        |(protocol, fragment, options, plain, body)| {
            let mut options = options.as_flattened().to_vec();
            if plain {
                options.fill(1);
            }
            v4(protocol, fragment, &options, &body)
        },
    );
    let with_v6 =
        (chain(), body()).prop_map(|((kind, chain), body)| v6(kind, &[chain, body].concat()));
    prop_oneof![1 => with_v4, 2 => with_v6]
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (
        packet(),
        changes,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(mut packet, changes, end, cut)| {
            for (at, byte) in changes {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            if cut {
                packet.truncate(end.index(packet.len() + 1));
            }
            packet
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn ip_41_any_bytes_are_parsed_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..120), version in 0..3_u8) {
        if let (Some(first), 1..) = (bytes.first_mut(), version) {
            *first = *first & 0x0f | if version == 1 { 0x40 } else { 0x60 };
        }
        if let Ok(header) = parse(&bytes) {
            check(&bytes, &header);
        }
        let _ = parse_quoted(&bytes);
    }

    #[test]
    fn ip_41_a_changed_packet_is_parsed_or_refused(bytes in mutated()) {
        match parse(&bytes) {
            Ok(header) => check(&bytes, &header),
            Err(Malformed::Empty) => prop_assert!(bytes.is_empty()),
            Err(_) => {}
        }
    }

    #[test]
    fn ip_45_etherparse_sees_the_same_protocol_and_lengths(bytes in packet(), behind in 0..3_usize) {
        let mut longer = bytes.clone();
        longer.resize(bytes.len() + behind, 0xaa);
        compare(&longer);
    }

    #[test]
    fn ip_45_etherparse_sees_the_same_in_changed_packets(bytes in mutated()) {
        compare(&bytes);
    }

    #[test]
    fn ip_48_every_header_with_options_is_right_after_a_hop(
        ttl in 2_u8..,
        identification: u16,
        addresses: [u8; 8],
        options in prop::collection::vec(any::<[u8; 2]>(), 0..=10),
    ) {
        // Options of type 0x90, unknown to everyone, with any content.
        let options: Vec<u8> = options.iter().flat_map(|[a, b]| [0x90, 4, *a, *b]).collect();
        let [a, b, c, d, e, f, g, h] = addresses;
        let mut written = Ipv4Header::new(4, ttl, 17.into(), [a, b, c, d], [e, f, g, h]).unwrap();
        written.identification = identification;
        written.options = options.as_slice().try_into().unwrap();
        written.set_payload_len(4).unwrap();
        written.header_checksum = written.calc_header_checksum();
        let mut packet = written.to_bytes().to_vec();
        packet.extend([0; 4]);

        let mut header = parse(&packet).unwrap();
        lower_hop_limit(&mut packet, &mut header).unwrap();
        let (read, _) = Ipv4Header::from_slice(&packet).unwrap();
        prop_assert_eq!(read.time_to_live, ttl - 1);
        prop_assert_eq!(read.header_checksum, read.calc_header_checksum());
    }
}

#[test]
fn ip_45_etherparse_reads_fragment_headers_alike() {
    for offset in [0, 1, 7, 8, 1480 / 8, 0x1fff] {
        for more_follow in [false, true] {
            let bytes = fragment(17, offset, more_follow);
            let (theirs, _) = Ipv6FragmentHeader::from_slice(&bytes).unwrap();
            let ours = parse(&v6(44, &bytes)).unwrap();
            assert_eq!(theirs.fragment_offset.value(), offset);
            assert_eq!(
                theirs.is_fragmenting_payload(),
                ours.fragment != Fragment::Whole
            );
            assert_eq!(ours.fragment == Fragment::Later, offset != 0);
        }
    }
}
