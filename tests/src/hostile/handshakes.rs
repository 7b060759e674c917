//! Handshakes that nobody means to finish.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::bystander::under_attack;
use super::peer::{Peer, config};
use super::{ATTACKER, Figures, Length, MIB, Victim};
use crate::PATIENCE;

/// A handshake that is given up after the server's first flight.
pub(super) fn abandon(server: SocketAddr, config: &mut h3i::quiche::Config) -> Peer {
    let mut peer = Peer::new(server, ATTACKER, config);
    // The first flight is answered by a Retry, the second by the server's: and that is it.
    peer.flush();
    peer.receive(Duration::from_millis(200));
    peer.flush();
    peer
}

/// Many handshakes from one address that are given up, and what that address gets afterwards.
pub(super) async fn abandoned_handshakes(length: Length) -> Figures {
    let count = length.pick(200, 2000);
    let limits = json!({ "handshake_timeout_ms": 2000 });
    let mut victim = Victim::with_limits(limits).await;
    let outcome = under_attack(&mut victim, move |server| {
        let mut config = config();
        let abandoned: Vec<_> = (0..count).map(|_| abandon(server, &mut config)).collect();
        drop(abandoned);
        // The places of the abandoned are free again, at the latest when their time is over.
        let start = Instant::now();
        loop {
            let mut peer = Peer::new(server, ATTACKER, &mut config);
            peer.idle(Duration::from_millis(300));
            if peer.quic.is_established() && !peer.is_over() {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < PATIENCE,
                "its places are never free again"
            );
        }
    })
    .await;
    let mut figures = outcome.figures(16 * MIB, 0.05);
    // The time for a handshake, and then three of the longest time-outs that a close is kept for.
    let again = Duration::from_secs(7);
    figures.time(
        "until the attacker's address is served",
        outcome.result,
        again,
    );
    figures
}
