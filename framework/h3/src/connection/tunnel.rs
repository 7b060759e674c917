//! One tunnel of a connection: its flow, and the way between the flow and QUIC.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Poll, Waker};

use bytes::{Buf, Bytes};
use pasque::wire::capsule::{self, CapsuleDecoder};
use pasque::wire::{Prefix, datagram};
use pasque::{BATCH_LEN, Batch, Capsule, Error, Flow, FlowCx, Outbox, Packet, Result, StreamError};

use super::http::{Gone, Http};
use super::waiting::Waiting;
use crate::settings::DATAGRAM_SEND_QUEUE;

/// Capsules that wait for a peer that does not read them, in bytes; beyond it the tunnel ends.
const MAX_WAITING: usize = 256 << 10;

/// Sources are not asked for more while so many bytes of capsules wait.
const ENOUGH_WAITING: usize = 16 << 10;

/// What one delivery takes, in bytes: the most that a flow can hand to the kernel at once, as segments of
/// one send to a target or as one super-packet. With more, each delivery would end in a small one.
const DELIVERY_LEN: usize = 65_507;

/// What a datagram may carry when it travels as a capsule: a context ID and any IP packet.
const MAX_CAPSULE_DATAGRAM: usize = 65_535 + 8;

/// An accepted tunnel.
pub(super) struct Tunnel {
    flow: Box<dyn Flow>,
    outbox: Outbox,
    capsules: CapsuleDecoder,
    /// What this turn has brought and not delivered yet.
    inbound: Batch,
    /// The bytes of these.
    inbound_len: usize,
    prefix: Prefix,
    waker: Waker,
    /// Datagrams that quiche had no room for.
    dropped: u64,
    /// Whether the flow has put out all that it was allowed to when it was last asked.
    is_filled: bool,
}

impl Tunnel {
    pub(super) fn new(stream: u64, flow: Box<dyn Flow>, waker: Waker) -> Self {
        Self {
            flow,
            outbox: Outbox::default(),
            capsules: CapsuleDecoder::default(),
            inbound: Batch::new(),
            inbound_len: 0,
            prefix: datagram::stream_prefix(stream),
            waker,
            dropped: 0,
            is_filled: false,
        }
    }

    /// Takes a datagram for later delivery. Returns whether it is the first one waiting.
    pub(super) fn take(&mut self, packet: Packet, http: &Http) -> Result<bool> {
        let first = self.inbound.is_empty();
        let is_full = self.inbound.is_full() || self.inbound_len + packet.len() > DELIVERY_LEN;
        if !first && is_full {
            self.deliver(http)?;
        }
        self.inbound_len += packet.len();
        let _ = self.inbound.push(packet);
        Ok(first)
    }

    /// Gives the flow what has come.
    pub(super) fn deliver(&mut self, http: &Http) -> Result<()> {
        let limits = Room::for_answers(http, self);
        let Self {
            flow,
            outbox,
            inbound,
            waker,
            ..
        } = self;
        let mut cx = FlowCx::new(outbox, waker, limits.room, limits.max_len);
        let result = guard(|| flow.on_datagrams(inbound, &mut cx));
        inbound.clear();
        self.inbound_len = 0;
        result
    }

    /// Gives the flow the capsules in `bytes`. Returns how many there were.
    pub(super) fn feed(&mut self, mut bytes: &[u8], http: &Http) -> Result<usize> {
        let mut count = 0;
        loop {
            let Self { flow, capsules, .. } = self;
            let admit = |kind, len, start: &[u8]| flow.admit_capsule(kind, len, start);
            let next = guard(|| {
                capsules
                    .next(&mut bytes, admit)
                    .map_err(|error| Error::malformed(error.to_string()))
            })?;
            let Some(Capsule { kind, value }) = next else {
                self.deliver_any(http)?;
                return Ok(count);
            };
            count += 1;
            if kind == capsule::DATAGRAM {
                // Delivered together: what a flow does for each batch may cost more than its packets.
                let packet = Packet::copy_from(value);
                self.take(packet, http)?;
                // But no more than it may answer.
                if self.inbound.len() >= Room::for_answers(http, self).room {
                    self.deliver(http)?;
                }
                continue;
            }
            let value = value.to_vec();
            self.deliver_any(http)?;
            let limits = Room::for_answers(http, self);
            let Self {
                flow,
                outbox,
                waker,
                ..
            } = self;
            let mut cx = FlowCx::new(outbox, waker, limits.room, limits.max_len);
            let capsule = Capsule {
                kind,
                value: &value,
            };
            guard(|| flow.on_capsule(capsule, &mut cx))?;
        }
    }

    fn deliver_any(&mut self, http: &Http) -> Result<()> {
        match self.inbound.is_empty() {
            true => Ok(()),
            false => self.deliver(http),
        }
    }

    /// Whether the flow may have more to send: it has put out all that it was allowed to when it was
    /// last asked.
    pub(super) fn is_filled(&self) -> bool {
        self.is_filled
    }

    /// Checks that the peer may end its side here (RFC 9297 §3.3).
    pub(super) fn finish(&self) -> Result<()> {
        self.capsules
            .finish()
            .map_err(|error| Error::malformed(error.to_string()))
    }

    /// Asks the flow for what it has to send. `Ready` is the end of the tunnel; otherwise the
    /// result says whether the flow wants to be asked again once there is room.
    pub(super) fn poll(&mut self, http: &Http) -> Poll<Result<()>> {
        let limits = Room::for_sources(http, self);
        let Self {
            flow,
            outbox,
            waker,
            ..
        } = self;
        let mut cx = FlowCx::new(outbox, waker, limits.room, limits.max_len);
        let mut result = Poll::Pending;
        let outcome = guard(|| {
            result = flow.poll_outbound(&mut cx);
            Ok(())
        });
        self.is_filled = cx.room() == 0;
        match outcome {
            Ok(()) => result,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }

    /// Moves what the flow has put out to QUIC. Returns whether capsules wait for room.
    ///
    /// # Errors
    /// The code to end the tunnel with when its peer does not read, or `Gone`.
    pub(super) fn flush(&mut self, id: u64, http: &mut Http) -> Result<bool, StreamError> {
        match http.peer_takes_datagrams() {
            Some(true) => {
                for mut packet in self.outbox.packets.drain(..) {
                    packet.prepend(&self.prefix);
                    if http.quic.dgram_send_buf(packet.into()).is_err() {
                        self.dropped += 1;
                    }
                }
            }
            _ => {
                for packet in self.outbox.packets.drain(..) {
                    capsule::write(capsule::DATAGRAM, &packet, &mut self.outbox.capsules);
                }
            }
        }
        if self.outbox.capsules.is_empty() {
            return Ok(false);
        }
        match write_some(id, http, &mut self.outbox) {
            Err(Gone) => Err(StreamError::RequestCancelled),
            Ok(()) if self.outbox.capsules.len() > MAX_WAITING => Err(StreamError::ExcessiveLoad),
            Ok(()) => Ok(!self.outbox.capsules.is_empty()),
        }
    }

    /// Ends the flow and keeps what it has put on the stream but the peer has not taken yet.
    pub(super) fn into_waiting_capsules(self) -> Bytes {
        self.outbox.capsules.freeze()
    }

    /// Datagrams dropped so far on the way to the peer, and those from it that exceeded its rate.
    pub(super) fn dropped(&self) -> u64 {
        let outbox = &self.outbox;
        self.dropped + outbox.dropped_no_room + outbox.dropped_too_long + outbox.dropped_over_rate
    }
}

fn write_some(id: u64, http: &mut Http, outbox: &mut Outbox) -> Result<(), Gone> {
    let mut has_room = true;
    while has_room && !outbox.capsules.is_empty() {
        let room = http.quic.stream_capacity(id).map_err(|_| Gone)?;
        let len = room.clamp(1, MAX_WAITING).min(outbox.capsules.len());
        let some = outbox.capsules.get(..len).unwrap_or_default();
        let mut some = Bytes::copy_from_slice(some);
        has_room = http.write(id, &mut some, false)?;
        outbox.capsules.advance(len - some.len());
    }
    if outbox.capsules.is_empty() {
        outbox.capsules = Default::default();
    }
    Ok(())
}

/// How many datagrams of which length a flow may put out.
struct Room {
    room: usize,
    max_len: usize,
}

impl Room {
    /// For a source that waits until it is asked: kept short, so that overload stays at the source.
    fn for_sources(http: &Http, tunnel: &Tunnel) -> Self {
        let room = Self::up_to(http.watermark(), http, tunnel);
        match tunnel.outbox.capsules.len() {
            0..ENOUGH_WAITING => room,
            _ => Self { room: 0, ..room },
        }
    }

    /// For answers to what has just come, which cannot wait.
    fn for_answers(http: &Http, tunnel: &Tunnel) -> Self {
        Self::up_to(Waiting::limit(DATAGRAM_SEND_QUEUE), http, tunnel)
    }

    fn up_to(limit: usize, http: &Http, tunnel: &Tunnel) -> Self {
        match http.peer_takes_datagrams() {
            // The peer's SETTINGS decide how a datagram travels (RFC 9297 §2.1.1).
            None => Self {
                room: 0,
                max_len: 0,
            },
            Some(true) => {
                let waiting = http.quic.dgram_send_queue_len() + tunnel.outbox.packets.len();
                let max_len = http.max_datagram_len().unwrap_or(0);
                Self {
                    room: limit.saturating_sub(waiting).min(DATAGRAM_SEND_QUEUE),
                    max_len: max_len.saturating_sub(tunnel.prefix.len()),
                }
            }
            Some(false) => {
                let free = MAX_WAITING.saturating_sub(tunnel.outbox.capsules.len());
                Self {
                    room: (free / MAX_CAPSULE_DATAGRAM).min(BATCH_LEN),
                    max_len: MAX_CAPSULE_DATAGRAM,
                }
            }
        }
    }
}

/// Whether sources may be asked for datagrams now.
pub(super) fn has_room(http: &Http) -> bool {
    http.peer_takes_datagrams().is_some() && http.quic.dgram_send_queue_len() < http.watermark()
}

/// A plugin's panic ends its tunnel and nothing else.
fn guard<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_panic| {
        tracing::error!("a flow panicked; its tunnel ends");
        Err(Error::internal("the flow panicked"))
    })
}
