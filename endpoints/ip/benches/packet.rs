//! What one packet costs on its way between the tunnel and the interface, in nanoseconds:
//! `cargo bench -p pasque-ip`.

use std::hint::black_box;
use std::io::IoSlice;
use std::net::IpAddr;

use divan::Bencher;
use divan::counter::ItemsCount;
use etherparse::PacketBuilder;
use ipnetwork::IpNetwork;
use pasque::{BATCH_LEN, Packet};
use pasque_ip::checksum::{self, Sum};
use pasque_ip::device::offload::{Checksum, Coalescer, Head, Segmentation, Split, VirtioHeader};
use pasque_ip::filter::ClientFilter;
use pasque_ip::packet;
use pasque_ip::routes::Routes;

/// What a tunnel's MTU of 1420 leaves for TCP over IPv4.
const SEGMENT_LEN: usize = 1380;
/// Segments of the longest super-packet.
const SEGMENTS: usize = 46;
/// The headers of IPv4 and of TCP, in bytes.
const HEADER_LEN: usize = 20;

const CLIENT: [u8; 4] = [10, 76, 0, 2];
const TARGET: [u8; 4] = [198, 51, 100, 2];

fn main() {
    divan::main();
}

/// The bytes of a TCP segment from the client to the target.
fn tcp(sequence: u32, payload_len: usize) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(CLIENT, TARGET, 64)
        .tcp(40_000, 5201, sequence, 500)
        .ack(99);
    let mut bytes = Vec::with_capacity(builder.size(payload_len));
    // Writing to a vector does not fail.
    let _ = builder.write(&mut bytes, &vec![7; payload_len]);
    bytes
}

/// The headers of an IPv4 packet, and of an IPv6 one.
#[divan::bench(args = [4, 6])]
fn parse(bencher: Bencher<'_, '_>, version: u8) {
    let bytes = match version {
        4 => tcp(0, SEGMENT_LEN),
        _ => {
            let builder = PacketBuilder::ipv6([0xfd; 16], [0x20; 16], 64).udp(53, 53);
            let mut bytes = Vec::new();
            let _ = builder.write(&mut bytes, &[7; SEGMENT_LEN]);
            bytes
        }
    };
    bencher.bench_local(|| packet::parse(black_box(&bytes)));
}

/// The rules of a client that has one address, and a server that offers one network.
#[divan::bench]
fn parse_and_judge(bencher: Bencher<'_, '_>) {
    let bytes = tcp(0, SEGMENT_LEN);
    let mut filter = ClientFilter::new(Routes::default());
    filter.set_held(&[IpNetwork::from(IpAddr::from(CLIENT))]);
    bencher.bench_local(|| {
        let header = packet::parse(black_box(&bytes)).ok()?;
        filter.inward(&bytes, &header).ok()
    });
}

#[divan::bench(args = [64, 1380, 65_000])]
fn checksum_of(bencher: Bencher<'_, '_>, len: usize) {
    let bytes = vec![7; len];
    bencher.bench_local(|| Sum::default().with(black_box(&bytes)).checksum());
}

#[divan::bench]
fn checksum_update() -> u16 {
    checksum::update(black_box(0x1234), black_box(0x4006), black_box(0x3f06))
}

/// One read of a whole super-packet into its segments; what is counted per second are segments.
#[divan::bench]
fn split(bencher: Bencher<'_, '_>) {
    let read = super_packet();
    bencher.counter(ItemsCount::new(SEGMENTS)).bench_local(|| {
        Split::new(black_box(&read)).map(|split| split.map(|p| p.len()).sum::<usize>())
    });
}

/// The segments of a super-packet, found to belong together, and what is written for them, but for
/// the write itself; what is counted per second are segments.
#[divan::bench]
fn coalesce(bencher: Bencher<'_, '_>) {
    let packets: Vec<Packet> = (0..SEGMENTS)
        .map(|n| Packet::copy_from(&tcp((n * SEGMENT_LEN) as u32, SEGMENT_LEN)))
        .collect();
    let mut coalescer = Coalescer::default();
    bencher.counter(ItemsCount::new(SEGMENTS)).bench_local(|| {
        coalescer.arrange(black_box(&packets), true);
        let mut count = 0;
        for run in coalescer.runs() {
            let mut head: Head = [0; _];
            let mut slices = [IoSlice::new(&[]); BATCH_LEN + 1];
            count += coalescer.gather(run, &packets, &mut head, &mut slices);
        }
        count
    });
}

/// What the kernel hands over for [`SEGMENTS`] segments.
fn super_packet() -> Vec<u8> {
    let header = VirtioHeader {
        segmentation: Segmentation::TcpV4,
        checksum: Some(Checksum {
            start: HEADER_LEN as u16,
            offset: 16,
        }),
        headers_len: 2 * HEADER_LEN as u16,
        segment_len: SEGMENT_LEN as u16,
    };
    [&header.encode()[..], &tcp(0, SEGMENTS * SEGMENT_LEN)].concat()
}
