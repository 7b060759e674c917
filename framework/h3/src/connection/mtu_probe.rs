//! A packet of a given length whose fate is known: the probe of path MTU discovery.
//!
//! quiche pads no packet on demand and tells nobody which packets were acknowledged. A stream does
//! both: its data fills the packet, and it is gone once everything on it was acknowledged. HTTP/3
//! has stream types that mean nothing and that every peer discards, reserved for uses like this one
//! (RFC 9114 §6.2.3).

use std::time::{Duration, Instant};

use pasque::wire::varint;
use quiche::Shutdown;

use super::NO_ERROR;
use super::http::Buffers;
use super::path_mtu::Verdict;

/// A reserved stream type: 0x1f × N + 0x21. Zeros follow it.
const STREAM_TYPE: u8 = 0x21;

/// Unidirectional streams that HTTP/3 opens first: control and the two of QPACK. A fourth may be
/// quiche's own stream of a reserved type.
const HTTP_STREAMS: u64 = 3;

/// Bytes that have to fit beside the probe, so that it is not cut short.
const SLACK: usize = 100;

/// How long we wait for room, or for the peer to allow another stream: it does as earlier ones end.
const STARVED: Duration = Duration::from_secs(1);

/// What a packet holds besides a stream's data and the destination's ID: first byte, packet number,
/// authentication tag, and the frame's type, offset and length as quiche writes them.
const OVERHEAD: usize = 1 + 4 + 16 + 1 + 1 + 2;

/// How much shorter a probe may turn out: quiche writes packet numbers as short as it can.
const SHORTFALL: usize = 3;

/// Which probe stream comes next.
#[derive(Debug)]
pub(super) struct Probes {
    next_stream: u64,
    current: Option<Probe>,
    /// Since when the next one cannot be sent.
    starved_since: Option<Instant>,
    /// Whether the last packet held a datagram.
    was_datagram: bool,
}

#[derive(Debug)]
struct Probe {
    stream: u64,
    size: usize,
    sent: Option<Sent>,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    /// Whether it is late. From then on the answer is that of the next packet from the peer.
    is_late: bool,
    /// Packets whose content had been sent again by then, on the whole connection.
    retransmitted: usize,
}

impl Probes {
    pub(super) fn new(is_server: bool) -> Self {
        Self {
            next_stream: first_stream(is_server) + 4 * HTTP_STREAMS,
            current: None,
            starved_since: None,
            was_datagram: false,
        }
    }

    /// Whether a probe is on its way, or about to be.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// The size of a probe that is to be sent before anything else.
    pub(super) fn unsent(&self) -> Option<usize> {
        let probe = self.current.as_ref()?;
        probe.sent.is_none().then_some(probe.size)
    }

    /// Prepares a probe of `size` bytes. Does nothing when it cannot be sent now.
    ///
    /// # Errors
    /// [`Verdict::Impossible`] if that has been so for some time: the peer allows no further stream,
    /// or no further data.
    pub(super) fn start(
        &mut self,
        quic: &mut quiche::Connection<Buffers>,
        size: usize,
        now: Instant,
    ) -> Result<(), Verdict> {
        // quiche takes datagrams and streams in turns: one may be first.
        let is_second = quic.dgram_send_queue_len() > 0 && !self.was_datagram;
        let needed = size * (1 + usize::from(is_second)) + SLACK;
        // Of the control stream for want of another: it shows what the congestion window and the
        // connection's flow control leave.
        let control = first_stream(quic.is_server());
        if quic
            .stream_capacity(control)
            .is_ok_and(|room| room < needed)
        {
            return self.starve(now);
        }
        loop {
            let stream = self.next_stream;
            if quic.stream_capacity(stream).is_ok() {
                // Opened by quiche.
                self.next_stream += 4;
                continue;
            }
            if quic.peer_streams_left_uni() == 0 {
                return self.starve(now);
            }
            self.starved_since = None;
            self.next_stream += 4;
            // The packet holds all of it, unless something else finds its way in.
            let overhead = OVERHEAD + quic.destination_id().len() + varint::to_prefix(stream).len();
            let mut content = vec![0; size.saturating_sub(overhead)];
            if let Some(first) = content.first_mut() {
                *first = STREAM_TYPE;
            }
            match quic.stream_send(stream, &content, true) {
                Ok(len) if len == content.len() => {
                    // Before all others.
                    let _ = quic.stream_priority(stream, 0, false);
                    self.current = Some(Probe {
                        stream,
                        size,
                        sent: None,
                    });
                    return Ok(());
                }
                Ok(_) => {
                    abandon(quic, stream);
                    return Ok(());
                }
                Err(quiche::Error::Done) if quic.stream_capacity(stream).is_ok() => {
                    abandon(quic, stream);
                    return Ok(());
                }
                // Opened by quiche, and over.
                Err(quiche::Error::Done) => {}
                Err(_) => return Err(Verdict::Impossible),
            }
        }
    }

    /// There is no room for a probe, or no stream.
    fn starve(&mut self, now: Instant) -> Result<(), Verdict> {
        let since = *self.starved_since.get_or_insert(now);
        if now - since < STARVED {
            return Ok(());
        }
        self.starved_since = None;
        Err(Verdict::Impossible)
    }

    /// Takes note of a packet of `len` bytes that was made, and whether it held a datagram.
    pub(super) fn on_packet(
        &mut self,
        quic: &mut quiche::Connection<Buffers>,
        len: usize,
        is_datagram: bool,
        now: Instant,
    ) {
        self.was_datagram = is_datagram;
        // What holds no datagram holds the probe, which comes before all other streams.
        let probe = self.current.as_mut().filter(|_| !is_datagram);
        let Some(probe) = probe.filter(|probe| probe.sent.is_none()) else {
            return;
        };
        if len + SHORTFALL < probe.size {
            // Too short to tell anything: something has taken the room.
            return self.cancel(quic);
        }
        probe.sent = Some(Sent {
            at: now,
            is_late: false,
            retransmitted: quic.stats().retrans,
        });
    }

    /// Gives up a probe that found no room after all, or that the path it was for does not need
    /// any more.
    pub(super) fn cancel(&mut self, quic: &mut quiche::Connection<Buffers>) {
        if let Some(probe) = self.current.take() {
            abandon(quic, probe.stream);
        }
    }

    /// What became of the probe, once it is known, and its size. `heard` is when the last packet
    /// came from the peer.
    pub(super) fn verdict(
        &mut self,
        quic: &mut quiche::Connection<Buffers>,
        heard: Instant,
        now: Instant,
    ) -> Option<(usize, Verdict)> {
        let probe = self.current.as_mut()?;
        let sent = probe.sent.as_mut()?;
        let age = now.saturating_duration_since(sent.at);
        let path = quic.path_stats().find(|path| path.active)?;
        sent.is_late = age >= patience(&path);
        let verdict = if quic.stream_capacity(probe.stream).is_err() {
            // All of it is there, or was refused once it was there: in the packet that was the
            // probe, or in those that replaced it. These take two round trips.
            let is_first = age < path.min_rtt.unwrap_or_default() * 2;
            if is_first || quic.stats().retrans == sent.retransmitted {
                Verdict::Came
            } else {
                Verdict::Lost
            }
        } else if sent.is_late && heard >= sent.at + path.rtt {
            Verdict::Lost
        } else {
            return None;
        };
        let size = probe.size;
        self.cancel(quic);
        Some((size, verdict))
    }

    /// When [`verdict`](Self::verdict) has an answer although nothing happens.
    pub(super) fn deadline(&self, quic: &quiche::Connection<Buffers>) -> Option<Instant> {
        let sent = self.current.as_ref()?.sent.as_ref();
        let sent = sent.filter(|sent| !sent.is_late)?;
        let path = quic.path_stats().find(|path| path.active)?;
        Some(sent.at + patience(&path))
    }
}

/// How long a probe may take, with peers that acknowledge late and queues that fill up.
fn patience(path: &quiche::PathStats) -> Duration {
    (path.rtt + path.rttvar * 4) * 3 / 2 + Duration::from_millis(50)
}

fn abandon(quic: &mut quiche::Connection<Buffers>, stream: u64) {
    // Fails for a stream that is over, and there is nothing left to do.
    let _ = quic.stream_shutdown(stream, Shutdown::Write, NO_ERROR);
}

fn first_stream(is_server: bool) -> u64 {
    if is_server { 3 } else { 2 }
}
