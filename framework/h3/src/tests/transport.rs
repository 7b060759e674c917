//! QUIC below HTTP/3: strangers, bad networks and changing addresses.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pasque::Request;
use pasque::config::Limits;
use pasque::testing::TestTunnel;
use quiche::{RecvInfo, SendInfo, Type};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::time::timeout;

use super::endpoints::pattern;
use super::peer::{Peer, generous};
use super::{SILENCE, SITE, eventually, server};
use crate::socket::{Received, Socket};
use crate::testing::{Conditions, TestServer};

/// Somebody with a socket and no QUIC.
struct Stranger {
    socket: Socket,
    server: SocketAddr,
}

impl Stranger {
    fn of(server: &TestServer) -> Self {
        let socket = Socket::Memory(server.network().socket());
        Self {
            socket,
            server: server.address(),
        }
    }

    fn send(&mut self, packet: &[u8]) {
        let from = self.socket.local_addr();
        let info = SendInfo {
            from,
            to: self.server,
            at: Instant::now(),
        };
        self.socket.try_send(packet, packet.len(), &info);
    }

    /// The answers to what was sent, after some time.
    async fn answers(&mut self) -> Vec<Vec<u8>> {
        tokio::time::sleep(SILENCE).await;
        let (mut received, mut answers) = (Received::new(), Vec::new());
        while self.socket.try_recv(&mut received).is_ok() {
            received.for_each_run(|_info, packet, _stride| answers.push(packet.to_vec()));
        }
        answers
    }

    /// A client's QUIC state on this socket, and its first packet.
    fn first_packet(&self) -> (quiche::Connection, Vec<u8>) {
        let cid = crate::cid::Cid::random(0).to_quiche();
        let local = self.socket.local_addr();
        let mut quic =
            quiche::connect(Some("localhost"), &cid, local, self.server, &mut generous()).unwrap();
        let mut packet = vec![0; 1500];
        let (len, _info) = quic.send(&mut packet).unwrap();
        packet.truncate(len);
        (quic, packet)
    }

    /// What the client sends once it was told to prove its address.
    fn after_retry(&self, quic: &mut quiche::Connection, retry: &[u8]) -> Vec<u8> {
        let info = RecvInfo {
            from: self.server,
            to: self.socket.local_addr(),
        };
        quic.recv(&mut retry.to_vec(), info).expect("a good Retry");
        let mut packet = vec![0; 1500];
        let (len, _info) = quic.send(&mut packet).unwrap();
        packet.truncate(len);
        assert_eq!(header(&packet).token, header(retry).token);
        packet
    }
}

fn header(packet: &[u8]) -> quiche::Header<'static> {
    quiche::Header::from_slice(&mut packet.to_vec(), crate::settings::CID_LEN).unwrap()
}

#[tokio::test]
async fn an_address_is_proved_before_anything_is_kept() {
    let server = server().await;
    let mut stranger = Stranger::of(&server);
    let (mut quic, first) = stranger.first_packet();
    stranger.send(&first);
    let answers = stranger.answers().await;
    assert_eq!(answers.len(), 1);
    assert_eq!(header(&answers[0]).ty, Type::Retry);
    // At most a quarter of what came goes out, to whoever it claimed to be.
    assert!(
        answers[0].len() * 4 <= first.len(),
        "{} bytes",
        answers[0].len()
    );
    assert_eq!(server.connections(), 0);

    let second = stranger.after_retry(&mut quic, &answers[0]);
    stranger.send(&second);
    assert!(!stranger.answers().await.is_empty());
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_token_is_good_only_as_the_server_made_it() {
    let server = server().await;
    let mut stranger = Stranger::of(&server);
    let (_quic, first) = stranger.first_packet();
    stranger.send(&first);
    let retry = header(&stranger.answers().await[0]);
    let (token, id) = (retry.token.unwrap(), retry.scid);
    let flipped = |at: usize| {
        let mut token = token.clone();
        token[at] ^= 1;
        token
    };
    let mut forgeries: Vec<_> = (0..token.len()).step_by(7).map(flipped).collect();
    forgeries.push(flipped(token.len() - 1));
    forgeries.push(token[1..].to_vec());
    forgeries.push(token[..token.len() - 1].to_vec());
    forgeries.push(vec![7; token.len()]);
    let mut other_id = id.to_vec();
    other_id[7] ^= 1;
    let offers = forgeries
        .into_iter()
        .map(|token| (token, id.to_vec()))
        .chain([(token.clone(), other_id)]);
    for (token, id) in offers {
        // A Retry that a server made with this token would look like this.
        let (mut quic, first) = stranger.first_packet();
        let (initial, id) = (header(&first), quiche::ConnectionId::from_vec(id));
        let mut retry = vec![0; 1500];
        let version = quiche::PROTOCOL_VERSION;
        let len = quiche::retry(
            &initial.scid,
            &initial.dcid,
            &id,
            &token,
            version,
            &mut retry,
        );
        let second = stranger.after_retry(&mut quic, &retry[..len.unwrap()]);
        stranger.send(&second);
    }
    assert!(stranger.answers().await.is_empty());
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn packets_that_come_twice_make_no_second_connection() {
    let conditions = Conditions {
        duplicate: 1.0,
        ..Conditions::default()
    };
    let server = TestServer::start(&SITE, conditions, Limits::default()).await;
    let mut client = Peer::client(&server).await;
    let id = client.echo().await;
    client.datagram_for(id, b"once");
    assert_eq!(client.next_datagram(id).await, b"once");
    client.run_for(SILENCE).await;
    assert!(client.datagrams.is_empty());
    assert_eq!((server.connections(), server.tunnels()), (1, 1));
}

#[tokio::test]
async fn an_unknown_version_is_answered_with_those_that_are_known() {
    let server = server().await;
    // Version 2 (RFC 9369) gives other meanings to the bits that name the type of a packet.
    for (version, flags) in [
        (0x1a2a_3a4a_u32, 0xc0),
        (0x6b33_43cf, 0xd0),
        (0xff00_001d, 0xc0),
    ] {
        let mut stranger = Stranger::of(&server);
        let mut packet = vec![flags];
        packet.extend(version.to_be_bytes());
        packet.extend([8, 1, 2, 3, 4, 5, 6, 7, 8]);
        packet.extend([4, 9, 9, 9, 9]);
        packet.resize(1200, 0);
        stranger.send(&packet);
        let answers = stranger.answers().await;
        assert_eq!(answers.len(), 1, "{version:#x}");
        let reply = header(&answers[0]);
        assert_eq!(reply.ty, Type::VersionNegotiation, "{version:#x}");
        assert_eq!(
            (&reply.dcid[..], &reply.scid[..]),
            (&[9; 4][..], &[1, 2, 3, 4, 5, 6, 7, 8][..])
        );
        assert!(reply.versions.unwrap().contains(&quiche::PROTOCOL_VERSION));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn what_may_be_an_attack_gets_no_answer() {
    let server = server().await;
    let mut stranger = Stranger::of(&server);
    let (_quic, first) = stranger.first_packet();
    // A first packet below 1200 bytes, one of an unknown version, a version negotiation, a short
    // header of nobody's connection, and nothing at all.
    stranger.send(&first[..1199]);
    stranger.send(&[&[0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 0, 0][..], &[0; 500]].concat());
    stranger.send(
        &[
            &[0xc0, 0, 0, 0, 0, 4, 1, 2, 3, 4, 4, 1, 2, 3, 4][..],
            &[0; 1300],
        ]
        .concat(),
    );
    stranger.send(&[&[0x40][..], &[7; 1300]].concat());
    stranger.send(&[0x40]);
    stranger.send(&[0xc0]);
    assert!(stranger.answers().await.is_empty());
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_flood_of_garbage_leaves_a_tunnel_working() {
    let server = server().await;
    let mut client = server.connect("echo", "/echo").await.unwrap();
    let mut stranger = Stranger::of(&server);
    let seed = 20_000;
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (_quic, first) = stranger.first_packet();
    for n in 0..20_000 {
        let mut packet = vec![0; random.random_range(1..1452)];
        match n % 4 {
            // A first packet with some bytes changed.
            0 => {
                packet = first.clone();
                for _ in 0..random.random_range(1..20) {
                    let at = random.random_range(0..packet.len());
                    packet[at] = random.random();
                }
            }
            // Long and short headers with nothing sensible behind them.
            kind => {
                random.fill_bytes(&mut packet);
                if kind == 1 {
                    packet[0] |= 0xc0;
                }
            }
        }
        stranger.send(&packet);
        if n % 100 == 0 {
            client.send(b"through it all");
            assert_eq!(
                &*client.recv().await,
                b"through it all",
                "after {n} packets"
            );
        }
    }
    assert_eq!(server.connections(), 1, "no state for any of it");
}

#[tokio::test]
async fn h3_31_a_tunnel_survives_a_new_address() {
    let server = server().await;
    let (connection, address) = server.connect_from().await.unwrap();
    let request = Request::tunnel("echo", "/echo");
    let mut tunnel = TestTunnel::open(&connection, request).await.unwrap();
    tunnel.send(b"before");
    assert_eq!(&*tunnel.recv().await, b"before");
    for round in 0..25u8 {
        server.network().rebind(address);
        for n in 0..10 {
            tunnel.send(&[round, n]);
            assert_eq!(&*tunnel.recv().await, [round, n]);
        }
    }
    let response = connection
        .request(Request::get("/content/100000"))
        .await
        .unwrap();
    assert!(response.body.collect(1 << 20).await.unwrap() == pattern(0, 100_000));
    assert_eq!((server.connections(), server.tunnels()), (1, 1));
}

#[tokio::test]
async fn content_is_whole_and_tunnels_work_on_a_bad_network() {
    let conditions = Conditions {
        latency: Duration::from_millis(5),
        loss: 0.1,
        duplicate: 0.05,
        reorder: 0.1,
        seed: 77,
        ..Conditions::default()
    };
    println!("{conditions:?}");
    let server = TestServer::start(&SITE, conditions, Limits::default()).await;
    let connection = server.connection().await.unwrap();
    let mut tunnel = TestTunnel::open(&connection, Request::tunnel("echo", "/echo"))
        .await
        .unwrap();
    let download = {
        let connection = connection.clone();
        tokio::spawn(async move {
            let response = connection
                .request(Request::get("/content/1048576"))
                .await
                .unwrap();
            response.body.collect(2 << 20).await.unwrap()
        })
    };
    let mut seen = BTreeSet::new();
    for n in 0..200u32 {
        tunnel.send(&n.to_be_bytes());
        let wait = Duration::from_millis(20);
        while let Ok(Some(packet)) = timeout(wait, tunnel.0.recv()).await {
            let n = u32::from_be_bytes(packet[..].try_into().unwrap());
            assert!(seen.insert(n), "datagram {n} came twice");
        }
    }
    // UDP-52: what is lost stays lost, and everything else comes through. Two losses of 10 %.
    assert!(
        seen.len() > 100 && seen.len() < 200,
        "{} of 200 came back",
        seen.len()
    );
    let content = timeout(Duration::from_secs(30), download)
        .await
        .expect("in time");
    assert!(content.unwrap() == pattern(0, 1 << 20));
}

#[tokio::test]
async fn udp_51_the_longest_datagram_grows_to_what_the_path_takes() {
    let server = server().await;
    let mut client = server.connect("echo", "/echo").await.unwrap();
    let start = Instant::now();
    // Both ends find it out for themselves: what comes back has fitted twice.
    let mut longest = 0;
    while longest < 1350 {
        assert!(start.elapsed() < Duration::from_secs(1), "{longest} bytes");
        client.send(vec![7; client.max_len()]);
        if let Ok(echo) = timeout(Duration::from_millis(10), client.0.recv()).await {
            longest = echo.expect("an open tunnel").len();
        }
    }
}

#[tokio::test]
async fn udp_51_a_narrow_path_is_found_and_kept_to() {
    let conditions = Conditions {
        mtu: 1280,
        ..Conditions::default()
    };
    let server = TestServer::start(&SITE, conditions, Limits::default()).await;
    let mut client = server.connect("echo", "/echo").await.unwrap();
    let (start, mut longest) = (Instant::now(), 0);
    while longest < 1150 {
        assert!(start.elapsed() < Duration::from_secs(5), "{longest} bytes");
        client.send(vec![7; client.max_len()]);
        if let Ok(echo) = timeout(Duration::from_millis(10), client.0.recv()).await {
            longest = longest.max(echo.expect("an open tunnel").len());
        }
    }
    for _ in 0..20 {
        client.send(vec![7; longest]);
        assert_eq!(client.recv().await.len(), longest);
    }
}

#[tokio::test]
async fn two_clients_do_not_hear_each_other() {
    let server = server().await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        clients.push(server.connect("echo", "/echo").await.unwrap());
    }
    assert_eq!(server.connections(), 2);
    for n in 0..100u8 {
        for (index, client) in clients.iter().enumerate() {
            client.send(&[index as u8, n]);
        }
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(&*client.recv().await, [index as u8, n]);
        }
    }
    drop(clients.pop());
    eventually("one is gone", || server.connections() == 1).await;
    clients[0].send(b"alone");
    assert_eq!(&*clients[0].recv().await, b"alone");
}
