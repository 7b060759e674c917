//! A tunnel's socket goes when its tunnel goes. Alone in its process, for it counts descriptors.

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

use std::fs;
use std::task::Poll;
use std::time::Duration;

use pasque::{Batch, Error, Flow, FlowCx, Request, Result};
use tokio::net::UdpSocket;

use crate::common::*;

/// A client that resets its stream.
struct Reset;

impl Flow for Reset {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        Ok(())
    }

    fn poll_outbound(&mut self, _cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        Poll::Ready(Err(Error::bad_request("enough")))
    }
}

fn sockets() -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

async fn assert_sockets(expected: usize, how: &str) {
    for _ in 0..100 {
        if sockets() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(sockets(), expected, "{how}");
}

#[tokio::test]
async fn udp_19_the_socket_is_released_however_the_stream_ends() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let path = path_to(target.local_addr().unwrap());
    let server = server(LOOPBACK, None).await;
    let before = sockets();

    let tunnel = open(&server, &path).await;
    assert_eq!(sockets(), before + 1);
    drop(tunnel);
    assert_sockets(before, "FIN").await;

    let request = Request::tunnel("connect-udp", &*path);
    let opened = server.connection().open(request, Reset).await.unwrap();
    opened.ended().await.unwrap_err();
    assert_sockets(before, "reset").await;

    for _ in 0..10 {
        refusal(&server, "/udp/10.0.0.1/53/").await;
    }
    assert_sockets(before, "refused").await;

    let tunnels = {
        let mut tunnels = Vec::new();
        for _ in 0..20 {
            tunnels.push(open(&server, &path).await);
        }
        tunnels
    };
    assert_eq!(sockets(), before + 20);
    drop(tunnels);
    assert_sockets(before, "all at once").await;
}
