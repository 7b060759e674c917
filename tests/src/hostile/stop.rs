//! The end of a server that is busy.

use std::time::{Duration, Instant};

use pasque::connection::CloseReason;
use rustix::process::Signal;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Figures, Length, Victim};
use crate::PATIENCE;
use crate::kit::{open, until};

/// SIGTERM while many clients send as fast as their tunnels take it.
pub(super) async fn graceful_stop(length: Length) -> Figures {
    let count = length.pick(20, 100);
    let limits = json!({ "connections_per_address": 1000 });
    let mut victim = Victim::with_limits(limits).await;
    let port = victim.target.address().port();
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let connection = victim.server.connect().await.unwrap();
        let tunnel = open(&connection, "127.0.0.1", port).await;
        clients.spawn(async move {
            let flood = async {
                loop {
                    for _ in 0..16 {
                        tunnel.send(vec![0; 1000]);
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = flood => None,
                reason = connection.closed() => Some(reason),
            }
        });
    }
    until("the load", || victim.target.count() > 100 * count as u64).await;
    let process = victim.server.process();
    let start = Instant::now();
    process.signal(Signal::TERM).unwrap();
    let status = process.exit().await.unwrap();
    let time = start.elapsed();
    let mut told = 0;
    while let Ok(Some(reason)) = timeout(PATIENCE, clients.join_next()).await {
        told += usize::from(matches!(reason.unwrap(), Some(CloseReason::Peer)));
    }
    let mut figures = Figures::default();
    figures.exactly("exit code", status.code().unwrap_or(-1) as usize, 0);
    figures.exactly("clients that were told", told, count);
    figures.time("until the server has ended", time, Duration::from_secs(5));
    figures
}
