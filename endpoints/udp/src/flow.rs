//! [`UdpFlow`]: the data path of one tunnel at the server.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use pasque::{Admit, BATCH_LEN, Batch, Endpoint, Error, Flow, FlowCx, Packet, Result, StreamError};
use tokio::time::Instant;
use tracing::debug;

use crate::candidates::Candidates;
use crate::context;
use crate::counters::Counters;
use crate::endpoint::UdpEndpoint;
use crate::failure::Failure;
use crate::icmp::TooLong;
use crate::idle::IdleTimer;
use crate::inbox::{Inbox, MAX_MESSAGES};
use crate::queue::Queue;
use crate::raw::IcmpSink;
use crate::report::Reporter;
use crate::transmit::send_batch;

/// How long the interface may be down before the socket counts as unusable.
const LINK_PATIENCE: Duration = Duration::from_secs(30);

/// With less room than this the path is the slower one, and all is read that the target has sent.
const AMPLE_ROOM: usize = BATCH_LEN;

/// Reads that may fail in a row, each for another reason than the network, before the socket counts as
/// unusable: it would be read for ever.
const MAX_FAILED_READS: u32 = 100;

/// One tunnel at the server: a socket connected to the target.
///
/// Where the path takes all that there is, what the target sends faster than this program can is left in
/// the kernel's buffer. Where the path is the slower one, it waits in a queue of this flow, which knows
/// better what to lose.
pub struct UdpFlow {
    target: Candidates,
    idle: IdleTimer,
    counters: Counters,
    /// Who tells the target of what is too long, if anyone does.
    reporter: Option<Reporter>,
    /// Payloads that there was no room for.
    waiting: Queue,
    /// Datagrams in the longest message of the last read: more than one where the kernel coalesces what
    /// arrives.
    message_len: usize,
    /// Since when every datagram has failed because the interface is down.
    link_down_since: Option<Instant>,
    /// Reads in a row that failed for no reason of the network.
    failed_reads: u32,
}

impl UdpFlow {
    /// A tunnel to `target` that ends after `idle_timeout` without a datagram in either direction.
    ///
    /// Needs the tokio runtime, with its timer, that polls the flow later.
    pub fn new(target: Candidates, idle_timeout: Duration) -> Self {
        Self {
            target,
            idle: IdleTimer::new(idle_timeout),
            counters: Counters::default(),
            reporter: None,
            waiting: Queue::default(),
            message_len: 1,
            link_down_since: None,
            failed_reads: 0,
        }
    }

    /// The same tunnel, whose target is told by `sink` when what it sends is too long.
    #[must_use]
    pub(crate) fn with_reports(mut self, sink: Arc<dyn IcmpSink>) -> Self {
        self.reporter = Some(Reporter::new(sink));
        self
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Reads once, and sends what there is room for. Returns how much work that was, in datagrams.
    fn receive(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<usize>> {
        Inbox::lend(|inbox| {
            // Messages are likely to be like the last ones.
            let limit = (cx.room() / self.message_len).clamp(1, MAX_MESSAGES);
            let read = self.target.socket().poll_recv(&mut cx.task(), inbox, limit);
            match read {
                Poll::Pending => {
                    self.failed_reads = 0;
                    Poll::Pending
                }
                Poll::Ready(Ok(())) => {
                    self.failed_reads = 0;
                    Poll::Ready(Ok(self.take(inbox, cx)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(self.survive(error).map(|()| 1)),
            }
        })
    }

    fn take(&mut self, inbox: &Inbox, cx: &mut FlowCx<'_>) -> usize {
        let target = self.target.address();
        let (mut received, mut foreign) = (0, 0);
        let mut now = None;
        self.message_len = 1;
        for message in inbox.messages() {
            self.message_len = self.message_len.max(message.datagrams().count());
            // What others sent to the port before the socket was connected.
            if (message.from.ip(), message.from.port()) != (target.ip(), target.port()) {
                foreign += message.datagrams().count();
                continue;
            }
            for payload in message.datagrams() {
                received += 1;
                if payload.len() + context::UDP_PAYLOAD_PREFIX.len() > cx.max_len() {
                    self.drop_too_long(payload, cx);
                } else if cx.room() > 0 && self.waiting.is_empty() {
                    send(Packet::copy_from(payload), cx);
                } else {
                    let now = *now.get_or_insert_with(|| Instant::now().into_std());
                    self.waiting.push(Packet::copy_from(payload), now);
                }
            }
        }
        self.counters.received += received as u64;
        self.counters.foreign += foreign as u64;
        if received > 0 {
            self.target.keep();
            self.idle.touch(Instant::now());
        }
        received + foreign
    }

    /// Sends what there was no room for.
    fn send_waiting(&mut self, cx: &mut FlowCx<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now().into_std();
        while cx.room() > 0
            && let Some(packet) = self.waiting.pop(now)
        {
            // The limit may have shrunk since the packet was read.
            if packet.len() + context::UDP_PAYLOAD_PREFIX.len() > cx.max_len() {
                self.drop_too_long(&packet, cx);
            } else {
                send(packet, cx);
            }
        }
        self.counters.queue_dropped += self.waiting.take_dropped();
    }

    /// Counts a payload that no datagram carries, and tells the target if it may be told.
    fn drop_too_long(&mut self, payload: &[u8], cx: &FlowCx<'_>) {
        self.counters.too_long_inward += 1;
        let Some(reporter) = &mut self.reporter else {
            return;
        };
        let target = &self.target;
        let prefix_len = context::UDP_PAYLOAD_PREFIX.len();
        let is_told = reporter.report(|| {
            Some(TooLong {
                from: target.address(),
                to: target.socket().local_addr().ok()?,
                payload,
                max_payload_len: cx.max_len().saturating_sub(prefix_len),
            })
        });
        self.counters.too_long_reported += u64::from(is_told);
    }

    /// Counts an error of a read.
    fn survive(&mut self, error: io::Error) -> Result<()> {
        match Failure::of(&error) {
            Failure::Unusable => return Err(unusable(error)),
            Failure::Unreachable => {
                self.counters.unreachable += 1;
                self.target.give_up(&mut self.counters);
            }
            _ => {
                self.counters.failed += 1;
                self.failed_reads += 1;
                if self.failed_reads >= MAX_FAILED_READS {
                    return Err(unusable(error));
                }
            }
        }
        Ok(())
    }

    /// Ends the tunnel when the interface stays down.
    fn check_link(&mut self, before: &Counters, now: Instant) -> Result<()> {
        if self.counters.sent > before.sent {
            self.link_down_since = None;
        } else if self.counters.link_down > before.link_down {
            let since = *self.link_down_since.get_or_insert(now);
            if now - since >= LINK_PATIENCE {
                return Err(unusable(io::ErrorKind::NetworkDown.into()));
            }
        }
        Ok(())
    }
}

impl Flow for UdpFlow {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        context::strip(inbound, &mut self.counters)?;
        if inbound.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let before = self.counters;
        self.idle.touch(now);
        send_batch(inbound.as_slice(), &mut self.target, &mut self.counters).map_err(unusable)?;
        if self.counters.switched > before.switched {
            // The new socket knows no waker yet.
            cx.task().waker().wake_by_ref();
        }
        self.check_link(&before, now)
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if self.idle.poll(&mut cx.task()).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.send_waiting(cx);
        let reads_ahead = cx.room() < AMPLE_ROOM;
        let mut budget = BATCH_LEN;
        while cx.room() > 0 || (reads_ahead && Queue::reads_ahead()) {
            if budget == 0 {
                // Others come first; what is left is read in the next turn.
                cx.task().waker().wake_by_ref();
                break;
            }
            match self.receive(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(work)) => budget = budget.saturating_sub(work.max(1)),
            }
        }
        self.send_waiting(cx);
        Poll::Pending
    }

    /// The tunnel goes on if its target is still allowed.
    fn on_reload(
        &mut self,
        endpoint: &(dyn Endpoint + 'static),
        cx: &mut FlowCx<'_>,
    ) -> Result<()> {
        let Some(endpoint) = endpoint.downcast_ref::<UdpEndpoint>() else {
            return Err(Error::internal("no UDP endpoint"));
        };
        let terms = endpoint.terms()?;
        terms.policy.check(self.target.address())?;
        self.target
            .retain(|address| terms.policy.check(address).is_ok());
        self.idle.set_limit(terms.idle_timeout);
        // The timer is armed when it is polled.
        cx.task().waker().wake_by_ref();
        Ok(())
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        context::admit(kind, len, start, || self.target.socket().link_len())
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        debug!(target = %self.target.address(), counters = ?self.counters, "UDP tunnel ended");
    }
}

impl fmt::Debug for UdpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpFlow(to {})", self.target.address())
    }
}

fn send(mut packet: Packet, cx: &mut FlowCx<'_>) {
    context::add(&mut packet);
    cx.send(packet);
}

/// The tunnel's end when its socket is gone (RFC 9298 §3.1).
fn unusable(error: io::Error) -> Error {
    Error::from(error).with_stream_error(StreamError::Connect)
}
