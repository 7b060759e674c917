use etherparse::TcpHeader;

use super::*;
use crate::checksum::checksum;

#[test]
fn a_stream_becomes_one_super_packet_and_back() {
    for sender in [Sender::default(), Sender::v6()] {
        let mut packets = sender.stream(40, 1000);
        assert_eq!(counts(&packets), [40]);
        assert_eq!(round_trip(&packets), bytes(&packets));
        // The last may be shorter, and say that it is the last.
        let last = Sender {
            id: sender.id.wrapping_add(40),
            ..sender.clone()
        };
        let sequence = 0xffff_fc00_u32.wrapping_add(40_000);
        packets.push(last.tcp(sequence, b"end", |tcp| tcp.psh = true));
        assert_eq!(counts(&packets), [41]);
        assert_eq!(round_trip(&packets), bytes(&packets));
    }
}

#[test]
fn a_super_packet_is_no_longer_than_its_length_can_say() {
    let packets = Sender::default().stream(64, 1448);
    assert_eq!(counts(&packets), [45, 19]);
    assert_eq!(round_trip(&packets), bytes(&packets));
}

#[test]
fn datagrams_of_one_length_become_one_super_packet_if_the_kernel_takes_it() {
    for sender in [Sender::default(), Sender::v6()] {
        let datagram = |n: u16, len| {
            let id = sender.id.wrapping_add(n);
            Sender {
                id,
                ..sender.clone()
            }
            .udp(&payload(n.into(), len))
        };
        let packets = [
            datagram(0, 1200),
            datagram(1, 1200),
            datagram(2, 30),
            datagram(3, 30),
        ];
        assert_eq!(counts(&packets), [3, 1]);
        assert_eq!(round_trip(&packets), bytes(&packets));
        let alone = written(&packets, false);
        assert_eq!(alone.len(), 4);
        assert!(alone.iter().all(|(bytes, _)| bytes[..10] == [0; 10]));
    }
}

#[test]
fn what_differs_from_its_neighbour_starts_anew() {
    let sender = Sender::default();
    let first = || sender.stream(1, 100).remove(0);
    let next_of = |sender: &Sender, change: &dyn Fn(&mut TcpHeader)| {
        let sequence = 0xffff_fc00 + 100;
        let sender = Sender {
            id: sender.id + 1,
            ..sender.clone()
        };
        sender.tcp(sequence, &payload(1, 100), change)
    };
    assert_eq!(counts(&[first(), next_of(&sender, &|_| {})]), [2]);
    let changes: &[&dyn Fn(&mut TcpHeader)] = &[
        &|tcp| tcp.sequence_number += 1,
        &|tcp| tcp.sequence_number -= 1,
        &|tcp| tcp.acknowledgment_number += 1,
        &|tcp| tcp.window_size += 1,
        &|tcp| tcp.source_port += 1,
        &|tcp| tcp.ack = false,
        &|tcp| tcp.syn = true,
        &|tcp| tcp.rst = true,
        &|tcp| tcp.fin = true,
        &|tcp| tcp.ece = true,
        &|tcp| tcp.cwr = true,
        &|tcp| tcp.ns = true,
        &|tcp| tcp.urg = true,
        &|tcp| tcp.urgent_pointer = 1,
        &|tcp| tcp.set_options_raw(&[1, 1, 1, 1]).unwrap(),
    ];
    for (n, change) in changes.iter().enumerate() {
        assert_eq!(
            counts(&[first(), next_of(&sender, change)]),
            [1, 1],
            "change {n}"
        );
    }
    let other = |sender: Sender| counts(&[first(), next_of(&sender, &|_| {})]);
    assert_eq!(
        other(Sender {
            id: 8,
            ..sender.clone()
        }),
        [1, 1]
    );
    assert_eq!(
        other(Sender {
            dont_fragment: false,
            ..sender.clone()
        }),
        [1, 1]
    );
    let longer = sender.tcp(0xffff_fc00 + 100, &payload(1, 101), |_| {});
    assert_eq!(counts(&[first(), longer]), [1, 1]);
    let empty = sender.tcp(0xffff_fc00 + 100, &[], |_| {});
    assert_eq!(counts(&[first(), empty]), [1, 1]);
    // Nothing follows what ends a write.
    let ended = sender.tcp(0xffff_fc00, &payload(0, 100), |tcp| tcp.psh = true);
    assert_eq!(counts(&[ended, next_of(&sender, &|_| {})]), [1, 1]);
}

#[test]
fn an_identification_that_means_nothing_may_stay_the_same() {
    let sender = |dont_fragment, n| {
        let sender = Sender {
            id: 0,
            dont_fragment,
            ..Sender::default()
        };
        sender.tcp(n * 100u32, &payload(0, 100), |_| {})
    };
    assert_eq!(
        counts(&[sender(true, 0), sender(true, 1), sender(true, 2)]),
        [3]
    );
    assert_eq!(counts(&[sender(false, 0), sender(false, 1)]), [1, 1]);
}

#[test]
fn damage_is_not_repaired() {
    for sender in [Sender::default(), Sender::v6()] {
        let headers = if sender.is_v6 { 60 } else { 40 };
        // A byte of the payload in each of three segments; the IPv4 header in one.
        let mut damages = vec![(0, headers + 1), (1, headers + 1), (2, headers + 1)];
        if !sender.is_v6 {
            damages.push((1, 11));
        }
        for (n, at) in damages {
            let mut packets = sender.stream(3, 100);
            packets[n][at] ^= 0x40;
            assert_eq!(round_trip(&packets), bytes(&packets), "{n} {at}");
        }
    }
}

#[test]
fn flows_may_be_mixed_and_keep_their_own_order() {
    let flows: Vec<Vec<Packet>> = (0..4)
        .map(|n| {
            let sender = Sender {
                is_v6: n % 2 == 1,
                port: 6000 + n,
                ..Sender::default()
            };
            sender.stream(16, 500)
        })
        .collect();
    let mut mixed = Vec::new();
    for n in 0..16 {
        mixed.extend(flows.iter().map(|flow| Packet::copy_from(&flow[n])));
    }
    assert_eq!(counts(&mixed), [16, 16, 16, 16]);
    let out = round_trip(&mixed);
    for flow in &flows {
        let of_flow = |packet: &&Vec<u8>| flow.iter().any(|own| own[..] == packet[..]);
        let got: Vec<_> = out.iter().filter(of_flow).cloned().collect();
        assert_eq!(got, bytes(flow));
    }
}

#[test]
fn nothing_overtakes_a_packet_between_the_same_addresses() {
    let mut packets = Sender::default().stream(4, 500);
    let mut fragment = Sender::default().udp(b"fragment").to_vec();
    fragment[6] |= 0x20;
    packets.insert(2, Packet::from(fragment));
    assert_eq!(counts(&packets), [2, 1, 2]);
    // Of others it does not matter.
    let elsewhere = Sender::v6().udp(b"elsewhere");
    packets[2] = elsewhere;
    assert_eq!(counts(&packets), [4, 1]);
}

/// Neither is done here: the kernel does it before the tunnel, where it is allowed.
#[test]
fn ip_62_fragments_and_long_packets_pass_as_they_are() {
    let sender = Sender {
        dont_fragment: false,
        ..Sender::default()
    };
    let whole = sender.tcp(0, &payload(0, 3000), |_| {});
    // Two fragments that would fit together, and their headers as RFC 791 §3.2 has them.
    let mut fragments = Vec::new();
    for (offset, more, range) in [(0u16, 0x2000, 20..1500), (185, 0, 1500..3040)] {
        let mut bytes = [&whole[..20], &whole[range]].concat();
        let len = (bytes.len() as u16).to_be_bytes();
        put(&mut bytes, 2, len);
        put(&mut bytes, 6, (offset | more).to_be_bytes());
        put(&mut bytes, 10, [0; 2]);
        let sum = checksum(&bytes[..20]).to_be_bytes();
        put(&mut bytes, 10, sum);
        fragments.push(Packet::from(bytes));
    }
    fragments.push(whole);
    assert_eq!(counts(&fragments), [1, 1, 1]);
    assert_eq!(round_trip(&fragments), bytes(&fragments));
    let mut long = VirtioHeader::default().encode().to_vec();
    long.extend_from_slice(&fragments[2]);
    assert_eq!(split(&long), bytes(&fragments[2..]));
}

#[test]
fn ip_63_ecn_and_dscp_are_the_same_in_every_packet() {
    // DSCP 46 with each of Not-ECT, ECT(1), ECT(0) and CE.
    for traffic_class in 0xb8..=0xbb_u8 {
        for sender in [Sender::default(), Sender::v6()] {
            let sender = Sender {
                traffic_class,
                ..sender
            };
            let packets = sender.stream(5, 100);
            assert_eq!(counts(&packets), [5]);
            let out = round_trip(&packets);
            assert_eq!(out, bytes(&packets));
            assert!(
                out.iter()
                    .all(|packet| see(packet).traffic_class == traffic_class)
            );
            // A mark that not all have stays with the packet that has it.
            let mut marked = packets;
            let other = Sender {
                traffic_class: traffic_class ^ 1,
                id: sender.id.wrapping_add(2),
                ..sender
            };
            marked[2] = other.tcp(0xffff_fc00_u32.wrapping_add(200), &payload(2, 100), |_| {});
            assert_eq!(counts(&marked), [2, 1, 2]);
            assert_eq!(round_trip(&marked), bytes(&marked));
        }
    }
}

/// A run takes what is in the batch and waits for nothing.
#[test]
fn ip_65_all_of_a_batch_is_written_at_once() {
    let packets = Sender::default().stream(1, 100);
    assert_eq!(counts(&packets), [1]);
    let mut mixed = Sender::default().stream(63, 100);
    mixed.push(Sender::v6().udp(b"last"));
    assert_eq!(counts(&mixed), [63, 1]);
    assert_eq!(counts(&[]), [0; 0]);
}
