//! Streams that promise much and bring little, or want much and take little.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bystander::under_attack;
use super::peer::{Peer, config, data, request, tunnel, varint};
use super::{ATTACKER, Figures, KIB, Length, MIB, Victim};
use crate::PATIENCE;
use crate::kit::{path, resident};

const MESSAGE_ERROR: u64 = 0x10e;
const STREAMS: u64 = 100;

/// As many tunnels as one connection may have.
fn open_all(peer: &mut Peer, path: &str) {
    for n in 0..STREAMS {
        peer.send(4 * n, &tunnel(path), false);
    }
    for n in 0..STREAMS {
        peer.until("a tunnel", |quic| quic.stream_readable(4 * n));
        peer.read(4 * n);
    }
}

/// Capsules that announce a lot.
pub(super) async fn length_bombs(_: Length) -> Figures {
    let mut victim = Victim::start().await;
    victim.assert_serves("nothing").await;
    let path = victim.tunnel_path();
    let server = victim.server.address();
    let open = move || {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        open_all(&mut peer, &path);
        peer.idle(Duration::from_millis(200));
        peer
    };
    let mut peer = tokio::task::spawn_blocking(open).await.unwrap();
    let before = resident(&mut victim.server);
    let attack = move || {
        for n in 0..STREAMS {
            let bomb = match n % 4 {
                // 2^62-1 bytes of an unknown capsule: skipped, however much of it comes.
                0 => [&[0x17][..], &varint((1 << 62) - 1), &[7; 60_000]].concat(),
                // The longest payload that UDP has, less its last byte.
                1 => [&[0x00][..], &varint(65_528), &[0], &[7; 65_526]].concat(),
                // More than any UDP packet: refused at its header.
                2 => [&[0x00][..], &varint(65_529), &[0]].concat(),
                _ => [&[0x00][..], &varint((1 << 62) - 1), &[0]].concat(),
            };
            peer.send(4 * n, &data(&bomb), false);
        }
        peer.idle(Duration::from_millis(500));
        let codes: Vec<_> = (0..STREAMS).map(|n| peer.reset_code(4 * n)).collect();
        (peer, codes)
    };
    let (peer, codes) = tokio::task::spawn_blocking(attack).await.unwrap();
    let as_expected =
        |(n, code): &(usize, Option<u64>)| *code == (n % 4 >= 2).then_some(MESSAGE_ERROR);
    let right = codes.into_iter().enumerate().filter(as_expected).count();
    let grown = resident(&mut victim.server).saturating_sub(before);
    assert!(!peer.is_over());
    victim.assert_serves("length bombs").await;
    let mut figures = Figures::default();
    figures.exactly(
        "streams that end, or not, as they must",
        right,
        STREAMS as usize,
    );
    // A quarter of the streams hold a datagram each that is whole but for one byte.
    let held = STREAMS / 4 * 64 * KIB;
    figures.memory("memory of the server, more", grown, held + 8 * MIB);
    figures
}

/// A capsule of a type that nobody knows, many times as long as the stream's window.
pub(super) async fn unknown_capsules(length: Length) -> Figures {
    let chunks = length.pick(64, 1024);
    let mut victim = Victim::start().await;
    let path = victim.tunnel_path();
    let outcome = under_attack(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        peer.send(0, &tunnel(&path), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        // Credit comes while a capsule is skipped.
        let chunk = [9; 64 << 10];
        let header = [&[0x17][..], &varint(chunks * chunk.len() as u64)].concat();
        peer.send(0, &data(&header), false);
        for _ in 0..chunks {
            peer.send(0, &data(&chunk), false);
        }
        let known = [&[0x00, 0x06, 0x00][..], b"known"].concat();
        peer.send(0, &data(&known), false);
        peer.until("the echo", |quic| quic.dgram_recv_queue_len() > 0);
        let mut answer = [0; 64];
        let len = peer.quic.dgram_recv(&mut answer).unwrap();
        answer[..len].to_vec()
    })
    .await;
    assert_eq!(outcome.result, b"\0\0known");
    outcome.figures(8 * MIB, 0.05)
}

/// A hundred downloads of a large file by a client that grants no credit.
pub(super) async fn slow_readers(length: Length) -> Figures {
    let time = length.pick(Duration::from_secs(1), Duration::from_secs(20));
    let mut victim = Victim::start().await;
    victim.add_large_file();
    let outcome = under_attack(&mut victim, move |server| {
        let mut config = config();
        // Enough for the response's fields, and no more is ever granted.
        config.set_initial_max_stream_data_bidi_local(1024);
        let mut peer = Peer::connect(server, ATTACKER, &mut config);
        for n in 0..STREAMS {
            peer.send(4 * n, &request("GET", "/files/large"), true);
        }
        peer.idle(time);
        peer
    })
    .await;
    let mut peer = outcome.result;
    assert!(!peer.is_over());
    let mut figures = Figures::default();
    let each = outcome.grown / STREAMS;
    figures.memory(
        "memory of the server, more, for each stream",
        each,
        256 * KIB,
    );
    figures.memory("memory of the server, more", outcome.grown, 32 * MIB);
    outcome.pings.judge(&mut figures, 0.01);
    // Once they go, so does what they cost.
    peer.quic.close(true, 0x100, b"").unwrap();
    peer.flush();
    victim.assert_serves("the end of the slow readers").await;
    figures
}

/// A client without datagrams that does not read what its target's answers have become.
pub(super) async fn unread_capsules(length: Length) -> Figures {
    let count = length.pick(2_000, 20_000);
    let mut victim = Victim::start().await;
    let path = victim.tunnel_path();
    let outcome = under_attack(&mut victim, move |server| {
        let mut config = config();
        config.set_initial_max_stream_data_bidi_local(1024);
        let mut peer = Peer::new(server, ATTACKER, &mut config);
        peer.until("the handshake", |quic| quic.is_established());
        // Every answer of the target has to become a capsule.
        peer.send(2, &[0x00, 0x04, 0x00], false);
        peer.send(0, &tunnel(&path), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        let capsule = [&[0x00][..], &varint(1001), &[0; 1001]].concat();
        for _ in 0..count {
            if peer.quic.stream_send(0, &data(&capsule), false).is_err() {
                peer.idle(Duration::from_millis(2));
            }
            if peer.is_over() || peer.reset_code(0).is_some() {
                break;
            }
            peer.flush();
            peer.receive(Duration::ZERO);
        }
        peer.idle(Duration::from_millis(300));
        peer
    })
    .await;
    assert!(
        !outcome.result.is_over(),
        "the connection has other streams"
    );
    outcome.figures(8 * MIB, 0.05)
}

/// A target that floods a tunnel whose client has stopped reading.
pub(super) async fn flooded_tunnel(length: Length) -> Figures {
    const LEN: usize = 1200;
    /// 500 Mbit/s, as datagrams a second.
    const PER_SECOND: f64 = 500e6 / 8.0 / LEN as f64;
    let time = length.pick(Duration::from_secs(1), Duration::from_secs(60));
    let flooder = UdpSocket::bind("127.0.0.1:0").unwrap();
    flooder.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = flooder.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let flood = move || {
        let (_, tunnel): (usize, SocketAddr) = flooder.recv_from(&mut [0; 64]).unwrap();
        let start = Instant::now();
        while start.elapsed() < time {
            let due = start.elapsed().as_secs_f64() * PER_SECOND;
            while (counter.load(Ordering::Relaxed) as f64) < due {
                // A full buffer is a loss like any other.
                let _ = flooder.send_to(&[0; LEN], tunnel);
                counter.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let flooding = std::thread::spawn(flood);
    let mut victim = Victim::start().await;
    let outcome = under_attack(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        peer.send(0, &tunnel(&path("127.0.0.1", port)), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        peer.quic.dgram_send(b"\0\0begin").unwrap();
        peer.flush();
        // Nothing is read, and nothing acknowledged, for as long as the flood lasts.
        std::thread::sleep(time);
        peer
    })
    .await;
    flooding.join().unwrap();
    let mut figures = outcome.figures(8 * MIB, 0.01);
    let rate = sent.load(Ordering::Relaxed) as f64 / time.as_secs_f64();
    figures.rate(
        "datagrams of 1200 bytes from the target",
        rate,
        0.9 * PER_SECOND,
    );
    figures
}
