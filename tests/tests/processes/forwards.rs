//! Forwards of `psq-client`: local ports that lead through the server.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pasque::testing::dns::{A, Answer, DnsServer};
use pasque_tests::EchoTarget;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::common::{ask, client, is_silent, server, udp, user};

#[tokio::test]
async fn udp_50_two_clients_at_once_get_each_their_own_answers() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = target.address().to_string();
    let mut clients = [
        client(&server, ["-u", &target]),
        client(&server, ["-u", &target]),
    ];
    let users = [
        user(&mut clients[0], &target).await,
        user(&mut clients[1], &target).await,
    ];
    for n in 0..100 {
        for (index, user) in users.iter().enumerate() {
            let payload = format!("{index}: {n}");
            assert_eq!(ask(user, payload.as_bytes()).await, payload.as_bytes());
        }
    }
    assert!(is_silent(&users[0]).await && is_silent(&users[1]).await);
}

#[tokio::test]
async fn udp_17_an_ipv6_target_is_reached_through_a_forward() {
    let target = EchoTarget::start("[::1]:0".parse().unwrap()).await.unwrap();
    let server = server(json!({ "endpoints": [udp(&["::1"])] })).await;
    let target = target.address().to_string();
    let mut client = client(&server, ["-u", &target]);
    let user = user(&mut client, &target).await;
    for payload in [&b""[..], b"x", &[7; 1200]] {
        assert_eq!(ask(&user, payload).await, payload);
    }
}

/// A target that returns what it gets, and notes from where each payload has come.
async fn noting_target() -> (u16, Arc<Mutex<HashMap<Vec<u8>, u16>>>) {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let sources = Arc::<Mutex<HashMap<_, _>>>::default();
    let notes = sources.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            notes
                .lock()
                .unwrap()
                .insert(buffer[..len].to_vec(), from.port());
            let _ = socket.send_to(&buffer[..len], from).await;
        }
    });
    (port, sources)
}

#[tokio::test]
async fn udp_50_every_local_user_of_a_forward_has_a_tunnel_of_its_own() {
    const USERS: usize = 20;
    let (port, sources) = noting_target().await;
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = format!("127.0.0.1:{port}");
    let mut client = client(&server, ["-u", &target]);
    let mut users = Vec::new();
    for _ in 0..USERS {
        users.push(user(&mut client, &target).await);
    }
    for round in 0..3 {
        for (index, user) in users.iter().enumerate() {
            let payload = format!("{index}: {round}");
            assert_eq!(ask(user, payload.as_bytes()).await, payload.as_bytes());
        }
    }
    let sources = sources.lock().unwrap();
    let of = |index: usize| {
        let rounds = (0..3).map(|round| sources[format!("{index}: {round}").as_bytes()]);
        rounds.collect::<HashSet<u16>>()
    };
    let all: HashSet<u16> = (0..USERS).flat_map(of).collect();
    assert_eq!(
        all.len(),
        USERS,
        "as many sockets at the server as users here"
    );
    assert!(
        (0..USERS).all(|index| of(index).len() == 1),
        "a user keeps its socket"
    );
}

#[tokio::test]
async fn udp_20_a_closed_port_that_opens_later_is_reached_by_the_same_tunnel() {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let closed = socket.local_addr().unwrap();
    drop(socket);
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = closed.to_string();
    let mut client = client(&server, ["-u", &target]);
    let user = user(&mut client, &target).await;
    for _ in 0..20 {
        user.send(b"nobody listens").await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(is_silent(&user).await);
    let before = sockets_connected_to(closed);
    assert_eq!(
        before.len(),
        1,
        "the tunnel is open though its target is not"
    );

    let opened = EchoTarget::start(closed).await.unwrap();
    assert_eq!(ask(&user, b"now").await, b"now");
    assert!(opened.count() >= 1);
    assert_eq!(
        before,
        sockets_connected_to(closed),
        "another tunnel has another socket"
    );
}

/// The local ends of this host's sockets that are connected to `target` on 127.0.0.1.
fn sockets_connected_to(target: SocketAddr) -> Vec<String> {
    let remote = format!("0100007F:{:04X}", target.port());
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let connected = rows.filter(|row| row.get(2).is_some_and(|found| *found == remote));
    connected.map(|row| row[1].to_owned()).collect()
}

#[tokio::test]
async fn udp_13_of_a_dead_and_a_live_address_the_live_one_answers() {
    let live = EchoTarget::on_loopback().await.unwrap();
    let port = live.address().port();
    // Nobody listens on that port of the other addresses; of `late.example` the family that is
    // tried first has none but a dead one.
    let names = DnsServer::start(|question| match question.name.as_str() {
        "both.example" => Answer::addresses(["127.0.0.9", "127.0.0.1"]),
        "late.example" if question.kind == A => Answer::addresses(["127.0.0.1"]),
        "late.example" => Answer::addresses(["::1"]),
        "half.example" if question.kind == A => Answer::addresses(["127.0.0.1"]),
        "half.example" => Answer::SERVFAIL,
        _ => Answer::NXDOMAIN,
    })
    .await
    .unwrap();
    let endpoints = json!([udp(&["127.0.0.0/8", "::1"])]);
    let server = server(json!({ "resolver": names.address(), "endpoints": endpoints })).await;
    for host in ["both.example", "late.example", "half.example"] {
        let target = format!("{host}:{port}");
        let mut client = client(&server, ["-u", &target]);
        let user = user(&mut client, &target).await;
        for n in 0..10 {
            assert_eq!(ask(&user, &[n]).await, [n], "{host}");
        }
    }
    assert!(live.count() >= 30);
}

#[tokio::test]
async fn udp_46_one_byte_too_much_is_dropped_and_the_tunnel_lives() {
    let target = EchoTarget::on_loopback().await.unwrap();
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let target = target.address().to_string();
    let mut client = client(&server, ["-u", &target]);
    let user = user(&mut client, &target).await;
    ask(&user, b"warm").await;
    // Both ends look for what the path carries; they have found it before long.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (mut fits, mut too_long) = (1200, 1500);
    assert!(
        returns(&user, fits).await,
        "1200 bytes are what QUIC inside a tunnel needs"
    );
    assert!(!returns(&user, too_long).await);
    while fits + 1 < too_long {
        let middle = (fits + too_long) / 2;
        match returns(&user, middle).await {
            true => fits = middle,
            false => too_long = middle,
        }
    }
    assert!(returns(&user, fits).await, "{fits}");
    for _ in 0..3 {
        assert!(!returns(&user, fits + 1).await, "{}", fits + 1);
        assert!(returns(&user, fits).await, "{fits}");
    }
}

/// Whether the target gets and returns a datagram of `len` bytes.
async fn returns(user: &UdpSocket, len: usize) -> bool {
    let mut buffer = vec![0; 65_536];
    user.send(&vec![0; len]).await.unwrap();
    match timeout(Duration::from_millis(400), user.recv(&mut buffer)).await {
        Ok(received) => {
            assert_eq!(received.unwrap(), len);
            true
        }
        Err(_late) => false,
    }
}

#[tokio::test]
async fn udp_46_an_answer_too_long_for_the_tunnel_is_dropped_and_the_tunnel_lives() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    let target = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            for answer_len in [2000, 9000, 60_000, len] {
                let _ = socket.send_to(&vec![1; answer_len], from).await;
            }
        }
    });
    let server = server(json!({ "endpoints": [udp(&["127.0.0.1"])] })).await;
    let mut client = client(&server, ["-u", &target]);
    let user = user(&mut client, &target).await;
    for len in [1, 10, 100] {
        assert_eq!(ask(&user, &vec![0; len]).await, vec![1; len]);
    }
}

#[tokio::test]
async fn xc_17_a_forward_that_is_refused_ends_with_one_line_that_says_why() {
    let server = server(json!({ "endpoints": [udp(&[])] })).await;
    let mut client = client(&server, ["-u", "10.0.0.1:53"]);
    let user = user(&mut client, "10.0.0.1:53").await;
    user.send(b"?").await.unwrap();
    let status = client.exit().await.unwrap();
    assert_eq!(status.code(), Some(4), "{}", client.output());
    let said = client.output();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("psq-client: "))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("403") && lines[0].contains("policy"),
        "{said}"
    );
}
