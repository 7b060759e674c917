//! Which worker's socket a packet comes to: the one that its connection ID names.
//!
//! The workers of a server share an address (`SO_REUSEPORT`), and the kernel would choose among their
//! sockets by the client's address. A client that moves would then arrive at another worker for the rest
//! of its connection, and a connection could not begin at the worker that has the least to do. So the
//! kernel is given a program that reads the worker from the connection ID.

use std::io;
use std::net::UdpSocket;

use nix::libc::{sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};

use crate::settings::CID_LEN;

/// Chooses a socket by its place among those that share the address. What is no place of any leaves the
/// choice to the hash of the addresses: [`Long`](crate::cid::Form::Long) headers with an ID that cannot
/// be ours. An ID that a client chose and that looks like ours leads to the same socket each time, as any
/// choice has to.
///
/// Classic BPF; offsets are from the UDP payload on. A packet that ends before what is read goes to the
/// first socket.
const BY_CONNECTION_ID: [sock_filter; 9] = [
    load(0),
    // A long header (RFC 9000 §17.2)? It has its ID's length first.
    step(JUMP_IF_ANY, 0x80, 2, 0),
    load(1),
    step(RETURN_LOADED, 0, 0, 0),
    load(5),
    step(JUMP_IF_EQUAL, CID_LEN as u32, 0, 2),
    load(6),
    step(RETURN_LOADED, 0, 0, 0),
    step(RETURN, u32::MAX, 0, 0),
];

// From <linux/bpf_common.h>.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_ANY: u16 = 0x45;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const RETURN_LOADED: u16 = 0x16;

const fn load(offset: u32) -> sock_filter {
    step(LOAD_BYTE, offset, 0, 0)
}

/// One instruction; a jump passes over `on_true` or `on_false` others.
const fn step(code: u16, k: u32, on_true: u8, on_false: u8) -> sock_filter {
    sock_filter {
        code,
        jt: on_true,
        jf: on_false,
        k,
    }
}

/// Has the kernel choose among the sockets that share the address of `socket`: the worker that an ID
/// names by its index is the socket bound as the one of that index.
///
/// # Errors
/// The kernel takes no such program. Then it chooses by the addresses.
pub(crate) fn attach(socket: &UdpSocket) -> io::Result<()> {
    let mut program = BY_CONNECTION_ID;
    let program = sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use super::*;
    use crate::cid::Cid;
    use crate::server::bind_all;

    const WORKERS: usize = 4;

    /// Sockets that share an address.
    struct Sockets(Vec<UdpSocket>);

    impl Sockets {
        fn new(address: SocketAddr) -> Self {
            let (sockets, is_steered) = bind_all(address, WORKERS).unwrap();
            assert!(is_steered);
            Self(sockets)
        }

        /// Where a packet comes out that a new socket sends.
        fn place_of(&self, packet: &[u8]) -> usize {
            let to = self.0[0].local_addr().unwrap();
            let sender = UdpSocket::bind((to.ip(), 0)).unwrap();
            sender.send_to(packet, to).unwrap();
            let mut buffer = [0; 2048];
            let mut arrived = (0..WORKERS).filter(|&place| {
                let socket = &self.0[place];
                matches!(socket.recv(&mut buffer), Ok(len) if buffer[..len] == *packet)
            });
            let place = arrived.next().expect("a datagram on loopback has arrived");
            assert_eq!(arrived.next(), None);
            place
        }
    }

    fn short(cid: Cid) -> Vec<u8> {
        [&[0x5a], cid.as_bytes(), &[7; 40]].concat()
    }

    fn long(cid: &[u8]) -> Vec<u8> {
        let start = [0xc3, 0, 0, 0, 1, cid.len() as u8];
        [&start, cid, &[0; 1200]].concat()
    }

    #[test]
    fn a_packet_comes_to_the_worker_that_its_id_names() {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let sockets = Sockets::new(SocketAddr::new(ip, 0));
            for worker in (0..WORKERS).chain((0..WORKERS).rev()) {
                let cid = Cid::random(worker as u8);
                assert_eq!(sockets.place_of(&short(cid)), worker);
                assert_eq!(sockets.place_of(&long(cid.as_bytes())), worker);
            }
        }
    }

    #[test]
    fn what_names_no_worker_is_spread_over_all() {
        let sockets = Sockets::new((Ipv4Addr::LOCALHOST, 0).into());
        let packets = [
            long(&[1; 16]),
            long(&[]),
            short(Cid::random(WORKERS as u8)),
            long(Cid::random(255).as_bytes()),
        ];
        for packet in packets {
            let mut places: Vec<usize> = (0..200).map(|_| sockets.place_of(&packet)).collect();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), WORKERS);
        }
        // Too short to say anything: somewhere.
        for packet in [
            &b""[..],
            &[0x40],
            &[0xc0, 0, 0, 0, 1],
            &[0xc0, 0, 0, 0, 1, 8],
        ] {
            sockets.place_of(packet);
        }
    }

    #[test]
    fn a_client_that_moves_stays_with_its_worker() {
        let sockets = Sockets::new((Ipv4Addr::LOCALHOST, 0).into());
        let packet = short(Cid::random(2));
        for _ in 0..100 {
            assert_eq!(sockets.place_of(&packet), 2);
        }
        // Nothing else has come anywhere.
        for socket in &sockets.0 {
            socket
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            assert!(socket.recv(&mut [0; 1]).is_err());
        }
    }
}
