//! Batched datagrams in and out, over UDP or, in tests, over a network in memory.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod memory;
pub(crate) mod udp;

use std::io;
use std::net::SocketAddr;

use quiche::{RecvInfo, SendInfo};

/// Receive buffers of one worker: 8 × 64 KiB take what a burst brings and stay in the cache.
pub(crate) const RECV_SLOTS: usize = 8;
/// One receive buffer: the most that `UDP_GRO` puts together.
const SLOT_LEN: usize = 64 << 10;

/// Where a worker's packets come from and go to.
#[derive(Debug)]
pub(crate) enum Socket {
    Udp(udp::Udp),
    #[cfg(any(test, feature = "testing"))]
    Memory(memory::Memory),
}

/// What one read brought: runs of packets of equal length, each run from one sender.
#[derive(Debug)]
pub(crate) struct Received {
    buffers: Vec<Vec<u8>>,
    runs: Vec<Run>,
    /// Whether nothing was left in the socket.
    is_all: bool,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    info: RecvInfo,
    len: usize,
    stride: usize,
}

impl Received {
    /// With memory for everything that one read may bring.
    pub(crate) fn new() -> Self {
        Self {
            buffers: vec![vec![0; SLOT_LEN]; RECV_SLOTS],
            runs: Vec::with_capacity(RECV_SLOTS),
            is_all: false,
        }
    }

    /// Without memory: it stands in for one that is being looked at.
    pub(crate) const fn empty() -> Self {
        Self {
            buffers: Vec::new(),
            runs: Vec::new(),
            is_all: false,
        }
    }

    /// Whether the read has left nothing in the socket, so that another one would be for nothing.
    pub(crate) fn is_all(&self) -> bool {
        self.is_all
    }

    /// Calls `each` for every run: the packets' addresses, their bytes, and the length of each but
    /// the last, which may be shorter.
    pub(crate) fn for_each_run(&mut self, mut each: impl FnMut(RecvInfo, &mut [u8], usize)) {
        for (run, buffer) in self.runs.drain(..).zip(&mut self.buffers) {
            if let Some(packets) = buffer.get_mut(..run.len) {
                each(run.info, packets, run.stride);
            }
        }
    }
}

/// What became of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The kernel took it.
    All,
    /// The kernel refused it for a reason that counts as loss: the path, the MTU or a full queue.
    Lost,
    /// The kernel's buffer is full: send the same again once the socket is writable.
    Blocked,
}

impl Socket {
    /// The address that the socket is bound to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        match self {
            Self::Udp(udp) => udp.local_addr(),
            #[cfg(any(test, feature = "testing"))]
            Self::Memory(memory) => memory.local_addr(),
        }
    }

    /// Packets of equal length that one send takes.
    pub(crate) fn max_segments(&self) -> usize {
        match self {
            Self::Udp(udp) => udp.max_segments(),
            #[cfg(any(test, feature = "testing"))]
            Self::Memory(_) => 64,
        }
    }

    /// Reads what is there. `WouldBlock` when there is nothing.
    pub(crate) fn try_recv(&mut self, into: &mut Received) -> io::Result<()> {
        into.runs.clear();
        into.is_all = false;
        match self {
            Self::Udp(udp) => udp.try_recv(into),
            #[cfg(any(test, feature = "testing"))]
            Self::Memory(memory) => memory.try_recv(into),
        }
    }

    /// Sends `packets`, each of `segment` bytes but the last, which may be shorter.
    pub(crate) fn try_send(&mut self, packets: &[u8], segment: usize, info: &SendInfo) -> Sent {
        match self {
            Self::Udp(udp) => udp.try_send(packets, segment, info),
            #[cfg(any(test, feature = "testing"))]
            Self::Memory(memory) => memory.try_send(packets, segment, info),
        }
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) {
        match self {
            Self::Udp(udp) => udp.readable().await,
            #[cfg(any(test, feature = "testing"))]
            Self::Memory(memory) => memory.readable().await,
        }
    }

    /// Waits until the kernel's buffer has room.
    pub(crate) async fn writable(&self) {
        match self {
            Self::Udp(udp) => udp.writable().await,
            #[cfg(any(test, feature = "testing"))]
            Self::Memory(_) => {}
        }
    }
}
