//! A client whose address changes while it is in the middle of something.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use pasque::config::Limits;
use pasque::connection::Connection;
use pasque::{Body, Request};

use super::endpoints::pattern;
use super::peer::Peer;
use super::{PATIENCE, SITE, server};
use crate::testing::{Conditions, Network, TestServer};

/// What is moved, in bytes, and how fast: it takes two seconds and a half.
const TOTAL: usize = 10 << 20;
const RATE: u32 = 4 << 20;

/// A client that moves things while its address changes.
struct Mover {
    server: TestServer,
    connection: Connection,
    address: SocketAddr,
    started: Instant,
}

impl Mover {
    async fn new(latency: u64, loss: f64) -> Self {
        let conditions = Conditions {
            latency: Duration::from_millis(latency),
            rate: RATE,
            loss,
            seed: 31,
            ..Conditions::default()
        };
        println!("{conditions:?}");
        let server = TestServer::start(&SITE, conditions, Limits::default()).await;
        let (connection, address) = server.connect_from().await.unwrap();
        Self {
            server,
            connection,
            address,
            started: Instant::now(),
        }
    }

    /// Does something to the network every so often.
    fn meanwhile(
        &self,
        every: u64,
        mut disturb: impl FnMut(&Network, SocketAddr) + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let (network, address) = (self.server.network().clone(), self.address);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(every)).await;
                disturb(&network, address);
            }
        })
    }

    /// Moves [`TOTAL`] bytes, and returns how long that took and how long nothing came at most.
    async fn moves(&self, request: Request) -> (Duration, Duration) {
        let response = self.connection.request(request).await.unwrap();
        let (mut body, mut at) = (response.body, 0);
        let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => panic!(
                    "{error} after {at} bytes and {:?}: {:?}",
                    self.started.elapsed(),
                    self.connection.closed().await
                ),
            };
            assert!(chunk == pattern(at, chunk.len()));
            at += chunk.len();
            pause = pause.max(last.elapsed());
            last = Instant::now();
        }
        assert_eq!(at, TOTAL);
        assert_eq!(self.server.connections(), 1);
        let took = self.started.elapsed();
        println!("{took:?}, the longest pause {pause:?}");
        (took, pause)
    }
}

fn download() -> Request {
    Request::get(format!("/content/{TOTAL}"))
}

fn upload() -> Request {
    let mut request = Request::new(Method::POST, "/content/echo");
    let chunks = futures_util::stream::unfold(0, |at| async move {
        let chunk = pattern(at, TOTAL.min(at + (16 << 10)) - at);
        (!chunk.is_empty()).then(|| (Ok(chunk.clone()), at + chunk.len()))
    });
    request.body = Body::stream(chunks);
    request
}

#[tokio::test]
async fn a_request_has_the_address_that_its_sender_was_shown_to_have() {
    let server = server().await;
    let mut client = Peer::client(&server).await;
    let before = client.address();
    assert_eq!(
        client.fetch("/content/peer").await,
        (200, before.to_string().into())
    );
    let network = server.network();
    // Whoever can forge addresses can send a request from any of them.
    let after = network.renumber(before, [192, 0, 2, 1].into());
    assert_eq!(
        client.fetch("/content/peer").await,
        (200, before.to_string().into())
    );
    // The answer has come, and with it a question that only the owner of the address can answer.
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(String::from_utf8(client.fetch("/content/peer").await.1).unwrap());
    }
    assert_eq!(answers.last(), Some(&after.to_string()));
}

#[tokio::test]
async fn h3_31_a_download_goes_on_while_the_port_changes() {
    for (latency, every) in [(1, 150), (20, 400)] {
        let mover = Mover::new(latency, 0.0).await;
        let _moving = mover.meanwhile(every, |network, address| {
            network.rebind(address);
        });
        let (took, pause) = mover.moves(download()).await;
        assert!(took < Duration::from_secs(6) && pause < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn h3_31_an_upload_goes_on_while_the_port_changes() {
    let mover = Mover::new(10, 0.0).await;
    let _moving = mover.meanwhile(250, |network, address| {
        network.rebind(address);
    });
    let (took, pause) = mover.moves(upload()).await;
    assert!(took < Duration::from_secs(8) && pause < Duration::from_secs(1));
}

#[tokio::test]
async fn h3_31_a_download_goes_on_while_the_port_changes_and_packets_are_lost() {
    let mover = Mover::new(5, 0.02).await;
    let _moving = mover.meanwhile(1000, |network, address| {
        network.rebind(address);
    });
    mover.moves(download()).await;
}

#[tokio::test]
async fn h3_31_a_download_goes_on_from_another_host() {
    let mover = Mover::new(10, 0.0).await;
    let mut host = 2;
    let _moving = mover.meanwhile(500, move |network, address| {
        network.renumber(address, [127, 0, 0, host].into());
        host += 1;
    });
    let (took, pause) = mover.moves(download()).await;
    assert!(took < Duration::from_secs(6) && pause < Duration::from_secs(1));
}

#[tokio::test]
async fn h3_31_a_client_that_only_receives_notices_that_nothing_comes() {
    let mover = Mover::new(10, 0.0).await;
    let _moving = mover.meanwhile(800, |network, address| {
        // Whatever was under way is gone, so that nothing tells the server of the new port.
        let conditions = network.conditions();
        network.set_conditions(Conditions {
            loss: 1.0,
            ..conditions
        });
        network.rebind(address);
        let network = network.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            network.set_conditions(conditions);
        });
    });
    let (_, pause) = mover.moves(download()).await;
    assert!(pause < Duration::from_millis(1500), "{pause:?}");
}

#[tokio::test]
async fn h3_31_a_path_whose_validation_fails_gets_another_chance() {
    let mover = Mover::new(10, 0.0).await;
    let mut is_done = false;
    let _moving = mover.meanwhile(500, move |network, address| {
        if std::mem::replace(&mut is_done, true) {
            return;
        }
        let conditions = network.conditions();
        network.rebind(address);
        // The server hears of the new port, and nothing it sends there arrives for a while.
        let network = network.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(15)).await;
            network.set_conditions(Conditions {
                loss: 1.0,
                ..conditions
            });
            tokio::time::sleep(Duration::from_millis(1800)).await;
            network.set_conditions(conditions);
        });
    });
    mover.moves(download()).await;
}

/// A server, and a network that can lose what is sent.
struct Lossy {
    server: TestServer,
    conditions: Conditions,
}

impl Lossy {
    async fn new() -> Self {
        let conditions = Conditions {
            latency: Duration::from_millis(5),
            ..Conditions::default()
        };
        let server = TestServer::start(&SITE, conditions, Limits::default()).await;
        Self { server, conditions }
    }

    /// Gives the client another port.
    fn rebind(&self, client: &Peer) {
        let path = client.quic.path_stats().next().expect("a path");
        self.server.network().rebind(path.local_addr);
    }

    /// Whether everything is lost from now on.
    fn lose(&self, everything: bool) {
        let loss = if everything { 1.0 } else { 0.0 };
        self.server.network().set_conditions(Conditions {
            loss,
            ..self.conditions
        });
    }

    /// Answers challenges until so many have come in all, and loses the last answer.
    async fn lose_answer(&self, client: &mut Peer, tunnel: u64, last: u64) {
        let start = Instant::now();
        while challenges(client) < last {
            assert!(start.elapsed() < PATIENCE, "{} came", challenges(client));
            client.datagram_for(tunnel, b"?");
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.lose(challenges(client) + 1 == last);
            client.pump();
            self.lose(false);
        }
    }

    /// Waits until the server's packets are long, as they are where the path is validated.
    async fn until_long(&self, client: &mut Peer, tunnel: u64) {
        let start = Instant::now();
        client.datagrams.clear();
        while client.datagrams.iter().all(|packet| packet.len() < 1400) {
            assert!(start.elapsed() < PATIENCE, "{client:?}");
            client.datagram_for(tunnel, b"!longest");
            client.run_for(Duration::from_millis(20)).await;
        }
        println!("long packets after {:?}", start.elapsed());
    }
}

/// What a packet holds besides the payload of a datagram.
const PACKET: usize = 33;

/// How often the server has asked for an answer on a new path.
fn challenges(client: &Peer) -> u64 {
    client.quic.stats().path_challenge_rx_count
}

#[tokio::test]
async fn h3_31_a_challenge_is_repeated_when_its_answer_is_lost() {
    let lossy = Lossy::new().await;
    // There are two: the first is in a packet as short as what came from the new port allows.
    for (lost, is_given_up) in [(1, false), (2, false), (1, true), (2, true)] {
        println!("answer {lost}, of a path that was given up: {is_given_up}");
        let mut client = Peer::client(&lossy.server).await;
        let tunnel = client.connect("gauge", "/gauge").await;
        assert_eq!(client.head(tunnel).await.status(), 200);
        lossy.until_long(&mut client, tunnel).await;
        lossy.rebind(&client);
        if is_given_up {
            // The server hears of the new port, and what it sends there does not arrive.
            client.datagram_for(tunnel, b"?");
            lossy.lose(true);
            tokio::time::sleep(Duration::from_millis(1500)).await;
            lossy.lose(false);
        }
        assert_eq!(challenges(&client), 0);
        lossy.lose_answer(&mut client, tunnel, lost).await;
        // What the client sends now acknowledges the challenge, and does not answer it.
        lossy.until_long(&mut client, tunnel).await;
    }
}

#[tokio::test]
async fn h3_31_a_path_that_the_peer_has_left_holds_up_nothing() {
    // Three times so many bytes may be sent to the port that the client leaves: a full packet, and then
    // somewhat less or more than the challenge takes.
    let mut clients = Vec::new();
    for came in 404..424 {
        clients.push(async move {
            let lossy = Lossy::new().await;
            let mut client = Peer::client(&lossy.server).await;
            let tunnel = client.connect("gauge", "/gauge").await;
            assert_eq!(client.head(tunnel).await.status(), 200);
            lossy.until_long(&mut client, tunnel).await;
            client.run_for(Duration::from_millis(300)).await;
            // From two ports in turn the server hears of the client, and what it sends there does not
            // arrive before the first one's probe timeout has run out.
            for len in [came - PACKET, 1000] {
                lossy.lose(false);
                lossy.rebind(&client);
                client.datagram_for(tunnel, &vec![7; len]);
                lossy.lose(true);
                client.run_for(Duration::from_millis(50)).await;
            }
            client.run_for(Duration::from_millis(1200)).await;
            lossy.lose(false);
            println!("{came} bytes came from the first");
            lossy.until_long(&mut client, tunnel).await;
        });
    }
    join_all(clients).await;
}

#[tokio::test]
async fn h3_31_a_path_that_fails_with_its_window_full_gets_another_chance() {
    let lossy = Lossy::new().await;
    let mut client = Peer::client(&lossy.server).await;
    let tunnel = client.connect("gauge", "/gauge").await;
    assert_eq!(client.head(tunnel).await.status(), 200);
    lossy.until_long(&mut client, tunnel).await;
    let echo = client.echo().await;
    client.run_for(Duration::from_millis(300)).await;
    lossy.rebind(&client);
    // The client reads none of three answers for a while, and then it loses the second.
    for _ in 0..3 {
        client.datagram_for(echo, b"?");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    tokio::time::sleep(Duration::from_millis(150)).await;
    client.before_lost = Some(1);
    // When the server notices the loss, more is under way than what is left of its window.
    for _ in 0..12 {
        client.queue_datagram_for(echo, &[7; 1100]);
    }
    client.pump();
    lossy.lose(true);
    tokio::time::sleep(Duration::from_millis(40)).await;
    lossy.lose(false);
    lossy.until_long(&mut client, tunnel).await;
}
