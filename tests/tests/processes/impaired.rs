//! A path that loses, repeats, damages and reorders packets, and a NAT that forgets.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pasque::Connection;
use pasque::testing::TestTunnel;
use pasque_h3::{ClientConfig, Trust};
use pasque_tests::{EchoTarget, PATIENCE, Server};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::common::{files, get, open, server, udp};

/// What a [`Relay`] does to packets, each in so many of a thousand cases.
#[derive(Clone, Copy, Default)]
struct Faults {
    lost: u32,
    repeated: u32,
    damaged: u32,
    late: u32,
}

/// Stands between a client and a server, like a bad network behind a bad NAT.
struct Relay {
    address: SocketAddr,
    /// Gives the side towards the server another port.
    rebind: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    async fn start(server: SocketAddr, faults: Faults, seed: u64) -> Self {
        println!("seed {seed}");
        let inside = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).await.unwrap());
        let address = inside.local_addr().unwrap();
        let rebind = Arc::<Notify>::default();
        let rng = StdRng::seed_from_u64(seed);
        let task = tokio::spawn(relay(inside, server, rebind.clone(), faults, rng));
        Self {
            address,
            rebind,
            task,
        }
    }

    /// A connection through the relay.
    async fn connect(&self, server: &Server) -> Connection {
        let mut config = ClientConfig::default();
        config.trust = Trust::CaFile(server.certificate());
        config.connect_timeout = PATIENCE;
        config.response_timeout = PATIENCE;
        pasque_h3::connect("127.0.0.1", self.address.port(), &config)
            .await
            .unwrap()
    }
}

async fn outside_socket(server: SocketAddr) -> Arc<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    Arc::new(socket)
}

async fn relay(
    inside: Arc<UdpSocket>,
    server: SocketAddr,
    rebind: Arc<Notify>,
    faults: Faults,
    mut rng: StdRng,
) {
    let mut outside = outside_socket(server).await;
    let mut client = None;
    let (mut from_client, mut from_server) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            () = rebind.notified() => outside = outside_socket(server).await,
            Ok((len, from)) = inside.recv_from(&mut from_client) => {
                client = Some(from);
                pass(&outside, None, &mut from_client[..len], faults, &mut rng);
            }
            Ok(len) = outside.recv(&mut from_server) => {
                pass(&inside, client, &mut from_server[..len], faults, &mut rng);
            }
            else => {}
        }
    }
}

fn pass(
    socket: &Arc<UdpSocket>,
    to: Option<SocketAddr>,
    packet: &mut [u8],
    faults: Faults,
    rng: &mut StdRng,
) {
    let mut happens = |share: u32| rng.random_ratio(share, 1000);
    if happens(faults.lost) {
        return;
    }
    let (twice, damaged, late) = (
        happens(faults.repeated),
        happens(faults.damaged),
        happens(faults.late),
    );
    if damaged {
        let at = rng.random_range(0..packet.len());
        packet[at] ^= 1 << rng.random_range(0..8);
    }
    let send = move |socket: &UdpSocket, packet: &[u8]| {
        // A full buffer is one more loss.
        let _ = match to {
            Some(to) => socket.try_send_to(packet, to),
            None => socket.try_send(packet),
        };
    };
    if twice {
        send(socket, packet);
    }
    if late {
        let (socket, packet) = (socket.clone(), packet.to_vec());
        tokio::spawn(async move {
            sleep(Duration::from_millis(5)).await;
            send(&socket, &packet);
        });
    } else {
        send(socket, packet);
    }
}

/// Sends numbered datagrams; returns how many have come back. None may come back twice, or as
/// something that was never sent.
async fn count_echoes(tunnel: &mut TestTunnel, count: u32) -> usize {
    let payload = |number: u32| {
        let mut datagram = vec![0];
        datagram.extend(number.to_be_bytes());
        datagram.resize(600, number as u8);
        datagram
    };
    let mut seen = HashSet::new();
    let mut take = |packet: &[u8]| {
        let number = u32::from_be_bytes(packet[1..5].try_into().unwrap());
        assert_eq!(*packet, payload(number), "damaged");
        assert!(number < count && seen.insert(number), "{number} came twice");
    };
    for number in 0..count {
        tunnel.send(payload(number));
        if let Ok(packet) = timeout(Duration::from_millis(1), tunnel.0.recv()).await {
            take(&packet.expect("the tunnel is open"));
        }
    }
    while let Ok(packet) = timeout(Duration::from_secs(1), tunnel.0.recv()).await {
        take(&packet.expect("the tunnel is open"));
    }
    seen.len()
}

async fn start() -> (Server, EchoTarget, Vec<u8>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut content = vec![0; 4 << 20];
    StdRng::seed_from_u64(3).fill_bytes(&mut content);
    std::fs::write(folder.path().join("file"), &content).unwrap();
    let endpoints = json!([udp(&["127.0.0.1"]), files(folder.path())]);
    let server = server(json!({ "endpoints": endpoints })).await;
    (
        server,
        EchoTarget::on_loopback().await.unwrap(),
        content,
        folder,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_52_a_bad_path_neither_repeats_nor_damages() {
    let (server, target, content, _folder) = start().await;
    let faults = Faults {
        lost: 20,
        repeated: 100,
        damaged: 20,
        late: 100,
    };
    let relay = Relay::start(server.address(), faults, 52).await;
    let connection = relay.connect(&server).await;
    let download = tokio::spawn({
        let connection = connection.clone();
        async move { get(&connection, "/files/file").await }
    });
    let mut tunnel = open(&connection, "127.0.0.1", target.address().port()).await;
    let count = 2000;
    let returned = count_echoes(&mut tunnel, count).await;
    // Lost or damaged on one of two ways: eight of a hundred, and what the download crowds out.
    assert!(returned > count as usize * 3 / 4, "{returned} of {count}");
    let (status, received) = timeout(PATIENCE, download).await.unwrap().unwrap();
    assert_eq!(status, 200);
    assert!(received == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_31_a_client_whose_port_changes_keeps_its_connection() {
    let (server, target, content, _folder) = start().await;
    let relay = Relay::start(server.address(), Faults::default(), 31).await;
    let connection = relay.connect(&server).await;
    let mut tunnel = open(&connection, "127.0.0.1", target.address().port()).await;
    for _ in 0..3 {
        let returned = count_echoes(&mut tunnel, 300).await;
        assert!(returned >= 290, "{returned} of 300");
        let (status, received) = timeout(PATIENCE, get(&connection, "/files/file"))
            .await
            .unwrap();
        assert_eq!(status, 200);
        assert!(received == content);
        relay.rebind.notify_one();
    }
    let returned = count_echoes(&mut tunnel, 300).await;
    assert!(returned >= 290, "{returned} of 300");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_succeeds_though_nearly_a_third_is_lost() {
    let (server, target, _content, _folder) = start().await;
    for seed in 0..10 {
        let faults = Faults {
            lost: 300,
            ..Faults::default()
        };
        let relay = Relay::start(server.address(), faults, seed).await;
        let connection = relay.connect(&server).await;
        open(&connection, "127.0.0.1", target.address().port()).await;
    }
}
