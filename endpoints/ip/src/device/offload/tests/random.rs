use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// One step of a sender: how it differs from the ordinary one.
#[derive(Clone, Debug)]
enum Step {
    Full,
    Short(usize),
    Push,
    Skip,
    Acknowledge,
    Damage(usize),
    Garbage(Vec<u8>),
    Datagram(usize),
    Remark(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Full),
        2 => (0usize..200).prop_map(Step::Short),
        2 => Just(Step::Push),
        1 => Just(Step::Skip),
        1 => Just(Step::Acknowledge),
        1 => (0usize..2000).prop_map(Step::Damage),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Garbage),
        6 => (0usize..3).prop_map(|n| Step::Datagram(n * 100)),
        1 => any::<u8>().prop_map(Step::Remark),
    ]
}

/// A batch of up to 64 packets of several flows, mostly streams.
fn any_batch() -> impl Strategy<Value = Vec<Packet>> {
    let flow = (
        any::<bool>(),
        any::<bool>(),
        any::<u32>(),
        any::<u16>(),
        1usize..400,
    );
    let flows = prop::collection::vec(flow, 1..5);
    let steps = prop::collection::vec((0usize..4, any_step()), 0..=BATCH_LEN);
    (flows, steps).prop_map(|(flows, steps)| {
        let mut senders: Vec<(Sender, u32, usize)> = flows
            .iter()
            .enumerate()
            .map(|(n, &(is_v6, dont_fragment, sequence, id, len))| {
                let sender = Sender {
                    is_v6,
                    dont_fragment,
                    id,
                    port: 7000 + n as u16,
                    ..Sender::default()
                };
                (sender, sequence, len)
            })
            .collect();
        let mut batch = Vec::new();
        for (n, step) in steps {
            let flow = n % senders.len();
            let (sender, sequence, len) = &mut senders[flow];
            let bytes = payload(batch.len(), *len);
            let packet = match step {
                Step::Garbage(bytes) => Packet::from(bytes),
                Step::Datagram(len) => sender.udp(&payload(n, len)),
                Step::Short(short) => sender.tcp(*sequence, &bytes[..short.min(*len)], |_| {}),
                Step::Push => sender.tcp(*sequence, &bytes, |tcp| tcp.psh = true),
                Step::Acknowledge => sender.tcp(*sequence, &[], |_| {}),
                Step::Damage(at) => {
                    let mut packet = sender.tcp(*sequence, &bytes, |_| {});
                    let at = at % packet.len();
                    packet[at] ^= 1 << (at % 8);
                    packet
                }
                Step::Full => sender.tcp(*sequence, &bytes, |_| {}),
                Step::Skip => {
                    *sequence = sequence.wrapping_add(1);
                    sender.tcp(*sequence, &bytes, |_| {})
                }
                Step::Remark(traffic_class) => {
                    sender.traffic_class = traffic_class;
                    sender.tcp(*sequence, &bytes, |_| {})
                }
            };
            let headers_len = if sender.is_v6 { 60 } else { 40 };
            *sequence = sequence.wrapping_add(packet.len().saturating_sub(headers_len) as u32);
            sender.id = sender.id.wrapping_add(1);
            batch.push(packet);
        }
        batch
    })
}

/// The packets of each 5-tuple, in order; what has none is under its addresses.
fn by_flow(packets: &[Vec<u8>]) -> HashMap<Vec<u8>, Vec<&Vec<u8>>> {
    let mut flows = HashMap::new();
    for packet in packets {
        let key = match packet.first().map(|first| first >> 4) {
            Some(4) if packet.len() >= 24 => [&packet[9..10], &packet[12..24]].concat(),
            Some(6) if packet.len() >= 44 => [&packet[6..7], &packet[8..44]].concat(),
            _ => Vec::new(),
        };
        flows.entry(key).or_insert_with(Vec::new).push(packet);
    }
    flows
}

proptest! {
    /// Whatever a batch holds: every packet arrives once, byte for byte, each flow in order.
    #[test]
    fn a_batch_is_the_same_after_the_round_trip(packets in any_batch()) {
        let out = round_trip(&packets);
        let packets = bytes(&packets);
        prop_assert_eq!(by_flow(&out), by_flow(&packets));
    }

    /// A stream of any shape becomes as few super-packets as can be.
    #[test]
    fn a_stream_is_coalesced(is_v6: bool, count in 1usize..=64, len in 1usize..1000, id: u16) {
        let sender = Sender { is_v6, id, ..Sender::default() };
        let packets = sender.stream(count, len);
        prop_assert_eq!(counts(&packets), [count]);
        prop_assert_eq!(round_trip(&packets), bytes(&packets));
    }

    /// What a host hands over in one piece is what its segments hold, and each of them is correct.
    #[test]
    fn segments_hold_all_of_a_super_packet(
        is_v6: bool, tcp: bool, len in 0usize..9000, segment_len in 1usize..1500,
    ) {
        let sender = Sender { is_v6, ..Sender::default() };
        let all = payload(len, len);
        let packet = if tcp { sender.tcp(5, &all, |_| {}) } else { sender.udp(&all) };
        let kind = match (tcp, is_v6) {
            (false, _) => Segmentation::Udp,
            (true, false) => Segmentation::TcpV4,
            (true, true) => Segmentation::TcpV6,
        };
        let read = super_packet(&packet, kind, if is_v6 { 40 } else { 20 }, segment_len);
        let seen: Vec<Seen> = split(&read).iter().map(|packet| see(packet)).collect();
        prop_assert_eq!(seen.len(), len.div_ceil(segment_len).max(1));
        let payloads: Vec<&[u8]> = seen.iter().map(|seen| &seen.payload[..]).collect();
        prop_assert_eq!(payloads.concat(), all);
    }

    #[test]
    fn no_bytes_make_it_panic(read in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(split) = Split::new(&read) {
            for packet in split {
                prop_assert!(packet.len() <= read.len());
            }
        }
        let packets: Vec<Packet> = read.chunks(60).map(Packet::copy_from).collect();
        let (out, packets) = (round_trip(&packets), bytes(&packets));
        prop_assert_eq!(by_flow(&out), by_flow(&packets));
    }

    /// Valid packets, with any virtio header and some bytes changed.
    #[test]
    fn no_header_makes_it_panic(
        is_v6: bool,
        header: [u8; 10],
        kind in prop::sample::select(vec![0u8, 1, 4, 5, 0x81]),
        start in prop::sample::select(vec![0u16, 20, 40, 44, 9000]),
        changes in prop::collection::vec((0usize..200, any::<u8>()), 0..4),
    ) {
        let sender = Sender { is_v6, ..Sender::default() };
        let mut packet = sender.tcp(5, &payload(0, 300), |_| {}).to_vec();
        for (at, value) in changes {
            packet[at] = value;
        }
        let mut header = header;
        header[1] = kind;
        header[6..8].copy_from_slice(&start.to_ne_bytes());
        if let Ok(split) = Split::new(&[&header[..], &packet].concat()) {
            prop_assert!(split.len() <= packet.len());
            for segment in split {
                prop_assert!(segment.len() <= packet.len());
            }
        }
    }
}
