//! Clients that come, go and vanish: whatever was opened for them is closed again.

use std::fs;
use std::time::{Duration, Instant};

use pasque::testing::TestTunnel;
use pasque::{Connection, Request};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::handshakes::abandon;
use super::peer::{Peer, config, tunnel};
use super::{ATTACKER, Figures, Length, MIB, Victim};
use crate::kit::{echo, open, resident};
use crate::netns::{Namespace, Network, Plan};
use crate::{PATIENCE, Process, Server, program};

/// Tunnels of one connection at a time.
const AT_ONCE: usize = 50;

/// How long a connection without packets stays, and then some; threads without work stay longer.
const VANISHED_MS: u64 = 2000;
const SETTLE: Duration = Duration::from_secs(20);

/// What a server has of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ledger {
    descriptors: usize,
    threads: usize,
    interfaces: usize,
    routes: usize,
}

impl Ledger {
    /// Of `process`; where it has a namespace of its own, with what is in it.
    fn of(process: &Process, namespace: Option<&Namespace>) -> Self {
        let id = process.id().expect("it runs");
        let entries = |what: &str| fs::read_dir(format!("/proc/{id}/{what}")).unwrap().count();
        let listed = |what: &str| namespace.map_or(0, |place| place.show(what).unwrap().len());
        Self {
            descriptors: entries("fd"),
            threads: entries("task"),
            interfaces: listed("link show"),
            routes: listed("-4 route show table all") + listed("-6 route show table all"),
        }
    }

    /// Waits until it reads as it did before, and says what is left.
    async fn settle(
        self,
        server: &mut Server,
        namespace: Option<&Namespace>,
        figures: &mut Figures,
    ) {
        let start = Instant::now();
        let mut now = Self::of(server.process(), namespace);
        while now.is_above(self) && start.elapsed() < SETTLE {
            tokio::time::sleep(Duration::from_millis(50)).await;
            now = Self::of(server.process(), namespace);
        }
        figures.at_most("descriptors afterwards", now.descriptors, self.descriptors);
        figures.at_most("threads afterwards", now.threads, self.threads);
        if namespace.is_some() {
            figures.at_most("interfaces afterwards", now.interfaces, self.interfaces);
            figures.at_most("routes afterwards", now.routes, self.routes);
        }
    }

    fn is_above(self, before: Self) -> bool {
        self.descriptors > before.descriptors
            || self.threads > before.threads
            || self.interfaces > before.interfaces
            || self.routes > before.routes
    }
}

/// The configuration of a server that takes many clients from one address.
fn crowd() -> Value {
    json!({
        "connections": 10_000, "connections_per_address": 10_000,
        "idle_timeout_ms": VANISHED_MS, "handshake_timeout_ms": VANISHED_MS,
        // A tunnel that is dropped is one.
        "resets_per_10s": 100_000,
    })
}

/// Opens so many UDP tunnels, some at a time, uses each and ends it.
async fn come_and_go(victim: &Victim, tunnels: usize) {
    let port = victim.target.address().port();
    let connection = victim.server.connect().await.unwrap();
    for _ in 0..tunnels / AT_ONCE {
        let mut visits = JoinSet::new();
        for _ in 0..AT_ONCE {
            let connection = connection.clone();
            visits.spawn(async move {
                let mut tunnel = open(&connection, "127.0.0.1", port).await;
                echo(&mut tunnel, b"here").await;
            });
        }
        visits.join_all().await;
    }
}

/// Clients with a tunnel each that fall silent, and handshakes that are given up.
fn vanish(server: std::net::SocketAddr, path: &str, clients: usize) {
    let mut config = config();
    for _ in 0..clients {
        let mut peer = Peer::connect(server, ATTACKER, &mut config);
        peer.send(0, &tunnel(path), false);
        peer.until("a tunnel", |quic| quic.stream_readable(0));
        abandon(server, &mut config);
    }
}

/// UDP tunnels that are opened and closed; clients that vanish; handshakes that are given up.
pub(super) async fn udp_tunnels(length: Length) -> Figures {
    let tunnels = length.pick(500, 10_000);
    let clients = length.pick(20, 1000);
    let mut victim = Victim::with_limits(crowd()).await;
    // What is kept for the next time is no leak: as many clients are there at once in both rounds.
    come_and_go(&victim, tunnels / 5).await;
    let (server, path) = (victim.server.address(), victim.tunnel_path());
    tokio::task::spawn_blocking(move || vanish(server, &path, clients))
        .await
        .unwrap();
    gone(&mut victim).await;
    let before = Ledger::of(victim.server.process(), None);
    let memory = resident(&mut victim.server);

    come_and_go(&victim, tunnels).await;
    let path = victim.tunnel_path();
    tokio::task::spawn_blocking(move || vanish(server, &path, clients))
        .await
        .unwrap();
    let mut figures = Figures::default();
    figures.exactly(
        "tunnels that were used",
        tunnels + clients,
        tunnels + clients,
    );
    before.settle(&mut victim.server, None, &mut figures).await;
    let grown = resident(&mut victim.server).saturating_sub(memory);
    figures.memory("memory of the server, more", grown, 4 * MIB);
    victim.assert_serves("all of that").await;
    figures
}

/// Waits until a server has the sockets of its workers only.
async fn gone(victim: &mut Victim) {
    let id = victim.server.process().id().unwrap();
    let sockets = || {
        let all = fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
        all.filter_map(|entry| fs::read_link(entry.path()).ok())
            .filter(|target| target.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let start = Instant::now();
    let mut now = sockets();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let next = sockets();
        if next == now && start.elapsed() > Duration::from_millis(2 * VANISHED_MS) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{next} sockets");
        now = next;
    }
}

/// A server of IP tunnels with an interface for each client.
async fn ip_server(network: &Network) -> Server {
    let config = json!({
        "limits": crowd(),
        "endpoints": [{
            "path": "ip", "type": "IpEndpoint", "anonymous": true, "ifprefix": "tun-s",
            "addresspools": ["10.76.0.1/16", "fd76:212:dead::1/64"],
            // These clients answer no echo request.
            "mtu_probe": false,
        }],
    });
    let arguments = ["-a", "[::]:443"];
    Server::start_in(&network.server, &program("psq-server"), config, arguments)
        .await
        .unwrap()
}

async fn open_ip(connection: &Connection) -> TestTunnel {
    let request = Request::tunnel("connect-ip", "/ip/%2A/%2A/");
    TestTunnel::open(connection, request).await.unwrap()
}

/// IP tunnels that are opened and closed, each with an interface, addresses and routes.
pub(super) async fn ip_tunnels(length: Length) -> Figures {
    let tunnels = length.pick(60, 10_000);
    let network = Network::new(1, Plan::default()).expect("a network: this takes root");
    let mut server = ip_server(&network).await;
    let mut config = pasque_h3::ClientConfig::default();
    config.trust = pasque_h3::Trust::AcceptAny;
    config.connect_timeout = PATIENCE;
    config.response_timeout = PATIENCE;
    let address = (Network::SERVER, 443).into();
    let connection = network.clients[0].connect(address, &config).unwrap();
    for _ in 0..20 {
        open_ip(&connection).await;
    }
    let place = &network.server;
    let empty = || place.show("link show").unwrap().len() == 3;
    crate::kit::until("the interfaces to go", empty).await;
    let before = Ledger::of(server.process(), Some(place));
    let memory = resident(&mut server);
    for _ in 0..tunnels / 20 {
        let mut visits = JoinSet::new();
        for _ in 0..20 {
            let connection = connection.clone();
            visits.spawn(async move { drop(open_ip(&connection).await) });
        }
        visits.join_all().await;
    }
    let mut figures = Figures::default();
    figures.exactly("tunnels that were opened", tunnels, tunnels);
    before.settle(&mut server, Some(place), &mut figures).await;
    let grown = resident(&mut server).saturating_sub(memory);
    figures.memory("memory of the server, more", grown, 4 * MIB);
    // The pool has its addresses back: it gives them out again.
    open_ip(&connection).await;
    figures
}
