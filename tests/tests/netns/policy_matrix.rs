//! Closed addresses, in every spelling that reaches a server: as the host of a request, as what a name
//! resolves to, and as the destination of a packet.
//!
//! In the server's namespace all of them have a route, most of them to the target. So a packet that
//! was let out would be counted: on its way out of the server, and where it arrives.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use pasque::testing::TestTunnel;
use pasque::testing::dns::{Answer, DnsServer, Question};
use pasque::{Connection, Request};
use pasque_tests::Figures;
use pasque_tests::kit::{NAME, path, refusal};
use pasque_tests::netns::{Namespace, Network};
use pasque_udp as _;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::craft::{Header, UDP, echo_request, tcp_syn, udp};
use crate::lab::{Mode, Setup, connect, wait};
use crate::local::LocalServer;
use crate::spoofing::{barrier_to, dropped, watch, watched};
use crate::tunnel::RawTunnel;

/// One address of every closed range of IPv4, and of every kind that the server's host has itself.
const V4: [Ipv4Addr; 23] = [
    Ipv4Addr::new(0, 0, 0, 0),
    Ipv4Addr::new(0, 1, 2, 3),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(127, 0, 0, 1),
    Ipv4Addr::new(127, 255, 255, 254),
    Ipv4Addr::new(169, 254, 0, 1),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(192, 0, 0, 1),
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 88, 99, 1),
    Ipv4Addr::new(192, 168, 0, 1),
    Ipv4Addr::new(198, 18, 0, 1),
    Network::TARGET,
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::new(255, 255, 255, 255),
    // The server's own, and the broadcast addresses of its subnets.
    Network::SERVER,
    Network::LAN,
    Ipv4Addr::new(10, 9, 0, 255),
    Ipv4Addr::new(198, 51, 100, 255),
];

/// The same of IPv6.
const V6: [Ipv6Addr; 19] = [
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::LOCALHOST,
    Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0x0a00, 1),
    Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf, 0x80ff, 0xfffe),
    Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 1),
    Network::TARGET_V6,
    Ipv6Addr::new(0x2002, 0x7f00, 1, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 1),
    Network::SERVER_V6,
    Network::LAN_V6,
];

/// What is open, and is there.
const OPEN: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const OPEN_V6: Ipv6Addr = Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 9);

const PORT: u16 = 7777;

/// How few cases say too little.
const LEAST: usize = 400;

/// Counts on the server what its sockets send to `PORT`, and what comes out of the tunnels.
const COUNT: &str = "table inet t {
    counter leaked {}
    counter passed {}
    chain judge {
        ip daddr 9.9.9.9 counter name passed return
        ip6 daddr 2620:fe::9 counter name passed return
        counter name leaked
    }
    chain output {
        type filter hook output priority 0
        udp dport 7777 jump judge
    }
    chain tunnels {
        type filter hook prerouting priority raw
        iifname \"tun-s*\" jump judge
    }
}";

/// Counts at the target what comes for anything but the open addresses.
const COUNT_ARRIVED: &str = "table inet t {
    counter leaked {}
    chain input {
        type filter hook prerouting priority raw
        iifname lo accept
        icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 } accept
        ip daddr 9.9.9.9 accept
        ip6 daddr 2620:fe::9 accept
        counter name leaked
    }
}";

fn closed() -> Vec<IpAddr> {
    let v4 = V4.into_iter().map(IpAddr::from);
    v4.chain(V6.into_iter().map(IpAddr::from)).collect()
}

/// Spellings of `address` that are one, as it stands or inside an address of IPv6.
fn spellings_v4(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    vec![
        format!("{address}"),
        format!("::ffff:{address}"),
        format!("::FFFF:{a:02X}{b:02X}:{c:02X}{d:02X}"),
        format!("0:0:0:0:0:ffff:{a:x}{b:02x}:{c:x}{d:02x}"),
        format!("::ffff:0:{address}"),
        format!("64:ff9b::{address}"),
        format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
    ]
}

/// Spellings that some resolvers take for `address`, and that are no host here.
fn odd_spellings_v4(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let bits = address.to_bits();
    vec![
        format!("{bits}"),
        format!("{bits:#x}"),
        format!("0{bits:o}"),
        format!("{a:#x}.{}", bits & 0xff_ffff),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("{a:04o}.{b:04o}.{c:04o}.{d:04o}"),
        format!("{address}."),
        format!("[{address}]"),
        format!("[::ffff:{address}]"),
    ]
}

fn spellings_v6(address: Ipv6Addr) -> Vec<String> {
    let groups = address.segments();
    vec![
        address.to_string(),
        address.to_string().to_uppercase(),
        groups.map(|group| format!("{group:04x}")).join(":"),
    ]
}

fn odd_spellings_v6(address: Ipv6Addr) -> Vec<String> {
    vec![format!("[{address}]"), format!("{address}%eth0")]
}

/// How a request is answered.
type Verdict = Result<(), (StatusCode, String)>;

fn refused(status: StatusCode, error: &str) -> Verdict {
    Err((status, format!("{NAME};error={error}")))
}

fn prohibited() -> Verdict {
    refused(StatusCode::FORBIDDEN, "destination_ip_prohibited")
}

/// No route of a tunnel leads to a group, and none to what is no unicast address.
fn not_offered() -> Verdict {
    refused(StatusCode::FORBIDDEN, "http_request_denied")
}

/// What is done to the server, and what has come of it.
struct Matrix {
    connection: Connection,
    cases: usize,
    wrong: Vec<String>,
    /// Packets that were sent to what is open.
    honest: u64,
    /// Tunnels that were granted stay until all is counted.
    granted: Vec<TestTunnel>,
}

impl Matrix {
    fn judge(&mut self, case: String, verdict: Verdict, expected: Verdict) {
        self.cases += 1;
        if verdict != expected {
            self.wrong
                .push(format!("{case}: {verdict:?} instead of {expected:?}"));
        }
    }

    async fn ask(&mut self, case: String, request: Request, expected: Verdict) {
        let verdict = match TestTunnel::open(&self.connection, request).await {
            Ok(tunnel) => {
                tunnel.send(b"\0leak");
                self.granted.push(tunnel);
                Ok(())
            }
            Err(error) => Err(refusal(&error)),
        };
        if expected.is_ok() {
            self.honest += 1;
        }
        self.judge(case, verdict, expected);
    }

    /// Asks for a UDP tunnel to `host`.
    async fn udp(&mut self, host: &str, expected: Verdict) {
        let request = Request::tunnel("connect-udp", path(host, PORT));
        self.ask(format!("UDP to {host}"), request, expected).await;
    }

    /// Asks for an IP tunnel to `target`, which is refused.
    async fn ip(&mut self, target: &str, expected: Verdict) {
        let escaped = target.replace(':', "%3A");
        let request = Request::tunnel("connect-ip", format!("/ip/{escaped}/17/"));
        self.ask(format!("IP to {target}"), request, expected).await;
    }
}

/// `aN.example` has the closed address N, `cN` is an alias of an alias of it, `mN` has an open address
/// as well, and `rN` is open or closed as `is_open` says at that moment.
fn answer(question: &Question, is_open: &AtomicBool) -> Answer {
    let (kind, number) = question.name.trim_end_matches(".example").split_at(1);
    let Some(address) = number
        .parse()
        .ok()
        .and_then(|n: usize| closed().get(n).copied())
    else {
        return Answer::NXDOMAIN;
    };
    let (aliases, addresses) = match kind {
        "c" => (
            vec!["second.example".into(), "third.example".into()],
            vec![address],
        ),
        "m" => (Vec::new(), vec![address, OPEN.into()]),
        "r" if is_open.load(Ordering::SeqCst) => (Vec::new(), vec![OPEN.into()]),
        _ => (Vec::new(), vec![address]),
    };
    Answer::Records { aliases, addresses }
}

/// Routes to everywhere, and the open addresses at their end.
fn route(network: &Network) {
    let (via, via_v6) = (Network::TARGET, Network::TARGET_V6);
    network
        .server
        .ip(&format!(
            "route add default via {via}\nroute add default via {via_v6}"
        ))
        .unwrap();
    network
        .target
        .ip(&format!(
            "addr add {OPEN}/32 dev eth0\naddr add {OPEN_V6}/128 dev eth0"
        ))
        .unwrap();
    network.server.nft(COUNT).unwrap();
    network.target.nft(COUNT_ARRIVED).unwrap();
}

fn leaked(place: &Namespace) -> u64 {
    place.counter("leaked").unwrap().packets
}

/// That the counters would count: an ordinary socket of the server sends to every address. Returns how
/// many datagrams were counted as they left, and as they arrived.
async fn prove_counters(network: &Network) -> (u64, u64) {
    let v4 = network.server.udp((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    v4.set_broadcast(true).unwrap();
    let v6 = network.server.udp((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    let sent = closed().into_iter().filter(|address| {
        let socket = if address.is_ipv4() { &v4 } else { &v6 };
        socket.send_to(b"counted", (*address, PORT)).is_ok()
    });
    let sent = sent.count() as u64;
    // All but those that take an interface to be named.
    assert!(sent >= V4.len() as u64 + V6.len() as u64 - 2, "{sent}");
    wait("the counters", || leaked(&network.server) == sent).await;
    // Those of the server itself stay there.
    wait("the target's counter", || {
        leaked(&network.target) >= sent / 2
    })
    .await;
    (sent, leaked(&network.target))
}

/// One packet of each protocol to each address, through a tunnel without a limit.
async fn packets(matrix: &mut Matrix, name: &str) {
    let mut tunnel = RawTunnel::open(&matrix.connection, "%2A", "%2A")
        .await
        .unwrap();
    let here = tunnel.addresses().await;
    let counters = watched(name);
    let mut sequence = 0;
    for (address, own, far) in [(0, here[0], OPEN.into()), (1, here[1], OPEN_V6.into())] {
        let before = dropped(&counters);
        let mut sent = 0;
        for destination in closed() {
            if destination.is_ipv6() != (address == 1) {
                continue;
            }
            let header = Header::new(own, destination, UDP);
            for packet in [
                udp(header, (PORT, PORT), b"leak"),
                tcp_syn(header, (PORT, PORT)),
                echo_request(header, 1, 1, b"leak"),
            ] {
                tunnel.send(&packet);
                sent += 1;
            }
            sequence += 1;
            barrier_to(&mut tunnel, own, far, sequence).await;
            matrix.honest += 1;
        }
        matrix.cases += sent;
        wait("the packets to be dropped", || {
            dropped(&counters) >= before + sent as u64
        })
        .await;
    }
}

fn config(mut document: Value, names: &DnsServer) -> Value {
    document["name"] = json!(NAME);
    document["resolver"] = json!(names.address());
    document["limits"] = json!({ "tunnels_per_connection": 1000, "requests_per_connection": 1000 });
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policy_matrix_udp_28_29_ip_50_nothing_reaches_a_closed_address() {
    let setup = Setup::new(Mode::PLAIN_SHARED)
        .clients(1)
        .endpoint("routes", json!(["0.0.0.0/0", "::/0"]))
        // Two endpoints of one process do not give out the same addresses.
        .endpoint("addresspools", json!(["10.77.0.1/24", "fd77::1/64"]))
        .endpoint("mtu_probe", json!(false))
        .beside(json!({ "path": "udp", "type": "UdpEndpoint", "anonymous": true }));
    let (network, _place) = setup.network().await;
    route(&network);
    let (left, arrived) = prove_counters(&network).await;

    let is_open = Arc::new(AtomicBool::new(true));
    let (runtime, flag) = (Handle::current(), is_open.clone());
    let start = || runtime.block_on(DnsServer::start(move |question| answer(question, &flag)));
    let names = network.server.enter(start).unwrap();
    let name = network.server.name().to_owned();
    let document = watch(&name, config(setup.document(), &names));
    let _server = LocalServer::start(&network.server, document);
    let mut matrix = Matrix {
        connection: connect(&network.clients[0]),
        cases: 0,
        wrong: Vec::new(),
        honest: 0,
        granted: Vec::new(),
    };

    let malformed = || refused(StatusCode::BAD_REQUEST, "http_request_error");
    for address in V4 {
        for host in spellings_v4(address) {
            matrix.udp(&host, prohibited()).await;
        }
        for host in odd_spellings_v4(address) {
            matrix.udp(&host, malformed()).await;
        }
        let answer = if address.octets()[0] < 224 {
            prohibited()
        } else {
            not_offered()
        };
        matrix.ip(&address.to_string(), answer).await;
    }
    for address in V6 {
        for host in spellings_v6(address) {
            matrix.udp(&host, prohibited()).await;
        }
        for host in odd_spellings_v6(address) {
            matrix.udp(&host, malformed()).await;
        }
        let answer = if address.is_multicast() {
            not_offered()
        } else {
            prohibited()
        };
        matrix.ip(&address.to_string(), answer).await;
    }
    for n in 0..closed().len() {
        matrix.udp(&format!("a{n}.example"), prohibited()).await;
        matrix.udp(&format!("C{n}.EXAMPLE."), prohibited()).await;
        matrix.ip(&format!("a{n}.example"), prohibited()).await;
        matrix.ip(&format!("c{n}.example"), prohibited()).await;
        // Of a mixed answer only what is open is used.
        matrix.udp(&format!("m{n}.example"), Ok(())).await;
        // A name that was open a moment ago is asked for again, and judged again.
        is_open.store(true, Ordering::SeqCst);
        matrix.udp(&format!("r{n}.example"), Ok(())).await;
        is_open.store(false, Ordering::SeqCst);
        matrix.udp(&format!("r{n}.example"), prohibited()).await;
        matrix.ip(&format!("r{n}.example"), prohibited()).await;
    }
    packets(&mut matrix, &name).await;

    let passed = || network.server.counter("passed").unwrap().packets;
    wait("what is allowed", || passed() >= matrix.honest).await;
    println!("{} cases", matrix.cases);
    assert!(matrix.wrong.is_empty(), "{:#?}", matrix.wrong);
    let mut figures = Figures::default();
    figures.at_least("cases", matrix.cases, LEAST);
    figures.exactly("wrong answers", matrix.wrong.len(), 0);
    let leaks = leaked(&network.server) - left + leaked(&network.target) - arrived;
    figures.exactly("packets to closed addresses", leaks as usize, 0);
    figures.exactly(
        "packets to open ones",
        passed() as usize,
        matrix.honest as usize,
    );
    figures.check();
}
