//! Clients of IP tunnels that have fallen silent, while others go on sending to them.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pasque::wire::capsule::{ADDRESS_ASSIGN, ADDRESS_REQUEST, Admit, Capsule};
use pasque::{Batch, Connection, Flow, FlowCx, Request};
use serde_json::json;

use super::{Figures, KIB, Length, MIB};
use crate::kit::{resident, until};
use crate::netns::{Network, Plan};
use crate::{PATIENCE, Server, program};

/// Without a byte of content a packet costs its sender the least, and who keeps it a whole buffer.
const NOTHING: [u8; 0] = [];

/// What makes a server hear of nobody.
const DEAF: &str = "
table inet silent {
    chain input {
        type filter hook input priority 0
        udp dport 443 drop
    }
}";

/// Clients with an interface of their own each.
pub(super) async fn clients(length: Length) -> Figures {
    flooded(length, "client", length.pick(20, 200)).await
}

/// Clients behind one interface.
pub(super) async fn clients_of_one_interface(length: Length) -> Figures {
    flooded(length, "shared", length.pick(100, 1000)).await
}

/// Lets so many clients fall silent, has the server's host send to all of them in turn, and sees what
/// the server keeps of it.
async fn flooded(length: Length, interface: &str, count: usize) -> Figures {
    let time = length.pick(Duration::from_secs(2), Duration::from_secs(15));
    let network = Network::new(1, Plan::default()).expect("a network: this takes root");
    let mut server = server(&network, interface).await;
    let clients = come_in(&network, count).await;
    let before = resident(&mut server);
    network.server.nft(DEAF).unwrap();
    let flood = flood(&network, count, time);
    let mut peak = before;
    while !flood.is_finished() {
        peak = peak.max(resident(&mut server));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sent = flood.join().unwrap();
    let mut figures = Figures::default();
    figures.at_least(
        format!("packets for each of {count} clients"),
        sent / count,
        2000,
    );
    // What all hold together, and what each may hold in any case.
    let bound = 128 * MIB + count as u64 * 256 * KIB;
    figures.memory("memory of the server, more", peak - before, bound);
    network.server.nft("delete table inet silent").unwrap();
    let over = Instant::now();
    come_in(&network, 1).await;
    let time = over.elapsed();
    figures.time("somebody is served after", time, Duration::from_secs(5));
    drop(clients);
    figures
}

async fn server(network: &Network, interface: &str) -> Server {
    let config = json!({
        "limits": { "connections": 10_000, "connections_per_address": 10_000 },
        "endpoints": [{
            "path": "ip", "type": "IpEndpoint", "anonymous": true, "ifprefix": "tun-s",
            "addresspools": ["10.76.0.1/16"], "interface": interface,
            // These clients answer no echo request.
            "mtu_probe": false,
        }],
    });
    let arguments = ["-a", "[::]:443"];
    Server::start_in(&network.server, &program("psq-server"), config, arguments)
        .await
        .unwrap()
}

/// So many clients more, which have an address each: those of the pool in turn, behind the server's.
async fn come_in(network: &Network, count: usize) -> Vec<Connection> {
    let mut config = pasque_h3::ClientConfig::default();
    config.trust = pasque_h3::Trust::AcceptAny;
    config.connect_timeout = PATIENCE;
    config.response_timeout = PATIENCE;
    let address = SocketAddr::from((Network::SERVER, 443));
    let assigned = Arc::<AtomicUsize>::default();
    let mut connections = Vec::new();
    for _ in 0..count {
        let connection = network.clients[0].connect(address, &config).unwrap();
        let request = Request::tunnel("connect-ip", "/ip/%2A/%2A/");
        let client = Client {
            has_asked: false,
            has_address: false,
            assigned: assigned.clone(),
        };
        connection.open(request, client).await.unwrap();
        connections.push(connection);
    }
    let all = || assigned.load(Ordering::Relaxed) == count;
    until("an address for each client", all).await;
    connections
}

/// Sends to all clients in turn. Returns how many packets that were.
fn flood(network: &Network, count: usize, time: Duration) -> JoinHandle<usize> {
    let inside = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let socket = network.server.enter(inside).unwrap();
    std::thread::spawn(move || {
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < time {
            for client in 0..count as u32 {
                let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 76, 0, 2)) + client);
                // A full queue is a loss like any other.
                let _ = socket.send_to(&NOTHING, (address, 9));
                sent += 1;
            }
        }
        sent
    })
}

/// A client that asks for an address, and for nothing more.
struct Client {
    has_asked: bool,
    has_address: bool,
    /// Clients that have one.
    assigned: Arc<AtomicUsize>,
}

impl Flow for Client {
    fn on_datagrams(&mut self, _inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> pasque::Result<()> {
        Ok(())
    }

    fn admit_capsule(&self, kind: u64, _len: u64, _start: &[u8]) -> Admit {
        match kind {
            ADDRESS_ASSIGN => Admit::Buffer,
            _ => Admit::Skip,
        }
    }

    fn on_capsule(&mut self, _capsule: Capsule<'_>, _cx: &mut FlowCx<'_>) -> pasque::Result<()> {
        let is_first = !std::mem::replace(&mut self.has_address, true);
        self.assigned
            .fetch_add(usize::from(is_first), Ordering::Relaxed);
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<pasque::Result<()>> {
        if !std::mem::replace(&mut self.has_asked, true) {
            // Request ID 1, IPv4, any address, a whole one (RFC 9484 §4.7.2).
            cx.send_capsule(ADDRESS_REQUEST, &[1, 4, 0, 0, 0, 0, 32]);
        }
        Poll::Pending
    }
}
