use std::collections::HashSet;
use std::time::{Duration, Instant};

use pasque::Packet;
use proptest::prelude::*;

use super::*;
use crate::held::Account;
use crate::packet::testing::v4;
use crate::packet::{self, parse};
use pasque::codel::{INTERVAL, TARGET};

/// A packet of this flow, which ends in `mark`.
fn packet(flow: u16, len: usize, mark: u32) -> Packet {
    let mut datagram = Vec::from(flow.to_be_bytes());
    datagram.extend([0, 53]);
    datagram.extend((len as u16 + 12).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.resize(8 + len, 0);
    datagram.extend(mark.to_be_bytes());
    Packet::copy_from(&v4(packet::UDP, 0, &[], &datagram))
}

fn mark(packet: &Packet) -> u32 {
    u32::from_be_bytes(*packet.last_chunk().unwrap())
}

fn flow(packet: &Packet) -> u16 {
    parse(packet).unwrap().ports(packet).unwrap().0
}

fn push(backlog: &mut Backlog, packet: Packet, now: Instant) {
    let header = parse(&packet).unwrap();
    backlog.push(packet.into(), &header, now);
}

/// Flows that share no queue in this backlog.
fn distinct_flows(backlog: &mut Backlog, count: usize) -> Vec<u16> {
    let mut taken = HashSet::new();
    let mut flows = Vec::new();
    for flow in 1000.. {
        let packet = packet(flow, 0, 0);
        if taken.insert(backlog.queue_of(&packet, &parse(&packet).unwrap())) {
            flows.push(flow);
        }
        if flows.len() == count {
            break;
        }
    }
    flows
}

#[test]
fn a_ping_passes_a_download() {
    let (mut backlog, now) = (Backlog::default(), Instant::now());
    let flows = distinct_flows(&mut backlog, 2);
    for n in 0..1000 {
        push(&mut backlog, packet(flows[0], 1300, n), now);
    }
    // Its first turn as a new flow is over.
    for _ in 0..QUANTUM / 1300 + 1 {
        backlog.pop(now).unwrap();
    }
    push(&mut backlog, packet(flows[1], 56, 7), now);
    let next = backlog.pop(now).unwrap();
    assert_eq!((flow(&next), mark(&next)), (flows[1], 7));
}

#[test]
fn flows_that_send_much_share_alike_and_in_runs() {
    let (mut backlog, now) = (Backlog::default(), Instant::now());
    let flows = distinct_flows(&mut backlog, 2);
    for n in 0..400 {
        for &flow in &flows {
            push(&mut backlog, packet(flow, 1300, n), now);
        }
    }
    let order: Vec<_> = (0..400).map(|_| flow(&backlog.pop(now).unwrap())).collect();
    let of_first = order.iter().filter(|&&flow| flow == flows[0]).count();
    assert!((175..=225).contains(&of_first), "{of_first} of 400");
    let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes <= 20, "{changes} changes of flow in 400 packets");
}

#[test]
fn a_flow_that_pauses_is_not_new_again_while_others_wait() {
    let (mut backlog, now) = (Backlog::default(), Instant::now());
    let flows = distinct_flows(&mut backlog, 2);
    for n in 0..400 {
        push(&mut backlog, packet(flows[0], 1300, n), now);
    }
    let mut of_second = 0;
    for n in 0..200 {
        // One that always has exactly one packet there.
        push(&mut backlog, packet(flows[1], 1300, n), now);
        if flow(&backlog.pop(now).unwrap()) == flows[1] {
            of_second += 1;
        }
    }
    assert!(of_second <= 120, "{of_second} of 200");
}

#[test]
fn packets_that_wait_too_long_are_dropped_more_and_more_often() {
    let (mut backlog, start) = (Backlog::default(), Instant::now());
    let late = start + TARGET;
    for n in 0..4000 {
        push(&mut backlog, packet(1, 1300, n), start);
    }
    let mut dropped_at = Vec::new();
    for step in 0..3000 {
        let now = late + Duration::from_millis(step);
        backlog.pop(now).unwrap();
        if backlog.take_dropped() > 0 {
            dropped_at.push(step);
        }
    }
    assert_eq!(u128::from(dropped_at[0]), INTERVAL.as_millis());
    let gaps: Vec<_> = dropped_at
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert!(
        gaps.len() > 20 && gaps.windows(2).all(|pair| pair[1] <= pair[0] + 1),
        "{gaps:?}"
    );
}

#[test]
fn nothing_is_dropped_while_the_queue_drains_in_time_or_holds_one_packet() {
    let (mut backlog, start) = (Backlog::default(), Instant::now());
    for step in 0..5000 {
        let now = start + Duration::from_millis(step);
        push(&mut backlog, packet(1, 1300, 0), now);
        push(&mut backlog, packet(2, 1300, 0), now);
        if step >= TARGET.as_millis() as u64 / 2 {
            backlog.pop(now).unwrap();
            backlog.pop(now).unwrap();
        }
    }
    assert_eq!(backlog.take_dropped(), 0);

    let mut backlog = Backlog::default();
    for step in 0..100 {
        push(&mut backlog, packet(1, 1300, step), start);
        assert!(backlog.pop(start + INTERVAL * 10 * step).is_some());
    }
    assert_eq!(backlog.take_dropped(), 0);
}

#[test]
fn it_is_full_at_the_window_of_one_download() {
    let (mut backlog, now) = (Backlog::default(), Instant::now());
    let mut count = 0;
    while !backlog.is_full() {
        push(&mut backlog, packet(1, 1300, count), now);
        count += 1;
    }
    assert_eq!(count as usize, MAX_PACKETS);
    backlog.pop(now).unwrap();
    assert!(!backlog.is_full());
}

#[test]
fn it_is_full_earlier_where_others_hold_much() {
    static ACCOUNT: Account = Account::new();
    let (mut backlog, now) = (Backlog::of(&ACCOUNT), Instant::now());
    let mut others = Held::of(&ACCOUNT);
    others.set(1 << 30);
    let mut count = 0;
    while !backlog.is_full() {
        push(&mut backlog, packet(1, 10, count), now);
        count += 1;
    }
    // However short, each takes a buffer.
    assert_eq!(count as usize, OWN_SHARE / BLOCK);
    others.set(0);
    assert!(!backlog.is_full());
    // What it holds counts for the others until it is gone.
    let left = others.share(0);
    backlog.settle();
    assert_eq!(others.share(0), left - OWN_SHARE);
    drop(backlog);
    assert_eq!(others.share(0), left);
}

proptest! {
    /// Whatever comes and goes: each flow's packets leave in order, and each leaves once.
    #[test]
    fn every_packet_leaves_once_and_in_the_order_of_its_flow(
        steps in prop::collection::vec((0_u16..6, 0_usize..1400, 0_u64..40, 0_usize..3), 1..300)
    ) {
        let (mut backlog, mut now) = (Backlog::default(), Instant::now());
        let mut expected: Vec<VecDeque<u32>> = vec![VecDeque::new(); 6];
        let (mut pushed, mut popped, mut dropped) = (0_usize, 0_usize, 0_u64);
        for (serial, (flow_index, len, wait, pops)) in (0_u32..).zip(steps) {
            now += Duration::from_millis(wait);
            push(&mut backlog, packet(2000 + flow_index, len, serial), now);
            expected[usize::from(flow_index)].push_back(serial);
            pushed += 1;
            for _ in 0..pops {
                let Some(packet) = backlog.pop(now) else { break };
                popped += 1;
                let expected = &mut expected[usize::from(flow(&packet) - 2000)];
                while expected.pop_front() != Some(mark(&packet)) {
                    prop_assert!(!expected.is_empty(), "out of order, or twice");
                }
            }
            dropped += backlog.take_dropped();
            prop_assert_eq!(pushed, popped + dropped as usize + backlog.len());
        }
        while backlog.pop(now).is_some() {
            popped += 1;
        }
        dropped += backlog.take_dropped();
        prop_assert_eq!(pushed, popped + dropped as usize);
        prop_assert!(backlog.is_empty() && backlog.bytes == 0 && backlog.footprint == 0);
    }
}
