//! What a worker sends: the packets of one connection, put together for the kernel.

use std::time::Instant;

use quiche::SendInfo;
use tracing::debug;

use crate::connection::Connection;
use crate::settings::MAX_UDP_PAYLOAD;
use crate::socket::{Sent, Socket};

/// Packets that one connection sends per turn, before the next one has its turn.
const SENDS_PER_TURN: usize = 256;

/// What one send takes at most, in bytes: the limit of `UDP_SEGMENT`.
const SEND_BUFFER: usize = 65_000;

/// The buffer of a worker's packets, and a send that the kernel had no room for.
pub(crate) struct Output {
    buffer: Vec<u8>,
    blocked: Option<Blocked>,
}

struct Blocked {
    packets: Vec<u8>,
    segment: usize,
    info: SendInfo,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            buffer: vec![0; SEND_BUFFER],
            blocked: None,
        }
    }

    /// Whether nothing can be sent until the socket is writable.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// The buffer, for a packet that is sent at once.
    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Sends the packet of `len` bytes that [`buffer`](Self::buffer) holds: once, and nobody asks
    /// what became of it.
    pub(crate) fn send_one(&mut self, socket: &mut Socket, len: usize, info: &SendInfo) {
        if let Some(packet) = self.buffer.get(..len) {
            socket.try_send(packet, len, info);
        }
    }

    /// Tries again what the kernel had no room for.
    pub(crate) fn retry(&mut self, socket: &mut Socket) {
        if let Some(blocked) = self.blocked.take()
            && socket.try_send(&blocked.packets, blocked.segment, &blocked.info) == Sent::Blocked
        {
            self.blocked = Some(blocked);
        }
    }

    /// Sends what a connection has to send. Returns whether it has more.
    pub(crate) fn send(
        &mut self,
        connection: &mut Connection,
        socket: &mut Socket,
        now: Instant,
    ) -> bool {
        let more = self.send_some(connection, socket, now);
        connection.note_waiting();
        more
    }

    fn send_some(
        &mut self,
        connection: &mut Connection,
        socket: &mut Socket,
        now: Instant,
    ) -> bool {
        let mut run = Run::new(self, socket);
        for _ in 0..SENDS_PER_TURN {
            if run.output.is_blocked() {
                return true;
            }
            match connection.next_packet(run.space(), now) {
                Ok((len, info)) => run.add(len, info),
                Err(quiche::Error::Done) if connection.refill() => {}
                Err(quiche::Error::Done) => {
                    run.flush();
                    return false;
                }
                Err(error) => {
                    debug!(%error, "connection cannot send");
                    let _ = connection.http.quic.close(false, 1, b"internal");
                    run.flush();
                    return false;
                }
            }
        }
        run.flush();
        true
    }
}

/// Packets of one length and one path, back to back in the buffer.
struct Run<'a> {
    output: &'a mut Output,
    socket: &'a mut Socket,
    max_segments: usize,
    /// The path of the packets in the run, if there are any.
    info: Option<SendInfo>,
    segment: usize,
    filled: usize,
    count: usize,
}

impl<'a> Run<'a> {
    fn new(output: &'a mut Output, socket: &'a mut Socket) -> Self {
        let max_segments = socket.max_segments();
        Self {
            output,
            socket,
            max_segments,
            info: None,
            segment: 0,
            filled: 0,
            count: 0,
        }
    }

    /// Where the next packet is to be written: room for the longest one at least.
    fn space(&mut self) -> &mut [u8] {
        let buffer = &mut self.output.buffer;
        buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes the packet of `len` bytes that was written to [`space`](Self::space).
    fn add(&mut self, len: usize, info: SendInfo) {
        let continues =
            self.info.is_some_and(|first| same_path(&first, &info)) && len <= self.segment;
        if !continues {
            let start = self.filled;
            self.flush();
            self.output.buffer.copy_within(start..start + len, 0);
            self.segment = len;
            self.info = Some(info);
        }
        self.filled += len;
        self.count += 1;
        let is_full = self.count >= self.max_segments
            || self.filled + MAX_UDP_PAYLOAD > self.output.buffer.len();
        // Only the last packet of a send may be shorter than the others.
        if len < self.segment || is_full {
            self.flush();
        }
    }

    /// Sends the run, and begins a new one.
    fn flush(&mut self) {
        let (filled, segment) = (self.filled, self.segment);
        (self.filled, self.segment, self.count) = (0, 0, 0);
        let Some(info) = self.info.take() else { return };
        let packets = self.output.buffer.get(..filled).unwrap_or_default();
        if self.output.blocked.is_none()
            && self.socket.try_send(packets, segment, &info) != Sent::Blocked
        {
            return;
        }
        // At most one send waits: more would be lost to a congested path anyway.
        self.output.blocked.get_or_insert_with(|| Blocked {
            packets: packets.to_vec(),
            segment,
            info,
        });
    }
}

fn same_path(a: &SendInfo, b: &SendInfo) -> bool {
    a.from == b.from && a.to == b.to
}
