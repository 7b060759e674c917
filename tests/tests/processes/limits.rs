//! A server that is short of something.

use std::time::{Duration, Instant};

use pasque_tests::EchoTarget;
use serde_json::json;
use tokio::time::sleep;

use crate::common::{
    echo, files, get, open, refusal, server, server_after, server_by, try_open, udp,
};

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

#[tokio::test]
async fn udp_16_out_of_descriptors_new_tunnels_get_503_and_old_ones_live() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "a").unwrap();
    let target = EchoTarget::on_loopback().await.unwrap();
    let port = target.address().port();
    let endpoints = json!([udp(&["127.0.0.1"]), files(folder.path())]);
    let program = server_after("ulimit -n 64", folder.path());
    let mut server = server_by(&program, json!({ "endpoints": endpoints })).await;
    let connection = server.connect().await.unwrap();

    let mut tunnels = Vec::new();
    let error = loop {
        match try_open(&connection, "127.0.0.1", port).await {
            Ok(tunnel) => tunnels.push(tunnel),
            Err(error) => break error,
        }
        assert!(tunnels.len() < 64);
    };
    let (status, proxy_status) = refusal(&error);
    assert_eq!(status, 503, "{proxy_status}");
    assert!(tunnels.len() > 20, "{}", tunnels.len());

    // Whoever goes on asking gets the same answer, and costs little.
    let id = server.process().id().unwrap();
    let (start, used) = (Instant::now(), processor_time(id));
    while start.elapsed() < Duration::from_secs(2) {
        let error = try_open(&connection, "127.0.0.1", port)
            .await
            .err()
            .unwrap();
        assert_eq!(refusal(&error).0, 503);
        for tunnel in &mut tunnels {
            echo(tunnel, b"old").await;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let share = (processor_time(id) - used).as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(share < 0.5, "{share} of a processor");
    // A new connection needs no descriptor, and a file that cannot be opened is no file missing.
    let second = server.connect().await.unwrap();
    let (status, _) = get(&second, "/files/a.txt").await;
    assert!(status == 503 || status == 500, "{status}");
    let lines = server.process().output().lines().count();
    assert!(lines < 50, "{lines} lines");

    // As soon as there are descriptors again, all is as it was.
    tunnels.truncate(10);
    let freed = Instant::now();
    let mut tunnel = loop {
        match try_open(&connection, "127.0.0.1", port).await {
            Ok(tunnel) => break tunnel,
            Err(error) => assert_eq!(refusal(&error).0, 503),
        }
        assert!(freed.elapsed() < Duration::from_secs(1));
        sleep(Duration::from_millis(20)).await;
    };
    echo(&mut tunnel, b"new").await;
    assert_eq!(
        get(&second, "/files/a.txt").await,
        (http::StatusCode::OK, b"a".to_vec())
    );
}

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
