//! The client's side against the server's, over the wire in memory.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a test opens the targets, and stands for local programs"
)]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pasque::template::UriTemplate;
use pasque::testing::{Faults, TestServer};
use pasque_udp::{Forward, ForwardLimits, Target, tunnel_request};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::common::*;

/// A running forward and what it told.
struct Running {
    address: SocketAddr,
    events: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(server: &TestServer, target: &str) -> Self {
        Self::start_with(server, target, ForwardLimits::default())
    }

    fn start_with(server: &TestServer, target: &str, limits: ForwardLimits) -> Self {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let log = events.clone();
        let mut forward = bind(server, target)
            .with_limits(limits)
            .with_events(move |event| log.lock().unwrap().push(event.to_string()));
        Self {
            address: forward.local_addr().unwrap(),
            events,
            task: tokio::spawn(async move {
                forward.run().await.unwrap();
            }),
        }
    }

    /// A local user's socket.
    async fn user(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket
    }

    /// Events that hold `text`.
    fn told(&self, text: &str) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event.contains(text)).count()
    }
}

/// A forward to `target` on a free port.
fn bind(server: &TestServer, target: &str) -> Forward {
    let target = Target::parse(target).unwrap();
    let template = "https://proxy.example/udp/{target_host}/{target_port}/";
    let template = UriTemplate::parse(template, &["target_host", "target_port"]).unwrap();
    let request = move || tunnel_request(&template, &target);
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    Forward::bind(local, server.connection(), request).unwrap()
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn udp_50_datagrams_of_any_length_go_there_and_back() {
    for ip in ["127.0.0.1", "::1"] {
        let target = Echo::start(ip).await;
        let server = server(LOOPBACK, None).await;
        let forward = Running::start(&server, &target.address.to_string());
        let user = forward.user().await;
        for len in [0, 1, 9, 1200, 1319] {
            let sent = vec![7; len];
            user.send(&sent).await.unwrap();
            let (received, from) = recv(&user).await;
            assert_eq!(received, sent);
            assert_eq!(from, forward.address);
        }
        // Too long for the tunnel: lost, as on a network, and nothing else with it.
        for len in [1320, 9000] {
            user.send(&vec![7; len]).await.unwrap();
        }
        user.send(b"last").await.unwrap();
        assert_eq!(recv(&user).await.0, b"last");
        assert_eq!(target.count(), 6);
    }
}

#[tokio::test]
async fn udp_50_a_forward_goes_on_with_another_connection_on_the_same_socket() {
    let target = Echo::start("127.0.0.1").await;
    let [first, second] = [server(LOOPBACK, None).await, server(LOOPBACK, None).await];
    let mut forward = bind(&first, &target.address.to_string());
    let user = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    user.connect(forward.local_addr().unwrap()).await.unwrap();
    user.send(b"first").await.unwrap();
    tokio::select! {
        ended = forward.run() => panic!("{ended:?}"),
        (received, _) = recv(&user) => assert_eq!(received, b"first"),
    }
    // Nobody serves it now, and what is sent meanwhile is sent for nothing.
    for _ in 0..100 {
        user.send(b"stale").await.unwrap();
    }
    forward.reconnect(second.connection());
    let talk = async {
        for n in 0..10 {
            user.send(&[n]).await.unwrap();
            assert_eq!(recv(&user).await.0, [n]);
        }
    };
    tokio::select! {
        ended = forward.run() => panic!("{ended:?}"),
        () = talk => {}
    }
    assert_eq!(target.count(), 11);
}

#[tokio::test]
async fn udp_50_each_user_has_a_tunnel_of_its_own() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = server(LOOPBACK, None).await;
    let forward = Running::start(&server, &target.local_addr().unwrap().to_string());
    let mut users = Vec::new();
    for n in 0..20_u8 {
        let user = forward.user().await;
        user.send(&[n]).await.unwrap();
        let (payload, proxy) = recv(&target).await;
        assert_eq!(payload, [n]);
        users.push((user, proxy));
    }
    for (n, (_, proxy)) in users.iter().enumerate().rev() {
        target.send_to(&[n as u8, 1], proxy).await.unwrap();
    }
    for (n, (user, _)) in users.iter().enumerate() {
        assert_eq!(recv(user).await.0, [n as u8, 1]);
    }
    assert_eq!(forward.told("is open"), 20);
}

#[tokio::test]
async fn udp_50_a_burst_before_the_tunnel_is_open_waits_for_it() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = target.local_addr().unwrap();
    let (server, _names) = server_with_names(LOOPBACK, |_| {
        pasque::testing::dns::Answer::addresses(["127.0.0.1"]).after(Duration::from_millis(100))
    })
    .await;
    let forward = Running::start(&server, &format!("name.example:{}", address.port()));
    let user = forward.user().await;
    for n in 0..100_u8 {
        user.send(&[n]).await.unwrap();
    }
    // The 64 latest, in order: the oldest made place.
    for n in 36..100 {
        assert_eq!(recv(&target).await.0, [n]);
    }
}

#[tokio::test]
async fn udp_50_a_burst_of_equal_lengths_passes() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let forward = Running::start(&server, &target.address.to_string());
    let user = forward.user().await;
    user.send(b"first").await.unwrap();
    recv(&user).await;
    for round in 0..20_u8 {
        for n in 0..50_u8 {
            user.send(&[[round, n], [0, 0]].concat().repeat(250))
                .await
                .unwrap();
        }
        for n in 0..50 {
            let (payload, _) = recv(&user).await;
            assert_eq!((payload.len(), payload[0], payload[1]), (1000, round, n));
        }
    }
}

#[tokio::test]
async fn udp_52_ten_per_cent_loss_cost_what_they_cost() {
    let target = Echo::start("127.0.0.1").await;
    let faults = Faults {
        loss: 0.1,
        reorder: 0.1,
        seed: 11,
    };
    let server = server(LOOPBACK, None).await.with_faults(faults);
    let forward = Running::start(&server, &target.address.to_string());
    let user = forward.user().await;
    // What is sent before the tunnel is open may make place for what follows.
    let mut buffer = [0; 9];
    while timeout(Duration::from_millis(50), user.recv(&mut buffer))
        .await
        .is_err()
    {
        user.send(b"open").await.unwrap();
    }
    let mut seen = vec![0; 200];
    for n in 0..200_u16 {
        user.send(&n.to_be_bytes()).await.unwrap();
        if n % 10 == 9 {
            sleep(Duration::from_millis(1)).await;
        }
    }
    while let Ok(len) = timeout(Duration::from_millis(500), user.recv(&mut buffer)).await {
        // A late answer to what opened the tunnel is longer.
        if len.unwrap() == 2 {
            seen[usize::from(u16::from_be_bytes([buffer[0], buffer[1]]))] += 1;
        }
    }
    assert!(seen.iter().all(|&times| times <= 1), "seed {}", faults.seed);
    let arrived = seen.iter().filter(|&&times| times == 1).count();
    assert!(
        (130..=190).contains(&arrived),
        "{arrived} of 200, seed {}",
        faults.seed
    );
}

#[tokio::test]
async fn a_refusal_is_told_once_and_tried_again_later() {
    let server = server("", None).await;
    let forward = Running::start(&server, "127.0.0.1:53");
    let user = forward.user().await;
    for _ in 0..25 {
        user.send(b"hi").await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(forward.told("destination_ip_prohibited"), 1);
    assert_eq!(forward.events.lock().unwrap().len(), 1);
    let text = forward.events.lock().unwrap()[0].clone();
    assert!(text.contains("403"), "{text}");
    assert!(
        text.contains(&user.local_addr().unwrap().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_refused_user_gets_a_tunnel_once_the_server_allows_it() {
    let target = Echo::start("127.0.0.1").await;
    let allowed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = allowed.clone();
    let keys = r#", "allow": ["127.0.0.1"]"#;
    let (server, _names) = server_with_names(keys, move |_| {
        match flag.load(std::sync::atomic::Ordering::Relaxed) {
            true => pasque::testing::dns::Answer::addresses(["127.0.0.1"]),
            false => pasque::testing::dns::Answer::addresses(["10.0.0.1"]),
        }
    })
    .await;
    let forward = Running::start(&server, &format!("name.example:{}", target.address.port()));
    let user = forward.user().await;
    user.send(b"refused").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    allowed.store(true, std::sync::atomic::Ordering::Relaxed);
    user.send(b"too early").await.unwrap();
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(target.count(), 0);
    user.send(b"hi").await.unwrap();
    assert_eq!(recv(&user).await.0, b"hi");
    assert_eq!(target.count(), 1);
}

#[tokio::test]
async fn users_beyond_the_limit_get_no_tunnel() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let mut limits = ForwardLimits::default();
    limits.users = 2;
    let forward = Running::start_with(&server, &target.address.to_string(), limits);
    let users = [
        forward.user().await,
        forward.user().await,
        forward.user().await,
    ];
    for user in &users {
        user.send(b"hi").await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    users[2].send(b"hi").await.unwrap();
    for user in &users[..2] {
        recv(user).await;
    }
    let third = timeout(Duration::from_millis(50), users[2].recv(&mut [0; 9])).await;
    assert!(third.is_err());
    assert_eq!(forward.told("which is the limit"), 1);
    assert_eq!(target.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_tunnel_is_given_up_and_opened_again() {
    let target = Echo::start("127.0.0.1").await;
    let server = server(LOOPBACK, None).await;
    let mut limits = ForwardLimits::default();
    limits.idle_timeout = Duration::from_secs(120);
    let forward = Running::start_with(&server, &target.address.to_string(), limits);
    let user = forward.user().await;
    for round in 1..=3 {
        user.send(b"hi").await.unwrap();
        assert_eq!(user.recv(&mut [0; 9]).await.unwrap(), 2);
        assert_eq!(forward.told("is open"), round);
        sleep(Duration::from_secs(121)).await;
        assert_eq!(forward.told("ended"), round);
    }
}

#[tokio::test]
async fn dropping_a_forward_ends_its_tunnels() {
    let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = server(LOOPBACK, None).await;
    let forward = Running::start(&server, &target.local_addr().unwrap().to_string());
    let user = forward.user().await;
    user.send(b"hi").await.unwrap();
    let (_, proxy) = recv(&target).await;
    drop(forward);
    sleep(Duration::from_millis(50)).await;
    // Its port is closed: the first datagram brings the news, the second one gets it.
    target.connect(proxy).await.unwrap();
    target.send(b"anyone?").await.unwrap();
    sleep(Duration::from_millis(10)).await;
    target.send(b"anyone?").await.unwrap_err();
}

#[tokio::test]
async fn udp_51_a_path_too_small_for_quic_is_told() {
    let event = pasque_udp::ForwardEvent::PathTooSmall {
        user: ([127, 0, 0, 1], 4000).into(),
        max_len: 1181,
    };
    let text = event.to_string();
    assert!(
        text.contains("1180 bytes, 20 less than the 1200 that QUIC needs"),
        "{text}"
    );
}
