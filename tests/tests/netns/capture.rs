//! [`Capture`]: copies of all packets that pass the interfaces of a namespace.

use std::io::ErrorKind;
use std::time::Instant;

use pasque_tests::PATIENCE;
use pasque_tests::netns::Namespace;
use rustix::net::{RecvFlags, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

use crate::craft::Header;

/// `ETH_P_ALL` of `linux/if_ether.h`.
const EVERYTHING: u16 = 3;

/// Bytes of packets that wait to be looked at.
const BUFFER: usize = 4 << 20;

/// What passes in and out, from when it is made on: every packet on each interface, starting with
/// its IP header. Bursts that an interface splits itself are seen as one packet.
pub(crate) struct Capture {
    socket: Socket,
}

impl Capture {
    pub(crate) fn start(namespace: &Namespace) -> Self {
        let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
        let socket = namespace
            .enter(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)))
            .expect("a packet socket: this test needs CAP_NET_RAW");
        socket.set_recv_buffer_size(BUFFER).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket }
    }

    /// What has come since the last call, in order.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match recvfrom(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((len, _, _)) => packets.push(buffer[..len].to_vec()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return packets,
                // The interface went down.
                Err(_) => {}
            }
        }
    }

    /// Waits for the first packet that `wanted` takes; those before it are forgotten.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        mut wanted: impl FnMut(Header, &[u8]) -> Option<T>,
    ) -> T {
        let start = Instant::now();
        loop {
            let found = self.packets().iter().find_map(|packet| {
                let (header, payload) = Header::parse(packet)?;
                wanted(header, payload)
            });
            if let Some(found) = found {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
