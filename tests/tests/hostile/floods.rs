//! The budget of resets, to the reset.

use std::time::Duration;

use h3i::quiche::Shutdown;
use pasque_tests::hostile::ATTACKER;
use pasque_tests::hostile::peer::{Peer, config, tunnel};

use crate::{QUIET, Victim};

const EXCESSIVE_LOAD: u64 = 0x107;
const REQUEST_CANCELLED: u64 = 0x10c;

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
