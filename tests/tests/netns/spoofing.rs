//! Packets that a client may not send. None of them comes out anywhere, and each is counted.

mod classes;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{LazyLock, Mutex};

use pasque::Connection;
use pasque::prelude::*;
use pasque_ip::IpEndpoint;
use pasque_ip::filter::{Counters, DropReason, SharedCounters};
use pasque_tests::netns::Network;
use pasque_tests::{PATIENCE, program};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use self::classes::{CLASSES, Class, SCOPED, Scene, TARGETS, addresses};
use crate::craft::{Header, ICMPV6, UDP, echo_request, udp};
use crate::lab::{Client, Mode, OWN, OWN_V6, Setup, connect, wait};
use crate::local::LocalServer;
use crate::tunnel::RawTunnel;

/// Packets in all, over all classes.
const PACKETS: usize = 10_000;

/// An [`IpEndpoint`] whose counters the test can read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WatchedIp {
    /// The name by which the test finds them.
    watch: String,
    endpoint: IpEndpoint,
}

pasque::register!(WatchedIp, "an IpEndpoint whose counters are read by a test",
    example: r#"{ "path": "ip", "type": "WatchedIp", "watch": "none",
        "endpoint": { "ifprefix": "tun-s", "addresspools": ["10.76.0.1/24"] } }"#,
    variables: &["target", "ipproto"],
    well_known: Some("/.well-known/masque/ip/{target}/{ipproto}/"));

/// The counters of those that run.
static WATCHED: LazyLock<Mutex<HashMap<String, SharedCounters>>> = LazyLock::new(Mutex::default);

#[async_trait]
#[typetag::deserialize]
impl Endpoint for WatchedIp {
    async fn start(&mut self, cx: &StartContext) -> Result<()> {
        let counters = self.endpoint.counters();
        WATCHED.lock().unwrap().insert(self.watch.clone(), counters);
        self.endpoint.start(cx).await
    }

    async fn handle(&self, request: Request) -> Result<Response> {
        self.endpoint.handle(request).await
    }

    async fn stop(&self) {
        WATCHED.lock().unwrap().remove(&self.watch);
        self.endpoint.stop().await;
    }
}

/// The counters of the endpoint that is watched as `name`.
pub(crate) fn watched(name: &str) -> SharedCounters {
    WATCHED.lock().unwrap()[name].clone()
}

/// How many packets of clients were dropped so far.
pub(crate) fn dropped(counters: &SharedCounters) -> u64 {
    let outward = counters.read().outward;
    DropReason::all()
        .map(|reason| outward.dropped(reason))
        .sum()
}

/// `keys` of an `IpEndpoint`, made one that is watched as `name`.
pub(crate) fn watch(name: &str, mut document: Value) -> Value {
    let mut endpoint = document["endpoints"][0].take();
    let keys = endpoint.as_object_mut().unwrap();
    for key in ["path", "type", "anonymous"] {
        keys.remove(key);
    }
    document["endpoints"][0] = json!({
        "path": "ip", "type": "WatchedIp", "anonymous": true, "watch": name, "endpoint": endpoint,
    });
    document
}

/// Counts at `eth0` of the target and at the interface of the other client everything but what the
/// links themselves need.
const COUNT: &str = "table inet t {
    counter seen {}
    chain input {
        type filter hook prerouting priority raw
        iifname lo accept
        icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 } accept
        iifname { \"eth0\", \"psq0\" } udp sport 443 accept
        counter name seen
    }
}";

/// Counts on the server what comes out of the tunnels.
const COUNT_TUNNELS: &str = "table inet t {
    counter seen {}
    chain input {
        type filter hook prerouting priority raw
        iifname \"tun-s*\" counter name seen
    }
}";

/// Sends an echo request to the target, and waits for the reply: everything sent before it has
/// arrived by then.
async fn barrier(tunnel: &mut RawTunnel, here: IpAddr, sequence: u16) {
    barrier_to(tunnel, here, Network::target_like(here), sequence).await;
}

/// [`barrier`] with another host that answers.
pub(crate) async fn barrier_to(tunnel: &mut RawTunnel, here: IpAddr, there: IpAddr, sequence: u16) {
    let request = echo_request(Header::new(here, there, 0), 7, sequence, &[]);
    tunnel.send(&request);
    let wanted = |packet: &[u8]| {
        let (header, rest) = Header::parse(packet).unwrap();
        header.source == there
            && rest.len() >= 8
            && matches!(rest[0], 0 | 129)
            && rest[6..8] == sequence.to_be_bytes()
    };
    let reply = async {
        while let Some(packet) = tunnel.recv(PATIENCE).await {
            if wanted(&packet) {
                return;
            }
        }
        panic!("no reply to an honest echo request");
    };
    tokio::time::timeout(PATIENCE, reply)
        .await
        .expect("the server serves on");
}

/// What is counted from `before` to `after`: drops by reason, and what has passed.
fn difference(before: &Counters, after: &Counters) -> (HashMap<String, u64>, u64) {
    let (before, after) = (&before.outward, &after.outward);
    let drops = DropReason::all()
        .map(|reason| {
            (
                format!("{reason:?}"),
                after.dropped(reason) - before.dropped(reason),
            )
        })
        .filter(|(_, dropped)| *dropped > 0)
        .collect();
    (drops, after.passed - before.passed)
}

/// The tunnels of a client that has no interface.
struct Forger {
    connection: Connection,
    counters: SharedCounters,
    other: [IpAddr; 2],
    rng: StdRng,
}

impl Forger {
    /// A tunnel to `target` and `protocol`, and who is there then.
    async fn open(&self, target: &str, protocol: &str) -> (RawTunnel, Scene) {
        let mut tunnel = RawTunnel::open(&self.connection, target, protocol)
            .await
            .unwrap();
        let addresses = tunnel.addresses().await;
        // A scope may leave one version only: then that address stands for both.
        let here = [addresses[0], addresses[addresses.len() - 1]];
        (
            tunnel,
            Scene {
                here,
                other: self.other,
            },
        )
    }

    /// Sends `count` packets of `class`, and honest ones between them. Returns how many these were.
    async fn send(&mut self, class: &Class, count: u64, target: &str, protocol: &str) -> u64 {
        let before = self.counters.read();
        let (mut tunnel, scene) = self.open(target, protocol).await;
        let mut honest = 0;
        for n in 0..count {
            tunnel.send_datagram((class.make)(&mut self.rng, scene));
            if n % 50 == 49 || n + 1 == count {
                honest += 1;
                barrier(&mut tunnel, scene.here[1], honest).await;
            }
        }
        drop(tunnel);
        let honest = u64::from(honest);
        // What a tunnel has counted is added up when it ends, if not before.
        let counted = || difference(&before, &self.counters.read());
        wait("the counters", || counted().1 == honest).await;
        let (drops, _) = counted();
        let name = class.name;
        assert_eq!(drops.values().sum::<u64>(), count, "{name}: {drops:?}");
        let is_named = |reason: &String| class.reasons.contains(&reason.as_str());
        assert!(drops.keys().all(is_named), "{name}: {drops:?}");
        honest
    }
}

async fn ten_thousand_packets(mode: Mode) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let setup = Setup::new(mode)
        .endpoint(
            "routes",
            json!(["0.0.0.0/0", "::/0", "198.51.100.0/24", "2001:db8:100::/64"]),
        )
        .endpoint("mtu_probe", json!(false));
    let (network, _place) = setup.network().await;
    let name = network.server.name().to_owned();
    let _server = LocalServer::start(&network.server, watch(&name, setup.document()));

    // The other client has an interface; the one that sends has none.
    let url = format!("https://{}", Network::SERVER);
    let arguments = [
        "-d",
        &url,
        "--ignore-cert",
        "-i",
        "--device",
        mode.device,
        "--tun",
        "psq0",
    ];
    let other = network.clients[1]
        .start(&program("psq-client"), arguments)
        .unwrap();
    let other = Client::new(other).await;
    let counters = watched(&name);
    let mut forger = Forger {
        connection: connect(&network.clients[0]),
        counters: counters.clone(),
        other: other.addresses(),
        rng: StdRng::seed_from_u64(seed),
    };
    // The way to the target is known to all.
    let (mut first, scene) = forger.open("%2A", "%2A").await;
    barrier(&mut first, scene.here[0], 1).await;
    barrier(&mut first, scene.here[1], 2).await;
    drop(first);
    wait("the counters", || counters.read().outward.passed == 2).await;

    network.clients[1].nft(COUNT).unwrap();
    network.target.nft(COUNT).unwrap();
    network.server.nft(COUNT_TUNNELS).unwrap();
    let before = counters.read();
    let each = (PACKETS / (CLASSES.len() + SCOPED.len()) + 1) as u64;
    let mut honest = 0;
    for class in CLASSES {
        honest += forger.send(class, each, "%2A", "%2A").await;
    }
    for class in SCOPED {
        honest += forger
            .send(class, each, "2001%3Adb8%3A100%3A%3A2", "17")
            .await;
    }
    let (drops, passed) = difference(&before, &counters.read());
    let all = drops.values().sum::<u64>();
    assert!(all >= PACKETS as u64 && all == each * (CLASSES.len() + SCOPED.len()) as u64);
    assert_eq!(passed, honest);
    // Nothing has come out but the honest ones, anywhere.
    assert_eq!(network.server.counter("seen").unwrap().packets, honest);
    assert_eq!(network.target.counter("seen").unwrap().packets, honest);
    assert_eq!(network.clients[1].counter("seen").unwrap().packets, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_40_41_42_44_45_50_ten_thousand_packets_that_may_not_pass_come_out_nowhere() {
    // One after the other: two endpoints of one process do not give out the same addresses.
    for mode in [Mode::AUTO_CLIENT, Mode::PLAIN_SHARED] {
        ten_thousand_packets(mode).await;
    }
}

/// The next ICMP error in the tunnel: source, type and code.
async fn error(tunnel: &mut RawTunnel) -> (IpAddr, u8, u8) {
    loop {
        let packet = tunnel.recv(PATIENCE).await.expect("an ICMP error");
        let (header, rest) = Header::parse(&packet).unwrap();
        let is_error = match header.source {
            IpAddr::V4(_) => header.protocol == 1 && matches!(rest[0], 3 | 11),
            IpAddr::V6(_) => header.protocol == ICMPV6 && rest[0] < 128,
        };
        if is_error {
            return (header.source, rest[0], rest[1]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_52_the_sender_is_told_why() {
    let lab = Setup::new(Mode::AUTO_CLIENT)
        .clients(1)
        .endpoint("deny", json!(["198.51.100.9", "2001:db8:100::9"]))
        .endpoint("mtu_probe", json!(false))
        .start()
        .await;
    let connection = lab.connect(0);
    let mut tunnel = RawTunnel::open(&connection, "%2A", "%2A").await.unwrap();
    let here: [IpAddr; 2] = tunnel.addresses().await.try_into().unwrap();
    barrier(&mut tunnel, here[0], 1).await;
    let [stranger, stranger_v6] = addresses(["10.76.0.99", "fd76:212:dead::9999"]);
    let [denied, denied_v6] = addresses(["198.51.100.9", "2001:db8:100::9"]);
    let [beyond, beyond_v6] = addresses(["203.0.113.9", "2001:db8:200::9"]);
    let own = [IpAddr::from(OWN), OWN_V6.into()];
    for (case, source, destination, hop_limit, kind, code) in [
        ("source", stranger, TARGETS[0], 64, 3, 13),
        ("source", stranger_v6, TARGETS[1], 64, 1, 5),
        ("no route", here[0], beyond, 64, 3, 0),
        ("no route", here[1], beyond_v6, 64, 1, 0),
        ("policy", here[0], denied, 64, 3, 13),
        ("policy", here[1], denied_v6, 64, 1, 1),
        ("hop limit", here[0], TARGETS[0], 1, 11, 0),
        ("hop limit", here[1], TARGETS[1], 1, 3, 0),
    ] {
        let header = Header {
            hop_limit,
            ..Header::new(source, destination, UDP)
        };
        tunnel.send(&udp(header, (1, 2), b"why"));
        let expected = (own[usize::from(source.is_ipv6())], kind, code);
        assert_eq!(error(&mut tunnel).await, expected, "{case}: {header:?}");
    }
}
