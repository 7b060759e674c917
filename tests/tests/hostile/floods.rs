//! Floods on one connection: of resets, of datagrams nobody waits for, of context IDs.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use h3i::quiche::Shutdown;

use crate::common::{Pinger, echo, open, resident};
use crate::peer::{Peer, config, request, tunnel, varint};
use crate::{QUIET, Victim};

const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_CANCELLED: u64 = 0x10c;

/// Where the attacker sits: another address than the good client's.
const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));

const MIB: u64 = 1 << 20;

/// What happens to the server while it is under attack.
async fn measure<T: Send + 'static>(
    victim: &mut Victim,
    attack: impl FnOnce(std::net::SocketAddr) -> T + Send + 'static,
) -> (T, u64, crate::common::Pings) {
    let connection = victim.server.connect().await.unwrap();
    let mut bystander = open(&connection, "127.0.0.1", victim.target.address().port()).await;
    echo(&mut bystander, b"warm").await;
    let pinger = Pinger::start(bystander);
    // The memory that any connection takes is not the attack's.
    victim.assert_serves("nothing").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = resident(&mut victim.server);
    let address = victim.server.address();
    let result = tokio::task::spawn_blocking(move || attack(address))
        .await
        .unwrap();
    let grown = resident(&mut victim.server).saturating_sub(before);
    let pings = pinger.finish().await;
    victim.assert_serves("the attack").await;
    (result, grown, pings)
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_a_flood_of_resets_ends_the_connection_of_whoever_sends_it() {
    const RESETS: u64 = 100_000;
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    let path = victim.tunnel_path();
    let ((opened, code, time), grown, pings) = measure(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        let request = tunnel(&path);
        let start = Instant::now();
        let mut stream = 0;
        while stream / 4 < RESETS && !peer.is_over() {
            // As fast as the server gives streams, with no wait for an answer.
            while peer.quic.peer_streams_left_bidi() > 0
                && peer.quic.stream_send(stream, &request, false).is_ok()
            {
                // The request is on its way before it is given up.
                peer.flush();
                let _ = peer
                    .quic
                    .stream_shutdown(stream, Shutdown::Write, REQUEST_CANCELLED);
                let _ = peer
                    .quic
                    .stream_shutdown(stream, Shutdown::Read, REQUEST_CANCELLED);
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
    assert_eq!(code, Some(EXCESSIVE_LOAD));
    // The budget is 100 in ten seconds; what was under way when it ran out does not count.
    assert!((100..=400).contains(&opened), "{opened}");
    assert!(time < Duration::from_secs(2), "{time:?}");
    assert!(grown < 16 * MIB, "{grown} bytes");
    assert!(pings.loss() < 0.01, "{pings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_a_client_within_the_budget_of_resets_is_served() {
    let _quiet = QUIET.read().await;
    let victim = Victim::with_limits(serde_json::json!({ "resets_per_10s": 50 })).await;
    for (resets, expected) in [(50, None), (51, Some(EXCESSIVE_LOAD))] {
        let (server, path) = (victim.server.address(), victim.tunnel_path());
        let attack = move || {
            let mut peer = Peer::connect(server, ATTACKER, &mut config());
            for n in 0..resets {
                peer.send(4 * n, &tunnel(&path), false);
                peer.until("a tunnel", |quic| quic.stream_readable(4 * n));
                peer.quic
                    .stream_shutdown(4 * n, Shutdown::Write, REQUEST_CANCELLED)
                    .unwrap();
            }
            peer.idle(Duration::from_millis(300));
            peer.closed_with()
        };
        let closed_with = tokio::task::spawn_blocking(attack).await.unwrap();
        assert_eq!(closed_with, expected, "{resets}");
        victim.assert_serves("resets").await;
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn hdg_13_datagrams_of_100_000_streams_that_are_none_cost_nothing() {
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    let ((alive, near), grown, pings) = measure(&mut victim, |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        // Streams that may yet be opened, and streams that never will.
        flood(&mut peer, 10_000, |n| {
            [&varint(n % 1024)[..], &[0; 100]].concat()
        });
        let near = peer.closed_with();
        flood(&mut peer, 100_000, |n| {
            [&varint(n * 1_000_003)[..], &[0; 100]].concat()
        });
        peer.send(0, &request("GET", "/files/a.txt"), true);
        peer.until("an answer", |quic| quic.stream_readable(0));
        (!peer.read(0).is_empty(), near)
    })
    .await;
    assert_eq!(near, None);
    assert!(alive, "the connection is of use afterwards");
    assert!(grown < 8 * MIB, "{grown} bytes");
    assert!(pings.loss() < 0.05, "{} of {}", pings.loss(), pings.sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_43_100_000_context_ids_cost_nothing_and_harm_nothing() {
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    let path = victim.tunnel_path();
    let (answer, grown, pings) = measure(&mut victim, move |server| {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        peer.send(0, &tunnel(&path), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        flood(&mut peer, 100_000, |n| {
            [&[0][..], &varint(n + 1), &[0; 100]].concat()
        });
        peer.quic.dgram_send(b"\0\0known").unwrap();
        peer.until("the echo", |quic| quic.dgram_recv_queue_len() > 0);
        let mut answer = [0; 64];
        let len = peer.quic.dgram_recv(&mut answer).unwrap();
        answer[..len].to_vec()
    })
    .await;
    assert_eq!(answer, b"\0\0known");
    assert!(grown < 8 * MIB, "{grown} bytes");
    assert!(pings.loss() < 0.05, "{} of {}", pings.loss(), pings.sent);
    // Nothing of it has reached the target: only the pings, the echoes and one datagram.
    assert!(
        victim.target.count() as usize <= pings.sent + 2,
        "{}",
        victim.target.count()
    );
}
