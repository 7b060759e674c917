//! `server-example.json`, served by the real program: what the quick start promises.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use http::StatusCode;
use pasque::Request;
use pasque::testing::TestTunnel;
use pasque_tests::{EchoTarget, Process, Server, example_config, program, repository};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const ANY_PORT: [&str; 2] = ["-a", "127.0.0.1:0"];

async fn server() -> Server {
    let config = example_config().unwrap();
    Server::start_with(&program("psq-server"), config, ANY_PORT)
        .await
        .unwrap()
}

fn public() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../apps/psq-server/public"
    ))
}

#[test]
fn it_is_a_good_configuration_and_checking_it_leaves_nothing_behind() {
    let listing = || {
        let names = std::fs::read_dir(repository()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listing();
    let output = Command::new(program("psq-server"))
        .args(["check", "-c", "server-example.json"])
        .current_dir(repository())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("2 endpoints"),
        "{output:?}"
    );
    assert_eq!(listing(), before);
}

#[tokio::test]
async fn it_serves_the_page_and_its_picture() {
    let mut server = server().await;
    let connection = server.connect().await.unwrap();
    for (path, file) in [
        ("/files/", "index.html"),
        ("/files/pasque.png", "pasque.png"),
    ] {
        let response = connection.request(Request::get(path)).await.unwrap();
        assert_eq!(response.status, StatusCode::OK, "{path}");
        let fetched = response.body.collect(1 << 20).await.unwrap();
        assert!(
            fetched == std::fs::read(public().join(file)).unwrap(),
            "{path}"
        );
    }
    drop(connection);
    assert!(server.process().terminate().await.unwrap().success());
}

#[tokio::test]
async fn it_tunnels_to_this_machine_and_nowhere_private() {
    let server = server().await;
    let target = EchoTarget::on_loopback().await.unwrap();
    let connection = server.connect().await.unwrap();
    let port = target.address().port();
    for path in [
        format!("/udp/127.0.0.1/{port}/"),
        format!("/.well-known/masque/udp/127.0.0.1/{port}/"),
    ] {
        let request = Request::tunnel("connect-udp", path);
        let mut tunnel = TestTunnel::open(&connection, request).await.unwrap();
        tunnel.send(b"\0hello");
        assert_eq!(tunnel.recv().await[..], *b"\0hello");
    }
    assert_eq!(target.count(), 2);
    for closed in ["10.0.0.1", "169.254.169.254", "%3A%3A1"] {
        let request = Request::tunnel("connect-udp", format!("/udp/{closed}/{port}/"));
        let error = TestTunnel::open(&connection, request)
            .await
            .expect_err(closed)
            .to_string();
        assert!(
            error.contains("403") && error.contains("destination_ip_prohibited"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_programs_go_together_as_in_the_quick_start() {
    let server = server().await;
    let target = EchoTarget::on_loopback().await.unwrap();
    let client = program("psq-client");
    let (url, to) = (server.url(), target.address().to_string());
    let arguments = ["-d", &url, "--pin", server.pin(), "-u", &to];
    let mut client = Process::start(&client, arguments).unwrap();
    let line = client.line("forwarding ").await.unwrap();
    let local = line.split_whitespace().nth(1).unwrap();
    let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    user.connect(local).await.unwrap();
    let mut buffer = [0; 64];
    user.send(b"hello").await.unwrap();
    let received = timeout(Duration::from_secs(5), user.recv(&mut buffer)).await;
    assert_eq!(received.expect("an answer in time").unwrap(), 5);
    assert_eq!(&buffer[..5], b"hello");
    // Ended by its user, it has done what it was asked for.
    assert!(client.terminate().await.unwrap().success());
}

#[tokio::test]
async fn h3_19_sigterm_ends_server_and_clients_in_order() {
    let mut server = server().await;
    let connection = server.connect().await.unwrap();
    let asked = std::time::Instant::now();
    let status = server.process().terminate().await.unwrap();
    assert!(status.success(), "{}", server.process().output());
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    let reason = timeout(Duration::from_secs(1), connection.closed())
        .await
        .expect("the end in time");
    assert_eq!(reason, pasque::connection::CloseReason::Peer);
}
