#![allow(clippy::disallowed_methods, reason = "targets of tests")]

use std::future::poll_fn;
use std::time::Duration;

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use tokio::time::timeout;

use super::*;

async fn target(ip: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((ip, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn connect(address: SocketAddr) -> ConnectedSocket {
    ConnectedSocket::open(address, SocketOptions::default()).unwrap()
}

/// The datagrams of one read.
async fn read(socket: &ConnectedSocket) -> Vec<Vec<u8>> {
    let mut inbox = Inbox::new();
    let read = poll_fn(|cx| socket.poll_recv(cx, &mut inbox, 8));
    timeout(Duration::from_secs(5), read)
        .await
        .unwrap()
        .unwrap();
    let datagrams = inbox.messages().flat_map(|message| message.datagrams());
    datagrams.map(<[u8]>::to_vec).collect()
}

#[tokio::test]
async fn udp_17_both_families_are_reached_from_a_free_port() {
    for ip in ["127.0.0.1", "::1"] {
        let (target, address) = target(ip).await;
        let socket = connect(address);
        // Nothing was awaited since the socket was made: the first datagram must not be lost.
        socket.send(b"ping", None).unwrap();
        let mut buffer = [0; 9];
        let (len, from) = target.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"ping");
        assert_eq!(from, socket.socket.local_addr().unwrap());
        assert_eq!(from.is_ipv4(), address.is_ipv4());
        target.send_to(b"pong", from).await.unwrap();
        assert_eq!(read(&socket).await, [b"pong"]);
    }
}

#[tokio::test]
async fn udp_18_others_cannot_send_to_the_socket() {
    for ip in ["127.0.0.1", "::1"] {
        let (target, address) = target(ip).await;
        let (other, _) = self::target(ip).await;
        let socket = connect(address);
        let port = socket.socket.local_addr().unwrap();
        other
            .send_to(b"from another", port)
            .await
            .unwrap_or_default();
        target.send_to(b"from the target", port).await.unwrap();
        assert_eq!(read(&socket).await, [b"from the target"]);
    }
}

#[tokio::test]
async fn udp_23_ip_never_fragments() {
    let (_target, address) = target("127.0.0.1").await;
    let socket = connect(address);
    let v4 = sockopt::ip_mtu_discover(&socket.socket.io).unwrap();
    assert_eq!(v4, Ipv4PathMtuDiscovery::PROBE);
    let (_target, address) = target("::1").await;
    let socket = connect(address);
    let v6 = sockopt::ipv6_mtu_discover(&socket.socket.io).unwrap();
    assert_eq!(v6, Ipv6PathMtuDiscovery::PROBE);
}

#[tokio::test]
async fn udp_24_packets_are_not_ecn_capable() {
    let (target, address) = target("127.0.0.1").await;
    let target = BatchSocket {
        offload: UdpSocketState::new((&target).into()).unwrap(),
        io: target,
    };
    let socket = connect(address);
    socket.send(b"hi", None).unwrap();
    let mut inbox = Inbox::new();
    poll_fn(|cx| target.poll_recv(cx, &mut inbox, 1))
        .await
        .unwrap();
    assert_eq!(
        inbox
            .messages()
            .map(|message| message.ecn)
            .collect::<Vec<_>>(),
        [None]
    );

    // A mark on what comes back changes nothing.
    let contents = b"marked";
    let transmit = Transmit {
        destination: socket.socket.local_addr().unwrap(),
        ecn: Some(quinn_udp::EcnCodepoint::Ce),
        contents,
        segment_size: None,
        src_ip: None,
    };
    target
        .offload
        .try_send((&target.io).into(), &transmit)
        .unwrap();
    assert_eq!(read(&socket).await, [contents]);
}

#[tokio::test]
async fn udp_40_empty_datagrams_pass_both_ways() {
    let (target, address) = target("127.0.0.1").await;
    let socket = connect(address);
    socket.send(b"", None).unwrap();
    let mut buffer = [0; 9];
    let (len, from) = target.recv_from(&mut buffer).await.unwrap();
    assert_eq!(len, 0);
    target.send_to(b"", from).await.unwrap();
    assert_eq!(read(&socket).await, [b""]);
}

#[tokio::test]
async fn segments_arrive_as_datagrams_and_come_back_coalesced() {
    let (target, address) = target("127.0.0.1").await;
    let socket = connect(address);
    assert_eq!(socket.max_segments(), 64, "this kernel has no UDP_SEGMENT");
    socket.send(&[7; 64 * 1000], Some(1000)).unwrap();
    let mut buffer = [0; 2000];
    for _ in 0..64 {
        assert_eq!(target.recv(&mut buffer).await.unwrap(), 1000);
    }

    let back = connect(socket.socket.local_addr().unwrap());
    let from = back.socket.local_addr().unwrap();
    let there = BatchSocket {
        offload: UdpSocketState::new((&target).into()).unwrap(),
        io: target,
    };
    let to = socket.socket.local_addr().unwrap();
    there
        .send(to, None, &[7; 63 * 1000 + 1], Some(1000))
        .unwrap();
    let mut lens: Vec<_> = read(&socket).await.iter().map(Vec::len).collect();
    assert_eq!(lens.pop(), Some(1));
    assert_eq!(lens, [1000; 63]);
    drop((back, from));
}

#[tokio::test]
async fn udp_45_the_link_says_what_it_carries() {
    for (ip, headers_len) in [("127.0.0.1", HEADERS_V4_LEN), ("::1", HEADERS_V6_LEN)] {
        let (_target, address) = target(ip).await;
        // Loopback's MTU is 65536, one more than IP has.
        assert_eq!(connect(address).link_len(), 65_535 - headers_len);
    }
}

#[tokio::test]
async fn a_closed_port_that_opens_later_is_reached() {
    let (closed, address) = target("127.0.0.1").await;
    drop(closed);
    let socket = connect(address);
    socket.send(b"lost", None).unwrap();
    let error = socket.send(b"lost", None).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let open = UdpSocket::bind(address).await.unwrap();
    socket.send(b"hi", None).unwrap();
    let mut buffer = [0; 9];
    assert_eq!(open.recv(&mut buffer).await.unwrap(), 2);
}
