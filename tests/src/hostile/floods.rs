//! Floods on one connection: of resets, of datagrams nobody waits for, of context IDs.

use std::time::{Duration, Instant};

use h3i::quiche::Shutdown;

use super::bystander::under_attack;
use super::peer::{Peer, config, request, tunnel, varint};
use super::{ATTACKER, Figures, Length, MIB, Victim};

const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_CANCELLED: u64 = 0x10c;

/// Requests that are given up as soon as they are made, as fast as the server gives streams.
pub(super) async fn resets(_: Length) -> Figures {
    const RESETS: u64 = 100_000;
    let mut victim = Victim::start().await;
    let path = victim.tunnel_path();
    let outcome = under_attack(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        let request = tunnel(&path);
        let start = Instant::now();
        let mut stream = 0;
        while stream / 4 < RESETS && !peer.is_over() {
            while peer.quic.peer_streams_left_bidi() > 0
                && peer.quic.stream_send(stream, &request, false).is_ok()
            {
                // The request is on its way before it is given up.
                peer.flush();
                for direction in [Shutdown::Write, Shutdown::Read] {
                    let _ = peer
                        .quic
                        .stream_shutdown(stream, direction, REQUEST_CANCELLED);
                }
                stream += 4;
            }
            peer.flush();
            peer.receive(Duration::from_millis(1));
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{} streams and no end",
                stream / 4
            );
        }
        (stream / 4, peer.closed_with(), start.elapsed())
    })
    .await;
    let (opened, code, time) = outcome.result;
    assert_eq!(code, Some(EXCESSIVE_LOAD));
    let mut figures = outcome.figures(16 * MIB, 0.01);
    // The budget is 100 in ten seconds; what was under way when it ran out does not count.
    figures.at_least(
        "resets until the connection is closed",
        opened as usize,
        100,
    );
    figures.at_most(
        "resets until the connection is closed",
        opened as usize,
        400,
    );
    figures.time("time until then", time, Duration::from_secs(2));
    figures
}

/// Sends `count` datagrams, each as `payload` makes it, no faster than they leave.
fn flood(peer: &mut Peer, count: u64, payload: impl Fn(u64) -> Vec<u8>) {
    let mut sent = 0;
    while sent < count && !peer.is_over() {
        while sent < count && peer.quic.dgram_send(&payload(sent)).is_ok() {
            sent += 1;
        }
        peer.flush();
        peer.receive(Duration::from_millis(1));
    }
    peer.idle(Duration::from_millis(200));
}

/// Datagrams of streams that may yet be opened, and of streams that never will.
pub(super) async fn streamless_datagrams(length: Length) -> Figures {
    let count = length.pick(20_000, 1_000_000);
    let mut victim = Victim::start().await;
    let outcome = under_attack(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        flood(&mut peer, count / 10, |n| {
            [&varint(n % 1024)[..], &[0; 100]].concat()
        });
        let near = peer.closed_with();
        flood(&mut peer, count, |n| {
            [&varint(n * 1_000_003)[..], &[0; 100]].concat()
        });
        // The connection is of use afterwards.
        peer.send(0, &request("GET", "/files/a.txt"), true);
        peer.until("an answer", |quic| quic.stream_readable(0));
        (near, peer.read(0).len())
    })
    .await;
    assert_eq!(outcome.result.0, None);
    assert!(outcome.result.1 > 0);
    outcome.figures(8 * MIB, 0.05)
}

/// Datagrams of contexts that were never registered.
pub(super) async fn context_ids(length: Length) -> Figures {
    let count = length.pick(20_000, 1_000_000);
    let mut victim = Victim::start().await;
    let path = victim.tunnel_path();
    let outcome = under_attack(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        peer.send(0, &tunnel(&path), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        flood(&mut peer, count, |n| {
            [&[0][..], &varint(n + 1), &[0; 100]].concat()
        });
        peer.quic.dgram_send(b"\0\0known").unwrap();
        peer.until("the echo", |quic| quic.dgram_recv_queue_len() > 0);
        let mut answer = [0; 64];
        let len = peer.quic.dgram_recv(&mut answer).unwrap();
        answer[..len].to_vec()
    })
    .await;
    assert_eq!(outcome.result, b"\0\0known");
    let mut figures = outcome.figures(8 * MIB, 0.05);
    // Nothing of it has reached the target: only the pings, the echoes and one datagram.
    let honest = outcome.pings.sent + 3;
    let reached = victim.target.count() as usize;
    figures.at_most(
        "datagrams at the target, of the honest ones",
        reached,
        honest,
    );
    figures
}
