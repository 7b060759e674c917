//! What the bytes of one datagram or capsule cost, in nanoseconds: `cargo bench -p pasque`.

#![allow(clippy::indexing_slicing, reason = "a benchmark may panic")]

use divan::{Bencher, black_box};
use pasque::Packet;
use pasque::wire::capsule::{self, CapsuleDecoder};
use pasque::wire::{datagram, varint};

/// Payloads of a question, of a packet that fits everywhere, and of a full one.
const LENS: [usize; 3] = [64, 1200, 1400];

fn main() {
    divan::main();
}

/// One of each length that an integer has.
#[divan::bench(args = [37, 15_293, 494_878_333, 151_288_809_941_952_652])]
fn varint_encode(value: u64) -> usize {
    varint::to_prefix(black_box(value)).len()
}

#[divan::bench(args = [37, 15_293, 494_878_333, 151_288_809_941_952_652])]
fn varint_decode(bencher: Bencher<'_, '_>, value: u64) {
    let bytes = varint::to_prefix(value);
    bencher.bench_local(|| varint::decode(black_box(&bytes)));
}

/// What the engine and a plugin do to a datagram that has come: both prefixes are taken off.
#[divan::bench(args = LENS)]
fn datagram_in(bencher: Bencher<'_, '_>, len: usize) {
    let mut payload = vec![0; len + 2];
    payload[0] = 0x0b;
    bencher
        .with_inputs(|| Packet::copy_from(&payload))
        .bench_local_values(|mut packet| {
            if let Ok((stream, prefix_len)) = datagram::decode_stream_id(&packet) {
                packet.advance(prefix_len);
                black_box(stream);
            }
            if let Some((context, prefix_len)) = datagram::split_context(&packet) {
                packet.advance(prefix_len);
                black_box(context);
            }
            packet
        });
}

/// What they do to one that goes: both prefixes are written in front of it.
#[divan::bench(args = LENS)]
fn datagram_out(bencher: Bencher<'_, '_>, len: usize) {
    let prefix = datagram::stream_prefix(44);
    bencher
        .with_inputs(|| Packet::with_len(len))
        .bench_local_values(|mut packet| {
            packet.prepend(&[0]);
            packet.prepend(black_box(&prefix));
            packet
        });
}

/// A buffer from the pool and back.
#[divan::bench]
fn packet_from_pool() {
    drop(black_box(Packet::with_len(black_box(1200))));
}

/// A DATAGRAM capsule that lies whole in what was read.
#[divan::bench(args = LENS)]
fn capsule_whole(bencher: Bencher<'_, '_>, len: usize) {
    let stream = datagram_capsule(len);
    let mut decoder = CapsuleDecoder::default();
    bencher.bench_local(|| decode(&mut decoder, black_box(&stream)));
}

/// The same in two reads: half of it is kept in between.
#[divan::bench(args = LENS)]
fn capsule_in_two(bencher: Bencher<'_, '_>, len: usize) {
    let stream = datagram_capsule(len);
    let (first, second) = stream.split_at(stream.len() / 2);
    let mut decoder = CapsuleDecoder::default();
    bencher.bench_local(|| {
        decode(&mut decoder, black_box(first)) + decode(&mut decoder, black_box(second))
    });
}

#[divan::bench(args = LENS)]
fn capsule_write(bencher: Bencher<'_, '_>, len: usize) {
    let value = vec![0; len];
    let mut out = Vec::with_capacity(2 * len);
    bencher.bench_local(|| {
        out.clear();
        capsule::write(capsule::DATAGRAM, black_box(&value), &mut out);
    });
}

fn datagram_capsule(len: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    capsule::write(capsule::DATAGRAM, &vec![0; len], &mut stream);
    stream
}

/// Bytes of the values that end in `piece`.
fn decode(decoder: &mut CapsuleDecoder, mut piece: &[u8]) -> usize {
    let mut total = 0;
    let admit = |kind, len, _: &[u8]| capsule::admit_datagrams_only(kind, len);
    while let Ok(Some(capsule)) = decoder.next(&mut piece, admit) {
        total += capsule.value.len();
    }
    total
}
