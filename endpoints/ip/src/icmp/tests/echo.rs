use std::net::Ipv6Addr;

use super::super::message;
use super::*;
use crate::checksum::checksum;
use crate::packet::testing::*;

const ECHO: Echo = Echo { id: 1, sequence: 1 };

fn probe() -> Vec<u8> {
    let source = "2001:db8:1234::a".parse().unwrap();
    echo_request_v6(source, "ff02::1".parse().unwrap(), ECHO, 1232).to_vec()
}

fn reply_to(packet: &[u8], source: &str) -> Option<Vec<u8>> {
    let header = parse(packet).unwrap();
    echo_reply_to(packet, &header, address(source)).map(|packet| packet.to_vec())
}

fn echo_in(packet: &[u8]) -> Option<Echo> {
    parse_echo_reply(packet, &parse(packet).unwrap())
}

/// An IPv4 echo request.
fn ping_v4(service: u8, options: &[u8], data: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x12, 0x34, 0, 7];
    message.extend(data);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = v4(1, 0x4000, options, &message);
    packet[1] = service;
    readdressed(packet, "192.0.2.11", "192.0.2.1")
}

#[test]
fn ip_60_the_probe_is_the_packet_of_the_list() {
    let mut expected = hex("60 00 00 00 04 d8 3a 01");
    expected.extend("2001:db8:1234::a".parse::<Ipv6Addr>().unwrap().octets());
    expected.extend("ff02::1".parse::<Ipv6Addr>().unwrap().octets());
    expected.extend(hex("80 00 3b f0 00 01 00 01"));
    expected.resize(48 + 1232, 0);
    assert_eq!(probe(), expected);
}

#[test]
fn ip_59_the_probe_has_the_1280_bytes_that_ipv6_needs() {
    assert_eq!(probe().len(), 1280);
    assert_eq!(parse(&probe()).unwrap().total_len, 1280);
}

#[test]
fn ip_60_a_probe_of_any_length_is_a_packet() {
    let (source, destination) = (Ipv6Addr::LOCALHOST, "2001:db8::2".parse().unwrap());
    for data_len in [0, 1, 1231, 1232, 65_527, 65_528, usize::MAX] {
        let packet = echo_request_v6(source, destination, ECHO, data_len);
        assert_eq!(packet.len(), 48 + data_len.min(65_527));
        let (kind, code, word, data) = judged(&packet);
        assert_eq!((kind, code, word), (128, 0, [0, 1, 0, 1]));
        assert!(data.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn ip_60_the_reply_to_a_probe_is_known_by_its_numbers() {
    for (id, sequence) in [(0, 0), (1, 1), (0xffff, 0x1234)] {
        let echo = Echo { id, sequence };
        let source = "2001:db8:1234::a".parse().unwrap();
        let packet = echo_request_v6(source, "ff02::1".parse().unwrap(), echo, 1232);
        assert_eq!(echo_in(&packet), None);
        let reply = reply_to(&packet, PROXY_V6).unwrap();
        assert_eq!(reply.len(), 1280);
        assert_eq!(echo_in(&reply), Some(echo));
    }
}

#[test]
fn ip_60_a_reply_that_suffered_on_the_way_proves_nothing() {
    let reply = reply_to(&probe(), PROXY_V6).unwrap();
    assert_eq!(echo_in(&reply), Some(ECHO));
    for at in 40..reply.len() {
        let mut changed = reply.clone();
        changed[at] ^= 0x04;
        assert_eq!(echo_in(&changed), None, "byte {at}");
    }
    // A part of it does not prove the path, either.
    let mut rest = fragment(58, 0, true).to_vec();
    rest.extend(&reply[40..]);
    assert_eq!(
        echo_in(&readdressed(v6(44, &rest), PROXY_V6, "2001:db8:1234::a")),
        None
    );
    rest[3] = 0;
    let atomic = readdressed(v6(44, &rest), PROXY_V6, "2001:db8:1234::a");
    assert_eq!(echo_in(&atomic), Some(ECHO));
}

#[test]
fn ip_51_an_echo_to_all_nodes_is_answered_with_its_data() {
    let source = "fd76::2".parse::<Ipv6Addr>().unwrap();
    let mut request = echo_request_v6(source, "ff02::1".parse().unwrap(), ECHO, 6).to_vec();
    request[48..].copy_from_slice(b"Pasque");
    request[42..44].fill(0);
    let sum = crate::checksum::Sum::pseudo_header(source.into(), address("ff02::1"), 58, 14);
    let sum = sum.with(&request[40..]).checksum();
    request[42..44].copy_from_slice(&sum.to_be_bytes());

    let reply = reply_to(&request, "fd76::1").unwrap();
    let header = parse(&reply).unwrap();
    assert_eq!(
        (header.source, header.destination),
        (address("fd76::1"), source.into())
    );
    assert_eq!(header.hop_limit, 64);
    assert_eq!(judged(&reply), (129, 0, [0, 1, 0, 1], &b"Pasque"[..]));
}

#[test]
fn ip_51_an_echo_of_ipv4_is_answered_with_its_service() {
    for options in [&[][..], &[1; 8]] {
        let request = ping_v4(0x2f, options, b"data");
        let reply = reply_to(&request, "192.0.2.1").unwrap();
        assert_eq!(judged(&reply), (0, 0, [0x12, 0x34, 0, 7], &b"data"[..]));
        assert_eq!(reply[1], 0x2c);
        let header = parse(&reply).unwrap();
        assert_eq!(
            (header.source, header.destination),
            (address("192.0.2.1"), address("192.0.2.11"))
        );
        let expected = Echo {
            id: 0x1234,
            sequence: 7,
        };
        assert_eq!(echo_in(&reply), Some(expected));
    }
    let longest = ping_v4(0, &[], &vec![7; 65_535 - 28]);
    assert_eq!(reply_to(&longest, "192.0.2.1").unwrap().len(), 65_535);
}

/// An intact message of any type and code, in both versions.
fn messages(kind: u8, code: u8) -> [Vec<u8>; 2] {
    let head = [kind, code, 0, 0, 0, 1, 0, 1];
    let (a, b) = ([192, 0, 2, 11].into(), [192, 0, 2, 1].into());
    let of_v4 = message::packet_v4(a, b, 0, head, b"data");
    let (a, b) = ([0x20; 16].into(), [0x21; 16].into());
    let of_v6 = message::packet_v6(a, b, 64, head, b"data");
    [of_v4.to_vec(), of_v6.to_vec()]
}

#[test]
fn ip_51_requests_and_replies_have_one_type_per_version_and_one_code() {
    for kind in 0..=255 {
        for code in [0, 1, 255] {
            let [of_v4, of_v6] = messages(kind, code);
            let replies = [reply_to(&of_v4, PROXY_V4), reply_to(&of_v6, PROXY_V6)];
            assert_eq!(replies[0].is_some(), (kind, code) == (8, 0));
            assert_eq!(replies[1].is_some(), (kind, code) == (128, 0));
            assert_eq!(echo_in(&of_v4).is_some(), (kind, code) == (0, 0));
            assert_eq!(echo_in(&of_v6).is_some(), (kind, code) == (129, 0));
        }
    }
}

#[test]
fn ip_51_no_reply_comes_from_a_group() {
    for group in ["ff02::1", "ff0e::1"] {
        assert!(reply_to(&probe(), group).is_none(), "{group}");
    }
    assert!(reply_to(&ping_v4(0, &[], b""), "224.0.0.1").is_none());
}

#[test]
fn ip_51_only_whole_intact_requests_of_a_host_are_answered() {
    assert!(reply_to(&probe(), PROXY_V6).is_some());
    assert!(reply_to(&ping_v4(0, &[], b""), PROXY_V4).is_some());
    // Of the other version.
    assert!(reply_to(&probe(), PROXY_V4).is_none());
    assert!(reply_to(&ping_v4(0, &[], b""), PROXY_V6).is_none());
    // Not intact.
    for at in 40..probe().len() {
        let mut changed = probe();
        changed[at] ^= 0x80;
        assert!(reply_to(&changed, PROXY_V6).is_none(), "byte {at}");
    }
    for at in 20..28 {
        let mut changed = ping_v4(0, &[], b"");
        changed[at] ^= 0x80;
        assert!(reply_to(&changed, PROXY_V4).is_none(), "byte {at}");
    }
    // A reply is not answered, nor is another packet.
    let reply = reply_to(&probe(), PROXY_V6).unwrap();
    assert!(reply_to(&reply, PROXY_V6).is_none());
    assert!(reply_to(&v6(17, &UDP_HI), PROXY_V6).is_none());
    assert!(reply_to(&v6(58, &[]), PROXY_V6).is_none());
    assert!(reply_to(&v6(58, &[128, 0, 0, 0, 0, 0, 0]), PROXY_V6).is_none());
    // Nor a fragment.
    let mut ping = ping_v4(0, &[], b"");
    ping[6] = 0x20;
    assert!(reply_to(&ping, PROXY_V4).is_none());
    // Nor what comes from nobody.
    for source in ["::", "::1", "ff02::1"] {
        let destination = "ff02::1".parse().unwrap();
        let packet = echo_request_v6(source.parse().unwrap(), destination, ECHO, 8);
        assert!(reply_to(&packet, PROXY_V6).is_none(), "{source}");
    }
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        let packet = readdressed(ping_v4(0, &[], b""), source, PROXY_V4);
        assert!(reply_to(&packet, PROXY_V4).is_none(), "{source}");
    }
}
