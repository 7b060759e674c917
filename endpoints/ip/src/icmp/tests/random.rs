//! Any packet, and any error about it.

use proptest::prelude::*;

use super::*;
use crate::packet::testing::*;
use crate::packet::{self, Fragment};

fn problem() -> impl Strategy<Value = Problem> {
    prop_oneof![
        prop::sample::select(PROBLEMS.to_vec()),
        any::<u32>().prop_map(|mtu| Problem::TooBig { mtu }),
    ]
}

/// Addresses that get no answer, among others that do.
fn host() -> impl Strategy<Value = [u8; 16]> {
    prop_oneof![
        3 => any::<[u8; 16]>().prop_map(|mut host| { host[0] = 0x20; host }),
        1 => any::<[u8; 16]>(),
        1 => Just([0xff; 16]),
        1 => Just([0; 16]),
    ]
}

/// A packet with a protocol, its body, and addresses; of IPv6 with an extension header or two.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..60),
        1 => prop::collection::vec(any::<u8>(), 500..2000),
    ];
    let shape = (
        any::<bool>(),
        prop::sample::select(vec![1_u8, 58, 58, 6, 17, 50]),
    );
    let fragment_word = prop_oneof![3 => Just(0x4000_u16), 1 => Just(0_u16), 2 => any::<u16>()];
    (shape, fragment_word, 0..3_usize, host(), host(), body).prop_map(
        |((v6_packet, protocol), word, extensions, source, destination, body)| {
            if !v6_packet {
                let mut packet = v4(protocol, word, &[1; 40][..extensions * 4], &body);
                packet[12..16].copy_from_slice(&source[..4]);
                packet[16..20].copy_from_slice(&destination[..4]);
                return packet;
            }
            let mut rest = Vec::new();
            for position in 0..extensions {
                let last = position + 1 == extensions;
                rest.extend(extension(if last { protocol } else { 60 }));
            }
            rest.extend(body);
            let mut packet = v6(if extensions == 0 { protocol } else { 60 }, &rest);
            packet[8..24].copy_from_slice(&source);
            packet[24..40].copy_from_slice(&destination);
            packet
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn ip_54_every_error_is_a_right_packet_that_quotes(problem in problem(), packet in packet()) {
        let about = parse(&packet).unwrap();
        let Some(told) = error_about(problem, &packet) else {
            return Ok(());
        };
        let (.., quoted) = judged(&told);
        let (headers, max_len) = if about.is_v6() { (48, 1280) } else { (28, 576) };
        prop_assert_eq!(told.len(), (headers + packet.len()).min(max_len));
        prop_assert_eq!(quoted, &packet[..quoted.len()]);

        let header = parse(&told).unwrap();
        prop_assert!(is_error(&told, &header));
        prop_assert_eq!(header.destination, about.source);
        prop_assert_eq!(quote(&told, &header).unwrap().header, about);

        // Nobody answers it, whatever happens to it.
        for problem in PROBLEMS {
            prop_assert_eq!(error_about(problem, &told), None);
        }
    }

    #[test]
    fn ip_53_who_is_told_nothing_has_a_reason(problem in problem(), packet in packet()) {
        let header = parse(&packet).unwrap();
        let too_big = matches!(problem, Problem::TooBig { .. });
        let kind = packet.get(header.payload);
        let silent = header.fragment == Fragment::Later
            || !packet::is_single_host(header.source)
            || (packet::is_group(header.destination) && !(too_big && header.is_v6()))
            || (too_big && !header.dont_fragment)
            || (header.is_icmp() && kind.is_none_or(|kind| match header.is_v6() {
                true => *kind < 128 || *kind == 137,
                false => [3, 4, 5, 11, 12].contains(kind),
            }));
        prop_assert_eq!(error_about(problem, &packet).is_none(), silent);
    }

    #[test]
    fn ip_41_any_icmp_is_read_or_left(v6_packet: bool, body in prop::collection::vec(any::<u8>(), 0..120)) {
        let packet = if v6_packet { v6(58, &body) } else { v4(1, 0, &[], &body) };
        let header = parse(&packet).unwrap();
        if let Some(quote) = quote(&packet, &header) {
            prop_assert!(is_error(&packet, &header));
            prop_assert!(quote.bytes.len() <= body.len() - 8);
            prop_assert!(quote.header.payload <= quote.bytes.len());
            let _ = quote.ports();
        }
        let _ = parse_echo_reply(&packet, &header);
        if let Some(reply) = echo_reply_to(&packet, &header, proxy(&header)) {
            judged(&reply);
        }
    }

    #[test]
    fn ip_10_any_quote_is_read_or_left(v6_packet: bool, mut quoted in packet(), at: prop::sample::Index, byte: u8, len: prop::sample::Index) {
        let at = at.index(quoted.len());
        quoted[at] = byte;
        quoted.truncate(len.index(quoted.len() + 1));
        let body = [&[3, 0, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let packet = if v6_packet { v6(58, &body) } else { v4(1, 0, &[], &body) };
        if let Some(quote) = quote(&packet, &parse(&packet).unwrap()) {
            prop_assert_eq!(quote.header.is_v6(), v6_packet);
            prop_assert_eq!(quote.bytes, &quoted[..quoted.len().min(quote.header.total_len)]);
        }
    }

    #[test]
    fn ip_51_every_echo_comes_back(id: u16, sequence: u16, len in 0..1500_usize, source in host(), destination in host()) {
        let echo = Echo { id, sequence };
        let (source, destination) = (source.into(), destination.into());
        let request = echo_request_v6(source, destination, echo, len);
        let header = parse(&request).unwrap();
        let reply = echo_reply_to(&request, &header, address(PROXY_V6));
        prop_assert_eq!(reply.is_some(), packet::is_single_host(source.into()));
        if let Some(reply) = reply {
            prop_assert_eq!(reply.len(), request.len());
            prop_assert_eq!(judged(&reply).0, 129);
            prop_assert_eq!(parse_echo_reply(&reply, &parse(&reply).unwrap()), Some(echo));
        }
    }
}
