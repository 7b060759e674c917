//! A server that is short of something.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use h3i::quiche::Shutdown;
use pasque::testing::TestTunnel;
use serde_json::json;
use tokio::task::JoinHandle;

use super::peer::{Peer, config, request, tunnel, varint};
use super::{Figures, Length, MIB, Victim};
use crate::PATIENCE;
use crate::kit::{echo, get, open, refusal, resident, try_open};

/// Processor time that a process has used so far.
fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name of the program, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|&at| fields[at].parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// Sixty-four descriptors, and a client that wants more tunnels than that.
pub(super) async fn descriptors(length: Length) -> Figures {
    // Longer than what a policy knows of the interfaces is good for.
    let time = length.pick(Duration::from_secs(6), Duration::from_secs(10));
    let mut victim = Victim::after("ulimit -n 64", json!({})).await;
    let port = victim.target.address().port();
    let connection = victim.server.connect().await.unwrap();
    let mut tunnels = Vec::new();
    let error = loop {
        match try_open(&connection, "127.0.0.1", port).await {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(error) => break error,
        }
        assert!(tunnels.len() < 64);
    };
    let mut refusals = vec![refusal(&error).0];
    let mut figures = Figures::default();
    figures.at_least("tunnels before there are no descriptors", tunnels.len(), 21);

    // Whoever goes on asking gets the same answer, and costs little.
    let lines = victim.log_len();
    let id = victim.server.process().id().unwrap();
    let (start, used) = (Instant::now(), processor_time(id));
    while start.elapsed() < time {
        let error = try_open(&connection, "127.0.0.1", port).await.err();
        refusals.push(refusal(&error.unwrap()).0);
        for tunnel in &mut tunnels {
            echo(tunnel, b"old").await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let share = (processor_time(id) - used).as_secs_f64() / start.elapsed().as_secs_f64();
    let right = refusals.iter().filter(|status| status.as_u16() == 503);
    figures.exactly("refusals that are a 503", right.count(), refusals.len());
    figures.speed("processor time", share, 0.1);
    let allowed = 10.0 * start.elapsed().as_secs_f64();
    let lines = victim.log_len() - lines;
    figures.at_most("lines in the log, ten a second", lines, allowed as usize);
    // A new connection needs no descriptor, and a file that cannot be opened is no file missing.
    let second = victim.server.connect().await.unwrap();
    let (status, _) = get(&second, "/files/a.txt").await;
    assert!(status == 503 || status == 500, "{status}");

    // As soon as there are descriptors again, all is as it was.
    tunnels.truncate(10);
    let freed = Instant::now();
    let mut tunnel = loop {
        match try_open(&connection, "127.0.0.1", port).await {
            Ok(tunnel) => break tunnel,
            Err(error) => assert_eq!(refusal(&error).0, 503),
        }
        assert!(freed.elapsed() < PATIENCE, "there is no recovery");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    echo(&mut tunnel, b"new").await;
    figures.time("until all is well", freed.elapsed(), Duration::from_secs(1));
    victim.assert_serves("the shortage").await;
    figures
}

/// The data that a server may hold, in KiB as `ulimit` takes it: 256 MiB.
const DATA: &str = "ulimit -d 262144";

/// Everything at once, from many addresses, for as long as `goes_on` holds.
fn mixed_flood(server: SocketAddr, path: &str, number: u8, goes_on: &AtomicBool) {
    let from = [127, 0, 3, number].into();
    while goes_on.load(Ordering::Relaxed) {
        let mut transport = config();
        if number.is_multiple_of(2) {
            // Nothing of what was asked for is ever read.
            transport.set_initial_max_stream_data_bidi_local(1024);
        }
        let mut peer = Peer::new(server, from, &mut transport);
        let start = Instant::now();
        while !peer.quic.is_established() && !peer.is_over() && start.elapsed() < PATIENCE {
            peer.flush();
            peer.receive(Duration::from_millis(20));
        }
        let _ = peer
            .quic
            .stream_send(2, &[0x00, 0x04, 0x02, 0x33, 0x01], false);
        let mut stream = 0;
        while goes_on.load(Ordering::Relaxed) && !peer.is_over() && stream < 4 * 2000 {
            while peer.quic.peer_streams_left_bidi() > 0 {
                let wanted = match stream / 4 % 3 {
                    0 => request("GET", "/files/large"),
                    1 => tunnel(path),
                    // Half a capsule, of which the server must keep what has come.
                    _ => [
                        tunnel(path),
                        super::peer::data(&[&[0x00][..], &varint(60_000), &[0; 30_000]].concat()),
                    ]
                    .concat(),
                };
                if peer.quic.stream_send(stream, &wanted, false).is_err() {
                    break;
                }
                if stream / 4 % 7 == 6 {
                    let _ = peer.quic.stream_shutdown(stream, Shutdown::Write, 0x10c);
                }
                stream += 4;
            }
            for n in 0..64 {
                let datagram = [&varint(n % 32)[..], &[0; 1000]].concat();
                let _ = peer.quic.dgram_send(&datagram);
            }
            peer.flush();
            peer.receive(Duration::from_millis(5));
        }
    }
}

/// The least budget of memory that there is, in MiB, and when clients that have vanished are forgotten.
const BUDGET: u64 = 32;
const IDLE_MS: u64 = 3000;

/// Mixed floods of some attackers. They end with the scenario also when that fails: the runtime waits for
/// their threads.
struct Floods {
    goes_on: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Floods {
    fn start(victim: &Victim, attackers: u8) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let (server, path) = (victim.server.address(), victim.tunnel_path());
        let start = |number| {
            let (goes_on, path) = (goes_on.clone(), path.clone());
            tokio::task::spawn_blocking(move || mixed_flood(server, &path, number, &goes_on))
        };
        let threads = (1..=attackers).map(start).collect();
        Self { goes_on, threads }
    }

    async fn end(mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.await.unwrap();
        }
    }
}

impl Drop for Floods {
    fn drop(&mut self) {
        self.goes_on.store(false, Ordering::Relaxed);
    }
}

/// Whether a datagram comes back. In a flood some are lost, but never the tunnel.
async fn is_answered(tunnel: &mut TestTunnel) -> bool {
    tunnel.send(&[0, 1]);
    let answer = tokio::time::timeout(Duration::from_millis(500), tunnel.0.recv()).await;
    answer.is_ok_and(|packet| packet.is_some() || panic!("the tunnel is gone"))
}

/// The same flood upon a server that sheds load before its memory is used up.
pub(super) async fn budget(length: Length) -> Figures {
    let attackers = length.pick(16, 32);
    let time = length.pick(Duration::from_secs(4), Duration::from_secs(60));
    let limits = json!({ "memory_budget_mib": BUDGET, "idle_timeout_ms": IDLE_MS });
    let mut victim = Victim::with_limits(limits).await;
    victim.add_large_file();
    let port = victim.target.address().port();
    // Of somebody who was there before.
    let connection = victim.server.connect().await.unwrap();
    let mut tunnel = open(&connection, "127.0.0.1", port).await;
    let floods = Floods::start(&victim, attackers);
    let start = Instant::now();
    let (mut rounds, mut refused) = (0, 0);
    while start.elapsed() < time || refused == 0 {
        assert!(start.elapsed() < time + PATIENCE, "nobody is refused");
        rounds += usize::from(is_answered(&mut tunnel).await);
        refused += usize::from(victim.server.connect().await.is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    floods.end().await;
    let over = Instant::now();
    let mut figures = Figures::default();
    figures.at_least("datagrams of a tunnel from before", rounds, 1);
    figures.at_least("connections refused meanwhile", refused, 1);
    while victim.server.connect().await.is_err() {
        assert!(over.elapsed() < PATIENCE, "there is no recovery");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    figures.time(
        "somebody is served after",
        over.elapsed(),
        Duration::from_secs(5),
    );
    victim.assert_serves("the flood").await;
    let log = victim.server.process().output();
    let lines = log.lines().filter(|line| line.contains("memory:")).count();
    figures.at_least("lines about memory in the log", lines, 1);
    let allowed = 2 * start.elapsed().as_secs() as usize;
    figures.at_most("lines about memory, two a second", lines, allowed);
    figures
}

/// A flood of everything upon a server that may not hold more than 256 MiB.
pub(super) async fn memory(length: Length) -> Figures {
    let attackers = length.pick(4, 16);
    let time = length.pick(Duration::from_secs(2), Duration::from_secs(600));
    let mut victim = Victim::after(DATA, json!({})).await;
    victim.add_large_file();
    let floods = Floods::start(&victim, attackers);
    let start = Instant::now();
    let mut peak = 0;
    while start.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(50)).await;
        peak = peak.max(resident(&mut victim.server));
    }
    floods.end().await;
    let over = Instant::now();
    victim.assert_serves("the flood").await;
    let connection = victim.server.connect().await.unwrap();
    let port = victim.target.address().port();
    echo(&mut open(&connection, "127.0.0.1", port).await, b"served").await;
    let mut figures = Figures::default();
    figures.memory("memory of the server at most", peak, 256 * MIB);
    figures.time(
        "somebody is served after",
        over.elapsed(),
        Duration::from_secs(5),
    );
    figures
}
