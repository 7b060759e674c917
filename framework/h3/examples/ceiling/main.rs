//! What quiche and quinn-udp do alone, with the engine's settings and without HTTP/3: the ceiling
//! that `make bench` holds the engine against.
//!
//! ```text
//! ceiling serve ROLE LEN SECONDS           one connection; prints where it listens
//! ceiling dial ADDRESS ROLE LEN SECONDS    the other end of it
//! ceiling memory DATAGRAMS                 both ends in one thread, beside the AEAD alone
//! ceiling exchange DATAGRAMS               the connections alone, for counting instructions
//! ```
//!
//! The server is a `sink` and the client a `source`, or the other way round; or the server passes on to the
//! ADDRESS that is its role, and the client is to `ask`.
//!
//! Figures are printed as one line of `name=value`.

#![allow(clippy::indexing_slicing, reason = "a measurement may panic")]

mod counting;
mod forward;
mod memory;
mod udp;

use std::process::ExitCode;

use bytes::Bytes;
use pasque::Packet;
use quiche::BufFactory;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Bytes in front of a payload: quarter stream ID and context ID, as the first tunnel has them.
const PREFIX: [u8; 2] = [0, 0];

/// Connection IDs are as long as the engine's.
const CID_LEN: usize = 8;

/// Datagrams that wait in quiche: enough for two full GSO sends.
const WATERMARK: usize = 128;

/// The largest UDP payload, as in the engine.
const MAX_UDP_PAYLOAD: usize = 1452;

/// How the engine gives quiche its buffers.
#[derive(Clone, Copy, Debug, Default)]
struct Buffers;

impl BufFactory for Buffers {
    type Buf = Bytes;
    type DgramBuf = Packet;

    fn buf_from_slice(buf: &[u8]) -> Bytes {
        Bytes::copy_from_slice(buf)
    }

    fn dgram_buf_from_slice(buf: &[u8]) -> Packet {
        Packet::copy_from(buf)
    }
}

type Quic = quiche::Connection<Buffers>;

/// A datagram of `len` bytes of payload, with what a tunnel puts in front of it.
fn datagram(len: usize) -> Packet {
    let mut packet = Packet::with_len(len);
    packet.prepend(&PREFIX);
    packet
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // As the engine's workers do.
    pasque_h3::testing::keep_free();
    let result = match words[..] {
        ["serve", role, len, seconds] => udp::serve(role, len, seconds),
        ["dial", address, role, len, seconds] => udp::dial(address, role, len, seconds),
        ["memory", datagrams] => memory::measure(datagrams),
        ["exchange", datagrams] => memory::exchange(datagrams),
        _ => Err("usage: see the head of framework/h3/examples/ceiling/main.rs".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ceiling: {error}");
            ExitCode::FAILURE
        }
    }
}
