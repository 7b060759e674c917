//! [`under_attack`]: an attack, and how somebody else fares meanwhile.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Figures, Victim};
use crate::kit::{Pinger, Pings, echo, open, resident};

/// What an attack has come to.
#[derive(Debug)]
pub(super) struct Outcome<T> {
    /// What the attacker has seen.
    pub(super) result: T,
    /// Memory that the server has held meanwhile at most, beyond what it held before, in bytes.
    pub(super) grown: u64,
    /// How a tunnel of somebody else has fared.
    pub(super) pings: Pings,
    /// Lines that the server has written to its log, and how long the attack took.
    pub(super) lines: usize,
    pub(super) time: Duration,
}

impl<T> Outcome<T> {
    /// What every attack is held to.
    pub(super) fn figures(&self, memory: u64, loss: f64) -> Figures {
        let mut figures = Figures::default();
        figures.memory("memory of the server, more", self.grown, memory);
        self.pings.judge(&mut figures, loss);
        figures
    }
}

impl Pings {
    /// Adds what a bystander may lose, and how late its datagrams may be.
    pub(super) fn judge(&self, figures: &mut Figures, loss: f64) {
        figures.share(
            format!("a bystander's loss, of {}", self.sent),
            self.loss(),
            loss,
        );
        let late = self.within(0.99);
        figures.time(
            "a bystander's round trip, p99",
            late,
            Duration::from_millis(50),
        );
    }
}

/// Runs `attack` on a thread that may block, while somebody else uses a tunnel.
pub(super) async fn under_attack<T: Send + 'static>(
    victim: &mut Victim,
    attack: impl FnOnce(SocketAddr) -> T + Send + 'static,
) -> Outcome<T> {
    let connection = victim.server.connect().await.unwrap();
    let mut bystander = open(&connection, "127.0.0.1", victim.target.address().port()).await;
    echo(&mut bystander, b"warm").await;
    let pinger = Pinger::start(bystander);
    // The memory that any connection takes is not the attack's.
    victim.assert_serves("nothing").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = resident(&mut victim.server);
    let lines_before = victim.log_len();
    let address = victim.server.address();
    let start = Instant::now();
    let attack = tokio::task::spawn_blocking(move || attack(address));
    let mut peak = before;
    while !attack.is_finished() {
        peak = peak.max(resident(&mut victim.server));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let result = attack.await.unwrap();
    let time = start.elapsed();
    let grown = peak.max(resident(&mut victim.server)) - before;
    let lines = victim.log_len() - lines_before;
    let pings = pinger.finish().await;
    victim.assert_serves("the attack").await;
    // The tunnel's connection has not been replaced.
    let mut tunnel = open(&connection, "127.0.0.1", victim.target.address().port()).await;
    echo(&mut tunnel, b"still").await;
    Outcome {
        result,
        grown,
        pings,
        lines,
        time,
    }
}
