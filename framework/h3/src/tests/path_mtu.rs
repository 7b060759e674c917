//! How long a packet the path carries: found at the start, followed when it changes, and not mistaken
//! for losses.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use http::Method;
use pasque::config::Limits;
use pasque::connection::Connection;
use pasque::testing::TestTunnel;
use pasque::{Body, Request};
use quiche::{RecvInfo, h3};
use tokio::time::timeout;

use super::endpoints::pattern;
use super::peer::{Peer, generous};
use super::{PATIENCE, SITE};
use crate::settings::MAX_UDP_PAYLOAD;
use crate::testing::{Conditions, TestServer};

/// What an outer packet holds besides the payload of a datagram: first byte, our connection ID,
/// packet number, tag, frame header, and the stream's one byte.
const OVERHEAD: usize = 1 + 8 + 4 + 16 + 3 + 1;

/// The outer packet that carries an inner one of 1280 bytes and its context ID.
const FOR_IPV6: usize = 1280 + 1 + OVERHEAD;

fn conditions(latency: u64, mtu: usize) -> Conditions {
    let conditions = Conditions {
        latency: Duration::from_millis(latency),
        mtu,
        ..Conditions::default()
    };
    println!("{conditions:?}");
    conditions
}

async fn server(conditions: Conditions) -> TestServer {
    TestServer::start(&SITE, conditions, Limits::default()).await
}

/// Both ends of a tunnel, and what each has learnt of the path.
struct Ends {
    tunnel: TestTunnel,
    _connection: Connection,
    /// What the server's flow was told, first and last.
    first: Option<usize>,
    told: usize,
    /// How long the other packets were that came.
    longest: usize,
}

impl Ends {
    async fn on(server: &TestServer) -> Self {
        Self::open(server.connection().await.unwrap()).await
    }

    async fn open(connection: Connection) -> Self {
        let request = Request::tunnel("gauge", "/gauge");
        let tunnel = TestTunnel::open(&connection, request).await.unwrap();
        Self {
            tunnel,
            _connection: connection,
            first: None,
            told: 0,
            longest: 0,
        }
    }

    /// Listens for a moment. Returns how many packets came.
    async fn listen(&mut self, moment: Duration) -> usize {
        let (end, mut count) = (Instant::now() + moment, 0);
        while let Ok(packet) = timeout(end - Instant::now(), self.tunnel.0.recv()).await {
            let packet = packet.expect("an open tunnel");
            self.longest = self.longest.max(packet.len() + OVERHEAD);
            if let Ok(told) = packet[..].try_into() {
                self.told = u64::from_be_bytes(told) as usize + OVERHEAD;
                self.first.get_or_insert(self.told);
            }
            count += 1;
        }
        count
    }

    /// The longest packets of the client and of the server.
    fn sizes(&self) -> (usize, usize) {
        (self.tunnel.max_len() + OVERHEAD, self.told)
    }

    /// Lets either end send a packet as long as it may, and a short one.
    fn send(&self) {
        self.tunnel.send(vec![7; self.tunnel.max_len()]);
        self.tunnel.send(b"!longest");
        self.tunnel.send(b"?");
    }

    /// Sends every so often, or not, until both ends' packets have a length in `sizes`. Returns how
    /// long that took.
    async fn until(&mut self, sizes: RangeInclusive<usize>, pause: Option<u64>) -> Duration {
        let start = Instant::now();
        loop {
            if pause.is_some() {
                self.send();
            }
            self.listen(Duration::from_millis(pause.unwrap_or(2))).await;
            let (client, server) = self.sizes();
            if sizes.contains(&client) && sizes.contains(&server) {
                return start.elapsed();
            }
            let waited = start.elapsed();
            assert!(waited < PATIENCE, "{client} and {server}, not {sizes:?}");
        }
    }

    /// Moves the client to another port of the given host, and sends every so often for some time. At
    /// no time does nothing come for long.
    async fn move_to(
        &mut self,
        server: &TestServer,
        client: SocketAddr,
        host: u8,
        pause: u64,
        stay: u64,
    ) {
        server.network().renumber(client, [127, 0, 0, host].into());
        let (start, mut last) = (Instant::now(), Instant::now());
        while start.elapsed() < Duration::from_millis(stay) {
            self.send();
            if self.listen(Duration::from_millis(pause)).await > 0 {
                last = Instant::now();
            }
            assert!(
                last.elapsed() < Duration::from_secs(2),
                "{:?}",
                self.sizes()
            );
        }
    }

    /// Whether packets of the present length come through, in both directions.
    async fn carry(&mut self) {
        let start = Instant::now();
        let (client, server) = self.sizes();
        self.longest = 0;
        while self.longest < client.min(server) {
            assert!(start.elapsed() < Duration::from_secs(2), "{}", self.longest);
            self.send();
            self.listen(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn ip_59_an_idle_connection_reaches_the_full_length_in_two_round_trips() {
    for latency in [0, 10, 50] {
        let server = server(conditions(latency, MAX_UDP_PAYLOAD)).await;
        let connection = server.connection().await.unwrap();
        // The client begins when it knows that the server has its last handshake message.
        let two_trips = Duration::from_millis(4 * latency + 25);
        tokio::time::sleep(two_trips).await;
        let mut ends = Ends::open(connection).await;
        assert_eq!(ends.tunnel.max_len() + OVERHEAD, MAX_UDP_PAYLOAD);
        ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
        assert_eq!(ends.first, Some(MAX_UDP_PAYLOAD));
    }
}

#[tokio::test]
async fn ip_59_a_flow_that_has_nothing_to_send_learns_that_the_length_has_changed() {
    let server = server(conditions(5, 1400)).await;
    let mut ends = Ends::on(&server).await;
    // No datagram is ever sent to the server, and it sends only what it says about the length.
    let took = ends.until(FOR_IPV6..=1400, None).await;
    println!("{:?} to {:?} after {took:?}", ends.first, ends.sizes());
    assert!(ends.first < Some(FOR_IPV6));
    ends.until(1399..=1400, None).await;
}

#[tokio::test]
async fn threat_42_a_tunnel_follows_a_path_that_becomes_narrow() {
    // Whatever the rate is, and whatever the round trip.
    for (latency, mtu, pause) in [(1, 1340, 3), (20, 1440, 3), (20, 1250, 50), (50, 1340, 300)] {
        let server = server(conditions(latency, MAX_UDP_PAYLOAD)).await;
        let mut ends = Ends::on(&server).await;
        ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
        for _ in 0..10 {
            ends.send();
            ends.listen(Duration::from_millis(pause)).await;
        }
        server.network().set_mtu(mtu);
        let took = ends.until(mtu - 40..=mtu, Some(pause)).await;
        println!("found after {took:?}, one packet each {pause} ms");
        assert!(took < Duration::from_secs(6), "{took:?}");
        ends.carry().await;
    }
}

#[tokio::test]
async fn a_tunnel_follows_a_path_that_carries_more_again() {
    let server = server(conditions(5, MAX_UDP_PAYLOAD)).await;
    let mut ends = Ends::on(&server).await;
    ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
    server.network().set_mtu(1300);
    ends.until(1280..=1300, Some(5)).await;
    server.network().set_mtu(MAX_UDP_PAYLOAD);
    // Of itself, without a packet of the tunnel.
    let took = ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
    println!("after {took:?}");
    ends.carry().await;
}

#[tokio::test]
async fn h3_31_a_tunnel_learns_what_the_path_to_a_new_address_carries() {
    let server = server(conditions(5, MAX_UDP_PAYLOAD)).await;
    let (connection, address) = server.connect_from().await.unwrap();
    let mut ends = Ends::open(connection).await;
    ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
    // Another port, and the same way.
    server.network().rebind(address);
    for _ in 0..50 {
        ends.send();
        ends.listen(Duration::from_millis(5)).await;
        assert_eq!(ends.sizes(), (MAX_UDP_PAYLOAD, MAX_UDP_PAYLOAD));
    }
    ends.carry().await;
    // Another host, and a way that carries less.
    server.network().set_mtu(1400);
    server.network().renumber(address, [127, 0, 0, 2].into());
    let took = ends.until(1360..=1400, Some(5)).await;
    println!("after {took:?}");
    ends.carry().await;
}

#[tokio::test]
async fn h3_31_a_tunnel_goes_on_through_moves_in_short_succession() {
    let mut tunnels = tokio::task::JoinSet::new();
    for i in 0..48 {
        let (latency, pause) = ([1, 5, 20][i % 3], [5, 20][i % 2]);
        tunnels.spawn(async move {
            let server = server(conditions(latency, MAX_UDP_PAYLOAD)).await;
            let (connection, address) = server.connect_from().await.unwrap();
            let mut ends = Ends::open(connection).await;
            ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
            // To another host, whose path is narrow: before either end has found that out, and after
            // one of them has.
            server.network().set_mtu(1320);
            ends.move_to(&server, address, 2, pause, 12 * i as u64)
                .await;
            // To another port, and once more.
            ends.move_to(&server, address, 2, pause, 6 * i as u64).await;
            ends.move_to(&server, address, 2, pause, 2500).await;
            // Back to a path that is wide.
            server.network().set_mtu(MAX_UDP_PAYLOAD);
            ends.move_to(&server, address, 3, pause, 100).await;
            ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, Some(pause))
                .await;
            ends.carry().await;
        });
    }
    while let Some(ended) = tunnels.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn threat_42_a_transfer_goes_on_when_the_path_becomes_narrow() {
    const TOTAL: usize = 8 << 20;
    let chunks = futures_util::stream::unfold(0, |at| async move {
        let chunk = pattern(at, TOTAL.min(at + (16 << 10)) - at);
        (!chunk.is_empty()).then(|| (Ok(chunk.clone()), at + chunk.len()))
    });
    let mut upload = Request::new(Method::POST, "/content/echo");
    upload.body = Body::stream(chunks);
    for request in [Request::get(format!("/content/{TOTAL}")), upload] {
        let conditions = Conditions {
            rate: 8 << 20,
            ..conditions(10, MAX_UDP_PAYLOAD)
        };
        let server = server(conditions).await;
        let connection = server.connection().await.unwrap();
        let mut body = connection.request(request).await.unwrap().body;
        let (mut at, mut last, mut pause) = (0, Instant::now(), Duration::ZERO);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.unwrap();
            assert!(chunk == pattern(at, chunk.len()));
            at += chunk.len();
            if at > TOTAL / 4 {
                server.network().set_mtu(1300);
            }
            pause = pause.max(last.elapsed());
            last = Instant::now();
        }
        println!("the longest pause {pause:?}");
        assert_eq!(at, TOTAL);
        assert!(pause < Duration::from_secs(2), "{pause:?}");
    }
}

#[tokio::test]
async fn threat_42_five_percent_of_loss_change_nothing() {
    let conditions = Conditions {
        loss: 0.05,
        seed: 42,
        ..conditions(5, MAX_UDP_PAYLOAD)
    };
    let server = server(conditions).await;
    let mut tunnels = tokio::task::JoinSet::new();
    for pause in [1, 3, 10, 30, 100, 300] {
        let mut ends = Ends::on(&server).await;
        tunnels.spawn(async move {
            // The search at the start may take a probe or two more.
            ends.until(1440..=MAX_UDP_PAYLOAD, Some(10)).await;
            let (sizes, start) = (ends.sizes(), Instant::now());
            while start.elapsed() < Duration::from_secs(12) {
                ends.send();
                ends.listen(Duration::from_millis(pause)).await;
                assert_eq!(ends.sizes(), sizes, "one packet each {pause} ms");
            }
        });
    }
    while let Some(ended) = tunnels.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn threat_42_an_outage_changes_nothing() {
    let conditions = conditions(5, MAX_UDP_PAYLOAD);
    let server = server(conditions).await;
    let mut ends = Ends::on(&server).await;
    ends.until(MAX_UDP_PAYLOAD..=MAX_UDP_PAYLOAD, None).await;
    for _ in 0..3 {
        for loss in [1.0, 0.0] {
            server
                .network()
                .set_conditions(Conditions { loss, ..conditions });
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(1500) {
                ends.send();
                ends.listen(Duration::from_millis(5)).await;
                assert_eq!(ends.sizes(), (MAX_UDP_PAYLOAD, MAX_UDP_PAYLOAD));
            }
        }
        ends.carry().await;
    }
}

#[tokio::test]
async fn threat_42_a_client_that_allows_no_probes_is_sent_shorter_packets_in_the_end() {
    let server = server(conditions(5, MAX_UDP_PAYLOAD)).await;
    let mut config = generous();
    // HTTP/3's own streams, and no more (RFC 9114 §6.2).
    config.set_initial_max_streams_uni(3);
    let mut client = Peer::client_with(&server, config, "04 02 33 01").await;
    let id = client.connect("gauge", "/gauge").await;
    assert_eq!(client.head(id).await.status(), 200);
    server.network().set_mtu(1340);
    let start = Instant::now();
    loop {
        client.datagram_for(id, b"!longest");
        client.run_for(Duration::from_millis(20)).await;
        client.datagrams.retain(|datagram| datagram.len() > 1000);
        if let Some(longest) = client.datagrams.pop_front()
            && start.elapsed() > Duration::from_millis(100)
        {
            println!("{} bytes after {:?}", longest.len(), start.elapsed());
            return;
        }
        assert!(start.elapsed() < 2 * PATIENCE);
    }
}

/// Two ends of quiche alone, and a path that carries `mtu` bytes between them.
struct Alone {
    ends: [quiche::Connection; 2],
    mtu: usize,
}

impl Alone {
    fn run_for(&mut self, time: Duration) {
        let (start, mut packet) = (Instant::now(), vec![0; 2000]);
        while start.elapsed() < time {
            for from in [0, 1] {
                while let Ok((len, info)) = self.ends[from].send(&mut packet) {
                    let info = RecvInfo {
                        from: info.from,
                        to: info.to,
                    };
                    if len <= self.mtu {
                        self.ends[1 - from].recv(&mut packet[..len], info).unwrap();
                    }
                }
                self.ends[from].on_timeout();
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Why the engine does not leave this to quiche. If this fails, quiche has learnt it.
#[test]
fn quiche_never_tries_again_what_failed_once() {
    let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    crate::tls::make_self_signed(&paths[0], &paths[1]).unwrap();
    let mut config = generous();
    config.discover_pmtu(true);
    config
        .load_cert_chain_from_pem_file(paths[0].to_str().unwrap())
        .unwrap();
    config
        .load_priv_key_from_pem_file(paths[1].to_str().unwrap())
        .unwrap();
    config
        .set_application_protos(h3::APPLICATION_PROTOCOL)
        .unwrap();
    let [ours, theirs] = [[1; 8], [2; 8]].map(|id| quiche::ConnectionId::from_vec(id.to_vec()));
    let (name, [a, b]) = (Some("localhost"), addresses);
    let client = quiche::connect(name, &ours, a, b, &mut config).unwrap();
    let server = quiche::accept(&theirs, None, b, a, &mut config).unwrap();
    let mut alone = Alone {
        ends: [client, server],
        mtu: MAX_UDP_PAYLOAD,
    };
    alone.run_for(Duration::from_millis(200));
    assert_eq!(alone.ends[0].pmtu(), Some(MAX_UDP_PAYLOAD));
    for mtu in [1300, MAX_UDP_PAYLOAD, MAX_UDP_PAYLOAD] {
        alone.mtu = mtu;
        alone.ends[0].revalidate_pmtu();
        let start = Instant::now();
        while alone.ends[0].pmtu().is_none() {
            assert!(start.elapsed() < PATIENCE);
            alone.run_for(Duration::from_millis(20));
            let _ = alone.ends[0].send_ack_eliciting();
        }
        assert_eq!(alone.ends[0].pmtu(), Some(1300), "on a path of {mtu}");
    }
}
