//! [`Flow`], one tunnel's data path, and [`FlowCx`], what it may do during a turn.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result, StreamError};
use crate::packet::{Batch, Packet};
pub use crate::wire::capsule::Admit;
use crate::wire::capsule::{self, Capsule};

/// One tunnel's data path, at either end.
///
/// All methods run inside the turn of the worker that owns the connection: they must not block,
/// and what they spend delays every other tunnel of that worker. An `Err` ends this tunnel only:
/// its stream is reset with [`Error::stream_error`](crate::Error::stream_error). A packet that is
/// no good is dropped and counted, never an `Err`. A panic ends this tunnel with
/// `H3_INTERNAL_ERROR`.
///
/// The flow is dropped when its tunnel ends in any way, so what it holds is released by `Drop`.
pub trait Flow: Send + 'static {
    /// HTTP Datagrams from the peer (RFC 9297 §2), without their quarter stream ID: what one socket
    /// read brought for this tunnel, in order. A DATAGRAM capsule (RFC 9297 §3.5) comes here too.
    /// Packets left in `inbound` are dropped.
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()>;

    /// A capsule from the peer that [`admit_capsule`](Self::admit_capsule) let through, other than
    /// DATAGRAM. The default ignores it (RFC 9297 §3.2).
    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        let _ = (capsule, cx);
        Ok(())
    }

    /// Sends what waits for the peer, through [`FlowCx::send`]. Polled after the waker of
    /// [`FlowCx::task`] was woken, again once there is [`room`](FlowCx::room), and once whenever
    /// [`max_len`](FlowCx::max_len) has changed, although nothing was sent or received: a flow that
    /// has promised others a length learns here that it has to take that back.
    ///
    /// The length starts small and grows within two round trips of the handshake, as far as the
    /// path allows. When the path is found to carry less than it did, the length falls to the
    /// smallest and climbs to the new one, step by step, within about a second on most paths: what
    /// it is for a moment is no reason to end a tunnel.
    ///
    /// `Ready(Ok(()))` ends the tunnel in order (FIN), `Ready(Err(_))` resets it.
    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        let _ = cx;
        Poll::Pending
    }

    /// The configuration was reloaded, and `endpoint` now stands where the one did that made this
    /// flow, with other keys. `Ok` goes on under the new ones, an `Err` ends the tunnel. Called before
    /// anything else passes, and not at all where the endpoint has stayed the same, or is gone: then
    /// the tunnel ends without a question.
    ///
    /// The default ends the tunnel, because what it was allowed may be forbidden now.
    fn on_reload(
        &mut self,
        endpoint: &(dyn Endpoint + 'static),
        cx: &mut FlowCx<'_>,
    ) -> Result<()> {
        let _ = (endpoint, cx);
        Err(Error::internal("the endpoint's configuration has changed")
            .with_stream_error(StreamError::RequestCancelled))
    }

    /// Decides about a capsule when its type and length are known, before any of its value is kept.
    /// `len` is the length of the value in bytes, `start` its first bytes as far as
    /// [`Admit::Peek`] has asked for them.
    ///
    /// The default takes DATAGRAM capsules of any useful length and skips all others by counting,
    /// without buffering them (RFC 9297 §3.2).
    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        let _ = start;
        capsule::admit_datagrams_only(kind, len)
    }
}

/// What a flow put out during a call, waiting for the engine to take it.
///
/// Engines own one and lend it to every call; plugins never see it.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Datagram payloads, in order, each no longer than the limit of the call.
    pub packets: Vec<Packet>,
    /// Encoded capsules, in order.
    pub capsules: BytesMut,
    /// Datagrams dropped so far because there was no room.
    pub dropped_no_room: u64,
    /// Datagrams dropped so far because they were longer than [`FlowCx::max_len`].
    pub dropped_too_long: u64,
    /// Datagrams dropped so far, in both directions, because they exceeded the identity's rate.
    pub dropped_over_rate: u64,
}

/// How much a flow had put out at some time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    packets: usize,
    capsule_bytes: usize,
}

/// What a [`Flow`] may do during one call.
#[derive(Debug)]
pub struct FlowCx<'a> {
    outbox: &'a mut Outbox,
    waker: &'a Waker,
    room: usize,
    max_len: usize,
}

impl<'a> FlowCx<'a> {
    /// For engines: a context that collects into `outbox`. `room` counts datagrams, `max_len` bytes
    /// of one datagram's payload.
    pub fn new(outbox: &'a mut Outbox, waker: &'a Waker, room: usize, max_len: usize) -> Self {
        Self {
            outbox,
            waker,
            room,
            max_len,
        }
    }

    /// Sends one HTTP Datagram. Beyond [`room`](Self::room), or longer than
    /// [`max_len`](Self::max_len), it is dropped and counted.
    pub fn send(&mut self, packet: Packet) {
        if packet.len() > self.max_len {
            self.outbox.dropped_too_long += 1;
        } else if self.room == 0 {
            self.outbox.dropped_no_room += 1;
        } else {
            self.room -= 1;
            self.outbox.packets.push(packet);
        }
    }

    /// Sends one capsule (RFC 9297 §3.2). Capsules are never dropped: a peer that stops reading
    /// them until 256 KiB wait has its tunnel reset.
    pub fn send_capsule(&mut self, kind: u64, value: &[u8]) {
        capsule::write(kind, value, &mut self.outbox.capsules);
    }

    /// How much was put out so far.
    pub(crate) fn sent(&self) -> Sent {
        Sent {
            packets: self.outbox.packets.len(),
            capsule_bytes: self.outbox.capsules.len(),
        }
    }

    /// The datagrams that were put out after `before`.
    pub(crate) fn packets_since(&self, before: Sent) -> &[Packet] {
        self.outbox.packets.get(before.packets..).unwrap_or(&[])
    }

    /// Bytes of the capsules that were put out after `before`.
    pub(crate) fn capsule_bytes_since(&self, before: Sent) -> usize {
        self.outbox
            .capsules
            .len()
            .saturating_sub(before.capsule_bytes)
    }

    /// Takes back all but the first `count` datagrams that were put out after `before`: they exceed
    /// the rate.
    pub(crate) fn keep_first(&mut self, before: Sent, count: usize) {
        let kept = before.packets + count;
        self.count_over_rate(self.outbox.packets.len().saturating_sub(kept));
        self.outbox.packets.truncate(kept);
    }

    /// Counts datagrams that exceeded the rate and were dropped.
    pub(crate) fn count_over_rate(&mut self, count: usize) {
        self.outbox.dropped_over_rate += count as u64;
    }

    /// How many datagrams this turn still takes.
    pub fn room(&self) -> usize {
        self.room
    }

    /// The longest payload that a datagram carries now, in bytes. Follows the path MTU, and
    /// [`Flow::poll_outbound`] is called when it changes.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// For the `poll_*` functions of whatever the flow waits for: waking it polls the flow again.
    pub fn task(&self) -> Context<'_> {
        Context::from_waker(self.waker)
    }
}
