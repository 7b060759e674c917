//! What a server has behind it: the socket of a target, moved in batches as a tunnel's is.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use pasque::Packet;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::udp::read;
use crate::{PREFIX, Quic, Result};

/// The most of one segmented send, in bytes.
const SEND_LEN: usize = 65_507;

/// The receive buffer of the socket, in bytes.
const BUFFER_LEN: usize = 1 << 20;

/// A connected socket with segmentation and receive offload.
pub(crate) struct Target {
    pub(crate) socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
    buffers: Vec<Vec<u8>>,
    /// Payloads that leave together, and how long each is but the last.
    out: Vec<u8>,
    segment: usize,
    count: usize,
}

impl Target {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The system's limit decides how much it is.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER_LEN);
        Ok(Self {
            socket,
            state,
            address,
            buffers: vec![vec![0; 64 << 10]; BATCH_SIZE],
            out: Vec::with_capacity(SEND_LEN),
            segment: 0,
            count: 0,
        })
    }

    /// Takes a datagram of the connection.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        let payload = packet.get(PREFIX.len()..).unwrap_or_default();
        let is_full = self.count >= self.state.max_gso_segments()
            || self.out.len() + payload.len() > SEND_LEN
            || payload.len() > self.segment;
        if is_full {
            self.flush();
            self.segment = payload.len();
        }
        self.out.extend_from_slice(payload);
        self.count += 1;
        if payload.len() < self.segment {
            self.flush();
        }
    }

    /// Sends what has been pushed.
    pub(crate) fn flush(&mut self) {
        if self.count > 0 {
            let transmit = Transmit {
                destination: self.address,
                ecn: None,
                contents: &self.out,
                segment_size: (self.count > 1).then_some(self.segment),
                src_ip: None,
            };
            // What the kernel has no room for is lost, as the network would lose it.
            let _ = self
                .state
                .try_send(UdpSockRef::from(&self.socket), &transmit);
        }
        self.out.clear();
        (self.segment, self.count) = (0, 0);
    }

    /// Reads once, and gives the connection what has come. Returns whether there was anything.
    pub(crate) fn read(&mut self, quic: &mut Quic) -> Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let read = read(&self.socket, &self.state, &mut self.buffers, &mut metas)?;
        let Some(count) = read else {
            return Ok(false);
        };
        for (meta, buffer) in metas.iter().zip(&self.buffers).take(count) {
            for payload in buffer[..meta.len].chunks(meta.stride.max(1)) {
                let mut packet = Packet::copy_from(payload);
                packet.prepend(&PREFIX);
                // What there is no room for is lost.
                let _ = quic.dgram_send_buf(packet);
            }
        }
        Ok(true)
    }
}
