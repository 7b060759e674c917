//! A server with several workers: which of them has which connection.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use pasque::config::ServerConfig;
use pasque::connection::Connection;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{PATIENCE, SITE, eventually};
use crate::client::ClientConfig;
use crate::mailbox::Mailbox;
use crate::server::Server;
use crate::tls::Trust;

const WORKERS: usize = 4;

/// A server on real sockets.
struct Crew {
    address: SocketAddr,
    workers: Arc<[Arc<Mailbox>]>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
    _folder: TempDir,
}

impl Crew {
    /// With `retry` as the configuration has it.
    async fn start(retry: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"{{ "cert_file": "cert.pem", "key_file": "key.pem", "self_signed": true,
                  "threads": {WORKERS}, "retry": "{retry}", "endpoints": [{}] }}"#,
            SITE[0]
        );
        let config = ServerConfig::parse(&text, &folder.path().join("server.json")).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Server::bind(config, Some(any)).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        Self {
            address: server.local_addr(),
            workers: server.mailboxes.clone(),
            stop,
            running: tokio::spawn(async {
                let _ = server.run(async { drop(stopped.await) }).await;
            }),
            _folder: folder,
        }
    }

    fn connect(&self) -> impl Future<Output = Connection> + use<> {
        let (ip, port) = (self.address.ip().to_string(), self.address.port());
        async move {
            let config = ClientConfig {
                trust: Trust::AcceptAny,
                ..ClientConfig::default()
            };
            crate::client::connect(&ip, port, &config).await.unwrap()
        }
    }

    /// How many connections each worker has.
    fn connections(&self) -> [usize; WORKERS] {
        std::array::from_fn(|index| self.workers[index].connections())
    }
}

/// Sends a datagram through a tunnel of `connection` and waits for its echo.
async fn echo(connection: &Connection) {
    let mut tunnel = connection.connect("echo", "/echo").await.unwrap();
    tunnel.send(b"somebody there?");
    let answer = tokio::time::timeout(PATIENCE, tunnel.recv()).await;
    assert_eq!(&answer.unwrap().unwrap()[..], b"somebody there?");
}

#[tokio::test]
async fn clients_are_spread_evenly_over_the_workers() {
    for retry in ["never", "always"] {
        let crew = Crew::start(retry).await;
        let mut connections = Vec::new();
        for round in 1..=5 {
            // One after the other, each goes to a worker that has fewer than others.
            for _ in 0..WORKERS {
                let connection = crew.connect().await;
                echo(&connection).await;
                connections.push(connection);
            }
            assert_eq!(crew.connections(), [round; WORKERS], "{retry}");
        }
        // Those that end make room where they were.
        for connection in connections.drain(WORKERS..) {
            connection.close();
        }
        eventually("they are gone", || {
            crew.connections().iter().sum::<usize>() == WORKERS
        })
        .await;
        for _ in 0..2 * WORKERS {
            connections.push(crew.connect().await);
        }
        assert_eq!(crew.connections(), [3; WORKERS], "{retry}");
        join_all(connections.iter().map(echo)).await;
        drop(connections);
        eventually("all are gone", || crew.connections() == [0; WORKERS]).await;
        crew.stop.send(()).unwrap();
        crew.running.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_at_once_are_spread_over_the_workers() {
    let crew = Crew::start("never").await;
    let connections = join_all((0..7 * WORKERS).map(|_| tokio::spawn(crew.connect()))).await;
    let connections: Vec<_> = connections.into_iter().map(Result::unwrap).collect();
    join_all(connections.iter().map(echo)).await;
    // Two workers may choose at the same moment.
    let counts = crew.connections();
    assert_eq!(counts.iter().sum::<usize>(), connections.len());
    assert!(
        counts.iter().all(|count| (6..=8).contains(count)),
        "{counts:?}"
    );
}

#[tokio::test]
async fn what_is_given_to_a_worker_that_stops_is_closed() {
    let crew = Crew::start("never").await;
    let connections = join_all((0..WORKERS).map(|_| crew.connect())).await;
    crew.stop.send(()).unwrap();
    let closed = join_all(connections.iter().map(Connection::closed));
    tokio::time::timeout(Duration::from_secs(5), closed)
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, crew.running)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        crew.workers
            .iter()
            .map(|worker| worker.connections())
            .sum::<usize>(),
        0
    );
}
