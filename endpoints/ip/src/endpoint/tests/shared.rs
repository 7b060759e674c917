//! The endpoint with one interface for all clients.

use tokio::sync::watch;

use super::*;
use crate::flow::{ClientWants, IpClientFlow, TunnelState};
use crate::session::AddressClient;

fn keys(more: &str) -> String {
    format!(r#"{BOTH}, "interface": "shared"{more}"#)
}

/// A real client, with a host in memory.
struct Client {
    host: MemoryPeer,
    states: watch::Receiver<TunnelState>,
    _opened: OpenTunnel,
}

impl Client {
    async fn open(fixture: &Fixture) -> Self {
        let (device, host) = MemoryDevice::pair(1500);
        let (updates, mut states) = watch::channel(TunnelState::default());
        let wants = ClientWants {
            request: AddressClient::any_address().to_vec(),
            ..ClientWants::default()
        };
        let flow = IpClientFlow::new(Arc::new(device), wants, updates);
        let request = Request::tunnel(PROTOCOL, ANY);
        let opened = fixture
            .server
            .connection()
            .open(request, flow)
            .await
            .unwrap();
        let ready = states.wait_for(|state| !state.addresses.is_empty() && state.routes.is_some());
        timeout(PATIENCE, ready).await.unwrap().unwrap();
        Self {
            host,
            states,
            _opened: opened,
        }
    }

    fn address(&self) -> String {
        self.states.borrow().addresses[0].ip().to_string()
    }

    fn sends(&self, packet: &[u8]) {
        self.host.send(Packet::copy_from(packet)).unwrap();
    }

    async fn gets(&mut self) -> Vec<u8> {
        let packet = timeout(PATIENCE, self.host.recv()).await;
        packet
            .expect("a packet in time")
            .expect("a device")
            .to_vec()
    }
}

#[tokio::test]
async fn packets_find_their_tunnel_by_destination() {
    let mut fixture = Fixture::new(&keys("")).await;
    let (own, mut host) = fixture.hosts.recv().await.unwrap();
    assert_eq!(own, networks(&["10.76.0.1/24", "fd76::1/64"]));
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::open(&fixture).await);
    }
    for client in &mut clients {
        let address = client.address();
        client.sends(&udp(&address, TARGET));
        assert_eq!(&host.recv().await.unwrap()[..], udp(&address, TARGET));
    }
    for client in clients.iter().rev() {
        let packet = udp(TARGET, &client.address());
        host.send(Packet::copy_from(&packet)).unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.gets().await, udp(TARGET, &client.address()));
    }
}

#[tokio::test]
async fn whoever_sends_to_a_client_that_left_is_told() {
    let mut fixture = Fixture::new(&keys("")).await;
    let (_, mut host) = fixture.hosts.recv().await.unwrap();
    // Somebody has to have been there for the interface to be read.
    let client = Client::open(&fixture).await;
    host.send(Packet::copy_from(&udp(TARGET, "10.76.0.99")))
        .unwrap();
    let error = timeout(PATIENCE, host.recv()).await.unwrap().unwrap();
    assert_eq!(icmp_kind(&error), (3, 0));
    assert_eq!(packet::parse(&error).unwrap().source, address("10.76.0.99"));
    drop(client);
}

#[tokio::test]
async fn ip_46_between_clients_the_hop_limit_falls_by_one() {
    let mut fixture = Fixture::new(&keys(r#", "client_to_client": true"#)).await;
    let (_, mut host) = fixture.hosts.recv().await.unwrap();
    let first = Client::open(&fixture).await;
    let mut second = Client::open(&fixture).await;
    let packet = udp(&first.address(), &second.address());
    first.sends(&packet);
    let received = second.gets().await;
    assert_eq!((packet[8], received[8]), (64, 63));
    let header_sum = |packet: &[u8]| crate::checksum::checksum(&packet[..20]);
    assert_eq!(header_sum(&received), 0, "IP-48");
    assert_eq!(received[20..], packet[20..]);
    assert!(host.try_recv().is_none(), "the host has no part in it");
}

#[tokio::test]
async fn ip_47_between_clients_the_last_hop_is_told() {
    let mut fixture = Fixture::new(&keys(r#", "client_to_client": true"#)).await;
    let (_, _host) = fixture.hosts.recv().await.unwrap();
    let mut first = Client::open(&fixture).await;
    let second = Client::open(&fixture).await;
    let mut packet = udp(&first.address(), &second.address());
    packet[8] = 1;
    first.sends(&packet);
    let error = first.gets().await;
    assert_eq!(icmp_kind(&error), (11, 0));
    assert_eq!(packet::parse(&error).unwrap().source, address("10.76.0.1"));
}

#[tokio::test]
async fn ip_69_clients_behind_one_interface_do_not_meet_by_default() {
    let mut fixture = Fixture::new(&keys("")).await;
    let (_, mut host) = fixture.hosts.recv().await.unwrap();
    let mut first = Client::open(&fixture).await;
    let mut second = Client::open(&fixture).await;
    first.sends(&udp(&first.address(), &second.address()));
    assert_eq!(icmp_kind(&first.gets().await), (3, 13));
    assert!(host.try_recv().is_none());
    assert!(second.host.try_recv().is_none());
}

#[tokio::test]
async fn a_site_behind_a_client_is_reached_through_the_interface() {
    let fixture_keys = keys(r#", "accept_client_routes": ["192.168.0.0/16"]"#);
    let mut fixture = Fixture::new(&fixture_keys).await;
    let (_, host) = fixture.hosts.recv().await.unwrap();
    let (mut peer, flow) = Peer::new();
    let request = Request::tunnel(PROTOCOL, ANY);
    let _opened = fixture
        .server
        .connection()
        .open(request, flow)
        .await
        .unwrap();
    peer.advertise(&["192.168.7.0/24"]);
    peer.settled().await;
    let packet = udp(TARGET, "192.168.7.9");
    host.send(Packet::copy_from(&packet)).unwrap();
    assert_eq!(peer.recv().await, packet);
}

#[tokio::test]
async fn all_tunnels_end_with_the_interface() {
    let mut fixture = Fixture::new(&keys("")).await;
    let (_, host) = fixture.hosts.recv().await.unwrap();
    let clients = [Client::open(&fixture).await, Client::open(&fixture).await];
    drop(host);
    for client in clients {
        let ended = timeout(PATIENCE, client._opened.ended()).await.unwrap();
        assert!(ended.is_err());
    }
}
