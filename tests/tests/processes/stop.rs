//! The end of a server, as its clients and its supervisor see it.

use std::time::{Duration, Instant};

use pasque::connection::CloseReason;
use pasque::testing::TestTunnel;
use pasque::{Connection, Request};
use pasque_tests::{EchoTarget, PATIENCE, Process, program};
use rustix::process::Signal;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::common::{ask, client, echo, files, open, server, try_open, udp, user};

/// How the client says that the connection is lost.
const LOST: i32 = 5;

/// The exit code of a process that ends by itself, and how long that has taken.
async fn end(process: &mut Process) -> (Option<i32>, Duration) {
    let start = Instant::now();
    let status = process.exit().await.unwrap();
    (status.code(), start.elapsed())
}

#[tokio::test]
async fn h3_24_a_killed_server_is_noticed_within_ten_seconds() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let mut server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = target.address().to_string();
    // One that was used, and one that waits for its first datagram.
    let mut busy = client(&server, ["--no-reconnect", "-u", &target]);
    let mut idle = client(&server, ["--no-reconnect", "-u", &target]);
    let user = user(&mut busy, &target).await;
    assert_eq!(ask(&user, b"alive").await, b"alive");
    idle.line("forwarding").await.unwrap();

    server.process().signal(Signal::KILL).unwrap();
    let (busy_end, idle_end) = tokio::join!(end(&mut busy), end(&mut idle));
    for ((code, time), process) in [(busy_end, busy), (idle_end, idle)] {
        let said = process.output();
        assert_eq!(code, Some(LOST), "{said}");
        assert!(time < Duration::from_secs(10), "{time:?}");
        assert!(
            said.contains("psq-client: tunnels: the connection ended: "),
            "{said}"
        );
    }
}

#[tokio::test]
async fn h3_19_sigterm_ends_the_server_and_its_clients_know_at_once() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let mut server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = target.address().to_string();
    let mut with_tunnel = client(&server, ["--no-reconnect", "-u", &target]);
    let mut without = client(&server, ["--no-reconnect", "-u", &target]);
    let user = user(&mut with_tunnel, &target).await;
    assert_eq!(ask(&user, b"alive").await, b"alive");
    without.line("forwarding").await.unwrap();

    server.process().signal(Signal::TERM).unwrap();
    let (a, b, ended) = tokio::join!(
        end(&mut with_tunnel),
        end(&mut without),
        end(server.process())
    );
    for (code, time) in [a, b] {
        assert_eq!(code, Some(LOST));
        assert!(time < Duration::from_secs(2), "{time:?}");
    }
    let (code, time) = ended;
    assert_eq!(code, Some(0), "{}", server.process().output());
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[tokio::test]
async fn h3_19_a_tunnel_goes_on_while_the_server_drains_and_nothing_new_starts() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let config = json!({
        "limits": { "drain_ms": 2000 },
        "endpoints": [udp(&["127.0.0.1"])],
    });
    let mut server = server(config).await;
    let port = target.address().port();
    let connection = server.connect().await.unwrap();
    let mut tunnel = open(&connection, "127.0.0.1", port).await;
    echo(&mut tunnel, b"before").await;
    server.process().signal(Signal::TERM).unwrap();
    let told = Instant::now();
    // GOAWAY travels at once.
    sleep(Duration::from_millis(200)).await;
    assert!(try_open(&connection, "127.0.0.1", port).await.is_err());
    while told.elapsed() < Duration::from_millis(1500) {
        echo(&mut tunnel, b"during").await;
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(
        timeout(PATIENCE, connection.closed()).await.unwrap(),
        CloseReason::Peer
    );
    let (code, _) = end(server.process()).await;
    assert_eq!(code, Some(0));
    assert!(
        told.elapsed() < Duration::from_secs(5),
        "{:?}",
        told.elapsed()
    );
}

/// Sends datagrams as fast as a tunnel takes them, and downloads one file after the other, until
/// the connection ends.
async fn load(connection: Connection, tunnel: TestTunnel) {
    let flood = async {
        loop {
            for _ in 0..64 {
                tunnel.send(vec![0; 1000]);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let downloads = async {
        while let Ok(mut response) = connection.request(Request::get("/files/large")).await {
            while let Some(Ok(_)) = response.body.next().await {}
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = flood => {}
        () = downloads => {}
        _ = connection.closed() => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_19_sigterm_ends_a_server_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let large = std::fs::File::create(folder.path().join("large")).unwrap();
    large.set_len(1 << 30).unwrap();
    let target = EchoTarget::on_loopback().await.unwrap();
    let endpoints = json!([udp(&["127.0.0.1"]), files(folder.path())]);
    let mut server = server(json!({ "endpoints": endpoints })).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let connection = server.connect().await.unwrap();
        let tunnel = open(&connection, "127.0.0.1", target.address().port()).await;
        clients.push(tokio::spawn(load(connection, tunnel)));
    }
    crate::common::until("the load", || target.count() > 1000).await;

    server.process().signal(Signal::TERM).unwrap();
    let (code, time) = end(server.process()).await;
    assert_eq!(code, Some(0), "{}", server.process().output());
    assert!(time < Duration::from_secs(5), "{time:?}");
    // Every client was told; none had to find out by silence.
    for client in clients {
        timeout(Duration::from_secs(2), client)
            .await
            .expect("a close")
            .unwrap();
    }
}

#[tokio::test]
async fn a_client_is_ended_by_each_signal_and_its_local_port_is_free_again() {
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut client = client(&server, ["-u", "127.0.0.1:9"]);
        let line = client.line("forwarding").await.unwrap();
        let local = line.split_whitespace().nth(1).unwrap().to_owned();
        client.signal(signal).unwrap();
        let (code, time) = end(&mut client).await;
        assert_eq!(code, Some(0), "{}", client.output());
        assert!(time < Duration::from_secs(2), "{time:?}");
        std::net::UdpSocket::bind(local).unwrap();
    }
}

#[tokio::test]
async fn a_client_under_nohup_outlives_its_terminal() {
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = EchoTarget::on_loopback().await.unwrap();
    let target = target.address().to_string();
    let (client, url) = (program("psq-client"), server.url());
    let arguments = [client.to_str().unwrap(), "-d", &url, "--pin", server.pin()];
    let arguments = arguments.into_iter().chain(["-u", &target]);
    let mut client = Process::start("/usr/bin/nohup".as_ref(), arguments).unwrap();
    let user = user(&mut client, &target).await;
    client.signal(Signal::HUP).unwrap();
    assert_eq!(ask(&user, b"still there").await, b"still there");
    assert_eq!(client.terminate().await.unwrap().code(), Some(0));
}
