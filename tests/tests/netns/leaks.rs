//! Clients that come, go and die: nothing of them is left on the server.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pasque_h3::{ClientConfig, Trust};
use pasque_tests::PATIENCE;
use pasque_tests::netns::{Namespace, Network};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::craft::{Header, echo_request};
use crate::lab::{Lab, Mode, OWN, OWN_V6, PREFIX, Setup, calm};
use crate::tunnel::RawTunnel;

/// Clients at a time, and how often they come.
const CLIENTS: usize = 200;
const ROUNDS: usize = 5;

/// Programs that are killed at a time.
const KILLED: usize = 20;

/// How long threads without work stay, in case there is more: ten seconds, and then some.
const THREADS_STAY: Duration = Duration::from_secs(15);

/// What a server has of its host.
#[derive(Debug, PartialEq, Eq)]
struct Ledger {
    /// Interfaces, their addresses, and routes of both versions.
    network: Vec<Vec<Value>>,
    descriptors: usize,
    threads: usize,
}

impl Ledger {
    fn of(lab: &mut Lab) -> Self {
        let process = lab.server.process().id().unwrap();
        let count = |what: &str| {
            let entries = fs::read_dir(format!("/proc/{process}/{what}"));
            entries.unwrap().count()
        };
        let show = [
            "link show",
            "address show",
            "-4 route show table all",
            "-6 route show table all",
        ];
        Self {
            network: show
                .map(|arguments| lab.network.server.show(arguments).unwrap())
                .to_vec(),
            descriptors: count("fd"),
            threads: count("task"),
        }
    }

    /// Waits until interfaces, addresses and routes are as they were.
    async fn wait_for_network(&self, lab: &mut Lab, when: &str) {
        self.wait(lab, when, |before, now| before.network == now.network)
            .await;
    }

    /// Waits until all is as it was.
    async fn wait_for_all(&self, lab: &mut Lab) {
        tokio::time::sleep(THREADS_STAY / 2).await;
        self.wait(lab, "at the end", |before, now| before == now)
            .await;
    }

    async fn wait(&self, lab: &mut Lab, when: &str, is_same: fn(&Self, &Self) -> bool) {
        let start = Instant::now();
        loop {
            let now = Self::of(lab);
            if is_same(self, &now) {
                return;
            }
            let is_late = start.elapsed() > PATIENCE.max(THREADS_STAY);
            assert!(!is_late, "{when}: left {now:?}\ninstead of {self:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A lab whose server takes all these clients from one address.
async fn lab(mode: Mode) -> Lab {
    // Those of the round before may still be on their way out.
    let limits = json!({ "connections_per_address": 4 * CLIENTS, "idle_timeout_ms": 4000 });
    Setup::new(mode)
        .clients(1)
        .config("limits", limits)
        // These clients answer no echo request.
        .endpoint("mtu_probe", json!(false))
        .start()
        .await
}

/// A client connects, opens a tunnel, and is answered through it by the server's kernel. It leaves
/// once all are there.
async fn visit(all_are_here: &Barrier) -> Vec<IpAddr> {
    let mut config = ClientConfig::default();
    config.trust = Trust::AcceptAny;
    config.connect_timeout = PATIENCE;
    config.response_timeout = PATIENCE;
    let server = Network::SERVER.to_string();
    let connection = pasque_h3::connect(&server, 443, &config).await.unwrap();
    let mut tunnel = RawTunnel::open(&connection, "%2A", "%2A").await.unwrap();
    let addresses = tunnel.addresses().await;
    for &here in &addresses {
        let there = if here.is_ipv4() {
            OWN.into()
        } else {
            IpAddr::from(OWN_V6)
        };
        let request = echo_request(Header::new(here, there, 0), 200, 1, b"ping");
        // The interface may take a moment to be up.
        let mut answered = false;
        for _ in 0..100 {
            tunnel.send(&request);
            while let Some(packet) = tunnel.recv(Duration::from_millis(200)).await {
                let (header, _) = Header::parse(&packet).unwrap();
                answered |= (header.source, header.destination) == (there, here);
                if answered {
                    break;
                }
            }
            if answered {
                break;
            }
        }
        assert!(answered, "{here}: no answer");
    }
    all_are_here.wait().await;
    addresses
}

/// All clients at once. Everybody has addresses of their own.
fn crowd(place: &Namespace) {
    let visits = async || {
        let mut visits = JoinSet::new();
        let all_are_here = Arc::new(Barrier::new(CLIENTS));
        for _ in 0..CLIENTS {
            let all_are_here = all_are_here.clone();
            visits.spawn(async move { visit(&all_are_here).await });
        }
        visits.join_all().await
    };
    let mut addresses = place.block_on(visits).unwrap().concat();
    assert_eq!(addresses.len(), 2 * CLIENTS);
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 2 * CLIENTS, "an address was given twice");
}

async fn nothing_is_left(mode: Mode) {
    let mut lab = lab(mode).await;
    calm(&lab.network.server).await;
    let before = Ledger::of(&mut lab);
    for round in 0..ROUNDS {
        crowd(lab.place(0));
        let when = format!("{mode:?}, round {round}");
        before.wait_for_network(&mut lab, &when).await;
    }
    before.wait_for_all(&mut lab).await;
}

/// How many interfaces the server has for its clients.
fn tunnel_interfaces(lab: &Lab) -> usize {
    let links = lab.network.server.show("link show").unwrap();
    links
        .iter()
        .filter(|link| link["ifname"].as_str().unwrap().starts_with(PREFIX))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_14_nothing_is_left_of_two_hundred_clients_five_times_over() {
    nothing_is_left(Mode::AUTO_CLIENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_14_nothing_is_left_of_two_hundred_clients_on_a_shared_interface() {
    nothing_is_left(Mode::PLAIN_SHARED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_14_72_nothing_is_left_of_clients_that_were_killed() {
    let mut lab = lab(Mode::AUTO_CLIENT).await;
    calm(lab.place(0)).await;
    let clients_before = lab.place(0).show("address show").unwrap();
    calm(&lab.network.server).await;
    let before = Ledger::of(&mut lab);
    let mut clients = Vec::new();
    for _ in 0..KILLED {
        clients.push(lab.open(0, &[]).await);
    }
    assert_eq!(tunnel_interfaces(&lab), KILLED);
    for client in &mut clients {
        client.process.signal(Signal::KILL).unwrap();
    }
    for client in &mut clients {
        client.process.exit().await.unwrap();
    }
    before.wait_for_all(&mut lab).await;
    assert_eq!(lab.place(0).show("address show").unwrap(), clients_before);
    // The addresses are free again: the same clients come back to them.
    let returned = lab.open(0, &[]).await;
    assert!(clients.iter().any(|client| client.v4 == returned.v4));
}
