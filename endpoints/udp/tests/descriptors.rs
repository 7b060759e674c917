//! Many tunnels, and more than there are descriptors. Alone in its process, for it sets limits.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test opens the targets, and stands for local programs"
)]

mod common;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::*;

const TUNNELS: usize = 1000;

fn limit_descriptors(current: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(current),
        maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn udp_16_without_descriptors_a_tunnel_is_503_and_the_old_ones_live() {
    let target = Echo::start("127.0.0.1").await;
    let path = path_to(target.address);
    let server = server(LOOPBACK, None).await;

    limit_descriptors(64);
    let mut tunnels = Vec::new();
    let refused = loop {
        match server.connect("connect-udp", &path).await {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(_) => break refusal(&server, &path).await,
        }
    };
    assert_eq!(refused, refused_with(503, "connection_limit_reached"));
    assert!((20..64).contains(&tunnels.len()));
    for tunnel in &mut tunnels {
        tunnel.send(b"\0hi");
        tunnel.recv().await;
    }
    tunnels.pop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    tunnels.push(open(&server, &path).await);

    limit_descriptors(TUNNELS as u64 + 100);
    let before = resident_bytes();
    while tunnels.len() < TUNNELS {
        tunnels.push(open(&server, &path).await);
    }
    for round in 0..3 {
        // Not all at once, for the one target's socket has no room for a thousand.
        for some in tunnels.chunks_mut(100) {
            for tunnel in &mut *some {
                tunnel.send(&[0, round]);
            }
            for tunnel in some {
                assert_eq!(tunnel.recv().await[..], [0, round]);
            }
        }
    }
    let per_tunnel = resident_bytes().saturating_sub(before) / TUNNELS;
    assert!(per_tunnel < 16 << 10, "{per_tunnel} bytes per tunnel");
}
