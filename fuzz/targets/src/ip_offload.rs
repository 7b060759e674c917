//! Any bytes from a TUN descriptor: what comes of them is no longer than they are, and can be put
//! together again, also with bits of it changed on the way.
//!
//! The first byte says whether datagrams are put together, and how many changes follow: the packet,
//! the place in it (two bytes), the bits. The rest is what was read.

use std::io::IoSlice;

use pasque::{BATCH_LEN, Packet};
use pasque_ip::device::offload::{Coalescer, Head, Run, Split};

/// The packet without what a super-packet need not keep: the identification of an IPv4 packet that is
/// not to be fragmented, and the checksum that covers it.
fn comparable(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet.len() >= 20 && packet[0] == 0x45 && packet[6] == 0x40 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}

fn written(coalescer: &Coalescer, run: &Run, packets: &[Packet]) -> Vec<u8> {
    let mut head: Head = [0; _];
    let mut slices = [IoSlice::new(&[]); BATCH_LEN + 1];
    let count = coalescer.gather(run, packets, &mut head, &mut slices);
    let slices: Vec<&[u8]> = slices[..count].iter().map(|slice| &slice[..]).collect();
    slices.concat()
}

/// Runs the target on one input.
pub fn run(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else {
        return;
    };
    let changes_len = usize::from(first >> 1 & 7) * 4;
    let Some((changes, read)) = rest.split_at_checked(changes_len) else {
        return;
    };
    let Ok(split) = Split::new(read) else {
        return;
    };
    let mut packets: Vec<Packet> = split.take(BATCH_LEN).collect();
    for packet in &packets {
        assert!(packet.len() <= read.len());
    }
    for change in changes.as_chunks::<4>().0 {
        let [packet, a, b, bits] = *change;
        if let Some(packet) = packets.get_mut(usize::from(packet))
            && let Some(byte) = packet.get_mut(usize::from(u16::from_be_bytes([a, b])))
        {
            *byte ^= bits;
        }
    }

    let mut coalescer = Coalescer::default();
    coalescer.arrange(&packets, first & 1 != 0);
    let mut seen = vec![0; packets.len()];
    for run in coalescer.runs() {
        let bytes = written(&coalescer, run, &packets);
        let mut again = Split::new(&bytes).expect("what is written can be read");
        assert_eq!(again.len(), run.count());
        for index in coalescer.members(run) {
            seen[index] += 1;
            let packet = again.next().expect("as many as there are");
            assert_eq!(comparable(&packet), comparable(&packets[index]));
        }
    }
    assert!(seen.iter().all(|&times| times == 1));
}
