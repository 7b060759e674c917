//! Clients that make a server keep what it has sent, or what it was sent.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::bystander::under_attack;
use super::peer::{Peer, config, request};
use super::{ATTACKER, Figures, Length, MIB, Victim};

/// What a client may send before any of it was read, in bytes, and the streams it may have.
const FIRST_WINDOW: u64 = 128 << 10;
const STREAMS: u64 = 100;

/// What quiche may hold for a connection, but for content.
const HELD: u64 = 32 * MIB;

/// Packets that are never acknowledged to somebody who does not listen.
const PLENTY: usize = 10_000_000;

/// Packets that are sent together.
const BURST: usize = 20;

/// What the whole server may hold by default.
const BUDGET: u64 = 512 * MIB;

/// Downloads whose first packet is never acknowledged, and everything after it at once.
pub(super) async fn unacknowledged(length: Length) -> Figures {
    let count = length.pick(2, 24);
    let time = length.pick(Duration::from_secs(6), Duration::from_secs(40));
    let mut victim = Victim::start().await;
    victim.add_large_file();
    let outcome = under_attack(&mut victim, move |server| {
        at_once(count, move || download(server, time))
    })
    .await;
    let mut figures = Figures::default();
    let sent = outcome.result.into_iter().sum::<u64>() / MIB;
    // What one connection may keep, and all of them together.
    let bound = (count as u64 * 16 * MIB).min(128 * MIB) + 16 * MIB;
    figures.at_least("MiB that have come", sent as usize, length.pick(1, 100));
    figures.memory("memory of the server, more", outcome.grown, bound);
    outcome.pings.judge(&mut figures, 0.05);
    victim
        .assert_serves("downloads that are not acknowledged")
        .await;
    figures
}

/// Downloads for so long, and loses the first packet of whatever comes together: it has the bytes that
/// were lost before. Returns how many bytes have come.
fn download(server: SocketAddr, time: Duration) -> u64 {
    let mut config = config();
    config.set_initial_max_data(4 << 30);
    config.set_initial_max_stream_data_bidi_local(4 << 30);
    let mut peer = Peer::connect(server, ATTACKER, &mut config);
    peer.send(0, &request("GET", "/files/large"), true);
    let start = Instant::now();
    while start.elapsed() < time && !peer.is_over() {
        peer.receive_but_first(Duration::from_millis(5));
        peer.flush();
    }
    assert!(!peer.is_over(), "{:?}", peer.quic.peer_error());
    peer.quic.stats().recv_bytes
}

/// Streams of which the first byte never comes, and all others one by one.
pub(super) async fn fragments(length: Length) -> Figures {
    let count = length.pick(2, 16);
    let mut victim = Victim::start().await;
    let outcome = under_attack(&mut victim, move |server| {
        at_once(count, move || send_fragments(server, pause(count)))
    })
    .await;
    let mut figures = Figures::default();
    let sent: usize = outcome.result.iter().sum();
    figures.at_least("fragments of each connection", sent / count, 100_000);
    figures.memory(
        "memory of the server, more, for each connection",
        outcome.grown / count as u64,
        HELD + 8 * MIB,
    );
    outcome.pings.judge(&mut figures, 0.05);
    victim.assert_serves("fragments").await;
    figures
}

/// Sends as many fragments as the windows take. Returns how many.
fn send_fragments(server: SocketAddr, pause: Duration) -> usize {
    let mut config = config();
    // What is acknowledged it does not want to know: it would send the first byte again.
    config.set_initial_congestion_window_packets(PLENTY);
    let mut peer = Peer::connect(server, ATTACKER, &mut config);
    let mut sent = 0;
    for stream in (0..4 * STREAMS).step_by(4) {
        for n in 0..FIRST_WINDOW / STREAMS {
            assert_eq!(peer.quic.stream_send(stream, &[0], false), Ok(1));
            let packet = peer.packet().unwrap();
            if n > 0 {
                peer.transmit(&packet);
                sent += 1;
            }
            if sent % BURST == 0 {
                thread::sleep(pause);
            }
        }
    }
    sent
}

/// Asks for acknowledgements, and acknowledges none: the server keeps what it knows of each packet with
/// one.
pub(super) async fn acknowledgements(length: Length) -> Figures {
    let count = length.pick(2, 16);
    let time = length.pick(Duration::from_secs(10), Duration::from_secs(60));
    // On how many connections one after the other matters where there is time for it.
    let packets = length.pick(usize::MAX, 50_000);
    let mut victim = Victim::start().await;
    victim.add_large_file();
    let outcome = under_attack(&mut victim, move |server| {
        at_once(count, move || ask(server, time, packets, pause(count)))
    })
    .await;
    let mut figures = Figures::default();
    let sent: usize = outcome.result.iter().sum();
    // Unbounded, the server would hold more than a KiB for each.
    figures.at_least(
        "packets to acknowledge",
        sent,
        length.pick(20_000, 1_000_000),
    );
    // Each connection may have its share, and all together the budget.
    let bound = (count as u64 * HELD).min(BUDGET) + 64 * MIB;
    figures.memory("memory of the server, more", outcome.grown, bound);
    outcome.pings.judge(&mut figures, 0.05);
    victim.assert_serves("acknowledgements").await;
    figures
}

/// Asks for so long, with so many packets on each connection, and loses every second one: the server tells of
/// all gaps each time. Returns how many packets came.
fn ask(server: SocketAddr, time: Duration, packets: usize, pause: Duration) -> usize {
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < time {
        let mut config = config();
        config.set_initial_congestion_window_packets(PLENTY);
        let mut peer = Peer::new(server, ATTACKER, &mut config);
        let begun = Instant::now();
        while !peer.quic.is_established() && begun.elapsed() < Duration::from_secs(1) {
            peer.flush();
            peer.receive(Duration::from_millis(20));
        }
        if !peer.quic.is_established() {
            // The server takes nobody for the moment.
            continue;
        }
        // Somebody who waits for an answer is not idle.
        let _ = peer
            .quic
            .stream_send(0, &request("GET", "/files/large"), true);
        peer.idle(Duration::from_millis(50));
        for _ in 0..packets / BURST {
            for _ in 0..BURST {
                let _ = peer.quic.send_ack_eliciting();
                let lost = peer.packet();
                let _ = peer.quic.send_ack_eliciting();
                if let (Some(_), Some(packet)) = (lost, peer.packet()) {
                    peer.transmit(&packet);
                    sent += 1;
                }
            }
            if start.elapsed() >= time {
                break;
            }
            thread::sleep(pause);
        }
    }
    sent
}

/// How long each of so many waits after a burst, so that the machine is not what gives way.
fn pause(count: usize) -> Duration {
    Duration::from_micros(250) * count as u32
}

/// Runs so many at once, each on a thread.
fn at_once<T: Send>(count: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    })
}
