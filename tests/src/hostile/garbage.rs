//! Datagrams that are no QUIC, or nearly.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use super::bystander::under_attack;
use super::peer::{Peer, config};
use super::{ATTACKER, Figures, Length, MIB, Victim};
use crate::PATIENCE;

/// Within a minute, and no faster than the tunnel beside it can bear on a slow machine: what the
/// kernel drops is no fault of the server's.
const PER_SECOND: f64 = 20_000.0;
const SOCKETS: u8 = 16;
const SEED: u64 = 7;

/// Packets of a real client: its first one, the one that answers a Retry, and one of a connection.
fn specimens(server: SocketAddr) -> [Vec<u8>; 3] {
    let mut peer = Peer::new(server, ATTACKER, &mut config());
    let first = peer.packet().unwrap();
    peer.transmit(&first);
    peer.receive(PATIENCE);
    let second = peer.packet().unwrap();
    let mut peer = Peer::connect(server, ATTACKER, &mut config());
    peer.quic.stream_send(0, &[0; 900], false).unwrap();
    [first, second, peer.packet().unwrap()]
}

/// The next datagram: noise, noise with a plausible start, or a real packet that was damaged.
fn datagram(rng: &mut StdRng, specimens: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    let kind = rng.random_range(0..10);
    if kind < 5 {
        let len = if rng.random_ratio(1, 20) {
            rng.random_range(0..9000)
        } else {
            rng.random_range(0..1400)
        };
        out.resize(len, 0);
        rng.fill_bytes(out);
        match (kind, out.len()) {
            (0 | 1, _) | (_, ..7) => {}
            // A long header of version 1, of each type.
            (2 | 3, _) => {
                out[0] |= 0xc0;
                out[1..5].copy_from_slice(&1_u32.to_be_bytes());
                out[5] = rng.random_range(0..24);
            }
            // A short header whose connection ID names a worker that exists.
            _ => {
                out[0] = out[0] & 0x3f | 0x40;
                out[1] = rng.random_range(0..4);
            }
        }
        return;
    }
    out.extend_from_slice(&specimens[rng.random_range(0..specimens.len())]);
    match kind {
        5 => out.truncate(rng.random_range(0..out.len())),
        6 => out.resize(rng.random_range(out.len()..9000), 0xaa),
        _ => {
            for _ in 0..rng.random_range(1..8) {
                let at = rng.random_range(0..out.len().min(80));
                out[at] = rng.random();
            }
        }
    }
}

fn attack(server: SocketAddr, datagrams: u32) {
    println!("seed {SEED}");
    let mut rng = StdRng::seed_from_u64(SEED);
    let specimens = specimens(server);
    // From many addresses, so that every worker gets its share.
    let bind = |last| UdpSocket::bind((IpAddr::from([127, 0, 1, last]), 0)).unwrap();
    let sockets: Vec<_> = (1..=SOCKETS).map(bind).collect();
    let start = Instant::now();
    let mut out = Vec::new();
    for sent in 0..datagrams {
        datagram(&mut rng, &specimens, &mut out);
        let socket = &sockets[sent as usize % sockets.len()];
        socket.send_to(&out, server).unwrap();
        if sent % 64 == 0 {
            let due = Duration::from_secs_f64(f64::from(sent) / PER_SECOND);
            if let Some(early) = due.checked_sub(start.elapsed()) {
                std::thread::sleep(early);
            }
        }
    }
}

/// Noise, noise with a plausible start, and real packets that were damaged; from many addresses.
pub(super) async fn garbage(length: Length) -> Figures {
    let datagrams = length.pick(60_000, 1_000_000);
    let mut victim = Victim::start().await;
    let outcome = under_attack(&mut victim, move |server| attack(server, datagrams)).await;
    let mut figures = outcome.figures(16 * MIB, 0.05);
    figures.time(
        format!("time that {datagrams} datagrams took"),
        outcome.time,
        Duration::from_secs(60),
    );
    let allowed = 10.0 * outcome.time.as_secs_f64();
    figures.at_most(
        "lines in the log, ten a second",
        outcome.lines,
        allowed as usize,
    );
    figures
}
