//! One end at a time, with a host in memory and what an engine would lend it.

mod client;
mod path;
mod server;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ipnetwork::IpNetwork;
use pasque::policy::{EgressPolicy, HostPolicy};
use pasque::wire::capsule::CapsuleDecoder;
use pasque::{BATCH_LEN, Batch, Flow, FlowCx, Outbox, Packet, Result};
use tokio::sync::watch;
use tokio::time::{advance, pause};

use super::*;
use crate::capsules::{
    ADDRESS_ASSIGN, ADDRESS_REQUEST, AssignedAddress, ROUTE_ADVERTISEMENT, encode_assign,
    encode_routes,
};
use crate::device::{MemoryDevice, MemoryPeer};
use crate::filter::{Clients, DropReason, ServerFilter, ServerRules, SharedCounters};
use crate::icmp;
use crate::packet::testing::{readdressed, v4, v6};
use crate::packet::{self, ICMP_V6, UDP};
use crate::pool::{AddressPools, ClientKey};
use crate::routes::Routes;
use crate::scope::Scope;
use crate::session::AddressServer;

/// Room for one HTTP Datagram, which makes a tunnel MTU of 1319.
const MAX_LEN: usize = 1320;

const CLIENT: &str = "10.76.0.2";
const CLIENT_V6: &str = "fd76::2";
const TARGET: &str = "198.51.100.2";
const TARGET_V6: &str = "2001:db8::2";

fn networks(texts: &[&str]) -> Vec<IpNetwork> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A UDP packet of `len` bytes, which in IPv4 may be fragmented or not.
fn udp_of_len(source: &str, destination: &str, len: usize, dont_fragment: bool) -> Vec<u8> {
    let flags = if dont_fragment { 0x4000 } else { 0 };
    let packet = match source.contains(':') {
        true => v6(UDP, &vec![0; len - 40]),
        false => v4(UDP, flags, &[], &vec![0; len - 20]),
    };
    readdressed(packet, source, destination)
}

fn udp(source: &str, destination: &str) -> Vec<u8> {
    udp_of_len(source, destination, 100, true)
}

/// An end of a tunnel and the host behind it.
struct End<F: Flow> {
    flow: F,
    outbox: Outbox,
    host: MemoryPeer,
    max_len: usize,
}

impl<F: Flow> End<F> {
    fn new(flow: F, host: MemoryPeer) -> Self {
        Self {
            flow,
            outbox: Outbox::default(),
            host,
            max_len: MAX_LEN,
        }
    }

    /// Hands over datagrams as the engine does, without their context ID.
    fn deliver_datagrams(&mut self, datagrams: &[Vec<u8>]) -> Result<()> {
        for datagrams in datagrams.chunks(BATCH_LEN) {
            let mut batch = Batch::new();
            for datagram in datagrams {
                batch.push(Packet::copy_from(datagram)).unwrap();
            }
            let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), 1024, self.max_len);
            self.flow.on_datagrams(&mut batch, &mut cx)?;
        }
        Ok(())
    }

    /// Hands over packets of the peer.
    fn deliver(&mut self, packets: &[Vec<u8>]) {
        let datagrams: Vec<_> = packets
            .iter()
            .map(|packet| [&[0], &packet[..]].concat())
            .collect();
        self.deliver_datagrams(&datagrams).unwrap();
    }

    fn capsule(&mut self, kind: u64, value: &[u8]) -> Result<()> {
        let mut cx = FlowCx::new(&mut self.outbox, Waker::noop(), BATCH_LEN, self.max_len);
        self.flow.on_capsule(Capsule { kind, value }, &mut cx)
    }

    fn poll(&mut self) -> Poll<Result<()>> {
        self.poll_with_room(BATCH_LEN)
    }

    fn poll_with_room(&mut self, room: usize) -> Poll<Result<()>> {
        self.poll_waking(room, Waker::noop())
    }

    fn poll_waking(&mut self, room: usize, waker: &Waker) -> Poll<Result<()>> {
        let mut cx = FlowCx::new(&mut self.outbox, waker, room, self.max_len);
        self.flow.poll_outbound(&mut cx)
    }

    /// The packets that went to the peer since.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let strip = |packet: Packet| {
            assert_eq!(packet[0], 0, "the context");
            packet[1..].to_vec()
        };
        self.outbox.packets.drain(..).map(strip).collect()
    }

    /// The capsules that went to the peer since.
    fn sent_capsules(&mut self) -> Vec<(u64, Vec<u8>)> {
        let bytes = self.outbox.capsules.split();
        let mut input = &bytes[..];
        let mut decoder = CapsuleDecoder::default();
        let mut capsules = Vec::new();
        while let Some(capsule) = decoder
            .next(&mut input, |_, _, _| pasque::Admit::Buffer)
            .unwrap()
        {
            capsules.push((capsule.kind, capsule.value.to_vec()));
        }
        capsules
    }

    /// Lets the host send packets into the tunnel.
    fn host_sends(&self, packets: &[Vec<u8>]) {
        for packet in packets {
            self.host.send(Packet::copy_from(packet)).unwrap();
        }
    }

    /// What came out at the host since.
    fn received(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.host.try_recv())
            .map(|packet| packet.to_vec())
            .collect()
    }
}

/// A server's end for a client with 10.76.0.2 and, unless it has only IPv4, fd76::2.
struct Server {
    end: End<IpFlow>,
    counters: SharedCounters,
    pools: AddressPools,
}

struct ServerOptions {
    pools: Vec<&'static str>,
    accept: Vec<&'static str>,
    mtu_probe: bool,
    scope: Scope,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            pools: vec!["10.76.0.1/24", "fd76::1/64"],
            accept: Vec::new(),
            mtu_probe: false,
            scope: Scope::everything(),
        }
    }
}

impl Server {
    fn new(options: &ServerOptions) -> Self {
        let own = networks(&options.pools);
        let pools = AddressPools::new(&own, Duration::ZERO, None).unwrap();
        let client = ClientKey::of_identity("test");
        let lease = pools.lease(&client, &options.scope).unwrap();
        let routes = Routes::from_config(&networks(&["0.0.0.0/0", "::/0"]));
        let routes = routes.within(&options.scope);
        let accept = networks(&options.accept);
        let session = AddressServer::new(lease, routes).accept_client_routes(accept.clone());
        let allow = ["198.51.100.0/24", "2001:db8::/32"];
        let allow = allow.map(|rule| rule.parse().unwrap()).to_vec();
        let own_addresses: Vec<_> = own.iter().map(IpNetwork::ip).collect();
        let policy = EgressPolicy::new(allow, Vec::new()).open(&networks(&options.pools));
        let rules = Arc::new(ServerRules {
            own: own_addresses.clone(),
            clients: Arc::new(Clients::new([own, accept].concat())),
            client_to_client: false,
            policy: HostPolicy::new(policy, Vec::new(), own_addresses).unwrap(),
        });
        let filter = ServerFilter::new(
            rules.clone(),
            options.scope.clone(),
            session.routes().clone(),
        );
        let (device, host) = MemoryDevice::pair(1500);
        let counters = SharedCounters::default();
        let flow = IpFlow::new(ServerTunnel {
            device: Arc::new(device),
            seat: Box::new(NoSeat),
            membership: rules.clients.join(),
            session,
            filter,
            rules,
            counters: counters.clone(),
            mtu_probe: options.mtu_probe,
            client: client.to_string(),
        });
        Self {
            end: End::new(flow, host),
            counters,
            pools,
        }
    }

    /// Ends the tunnel and says what it has counted.
    fn end(self) -> crate::filter::Counters {
        drop(self.end.flow);
        self.counters.read()
    }
}

struct NoSeat;

impl Seat for NoSeat {
    fn update(&mut self, _client: &ClientState) {}
}

/// A client's end.
struct Client {
    end: End<IpClientFlow>,
    states: watch::Receiver<TunnelState>,
}

impl Client {
    fn new(wants: ClientWants) -> Self {
        let (device, host) = MemoryDevice::pair(1500);
        let (updates, states) = watch::channel(TunnelState::default());
        Self {
            end: End::new(IpClientFlow::new(Arc::new(device), wants, updates), host),
            states,
        }
    }

    /// One that was assigned 10.76.0.2 and fd76::2.
    fn ready(wants: ClientWants) -> Self {
        let mut client = Self::new(wants);
        assert!(client.end.poll().is_pending());
        client.end.sent_capsules();
        client.assign(&["10.76.0.2/32", "fd76::2/128"]);
        client
    }

    fn assign(&mut self, addresses: &[&str]) {
        let entries: Vec<_> = networks(addresses)
            .into_iter()
            .map(|prefix| AssignedAddress {
                request_id: 0,
                prefix,
            })
            .collect();
        self.end
            .capsule(ADDRESS_ASSIGN, &encode_assign(&entries))
            .unwrap();
        self.finish_turn();
    }

    fn advertise(&mut self, routes: &[&str]) {
        let routes = Routes::from_config(&networks(routes));
        self.end
            .capsule(ROUTE_ADVERTISEMENT, &encode_routes(&routes))
            .unwrap();
        self.finish_turn();
    }

    /// What capsules have changed counts when all of a turn are read.
    fn finish_turn(&mut self) {
        assert!(self.end.poll().is_pending());
    }

    fn state(&self) -> TunnelState {
        self.states.borrow().clone()
    }
}

/// Type and code of an ICMP message.
fn icmp_kind(packet: &[u8]) -> (u8, u8) {
    let header = packet::parse(packet).unwrap();
    assert!(header.is_icmp());
    let body = header.body(packet);
    (body[0], body[1])
}
