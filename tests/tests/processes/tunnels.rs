//! Many tunnels, and much on one of them.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use pasque::{Batch, Flow, FlowCx, Request, Result};
use pasque_tests::{EchoTarget, PATIENCE};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::common::{echo, open, path, resident, server, server_after, server_by, udp};

#[tokio::test(flavor = "multi_thread")]
async fn h3_29_a_thousand_tunnels_on_one_connection_all_echo() {
    const TUNNELS: usize = 1000;
    let folder = tempfile::tempdir().unwrap();
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    let config = json!({
        "limits": { "requests_per_connection": TUNNELS + 100, "tunnels_per_connection": TUNNELS },
        "endpoints": [udp(&["127.0.0.1"])],
    });
    let program = server_after("ulimit -n 2048", folder.path());
    let mut server = server_by(&program, config).await;
    let connection = server.connect().await.unwrap();
    let mut tunnels = Vec::new();
    while tunnels.len() < TUNNELS {
        let mut opening = JoinSet::new();
        for _ in 0..50 {
            let connection = connection.clone();
            opening.spawn(async move { open(&connection, "127.0.0.1", port).await });
        }
        tunnels.extend(opening.join_all().await);
    }
    for (index, tunnel) in tunnels.iter_mut().enumerate() {
        echo(tunnel, &index.to_be_bytes()).await;
    }
    // The one beyond is refused, and those before do not notice.
    let error = crate::common::try_open(&connection, "127.0.0.1", port)
        .await
        .err()
        .unwrap();
    let (status, proxy_status) = crate::common::refusal(&error);
    assert_eq!(status, 503);
    assert!(
        proxy_status.ends_with("error=connection_limit_reached"),
        "{proxy_status}"
    );
    // All at once, too.
    for (index, tunnel) in tunnels.iter().enumerate() {
        let mut datagram = vec![0];
        datagram.extend(index.to_be_bytes());
        tunnel.send(datagram);
        if index % 100 == 99 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for (index, tunnel) in tunnels.iter_mut().enumerate() {
        assert_eq!(tunnel.recv().await[1..], index.to_be_bytes());
    }
    let each = resident(&mut server) / TUNNELS as u64;
    assert!(each < 96 << 10, "{each} bytes for each tunnel");
}

#[tokio::test]
async fn udp_17_two_connections_do_not_share_tunnels() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let first = server.connect().await.unwrap();
    let second = server.connect().await.unwrap();
    let mut kept = open(&second, "127.0.0.1", port).await;
    let mut ended = open(&first, "127.0.0.1", port).await;
    echo(&mut ended, b"first").await;
    echo(&mut kept, b"second").await;
    first.close();
    ended.ended().await;
    for n in 0..100 {
        echo(&mut kept, &[n]).await;
    }
}

/// Sends capsules, as much as it may, and hands on the datagrams that come back.
struct Capsules {
    waiting: VecDeque<(u64, Vec<u8>)>,
    received: mpsc::UnboundedSender<Vec<u8>>,
}

impl Flow for Capsules {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        for packet in inbound.drain() {
            // The test may have seen enough.
            let _ = self.received.send(packet.to_vec());
        }
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        for (kind, value) in self.waiting.drain(..) {
            cx.send_capsule(kind, &value);
        }
        Poll::Pending
    }
}

#[tokio::test]
async fn hdg_33_capsules_of_64_kib_arrive_whole_and_in_order() {
    const DATAGRAM: u64 = 0;
    const RESERVED: u64 = 0x17;
    let target = EchoTarget::on_loopback().await.unwrap();
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let connection = server.connect().await.unwrap();
    // 64 datagrams of 1 KiB between capsules that mean nothing, one of which has 64 KiB itself.
    let payloads: Vec<Vec<u8>> = (0..64_u8)
        .map(|n| [&[0, n][..], &[n; 1022]].concat())
        .collect();
    let mut waiting = VecDeque::from([(RESERVED, vec![9; 64 << 10])]);
    for payload in &payloads {
        waiting.push_back((DATAGRAM, payload.clone()));
        waiting.push_back((RESERVED, vec![9; 3]));
    }
    let (received, mut answers) = mpsc::unbounded_channel();
    let request = Request::tunnel("connect-udp", path("127.0.0.1", target.address().port()));
    let flow = Capsules { waiting, received };
    let tunnel = connection.open(request, flow).await.unwrap();
    for payload in payloads {
        let answer = timeout(PATIENCE, answers.recv()).await.unwrap().unwrap();
        assert_eq!(answer, payload);
    }
    assert_eq!(target.count(), 64);
    let still_open = timeout(Duration::from_millis(100), tunnel.ended()).await;
    assert!(still_open.is_err());
}
