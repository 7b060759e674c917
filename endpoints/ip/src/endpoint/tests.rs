//! The endpoint in process: from JSON to a host in memory, and a client that says what it likes.

mod addresses;
mod configuration;
mod packets;
mod reload;
mod requests;
mod shared;

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::task::Poll;

use pasque::connection::{ClientError, OpenTunnel};
use pasque::template::PathTemplate;
use pasque::testing::TestServer;
use pasque::testing::dns::{Answer, DnsServer, Question};
use pasque::{Mount, endpoint_types};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use super::*;
use crate::capsules::{
    ADDRESS_ASSIGN, ADDRESS_REQUEST, AssignedAddress, ROUTE_ADVERTISEMENT, RequestedAddress,
    decode_assign, decode_routes, encode_request, encode_routes,
};
use crate::device::{MemoryDevice, MemoryPeer};
use crate::packet::testing::{readdressed, v4, v6};
use crate::packet::{self, ICMP, ICMP_V6, TCP, UDP};

/// How long a test waits before it fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// Two pools, everything offered, the documentation's addresses open, and no echo.
const BOTH: &str = r#""addresspools": ["10.76.0.1/24", "fd76::1/64"], "routes": ["0.0.0.0/0", "::/0"],
    "allow": ["198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"], "mtu_probe": false"#;
/// The same with IPv4 only.
const V4: &str = r#""addresspools": ["10.76.0.1/24"], "routes": ["0.0.0.0/0", "::/0"],
    "allow": ["198.51.100.0/24", "2001:db8::/32"], "mtu_probe": false"#;

const ANY: &str = "/ip/*/*/";
const CLIENT: &str = "10.76.0.2";
const CLIENT_V6: &str = "fd76::2";
const TARGET: &str = "198.51.100.2";
const TARGET_V6: &str = "2001:db8::2";
const LISTENER: u16 = 4433;

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A packet of this protocol with ports 4660 and `port`, or an echo request.
fn packet(source: &str, destination: &str, protocol: u8, port: u16) -> Vec<u8> {
    let [a, b] = port.to_be_bytes();
    let body = match protocol {
        ICMP => [8, 0, 0xf7, 0xfd, 0, 1, 0, 1],
        ICMP_V6 => [128, 0, 0, 0, 0, 1, 0, 1],
        _ => [0x12, 0x34, a, b, 0, 8, 0, 0],
    };
    let packet = match source.contains(':') {
        true => v6(protocol, &body),
        false => v4(protocol, 0x4000, &[], &body),
    };
    readdressed(packet, source, destination)
}

fn udp(source: &str, destination: &str) -> Vec<u8> {
    packet(source, destination, UDP, 53)
}

/// An endpoint with these keys beside `ifprefix`.
fn endpoint(keys: &str) -> IpEndpoint {
    let json = format!(r#"{{ "ifprefix": "tun-s", {keys} }}"#);
    serde_json::from_str(&json).unwrap()
}

/// A server in memory, and the hosts behind its tunnels.
struct Fixture {
    server: TestServer,
    counters: SharedCounters,
    /// With the addresses that each was made for.
    hosts: UnboundedReceiver<(Vec<IpNetwork>, MemoryPeer)>,
    _names: Option<DnsServer>,
}

impl Fixture {
    async fn new(keys: &str) -> Self {
        Self::start(endpoint(keys), None).await
    }

    async fn with_names(
        keys: &str,
        answer: impl FnMut(&Question) -> Answer + Send + 'static,
    ) -> Self {
        let names = DnsServer::start(answer).await.unwrap();
        Self::start(endpoint(keys), Some(names)).await
    }

    async fn start(endpoint: IpEndpoint, names: Option<DnsServer>) -> Self {
        let counters = endpoint.counters();
        let (made, hosts) = unbounded_channel();
        let endpoint = endpoint.with_devices(move |addresses| {
            let (device, host) = MemoryDevice::pair(1500);
            made.send((addresses.to_vec(), host)).unwrap();
            Ok(Arc::new(device))
        });
        let types = endpoint_types().unwrap();
        let kind = types.iter().find(|kind| kind.tag == "IpEndpoint").unwrap();
        let templates = vec![
            PathTemplate::from_prefix("ip", kind.variables).unwrap(),
            PathTemplate::parse("/query{?target,ipproto}").unwrap(),
            PathTemplate::parse("/plain").unwrap(),
        ];
        let mut cx = StartContext::new(".");
        cx.proxy_name = "psq.example.net".into();
        cx.listeners = vec![SocketAddr::from(([192, 0, 2, 1], LISTENER))];
        // A port that nobody answers on.
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        cx.nameserver = Some(names.as_ref().map_or(nobody, DnsServer::address));
        let mount = Mount::new(kind, templates, Box::new(endpoint));
        Self {
            server: TestServer::with_mounts(vec![mount], cx).await,
            counters,
            hosts,
            _names: names,
        }
    }

    /// Opens a tunnel.
    async fn open(&mut self, path: &str) -> Tunnel {
        let (peer, flow) = Peer::new();
        let connection = self.server.connection();
        let opened = connection
            .open(Request::tunnel(PROTOCOL, path), flow)
            .await
            .unwrap();
        let (addresses, host) = self.hosts.recv().await.unwrap();
        Tunnel {
            opened,
            peer,
            host,
            addresses,
        }
    }

    /// Status, proxy error and code of a request that is refused.
    async fn refusal(&self, path: &str) -> (u16, Option<String>) {
        let (_peer, flow) = Peer::new();
        let connection = self.server.connection();
        let refused = connection.open(Request::tunnel(PROTOCOL, path), flow).await;
        match refused {
            Err(ClientError::Refused {
                status,
                proxy_status,
                ..
            }) => (
                status.as_u16(),
                proxy_status.and_then(|summary| summary.error),
            ),
            Err(error) => panic!("{path}: {error}"),
            Ok(_) => panic!("{path} is not refused"),
        }
    }
}

/// A tunnel and both who use it.
struct Tunnel {
    opened: OpenTunnel,
    peer: Peer,
    host: MemoryPeer,
    addresses: Vec<IpNetwork>,
}

impl Tunnel {
    /// What arrives at the host.
    async fn host_gets(&mut self) -> Vec<u8> {
        let packet = timeout(PATIENCE, self.host.recv()).await;
        packet
            .expect("a packet in time")
            .expect("a device")
            .to_vec()
    }

    fn host_sends(&self, packet: &[u8]) {
        self.host.send(Packet::copy_from(packet)).unwrap();
    }

    /// Shows that the tunnel carries packets, and that nothing was before this one.
    async fn is_alive(&mut self) {
        let source = self.addresses[0].ip().to_string();
        let target = if self.addresses[0].is_ipv6() {
            TARGET_V6
        } else {
            TARGET
        };
        let probe = udp(&source, target);
        self.peer.send(&probe);
        assert_eq!(self.host_gets().await, probe);
    }

    /// The code with which the server resets the stream.
    async fn reset(self) -> u64 {
        // Its host stays until then.
        match timeout(PATIENCE, self.opened.ended()).await {
            Ok(Err(ClientError::Reset(code))) => code,
            other => panic!("{other:?}"),
        }
    }
}

/// What a client says, and what it hears.
#[derive(Debug)]
enum Message {
    Datagram(Vec<u8>),
    Capsule(u64, Vec<u8>),
}

/// A client that does nothing by itself. Dropping it ends its tunnel.
struct Peer {
    says: UnboundedSender<Message>,
    hears: UnboundedReceiver<Message>,
}

impl Peer {
    fn new() -> (Self, PeerFlow) {
        let (says, to_say) = unbounded_channel();
        let (heard, hears) = unbounded_channel();
        (Self { says, hears }, PeerFlow { to_say, heard })
    }

    /// Sends a packet.
    fn send(&self, packet: &[u8]) {
        self.say(Message::Datagram([&[0], packet].concat()));
    }

    fn say(&self, message: Message) {
        self.says.send(message).unwrap();
    }

    async fn hear(&mut self) -> Message {
        let message = timeout(PATIENCE, self.hears.recv()).await;
        message.expect("a message in time").expect("an open tunnel")
    }

    /// The next packet, whatever capsules come before it.
    async fn recv(&mut self) -> Vec<u8> {
        loop {
            if let Message::Datagram(datagram) = self.hear().await {
                assert_eq!(datagram[0], 0, "the context");
                return datagram[1..].to_vec();
            }
        }
    }

    /// The next capsule, whatever packets come before it.
    async fn capsule(&mut self) -> (u64, Vec<u8>) {
        loop {
            if let Message::Capsule(kind, value) = self.hear().await {
                return (kind, value);
            }
        }
    }

    async fn assigned(&mut self) -> Vec<AssignedAddress> {
        let (kind, value) = self.capsule().await;
        assert_eq!(kind, ADDRESS_ASSIGN);
        decode_assign(&value).unwrap()
    }

    async fn routes(&mut self) -> Routes {
        let (kind, value) = self.capsule().await;
        assert_eq!(kind, ROUTE_ADVERTISEMENT);
        decode_routes(&value).unwrap()
    }

    fn request(&self, entries: &[(u64, &str)]) {
        let entries: Vec<_> = entries
            .iter()
            .map(|(request_id, prefix)| RequestedAddress {
                request_id: *request_id,
                prefix: prefix.parse().unwrap(),
            })
            .collect();
        self.say(Message::Capsule(ADDRESS_REQUEST, encode_request(&entries)));
    }

    /// Waits until the server has taken every capsule so far. Datagrams may overtake them.
    async fn settled(&mut self) {
        const ID: u64 = 4242;
        // More than the pools give away, so that nothing changes.
        self.request(&[(ID, "::/9")]);
        loop {
            let (kind, value) = self.capsule().await;
            let answers = |entry: &AssignedAddress| entry.request_id == ID;
            if kind == ADDRESS_ASSIGN && decode_assign(&value).unwrap().iter().any(answers) {
                return;
            }
        }
    }

    fn advertise(&self, prefixes: &[&str]) {
        let routes = Routes::from_config(&networks(prefixes));
        self.say(Message::Capsule(
            ROUTE_ADVERTISEMENT,
            encode_routes(&routes),
        ));
    }
}

struct PeerFlow {
    to_say: UnboundedReceiver<Message>,
    heard: UnboundedSender<Message>,
}

impl Flow for PeerFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, _cx: &mut FlowCx<'_>) -> Result<()> {
        for packet in inbound.drain() {
            let _ = self.heard.send(Message::Datagram(packet.to_vec()));
        }
        Ok(())
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, _cx: &mut FlowCx<'_>) -> Result<()> {
        let message = Message::Capsule(capsule.kind, capsule.value.to_vec());
        let _ = self.heard.send(message);
        Ok(())
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        while cx.room() > 0 {
            match self.to_say.poll_recv(&mut cx.task()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Message::Datagram(datagram))) => {
                    cx.send(Packet::copy_from(&datagram));
                }
                Poll::Ready(Some(Message::Capsule(kind, value))) => {
                    cx.send_capsule(kind, &value);
                }
            }
        }
        cx.task().waker().wake_by_ref();
        Poll::Pending
    }

    fn admit_capsule(&self, _kind: u64, _len: u64, _start: &[u8]) -> Admit {
        Admit::Buffer
    }
}

/// Type and code of an ICMP message.
fn icmp_kind(packet: &[u8]) -> (u8, u8) {
    let header = packet::parse(packet).unwrap();
    assert!(header.is_icmp());
    let body = header.body(packet);
    (body[0], body[1])
}
