//! A name server that does not answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pasque::testing::dns::{Answer, DnsServer};
use serde_json::json;
use tokio::task::JoinSet;

use super::peer::{Peer, config, tunnel};
use super::{Figures, Length, Victim};
use crate::kit::{path, refusal, try_open, until};

/// Requests of one connection at a time.
const EACH: usize = 50;

/// Where somebody sits who has nothing to do with it.
const BYSTANDER: [u8; 4] = [127, 0, 0, 99];

/// How long `count` tunnels take to be of use, longest last. They lead to an address and to a name in
/// turn.
fn set_up(server: SocketAddr, port: u16, count: u64) -> Vec<Duration> {
    let mut peer = Peer::connect(server, BYSTANDER.into(), &mut config());
    let mut times = Vec::new();
    for n in 0..count {
        let host = ["127.0.0.1", "known.example"][n as usize % 2];
        let start = Instant::now();
        peer.send(4 * n, &tunnel(&path(host, port)), false);
        peer.until("an answer", |quic| quic.stream_readable(4 * n));
        // Its quarter stream ID in two bytes, and context 0.
        let prefix = (n as u16 | 1 << 14).to_be_bytes();
        let datagram = [&prefix[..], b"\0served"].concat();
        peer.quic.dgram_send(&datagram).unwrap();
        peer.until("the echo", |quic| quic.dgram_recv_queue_len() > 0);
        peer.quic.dgram_recv(&mut [0; 64]).unwrap();
        times.push(start.elapsed());
        peer.send(4 * n, b"", true);
        peer.until("the end", |quic| quic.stream_readable(4 * n));
        peer.read(4 * n);
    }
    times.sort();
    times
}

fn p99(times: &[Duration]) -> Duration {
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}

/// Tunnels to names that are never resolved, while somebody opens tunnels to addresses, and to names
/// that are.
pub(super) async fn hanging_lookups(length: Length) -> Figures {
    let count = length.pick(100, 1000);
    let others = length.pick(40, 300);
    let names = DnsServer::start(|question| match question.name.starts_with("silent") {
        true => Answer::Silence,
        false => Answer::addresses(["127.0.0.1"]),
    });
    let names = names.await.unwrap();
    let config = json!({
        "resolver": names.address(), "limits": { "connections_per_address": 1000 },
    });
    let victim = Victim::with(config).await;
    let (server, port) = (victim.server.address(), victim.target.address().port());
    let set_up = move || tokio::task::spawn_blocking(move || set_up(server, port, others));
    let alone = set_up().await.unwrap();

    let mut hanging = JoinSet::new();
    let asked = names.queries();
    for n in 0..count / EACH {
        let connection = victim.server.connect().await.unwrap();
        for m in 0..EACH {
            let connection = connection.clone();
            hanging.spawn(async move {
                let start = Instant::now();
                let host = format!("silent{n}-{m}.example");
                let error = try_open(&connection, &host, port).await.err();
                (start.elapsed(), error.map(|error| refusal(&error)))
            });
        }
    }
    until("questions", || names.queries() > asked + 10).await;
    let beside = set_up().await.unwrap();
    let hanging = hanging.join_all().await;

    let right = hanging.iter().filter(|(_, answer)| {
        answer.as_ref().is_some_and(|(status, field)| {
            status.as_u16() == 504 && field.ends_with("error=dns_timeout")
        })
    });
    let mut figures = Figures::default();
    figures.exactly("look-ups that end as dns_timeout", right.count(), count);
    let slowest = hanging.iter().map(|(time, _)| *time).max();
    // The server's own deadline, and the way there and back on a busy machine.
    let deadline = Duration::from_millis(5500);
    figures.time("the slowest of them", slowest.unwrap_or_default(), deadline);
    let (alone, beside) = (p99(&alone), p99(&beside));
    let bound = 2 * alone.max(Duration::from_millis(5));
    figures.time("somebody else's tunnel, p99", beside, bound);
    figures
}
