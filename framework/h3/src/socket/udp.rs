//! A UDP socket with segmentation and receive offload where the kernel has them.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quiche::{RecvInfo, SendInfo};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{debug, warn};

use super::{RECV_SLOTS, Received, Run, Sent};

/// Kernel buffer that is asked for in each direction, in bytes: a few bursts of every connection.
/// With less, a single burst of full GSO sends is already dropped.
const KERNEL_BUFFER: usize = 4 << 20;

/// A batched UDP socket.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    moved: Moved,
}

/// Packets, and the system calls that moved them.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    sent: u64,
    sends: u64,
    received: u64,
    receives: u64,
}

impl Udp {
    /// Binds a socket. With `shared`, other sockets may share the address, and the kernel chooses among
    /// them.
    pub(crate) fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            // A wildcard of IPv6 serves IPv4 too, whatever the system's default is.
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        if shared {
            socket.set_reuse_port(true)?;
        }
        // Less than asked for is no reason to fail: the system's limit decides.
        for result in [
            socket.set_recv_buffer_size(KERNEL_BUFFER),
            socket.set_send_buffer_size(KERNEL_BUFFER),
        ] {
            if let Err(error) = result {
                debug!(%error, "kernel buffer stays as it is");
            }
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// Takes a bound socket into the runtime of the current thread.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let socket = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            state,
            local,
            moved: Moved::default(),
        })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(super) async fn readable(&self) {
        // An error here shows again at the next read, where it is handled.
        let _ = self.socket.readable().await;
    }

    pub(super) async fn writable(&self) {
        let _ = self.socket.writable().await;
    }

    pub(super) fn try_recv(&mut self, into: &mut Received) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); RECV_SLOTS];
        let count = self.socket.try_io(Interest::READABLE, || {
            let mut buffers = into
                .buffers
                .iter_mut()
                .map(|buffer| IoSliceMut::new(buffer));
            let mut slices: [IoSliceMut<'_>; RECV_SLOTS] =
                std::array::from_fn(|_| buffers.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            self.state
                .recv(UdpSockRef::from(&self.socket), &mut slices, &mut metas)
        })?;
        self.moved.receives += 1;
        let packets = |meta: &RecvMeta| meta.len.div_ceil(meta.stride.max(1)) as u64;
        self.moved.received += metas.iter().take(count).map(packets).sum::<u64>();
        // Without an error in between, the kernel stops early only where there is no more. Not to ask
        // again saves the call that says so; what comes from now on is announced anew.
        if count < RECV_SLOTS {
            into.is_all = true;
            let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.socket.try_io(Interest::READABLE, nothing);
        }
        into.runs.extend(metas.iter().take(count).map(|meta| Run {
            info: RecvInfo {
                from: meta.addr,
                to: self.arrived_at(meta.dst_ip),
            },
            len: meta.len,
            stride: meta.stride.max(1),
        }));
        Ok(())
    }

    /// The local address of a packet: a path of QUIC is a pair of addresses, and an answer must
    /// leave from the address that was asked.
    fn arrived_at(&self, destination: Option<IpAddr>) -> SocketAddr {
        match destination {
            Some(ip) if self.local.ip().is_unspecified() => {
                // A dual-stack socket shows IPv4 addresses in their mapped form throughout.
                let ip = match ip {
                    IpAddr::V4(v4) if self.local.is_ipv6() => v4.to_ipv6_mapped().into(),
                    other => other,
                };
                SocketAddr::new(ip, self.local.port())
            }
            _ => self.local,
        }
    }

    pub(super) fn try_send(&mut self, packets: &[u8], segment: usize, info: &SendInfo) -> Sent {
        let offload = packets.len() > segment;
        self.moved.sends += 1;
        self.moved.sent += packets.len().div_ceil(segment.max(1)) as u64;
        match self.transmit(packets, offload.then_some(segment), info) {
            Ok(()) => Sent::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Blocked,
            // The kernel or the card refused segmentation, and the state has turned it off.
            Err(_) if offload && self.state.max_gso_segments() == 1 => {
                warn!("segmentation offload refused: sending packets one by one from now on");
                let mut all = Sent::All;
                for packet in packets.chunks(segment) {
                    if self.transmit(packet, None, info).is_err() {
                        all = Sent::Lost;
                    }
                }
                all
            }
            Err(_) => Sent::Lost,
        }
    }

    fn transmit(&self, contents: &[u8], segment: Option<usize>, info: &SendInfo) -> io::Result<()> {
        let transmit = Transmit {
            destination: info.to,
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: self.local.ip().is_unspecified().then_some(info.from.ip()),
        };
        self.socket.try_io(Interest::WRITABLE, || {
            self.state
                .try_send(UdpSockRef::from(&self.socket), &transmit)
        })
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        let Moved {
            sent,
            sends,
            received,
            receives,
        } = self.moved;
        debug!(sent, sends, received, receives, "socket closed");
    }
}
