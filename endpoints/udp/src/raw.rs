//! Raw sockets that send ICMP messages, and the edge behind which a test puts its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// The BPF program that lets nothing in: "return 0", the bytes to keep.
const NOTHING: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// Where ICMP messages leave the program.
pub(crate) trait IcmpSink: fmt::Debug + Send + Sync + 'static {
    /// Sends a message, from its type on, to the host of `to`. Must not block.
    ///
    /// # Errors
    /// What the operating system says: nothing was sent.
    fn send(&self, to: SocketAddr, message: &[u8]) -> io::Result<()>;
}

/// A raw socket of each family that this host has, for all tunnels.
#[derive(Debug)]
pub(crate) struct RawSockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl RawSockets {
    /// Opens the sockets, which takes `CAP_NET_RAW`.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            v4: open(Domain::IPV4, Protocol::ICMPV4)?,
            v6: open(Domain::IPV6, Protocol::ICMPV6)?,
        })
    }
}

impl IcmpSink for RawSockets {
    fn send(&self, mut to: SocketAddr, message: &[u8]) -> io::Result<()> {
        let socket = match to {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        let socket = socket.as_ref().ok_or(Errno::AFNOSUPPORT)?;
        // A raw socket would take the port for a protocol.
        to.set_port(0);
        socket.send_to(message, &to.into()).map(|_| ())
    }
}

/// `None` on a host without this family: it has no targets there either.
#[expect(
    clippy::disallowed_methods,
    reason = "messages go to targets that have sent something through a tunnel"
)]
fn open(domain: Domain, protocol: Protocol) -> io::Result<Option<Socket>> {
    let socket = match Socket::new(domain, Type::RAW, Some(protocol)) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::AFNOSUPPORT) => return Ok(None),
        socket => socket?,
    };
    socket.set_nonblocking(true)?;
    // Otherwise it would keep a copy of every ICMP message to this host, for nobody to read.
    socket.attach_filter(&NOTHING)?;
    Ok(Some(socket))
}
