//! A client whose server goes away and comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pasque::connection::ClientError;
use pasque_h3::{ClientConfig, Trust};
use pasque_tests::{EchoTarget, Process, Server};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::UdpSocket;

use crate::common::{ask, client, server, udp, user};

/// How long after the server listens again datagrams may fail to pass.
const RECOVERY: Duration = Duration::from_secs(15);

/// A server, a client that forwards to `target`, and its user, who has had an answer.
async fn in_use(target: &EchoTarget) -> (Server, Process, UdpSocket) {
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = target.address().to_string();
    let mut client = client(&server, ["-u", &target]);
    let user = user(&mut client, &target).await;
    assert_eq!(ask(&user, b"before").await, b"before");
    (server, client, user)
}

/// Waits for an answer through the same forward to the same local address.
async fn recovers(user: &UdpSocket, within: Duration) {
    let start = Instant::now();
    assert_eq!(ask(user, b"after").await, b"after");
    assert!(start.elapsed() < within, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_forward_survives_a_killed_server() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let (mut server, mut client, user) = in_use(&target).await;
    server.process().signal(Signal::KILL).unwrap();
    server.process().exit().await.unwrap();
    server.start_again(None).await.unwrap();
    recovers(&user, RECOVERY).await;
    assert_eq!(client.terminate().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_forward_survives_a_server_that_stops_and_one_that_stays_away() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let (mut server, mut client, user) = in_use(&target).await;
    // Told of its end, the client is back as soon as the server is.
    server.process().terminate().await.unwrap();
    server.start_again(None).await.unwrap();
    recovers(&user, Duration::from_secs(5)).await;
    // Whoever asks meanwhile is not heard, and harms nothing.
    server.process().terminate().await.unwrap();
    client.line("reconnecting").await.unwrap();
    for _ in 0..1000 {
        // The port stays open: nothing is refused.
        user.send(b"stale").await.unwrap();
    }
    server.start_again(None).await.unwrap();
    let count = target.count();
    recovers(&user, RECOVERY).await;
    assert!(target.count() < count + 100, "what was stale came through");
    assert_eq!(client.terminate().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_suspended_client_is_back_within_five_seconds() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let server = server(json!({
        "limits": { "idle_timeout_ms": 5000 },
        "endpoints": [udp(&["127.0.0.1"])],
    }))
    .await;
    let target = target.address().to_string();
    let mut client = client(&server, ["-u", &target]);
    let user = user(&mut client, &target).await;
    assert_eq!(ask(&user, b"before").await, b"before");
    client.signal(Signal::STOP).unwrap();
    // Longer than either end waits for the other. It is time that has to pass here, and nothing else.
    tokio::time::sleep(Duration::from_secs(11)).await;
    client.signal(Signal::CONT).unwrap();
    recovers(&user, Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_first_attempt_that_fails_is_an_error() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", socket.local_addr().unwrap());
    let arguments = ["-d", &url, "--ignore-cert", "--timeout", "1"];
    let mut client = Process::start(&pasque_tests::program("psq-client"), arguments).unwrap();
    let status = client.exit().await.unwrap();
    assert_eq!(status.code(), Some(3), "{}", client.output());
}

#[tokio::test]
async fn a_server_is_looked_for_where_it_was_and_then_by_its_name() {
    let server = server(json!({ "endpoints": [udp(&[])] })).await;
    let mut config = ClientConfig::default();
    config.trust = Trust::AcceptAny;
    // The name leads nowhere, as it does while what resolves it is behind the tunnel.
    config.known_addresses = vec![server.address().ip()];
    let port = server.address().port();
    let connection = pasque_h3::connect("server.invalid", port, &config).await;
    assert_eq!(connection.unwrap().peer_addr(), Some(server.address()));
    // Nobody is there any more.
    config.known_addresses = vec![Ipv4Addr::new(127, 0, 0, 77).into()];
    let connection = pasque_h3::connect("localhost", port, &config).await;
    assert_eq!(connection.unwrap().peer_addr(), Some(server.address()));
}

/// Where a server was that has left.
const FORMER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

#[tokio::test]
async fn each_address_gets_its_turn_however_short_the_time() {
    let server = server(json!({ "endpoints": [udp(&[])] })).await;
    let port = server.address().port();
    // Whoever has the address now says nothing.
    let _silent = UdpSocket::bind((FORMER, port)).await.unwrap();
    let mut config = ClientConfig::default();
    config.trust = Trust::AcceptAny;
    config.connect_timeout = Duration::from_secs(2);
    config.known_addresses = vec![FORMER.into(), server.address().ip()];
    let connection = pasque_h3::connect("server.invalid", port, &config).await;
    let connection = connection.unwrap();
    assert_eq!(connection.peer_addr(), Some(server.address()));
    // The next time, the one that has answered comes first.
    let known: [IpAddr; 2] = [server.address().ip(), FORMER.into()];
    assert_eq!(connection.server_addresses(), known);
    // And so does what the name stands for.
    config.known_addresses = vec![FORMER.into()];
    let connection = pasque_h3::connect("localhost", port, &config).await;
    assert_eq!(connection.unwrap().peer_addr(), Some(server.address()));
}

#[tokio::test]
async fn another_server_at_the_former_address_is_no_reason_to_give_up() {
    let ours = server(json!({ "endpoints": [udp(&[])] })).await;
    let port = ours.address().port();
    let psq_server = pasque_tests::program("psq-server");
    let address = SocketAddr::from((FORMER, port)).to_string();
    let config = json!({ "endpoints": [udp(&[])] });
    let _theirs = Server::start_with(&psq_server, config, ["-a", &address])
        .await
        .unwrap();
    let mut config = ClientConfig::default();
    config.trust = Trust::CaFile(ours.certificate());
    config.known_addresses = vec![FORMER.into()];
    let connection = pasque_h3::connect("localhost", port, &config).await;
    assert_eq!(connection.unwrap().peer_addr(), Some(ours.address()));
    let both = [FORMER.into(), ours.address().ip()];
    config.known_addresses = both.to_vec();
    let connection = pasque_h3::connect("localhost", port, &config).await;
    assert_eq!(connection.unwrap().peer_addr(), Some(ours.address()));
    // Where there is no other address, the reason is told.
    config.known_addresses = vec![FORMER.into()];
    let refused = pasque_h3::connect("server.invalid", port, &config).await;
    assert!(matches!(refused, Err(ClientError::Tls(_))), "{refused:?}");
}
