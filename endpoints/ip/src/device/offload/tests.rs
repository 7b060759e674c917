//! Packets that etherparse makes and judges, through super-packets and back.

mod coalescing;
mod random;
mod seen;
mod sender;
mod splitting;

use std::io::IoSlice;

use pasque::{BATCH_LEN, Packet};

use super::*;
use seen::{Seen, see};
pub(in crate::device) use sender::Sender;
use sender::{payload, super_packet};

/// What is written for `packets`, one message for each run, and how many packets each run has.
fn written(packets: &[Packet], udp: bool) -> Vec<(Vec<u8>, usize)> {
    let mut coalescer = Coalescer::default();
    coalescer.arrange(packets, udp);
    let write = |run: &Run| {
        let mut head: Head = [0; _];
        let mut slices = [IoSlice::new(&[]); BATCH_LEN + 1];
        let count = coalescer.gather(run, packets, &mut head, &mut slices);
        let bytes: Vec<&[u8]> = slices[..count].iter().map(|slice| &slice[..]).collect();
        (bytes.concat(), run.count())
    };
    coalescer.runs().iter().map(write).collect()
}

fn counts(packets: &[Packet]) -> Vec<usize> {
    let counts: Vec<usize> = written(packets, true).iter().map(|(_, n)| *n).collect();
    assert_eq!(counts.iter().sum::<usize>(), packets.len());
    counts
}

fn split(read: &[u8]) -> Vec<Vec<u8>> {
    let split = Split::new(read).unwrap();
    let announced = split.len();
    let packets: Vec<_> = split.map(|packet| packet.to_vec()).collect();
    assert_eq!(packets.len(), announced);
    packets
}

/// What becomes of `packets` on the way through a super-packet.
fn round_trip(packets: &[Packet]) -> Vec<Vec<u8>> {
    let written = written(packets, true);
    written.iter().flat_map(|(bytes, _)| split(bytes)).collect()
}

fn bytes(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets.iter().map(|packet| packet.to_vec()).collect()
}
