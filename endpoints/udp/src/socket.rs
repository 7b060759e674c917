//! Sockets that move datagrams in batches, and the edges behind which a test puts its own.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll, ready};

use quinn_udp::{Transmit, UdpSocketState};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::icmp::{HEADERS_V4_LEN, HEADERS_V6_LEN};
use crate::inbox::{Inbox, MAX_MESSAGES};

/// Reads in a row that [`BatchSocket::discard`] does: a socket's buffer holds fewer packets.
const MAX_DISCARDS: usize = 4096;

/// Kernel buffers of a tunnel's socket, in bytes: some 200 datagrams of 1200 bytes, with what the
/// kernel adds to each. The system's default holds fewer than two full batches.
pub(crate) const DEFAULT_BUFFER_LEN: usize = 512 << 10;

/// Where datagrams for one address leave the program.
pub trait Sink {
    /// Sends one datagram; with `segment_len`, as many as `contents` holds of that length, of which
    /// the last may be shorter.
    ///
    /// # Errors
    /// What the operating system says, `WouldBlock` included: nothing of `contents` was sent.
    fn send(&self, contents: &[u8], segment_len: Option<usize>) -> io::Result<()>;

    /// How many datagrams one [`send`](Self::send) takes at present; 1 without offload.
    fn max_segments(&self) -> usize;
}

/// A socket that is connected to one target.
pub trait TargetSocket: Sink + fmt::Debug + Send + 'static {
    /// Reads what has arrived into `inbox`, up to `limit` messages, replacing its content.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
        limit: usize,
    ) -> Poll<io::Result<()>>;

    /// The longest payload that the link to the target carries in one piece, in bytes.
    fn link_len(&self) -> usize;

    /// The address that the target sends to.
    ///
    /// # Errors
    /// What the operating system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// What opens the sockets of tunnels.
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a socket that sends to `target`. Must not block.
    ///
    /// # Errors
    /// What the operating system says, such as that there is no route.
    fn dial(&self, target: SocketAddr) -> io::Result<Box<dyn TargetSocket>>;
}

/// Opens sockets of the operating system.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SocketOptions {
    /// The kernel's receive buffer, in bytes; the system may allow less.
    pub receive_buffer_bytes: usize,
    /// The kernel's send buffer, in bytes; the system may allow less.
    pub send_buffer_bytes: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: DEFAULT_BUFFER_LEN,
            send_buffer_bytes: DEFAULT_BUFFER_LEN,
        }
    }
}

impl SocketOptions {
    /// A socket of the family of `address`, neither bound nor connected.
    #[expect(
        clippy::disallowed_methods,
        reason = "`UdpEndpoint` dials what the policy let pass, a client what its user names"
    )]
    fn open(self, address: SocketAddr) -> io::Result<(Socket, UdpSocketState)> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_recv_buffer_size(self.receive_buffer_bytes)?;
        socket.set_send_buffer_size(self.send_buffer_bytes)?;
        // Makes it non-blocking, and sets "don't fragment" and the offloads.
        let offload = UdpSocketState::new((&socket).into())?;
        if offload.may_fragment() {
            return Err(io::Error::from(io::ErrorKind::Unsupported));
        }
        Ok((socket, offload))
    }
}

impl Dial for SocketOptions {
    fn dial(&self, target: SocketAddr) -> io::Result<Box<dyn TargetSocket>> {
        Ok(Box::new(ConnectedSocket::open(target, *self)?))
    }
}

/// A socket of the operating system with the offloads it offers.
///
/// It never lets IP fragment what it sends (RFC 9298 §3.1), and never marks it as ECN capable (§6.2).
#[derive(Debug)]
pub(crate) struct BatchSocket {
    io: UdpSocket,
    offload: UdpSocketState,
}

impl BatchSocket {
    /// Opens a socket bound to `local`.
    pub(crate) fn bind(local: SocketAddr, options: SocketOptions) -> io::Result<Self> {
        let (socket, offload) = options.open(local)?;
        socket.bind(&local.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        Ok(Self { io, offload })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Sends from the local address `from`, if given: see [`Sink::send`].
    ///
    /// It does not ask the reactor first: a datagram that finds no buffer is lost, it does not wait.
    pub(crate) fn send(
        &self,
        to: SocketAddr,
        from: Option<IpAddr>,
        contents: &[u8],
        segment_len: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: segment_len,
            src_ip: from,
        };
        self.offload.try_send((&self.io).into(), &transmit)
    }

    pub(crate) fn max_segments(&self) -> usize {
        self.offload.max_gso_segments()
    }

    /// Reads what waits, and forgets it.
    pub(crate) fn discard(&self) {
        // Bounded, since others may send faster than this reads.
        for _ in 0..MAX_DISCARDS {
            let read = Inbox::lend(|inbox| {
                inbox.fill(MAX_MESSAGES, |buffers, metas| {
                    self.offload.recv((&self.io).into(), buffers, metas)
                })
            });
            if read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                return;
            }
        }
    }

    /// See [`TargetSocket::poll_recv`].
    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
        limit: usize,
    ) -> Poll<io::Result<()>> {
        let limit = limit.clamp(1, MAX_MESSAGES);
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let read = self.io.try_io(Interest::READABLE, || {
                inbox.fill(limit, |buffers, metas| {
                    self.offload.recv((&self.io).into(), buffers, metas)
                })
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(()) if inbox.len() < limit => {
                    // The kernel had no more. What comes from now on is announced anew, and the call
                    // that would say so is saved.
                    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    let _ = self.io.try_io(Interest::READABLE, nothing);
                    return Poll::Ready(Ok(()));
                }
                read => return Poll::Ready(read),
            }
        }
    }
}

/// A socket of the operating system, connected to one target.
#[derive(Debug)]
pub(crate) struct ConnectedSocket {
    socket: BatchSocket,
    target: SocketAddr,
}

impl ConnectedSocket {
    /// Opens a socket on a free port that is connected to `target`.
    pub(crate) fn open(target: SocketAddr, options: SocketOptions) -> io::Result<Self> {
        let (socket, offload) = options.open(target)?;
        socket.connect(&target.into())?;
        let io = UdpSocket::from_std(socket.into())?;
        let socket = BatchSocket { io, offload };
        Ok(Self { socket, target })
    }
}

impl Sink for ConnectedSocket {
    fn send(&self, contents: &[u8], segment_len: Option<usize>) -> io::Result<()> {
        self.socket.send(self.target, None, contents, segment_len)
    }

    fn max_segments(&self) -> usize {
        self.socket.max_segments()
    }
}

impl TargetSocket for ConnectedSocket {
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Inbox,
        limit: usize,
    ) -> Poll<io::Result<()>> {
        self.socket.poll_recv(cx, inbox, limit)
    }

    fn link_len(&self) -> usize {
        let (mtu, headers_len) = match self.target {
            SocketAddr::V4(_) => (sockopt::ip_mtu(&self.socket.io), HEADERS_V4_LEN),
            SocketAddr::V6(_) => (sockopt::ipv6_mtu(&self.socket.io), HEADERS_V6_LEN),
        };
        // Without an answer nothing is held back: the send itself will say that it is too long.
        let mtu = mtu.map_or(usize::MAX, |mtu| mtu as usize);
        mtu.min(u16::MAX.into()) - headers_len.min(mtu)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
