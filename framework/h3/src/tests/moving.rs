//! A client whose address changes while it is in the middle of something.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Method;
use pasque::config::Limits;
use pasque::connection::Connection;
use pasque::{Body, Request};

use super::SITE;
use super::endpoints::pattern;
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
