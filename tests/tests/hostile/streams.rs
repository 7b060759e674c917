//! Streams that promise much and bring little, or want much and take little.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::common::{Pinger, echo, open, resident};
use crate::peer::{Peer, config, data, request, tunnel, varint};
use crate::{QUIET, Victim};

const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
const MESSAGE_ERROR: u64 = 0x10e;
const STREAMS: u64 = 100;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

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

#[tokio::test(flavor = "multi_thread")]
async fn hdg_19_capsules_that_announce_a_lot_take_no_memory() {
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    victim.assert_serves("nothing").await;
    let path = victim.tunnel_path();
    let server = victim.server.address();
    let mut peer = tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        open_all(&mut peer, &path);
        peer.idle(Duration::from_millis(200));
        peer
    })
    .await
    .unwrap();
    let before = resident(&mut victim.server);
    let (peer, codes) = tokio::task::spawn_blocking(move || {
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
    })
    .await
    .unwrap();
    for (n, code) in codes.into_iter().enumerate() {
        let expected = (n % 4 >= 2).then_some(MESSAGE_ERROR);
        assert_eq!(code, expected, "stream {n}");
    }
    let grown = resident(&mut victim.server).saturating_sub(before);
    // A quarter of the streams hold a datagram each that is whole but for one byte.
    let held = STREAMS / 4 * 64 * KIB;
    assert!(grown < held + 8 * MIB, "{grown} bytes");
    assert!(!peer.is_over());
    victim.assert_serves("length bombs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hdg_19_megabytes_of_unknown_capsules_are_counted_away() {
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    victim.assert_serves("nothing").await;
    let path = victim.tunnel_path();
    let server = victim.server.address();
    let before = resident(&mut victim.server);
    let answer = tokio::task::spawn_blocking(move || {
        let mut peer = Peer::connect(server, ATTACKER, &mut config());
        peer.send(0, &tunnel(&path), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        // Thirty-two times the window of the stream: credit comes while a capsule is skipped.
        let chunk = [9; 64 << 10];
        peer.send(0, &data(&[&[0x17][..], &varint(8 << 20)].concat()), false);
        for _ in 0..128 {
            peer.send(0, &data(&chunk), false);
        }
        peer.send(
            0,
            &data(&[&[0x00, 0x06, 0x00][..], b"known"].concat()),
            false,
        );
        peer.until("the echo", |quic| quic.dgram_recv_queue_len() > 0);
        let mut answer = [0; 64];
        let len = peer.quic.dgram_recv(&mut answer).unwrap();
        answer[..len].to_vec()
    })
    .await
    .unwrap();
    assert_eq!(answer, b"\0\0known");
    let grown = resident(&mut victim.server).saturating_sub(before);
    assert!(grown < 8 * MIB, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn fs_29_a_hundred_readers_that_do_not_read_delay_nobody() {
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    let large = std::fs::File::create(victim.folder.path().join("large")).unwrap();
    large.set_len(1 << 30).unwrap();
    victim.assert_serves("nothing").await;
    let connection = victim.server.connect().await.unwrap();
    let mut bystander = open(&connection, "127.0.0.1", victim.target.address().port()).await;
    echo(&mut bystander, b"warm").await;
    let pinger = Pinger::start(bystander);
    let before = resident(&mut victim.server);
    let server = victim.server.address();
    let mut peer = tokio::task::spawn_blocking(move || {
        let mut config = config();
        // Enough for the response's fields, and no more is ever granted.
        config.set_initial_max_stream_data_bidi_local(1024);
        let mut peer = Peer::connect(server, ATTACKER, &mut config);
        for n in 0..STREAMS {
            peer.send(4 * n, &request("GET", "/files/large"), true);
        }
        peer.idle(Duration::from_secs(2));
        peer
    })
    .await
    .unwrap();
    let grown = resident(&mut victim.server).saturating_sub(before);
    assert!(grown < STREAMS * 256 * KIB + 8 * MIB, "{grown} bytes");
    assert!(!peer.is_over());
    victim.assert_serves("slow readers").await;
    let pings = pinger.finish().await;
    assert!(pings.loss() < 0.01, "{pings:?}");

    // Once they go, so does what they cost.
    peer.quic.close(true, 0x100, b"").unwrap();
    peer.flush();
    victim.assert_serves("the end of the slow readers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hdg_37_a_client_that_reads_no_capsules_costs_bounded_memory_and_then_its_tunnel() {
    let _alone = QUIET.write().await;
    let mut victim = Victim::start().await;
    victim.assert_serves("nothing").await;
    let path = victim.tunnel_path();
    let server = victim.server.address();
    let before = resident(&mut victim.server);
    let peer = tokio::task::spawn_blocking(move || {
        let mut config = config();
        config.set_initial_max_stream_data_bidi_local(1024);
        let mut peer = Peer::new(server, ATTACKER, &mut config);
        peer.until("the handshake", |quic| quic.is_established());
        // No datagrams: every answer of the target has to become a capsule.
        peer.send(2, &[0x00, 0x04, 0x00], false);
        peer.send(0, &tunnel(&path), false);
        peer.until("an answer", |quic| quic.stream_readable(0));
        let capsule = [&[0x00][..], &varint(1001), &[0; 1001]].concat();
        for _ in 0..20_000 {
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
    .await
    .unwrap();
    let grown = resident(&mut victim.server).saturating_sub(before);
    assert!(grown < 8 * MIB, "{grown} bytes");
    assert!(!peer.is_over(), "the connection has other streams");
    victim.assert_serves("a client that does not read").await;
}
