//! Limits of a connection and of an address. What happens where the host is short of something is in
//! the hostile suite.

use std::time::{Duration, Instant};

use pasque_tests::EchoTarget;
use serde_json::json;
use tokio::time::sleep;

use crate::common::{echo, open, refusal, server, try_open, udp};

#[tokio::test]
async fn h3_29_over_the_limit_a_tunnel_is_refused_and_the_others_live() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    let config = json!({
        "limits": { "tunnels_per_connection": 2 },
        "endpoints": [udp(&["127.0.0.1"])],
    });
    let server = server(config).await;
    let connection = server.connect().await.unwrap();
    let mut first = open(&connection, "127.0.0.1", port).await;
    let mut second = open(&connection, "127.0.0.1", port).await;
    for _ in 0..10 {
        let error = try_open(&connection, "127.0.0.1", port)
            .await
            .err()
            .unwrap();
        let (status, proxy_status) = refusal(&error);
        assert_eq!(status, 503);
        assert!(
            proxy_status.ends_with("error=connection_limit_reached"),
            "{proxy_status}"
        );
    }
    echo(&mut first, b"first").await;
    echo(&mut second, b"second").await;
    drop(first);
    // Its place is free once its end has travelled.
    let mut third = loop {
        if let Ok(tunnel) = try_open(&connection, "127.0.0.1", port).await {
            break tunnel;
        }
        sleep(Duration::from_millis(10)).await;
    };
    echo(&mut third, b"third").await;
    // Another connection has limits of its own.
    let other = server.connect().await.unwrap();
    echo(&mut open(&other, "127.0.0.1", port).await, b"other").await;
}

#[tokio::test]
async fn more_connections_than_an_address_may_have_are_refused_at_once() {
    let config = json!({
        "limits": { "connections_per_address": 3 },
        "endpoints": [udp(&["127.0.0.1"])],
    });
    let target = EchoTarget::on_loopback().await.unwrap();
    let server = server(config).await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(server.connect().await.unwrap());
    }
    let start = Instant::now();
    let error = server.connect().await.unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
    assert!(!error.to_string().is_empty());
    for connection in &connections {
        echo(
            &mut open(connection, "127.0.0.1", target.address().port()).await,
            b"in",
        )
        .await;
    }
    connections.pop().unwrap().close();
    let start = Instant::now();
    while server.connect().await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_makes_room_and_a_tunnel_does_not() {
    let config = json!({
        "limits": { "connections": 2 },
        "endpoints": [udp(&["127.0.0.1"])],
    });
    let target = EchoTarget::on_loopback().await.unwrap();
    let mut server = server(config).await;
    let busy = server.connect().await.unwrap();
    let mut tunnel = open(&busy, "127.0.0.1", target.address().port()).await;
    // Its keepalive would hold the place for ever.
    let idle = server.connect().await.unwrap();
    let start = Instant::now();
    while server.connect().await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        start.elapsed() > Duration::from_secs(8),
        "{:?}",
        start.elapsed()
    );
    idle.closed().await;
    echo(&mut tunnel, b"goes on").await;
    let line = "all places are taken";
    assert!(
        server.process().output().contains(line),
        "{}",
        server.process().output()
    );
}
