//! One connection's QUIC and HTTP/3 state, and the few operations that the rest needs of them.

use bytes::{Buf, Bytes};
use http::HeaderMap;
use pasque::{Packet, StreamError};
use quiche::h3::{self, NameValue};
use quiche::{BufFactory, RecvInfo, Shutdown};

use super::kept::Kept;
use super::waiting::Waiting;
use crate::ledger::{Holding, apart, leave_out};
use crate::settings::{DATAGRAM_WATERMARK, MIN_DATAGRAM_WATERMARK, QUEUE_TIME};

/// How quiche gets its buffers: content is shared, datagrams are our packets, moved and not copied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Buffers;

impl BufFactory for Buffers {
    type Buf = Bytes;
    type DgramBuf = Datagram;

    fn buf_from_slice(buf: &[u8]) -> Bytes {
        Bytes::copy_from_slice(buf)
    }

    fn dgram_buf_from_slice(buf: &[u8]) -> Datagram {
        Datagram(Some(apart(|| Packet::copy_from(buf))))
    }
}

/// A datagram in quiche's queues, which have bounds of their own: it does not count as memory that quiche
/// holds.
#[derive(Debug)]
pub(crate) struct Datagram(Option<Packet>);

impl Datagram {
    #[inline]
    pub(super) fn into_packet(mut self) -> Option<Packet> {
        self.0.take()
    }
}

impl From<Packet> for Datagram {
    fn from(packet: Packet) -> Self {
        Self(Some(packet))
    }
}

impl From<Vec<u8>> for Datagram {
    fn from(bytes: Vec<u8>) -> Self {
        leave_out(bytes.capacity());
        Self(Some(bytes.into()))
    }
}

impl AsRef<[u8]> for Datagram {
    fn as_ref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Drop for Datagram {
    #[inline]
    fn drop(&mut self) {
        // Nothing is left of most.
        if let Some(packet) = self.0.take() {
            apart(|| drop(packet));
        }
    }
}

/// What a packet holds besides a datagram and the destination's ID: first byte, packet number,
/// authentication tag, and frame header as quiche writes it.
const DATAGRAM_OVERHEAD: usize = 1 + 4 + 16 + 3;

/// What quiche may hold of its own for one connection, in bytes.
fn max_holding() -> usize {
    #[cfg(test)]
    if let Some(limit) = MAX_HOLDING.get() {
        return limit;
    }
    32 << 20
}

#[cfg(test)]
thread_local! {
    /// Another limit, for a test.
    pub(crate) static MAX_HOLDING: std::cell::Cell<Option<usize>> =
        const { std::cell::Cell::new(None) };
}

/// Header fields as the validator makes and takes them.
pub(super) type Fields = Vec<h3::Header>;

/// QUIC and, once the handshake is done, HTTP/3.
pub(crate) struct Http {
    pub(crate) quic: quiche::Connection<Buffers>,
    pub(super) h3: Option<h3::Connection>,
    /// The longest packet that the path is known to carry, in bytes of UDP payload.
    pub(super) packet_len: usize,
    /// How many datagrams the path takes soon.
    pub(super) watermark: usize,
    pub(super) waiting: Waiting,
    pub(super) kept: Kept,
    /// What quiche holds for the connection, but for content and datagrams.
    pub(super) holding: Holding,
}

/// The peer has given up a stream, or the connection is closing: there is nobody to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Http {
    /// Sets the [`watermark`](Self::watermark()) to what the path takes within [`QUEUE_TIME`]: what waits
    /// here waits in order, and on a slow path would hold up everything behind it.
    pub(super) fn set_watermark(&mut self) {
        if let Some(path) = self.quic.path_stats().find(|path| path.active) {
            let round_trips = QUEUE_TIME.as_secs_f64() / path.rtt.as_secs_f64().max(1e-6);
            let bytes = path.cwnd as f64 * round_trips;
            let datagrams = bytes / self.packet_len.max(1) as f64;
            self.watermark = (datagrams as usize).clamp(MIN_DATAGRAM_WATERMARK, DATAGRAM_WATERMARK);
        }
    }

    /// Flows are not asked for more while this many datagrams wait.
    pub(super) fn watermark(&self) -> usize {
        Waiting::limit(self.watermark)
    }

    /// Whether the peer takes QUIC DATAGRAM frames; `None` before its SETTINGS have come
    /// (RFC 9297 §2.1.1).
    pub(super) fn peer_takes_datagrams(&self) -> Option<bool> {
        let h3 = self.h3.as_ref()?;
        h3.peer_settings_raw()?;
        Some(h3.dgram_enabled_by_peer(&self.quic))
    }

    /// The longest datagram that the path carries; `None` if the peer takes none.
    pub(super) fn max_datagram_len(&self) -> Option<usize> {
        // quiche's own figure is that of its probe while it looks for the path's MTU: a datagram of
        // that length would wait for the result, and all others behind it.
        let max_len = self.datagram_len_in(self.packet_len);
        Some(self.quic.dgram_max_writable_len()?.min(max_len))
    }

    /// The longest datagram in a packet of this length.
    pub(super) fn datagram_len_in(&self, packet_len: usize) -> usize {
        packet_len.saturating_sub(DATAGRAM_OVERHEAD + self.quic.destination_id().len())
    }

    /// Sends response fields. `Ok(false)`: there is no room yet, try again later.
    pub(super) fn respond(&mut self, id: u64, fields: &Fields, fin: bool) -> Result<bool, Gone> {
        let Some(h3) = &mut self.h3 else {
            return Err(Gone);
        };
        let call = || h3.send_response(&mut self.quic, id, fields, fin);
        match self.holding.count(call) {
            Ok(()) => Ok(true),
            Err(h3::Error::StreamBlocked) => Ok(false),
            Err(_) => Err(Gone),
        }
    }

    /// Moves as much of `chunk` into the stream as it takes now; what is left stays in `chunk`.
    /// Returns whether all of it went, with the end of the stream if `fin`.
    pub(super) fn write(&mut self, id: u64, chunk: &mut Bytes, fin: bool) -> Result<bool, Gone> {
        let Some(h3) = &mut self.h3 else {
            return Err(Gone);
        };
        loop {
            if !self.kept.has_room() {
                return Ok(false);
            }
            // An error is told by what follows.
            let room = self.quic.stream_capacity(id).unwrap_or(usize::MAX);
            // Where there is no room, it is asked for as much as it has to wait for.
            let len = Kept::len_of_piece(chunk, room.max(1));
            let is_last = len == chunk.len();
            let call = || {
                let mut piece = self.kept.piece(chunk, len);
                h3.send_body_zc(&mut self.quic, id, &mut piece, fin && is_last)
            };
            match self.holding.count(call) {
                Ok(sent) => {
                    chunk.advance(sent);
                    if is_last && sent == len {
                        return Ok(true);
                    }
                }
                Err(h3::Error::Done) => return Ok(false),
                Err(_) => return Err(Gone),
            }
        }
    }

    /// Reads content into `into`; `Ok(0)` when there is none now.
    ///
    /// # Errors
    /// The code with which the peer reset the stream.
    pub(super) fn read(&mut self, id: u64, into: &mut [u8]) -> Result<usize, u64> {
        let Some(h3) = &mut self.h3 else { return Ok(0) };
        let call = || h3.recv_body(&mut self.quic, id, into);
        match self.holding.count(call) {
            Ok(len) => Ok(len),
            Err(h3::Error::TransportError(quiche::Error::StreamReset(code))) => Err(code),
            Err(_) => Ok(0),
        }
    }

    /// Takes a packet, as `quiche::Connection::recv` does.
    pub(crate) fn receive(&mut self, packet: &mut [u8], info: RecvInfo) -> quiche::Result<usize> {
        self.holding.count(|| self.quic.recv(packet, info))
    }

    /// For calls that have no method here.
    pub(crate) fn quic_and_holding(&mut self) -> (&mut quiche::Connection<Buffers>, &mut Holding) {
        (&mut self.quic, &mut self.holding)
    }

    /// Bytes that quiche holds for the connection, but for content and datagrams.
    pub(crate) fn holding(&self) -> usize {
        self.holding.bytes()
    }

    /// Whether quiche holds more of its own than a connection is to need.
    pub(crate) fn is_too_heavy(&self) -> bool {
        self.holding.bytes() > max_holding()
    }

    /// Resets our direction of a stream.
    pub(super) fn reset(&mut self, id: u64, code: u64) {
        // Fails only for streams that are over.
        let call = || self.quic.stream_shutdown(id, Shutdown::Write, code);
        let _ = self.holding.count(call);
    }

    /// Asks the peer to stop sending on a stream.
    pub(super) fn stop(&mut self, id: u64, code: u64) {
        let call = || self.quic.stream_shutdown(id, Shutdown::Read, code);
        let _ = self.holding.count(call);
    }

    /// Ends a stream in both directions; others go on.
    pub(super) fn abort(&mut self, id: u64, error: StreamError) {
        self.reset(id, error.code());
        self.stop(id, error.code());
    }

    /// Closes the connection with an HTTP/3 code.
    pub(super) fn close(&mut self, code: u64, reason: &str) {
        // Fails only when the connection is closing already.
        let _ = self.quic.close(true, code, reason.as_bytes());
    }
}

/// Fields as name and value, for the validator.
pub(super) fn pairs(fields: &[h3::Header]) -> impl Iterator<Item = (&[u8], &[u8])> {
    fields.iter().map(|field| (field.name(), field.value()))
}

/// The `date` field of an answer made now (RFC 9110 §6.6.1).
pub(super) fn add_date(headers: &mut HeaderMap) {
    if !headers.contains_key(http::header::DATE) {
        let now = httpdate::fmt_http_date(std::time::SystemTime::now());
        if let Ok(value) = now.try_into() {
            headers.insert(http::header::DATE, value);
        }
    }
}
