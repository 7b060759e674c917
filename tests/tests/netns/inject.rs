//! Packets that no program would send, put on an interface.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use pasque_tests::netns::Namespace;
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, Protocol, Socket, Type};

use crate::craft::Header;

/// Sends whole IP packets by an interface, which needs a route to their destinations.
pub(crate) struct Injector {
    v4: Socket,
    v6: Socket,
    index: u32,
}

impl Injector {
    pub(crate) fn new(namespace: &Namespace, interface: &str) -> Self {
        namespace
            .enter(|| {
                // IPPROTO_RAW: the packet brings its header along.
                let raw = Protocol::from(255);
                let v4 = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
                let v6 = Socket::new(Domain::IPV6, Type::RAW, Some(raw))?;
                let index = name_to_index(&v4, interface)?;
                v4.bind_device(Some(interface.as_bytes()))?;
                v6.bind_device(Some(interface.as_bytes()))?;
                v4.set_broadcast(true)?;
                Ok(Self { v4, v6, index })
            })
            .unwrap()
    }

    /// Sends `packet` to the destination in its header.
    pub(crate) fn send(&self, packet: &[u8]) {
        let (header, _) = Header::parse(packet).expect("a packet");
        let (socket, to): (_, SocketAddr) = match header.destination {
            IpAddr::V4(to) => (&self.v4, (to, 0).into()),
            IpAddr::V6(to) => (&self.v6, SocketAddrV6::new(to, 0, 0, self.index).into()),
        };
        match socket.send_to(packet, &to.into()) {
            Ok(_) => {}
            Err(error) => match Errno::from_io_error(&error) {
                // The interface's queue is full: one more packet that is lost.
                Some(Errno::NOBUFS) => {}
                _ => panic!("{header:?}: {error}"),
            },
        }
    }
}
