//! First packets from addresses that are not the sender's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use pasque::{Connection, Request};
use pasque_h3::{ClientConfig, Trust};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use super::peer::{Peer, config};
use super::{ATTACKER, Figures, Length, MIB};
use crate::kit::{files, resident};
use crate::netns::{Counter, Namespace, Network, Plan};
use crate::{PATIENCE, Server, program};

/// The addresses that packets claim to come from: a /16 that is routed to the attacker.
const FORGED: [u8; 2] = [10, 66];
const PORT: u16 = 443;
const SEED: u64 = 21;

/// What the server receives from and sends to forged addresses, as the kernel counts it.
const COUNT: &str = "table inet t {
    counter asked {}
    counter answered {}
    chain input {
        type filter hook input priority 0
        ip saddr 10.66.0.0/16 udp dport 443 counter name asked
    }
    chain output {
        type filter hook output priority 0
        ip daddr 10.66.0.0/16 udp sport 443 counter name answered
    }
}";

/// What comes back to the attacker ends there, and nobody answers it.
const DROP: &str = "table inet t {
    chain input {
        type filter hook prerouting priority raw
        ip daddr 10.66.0.0/16 drop
    }
}";

/// A network in which forged addresses lead back to client 0, and a server in it.
struct Scene {
    network: Network,
    server: Server,
    _root: tempfile::TempDir,
}

impl Scene {
    async fn start(keys: Value) -> Self {
        let network = Network::new(2, Plan::default()).expect("a network: this takes root");
        network
            .server
            .ip("route add 10.66.0.0/16 via 10.9.0.1")
            .unwrap();
        network
            .router
            .ip("route add 10.66.0.0/16 via 10.9.1.2")
            .unwrap();
        network.server.nft(COUNT).unwrap();
        network.clients[0].nft(DROP).unwrap();
        let root = tempfile::tempdir().unwrap();
        let large = std::fs::File::create(root.path().join("large")).unwrap();
        large.set_len(1 << 40).unwrap();
        let mut config = keys;
        config["endpoints"] = json!([files(root.path())]);
        let psq_server: &Path = &program("psq-server");
        let server = Server::start_in(&network.server, psq_server, config, ["-a", "[::]:443"]);
        Self {
            server: server.await.unwrap(),
            network,
            _root: root,
        }
    }

    fn connect(&self) -> Connection {
        let mut config = ClientConfig::default();
        config.trust = Trust::AcceptAny;
        config.connect_timeout = PATIENCE;
        let server = SocketAddr::from((Network::SERVER, PORT));
        self.network.clients[1].connect(server, &config).unwrap()
    }

    /// Answered by asked bytes, and how many packets asked.
    fn amplification(&self) -> (f64, u64) {
        let asked = self.network.server.counter("asked").unwrap();
        let answered = self.network.server.counter("answered").unwrap();
        // What counts is what UDP carries (RFC 9000 §8).
        let payload = |counter: Counter| (counter.bytes - 28 * counter.packets) as f64;
        (payload(answered) / payload(asked), asked.packets)
    }
}

/// Bytes of a download that arrive in a second, for as long as `time`.
async fn throughput(connection: &Connection, time: Duration) -> f64 {
    let response = connection.request(Request::get("/files/large")).await;
    let mut response = response.unwrap();
    assert_eq!(response.status, StatusCode::OK);
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < time {
        let chunk = response.body.next().await.expect("more of the file");
        bytes += chunk.unwrap().len();
    }
    bytes as f64 / start.elapsed().as_secs_f64()
}

/// Sends UDP from addresses that are not ours.
struct Forger {
    socket: Socket,
    rng: StdRng,
}

impl Forger {
    fn new(namespace: &Namespace) -> io::Result<Self> {
        // IPPROTO_RAW: the packet brings its header along.
        let socket =
            namespace.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))))?;
        let rng = StdRng::seed_from_u64(SEED);
        Ok(Self { socket, rng })
    }

    /// Sends `payload` to the server from some forged address.
    fn send(&mut self, payload: &[u8]) {
        let [a, b] = FORGED;
        let from = Ipv4Addr::new(a, b, self.rng.random(), self.rng.random_range(1..255));
        let len = (20 + 8 + payload.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        packet.extend(from.octets());
        packet.extend(Network::SERVER.octets());
        packet.extend(self.rng.random_range(1024..u16::MAX).to_be_bytes());
        packet.extend(PORT.to_be_bytes());
        packet.extend((len - 20).to_be_bytes());
        // UDP over IPv4 may go without a checksum; the kernel adds that of the header.
        packet.extend([0, 0]);
        packet.extend(payload);
        let to = SocketAddrV4::new(Network::SERVER, 0);
        // A full buffer is a loss like any other.
        let _ = self.socket.send_to(&packet, &SocketAddr::from(to).into());
    }

    /// Sends first packets of new connections, so many a second. Returns how many.
    fn flood(&mut self, per_second: f64, time: Duration) -> usize {
        let mut first = initial();
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < time {
            while (sent as f64) < start.elapsed().as_secs_f64() * per_second {
                // A connection ID of its own: long header, version, and then the ID's length.
                self.rng.fill_bytes(&mut first[6..14]);
                self.send(&first);
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        sent
    }
}

/// The first packet of a client.
fn initial() -> Vec<u8> {
    // It is not sent from here, so any server will do.
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let mut peer = Peer::new(server, ATTACKER, &mut config());
    peer.packet().expect("a client begins")
}

/// First packets at a rate at which no client comes, while somebody downloads a file.
pub(super) async fn spoofed_initials(length: Length) -> Figures {
    const PER_SECOND: f64 = 5000.0;
    let time = length.pick(Duration::from_secs(1), Duration::from_secs(60));
    let mut scene = Scene::start(json!({})).await;
    let connection = scene.connect();
    let alone = throughput(&connection, time.min(Duration::from_secs(5))).await;
    let mut forger = Forger::new(&scene.network.clients[0]).unwrap();
    let before = resident(&mut scene.server);
    let attack = tokio::task::spawn_blocking(move || forger.flood(PER_SECOND, time));
    let beside = throughput(&connection, time).await;
    let sent = attack.await.unwrap();
    let grown = resident(&mut scene.server).saturating_sub(before);
    let start = Instant::now();
    let newcomer = scene.connect();
    throughput(&newcomer, Duration::ZERO).await;
    let served = start.elapsed();
    let (amplification, asked) = scene.amplification();

    let mut figures = Figures::default();
    figures.rate(
        "first packets",
        sent as f64 / time.as_secs_f64(),
        0.9 * PER_SECOND,
    );
    figures.at_least("of them at the server", asked as usize, sent / 2);
    figures.memory("memory of the server, more", grown, 64 * MIB);
    figures.ratio("bytes answered for each that came", amplification, 0.25);
    let drop = 1.0 - beside / alone;
    figures.speed("share of its throughput that a bystander loses", drop, 0.5);
    figures.time("a newcomer is served after", served, Duration::from_secs(2));
    figures
}

/// The same where no proof of address is asked for: never more than three times what came.
pub(super) async fn spoofed_initials_without_retry(length: Length) -> Figures {
    let count = length.pick(50, 2000);
    let keys = json!({ "retry": "never", "limits": { "handshake_timeout_ms": 1000 } });
    let scene = Scene::start(keys).await;
    let mut forger = Forger::new(&scene.network.clients[0]).unwrap();
    let attack = move || {
        for _ in 0..count {
            forger.send(&initial());
        }
    };
    tokio::task::spawn_blocking(attack).await.unwrap();
    // What is not acknowledged is sent again, until the handshake has taken too long.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let (amplification, asked) = scene.amplification();
    let mut figures = Figures::default();
    figures.at_least("first packets at the server", asked as usize, count / 2);
    figures.ratio("bytes answered for each that came", amplification, 3.0);
    figures
}
