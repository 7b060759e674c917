//! What a server of IP tunnels listens to, and what it speaks there.

use std::fs;
use std::io;
use std::net::UdpSocket;

use pasque_tests::netns::{Namespace, Network};
use pasque_tests::{PATIENCE, Server, program};
use serde_json::json;

use crate::lab::{Lab, Mode};
use crate::tunnel::RawTunnel;

/// The local ports of all sockets of these kinds, as the kernel lists them, by the name of the list.
fn ports(place: &Namespace) -> Vec<(&'static str, u16)> {
    const LISTS: [&str; 8] = [
        "tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6",
    ];
    let read = || {
        let mut ports = Vec::new();
        for list in LISTS {
            // Without a list the kernel does not know the kind.
            let text = match fs::read_to_string(format!("/proc/thread-self/net/{list}")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text?,
            };
            // Behind the heading: slot, address and port in hexadecimal.
            let local = text.lines().skip(1).map(|line| {
                let address = line.split_whitespace().nth(1).unwrap();
                u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap()
            });
            ports.extend(local.map(|port| (list, port)));
        }
        Ok(ports)
    };
    place.enter(read).unwrap()
}

/// A packet with the long header of this version of QUIC, as long as one that asks for a connection
/// (RFC 8999 §5.1, RFC 9000 §14.1).
fn long_header(version: u32, destination_id: [u8; 8], source_id: [u8; 8]) -> Vec<u8> {
    let mut packet = vec![0xc0];
    packet.extend(version.to_be_bytes());
    for id in [destination_id, source_id] {
        packet.push(id.len() as u8);
        packet.extend(id);
    }
    packet.resize(1200, 0);
    packet
}

/// QUIC version 1 is never without TLS 1.3 (RFC 9001): that nothing else is listened to, and no other
/// version is spoken there, is that nothing goes without TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ip_15_a_server_of_ip_tunnels_speaks_quic_and_nothing_else() {
    let lab = Lab::start(Mode::AUTO_CLIENT).await;
    let connection = lab.connect(0);
    let _tunnel = RawTunnel::open(&connection, "%2A", "%2A").await.unwrap();
    let ports = ports(&lab.network.server);
    assert!(!ports.is_empty());
    for (list, port) in ports {
        assert!(list.starts_with("udp") && port == 443, "{list}: {port}");
    }

    let client: UdpSocket = lab.place(1).udp(([0; 4], 0)).unwrap();
    client.set_nonblocking(false).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect((Network::SERVER, 443)).unwrap();
    let request = b"CONNECT /ip/*/*/ HTTP/1.1\r\nhost: p.example\r\nupgrade: connect-ip\r\n\r\n";
    client.send(request).unwrap();
    // A version that nobody has (RFC 9000 §15).
    let (ours, theirs) = (*b"ours----", *b"theirs--");
    client
        .send(&long_header(0x1a2a_3a4a, theirs, ours))
        .unwrap();
    // The first thing that is said is the answer to that: a list of the versions that there are.
    let mut buffer = [0; 1500];
    let len = client.recv(&mut buffer).unwrap();
    let mut expected = long_header(0, ours, theirs)[1..23].to_vec();
    expected.extend(1_u32.to_be_bytes());
    assert_eq!(buffer[0] & 0x80, 0x80, "a long header");
    assert_eq!(buffer[1..len], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_shares_the_port_of_another() {
    // Four ports are left to choose from.
    let place = Namespace::new("ports").unwrap();
    place
        .set("net/ipv4/ip_local_port_range", "40000 40003")
        .unwrap();
    let config = json!({ "threads": 2, "endpoints": [{ "path": "udp", "type": "UdpEndpoint" }] });
    let program = program("psq-server");
    let start = || Server::start_in(&place, &program, config.clone(), ["-a", "127.0.0.1:0"]);
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(start().await.unwrap());
    }
    let mut ports = Vec::from_iter(servers.iter().map(|server| server.address().port()));
    ports.sort_unstable();
    assert_eq!(ports, [40000, 40001, 40002, 40003]);
    let refused = start().await.unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
}
