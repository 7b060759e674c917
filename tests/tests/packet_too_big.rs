//! What the target hears of a datagram that is too long. Takes `CAP_NET_RAW`, and fails without it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by a panic"
)]

#[path = "../../endpoints/udp/tests/common/mod.rs"]
mod common;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

use pasque::testing::TestTunnel;
use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

use crate::common::*;

/// The keys of an endpoint that tells.
const TELLING: &str = r#", "allow": ["127.0.0.1", "::1"], "packet_too_big": true"#;

/// Long enough for a message on the loopback interface, where it is there at once.
const SILENCE: Duration = Duration::from_millis(100);

/// Reads the ICMP messages that come to this host.
struct Listener {
    socket: Socket,
    is_ipv4: bool,
}

impl Listener {
    fn new(ip: &str) -> Self {
        let is_ipv4 = ip.contains('.');
        let (domain, protocol) = match is_ipv4 {
            true => (Domain::IPV4, Protocol::ICMPV4),
            false => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))
            .expect("a raw socket: this test needs CAP_NET_RAW");
        socket.set_nonblocking(true).unwrap();
        Self { socket, is_ipv4 }
    }

    /// The next message that quotes a datagram from `from`, within `time`. Others are about other tests.
    async fn about(&mut self, from: SocketAddr, time: Duration) -> Option<Message> {
        let deadline = Instant::now() + time;
        let mut buffer = [0; 2000];
        while Instant::now() < deadline {
            match self.socket.read(&mut buffer) {
                Ok(len) => {
                    let message = Message::parse(&buffer[..len], self.is_ipv4);
                    if let Some(message) = message.filter(|message| message.from == from.port()) {
                        return Some(message);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        None
    }
}

/// An ICMP message and what it quotes.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    kind: u8,
    code: u8,
    mtu: u32,
    /// The source port of the quoted datagram.
    from: u16,
    /// Its destination port.
    to: u16,
    quoted: Vec<u8>,
}

impl Message {
    /// `None` if it quotes no UDP header.
    fn parse(packet: &[u8], is_ipv4: bool) -> Option<Self> {
        // A raw IPv4 socket hands over the IP header, one of IPv6 does not.
        let (outer_len, inner_len, protocol_at) = match is_ipv4 {
            true => (20, 20, 9),
            false => (0, 40, 6),
        };
        let message = packet.get(outer_len..)?;
        let (inner, udp) = message.get(8..)?.split_at_checked(inner_len)?;
        let (udp, quoted) = udp.split_at_checked(8)?;
        (inner[protocol_at] == 17).then(|| Self {
            kind: message[0],
            code: message[1],
            // Of the IPv4 message the upper half is unused, and zero.
            mtu: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
            from: u16::from_be_bytes([udp[0], udp[1]]),
            to: u16::from_be_bytes([udp[2], udp[3]]),
            quoted: quoted.to_vec(),
        })
    }
}

/// A target that is connected to its tunnel.
struct Target {
    socket: UdpSocket,
    address: SocketAddr,
    proxy: SocketAddr,
}

impl Target {
    async fn reach(ip: &str, keys: &str) -> (Self, TestTunnel) {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        // The kernel believes the message. Without this it would send no more than that to loopback
        // addresses for ten minutes, whoever asks.
        match ip.contains('.') {
            true => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::INTERFACE),
            false => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::INTERFACE),
        }
        .unwrap();
        let address = socket.local_addr().unwrap();
        let server = server(keys, None).await;
        let tunnel = open(&server, &path_to(address)).await;
        tunnel.send(b"\0hi");
        let (_, proxy) = recv(&socket).await;
        socket.connect(proxy).await.unwrap();
        let target = Self {
            socket,
            address,
            proxy,
        };
        (target, tunnel)
    }
}

#[tokio::test]
async fn udp_47_packet_too_big_reaches_the_target_when_switched_on() {
    for (ip, kind, code, headers_len, quoted_len) in
        [("127.0.0.1", 3, 4, 28, 520), ("::1", 2, 0, 48, 1184)]
    {
        let mut listener = Listener::new(ip);
        let (target, mut tunnel) = Target::reach(ip, TELLING).await;
        let reply: Vec<u8> = (0..2000).map(|n| n as u8).collect();
        target.socket.send(&reply).await.unwrap();
        let message = listener.about(target.address, PATIENCE).await;
        let message = message.expect("an ICMP message");
        let expected = Message {
            kind,
            code,
            mtu: message.mtu,
            from: target.address.port(),
            to: target.proxy.port(),
            quoted: reply[..quoted_len].to_vec(),
        };
        assert_eq!(message, expected);

        if ip == "127.0.0.1" {
            // The kernel has found the target's socket by what is quoted, and tells it. (In IPv6 it does
            // not, with what `reach` has set.)
            let told = timeout(PATIENCE, target.socket.recv(&mut [0; 9])).await;
            let error = told.expect("an error in time").unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::MSGSIZE));
        }

        // The MTU is right when that much passes, and one byte more does not.
        let max_payload_len = message.mtu as usize - headers_len;
        target.socket.send(&reply[..max_payload_len]).await.unwrap();
        assert_eq!(tunnel.recv().await[1..], reply[..max_payload_len]);
        assert_eq!(listener.about(target.address, SILENCE).await, None);
        let too_long = &reply[..=max_payload_len];
        target.socket.send(too_long).await.unwrap();
        let message = listener.about(target.address, PATIENCE).await;
        assert_eq!(message, Some(expected));
    }
}

#[tokio::test]
async fn udp_47_the_target_is_not_told_by_default() {
    for ip in ["127.0.0.1", "::1"] {
        let mut listener = Listener::new(ip);
        let (target, mut tunnel) = Target::reach(ip, LOOPBACK).await;
        target.socket.send(&[7; 2000]).await.unwrap();
        target.socket.send(b"hi").await.unwrap();
        assert_eq!(&tunnel.recv().await[..], b"\0hi");
        assert_eq!(listener.about(target.address, SILENCE).await, None);
    }
}

#[tokio::test]
async fn udp_47_a_flood_is_answered_ten_times() {
    let mut listener = Listener::new("::1");
    let (target, _tunnel) = Target::reach("::1", TELLING).await;
    for _ in 0..50 {
        target.socket.send(&[7; 2000]).await.unwrap();
    }
    let mut count = 0;
    while listener.about(target.address, SILENCE).await.is_some() {
        count += 1;
    }
    // One more comes back to the bucket for every tenth of a second that the flood took.
    assert!((10..=20).contains(&count), "{count} messages");
}
