//! [`Guarded`]: a tunnel's flow within the limits of its identity.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use tokio::time::{Instant, Sleep, sleep};

use super::account::Seat;
use super::bucket::Clock;
use super::{Ledger, used_up};
use crate::auth::{Identity, IdentityLimits};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result, StreamError};
use crate::flow::{Flow, FlowCx, Sent};
use crate::packet::{Batch, Packet};
use crate::response::BodyStream;
use crate::wire::capsule::{Admit, Capsule};

/// Why something under way ends.
const NOT_LET_IN: &str = "the identity has expired or was revoked";

/// A flow that ends when its identity is not let in any more or has used up its volume, and that
/// drops what exceeds its rate, in both directions.
pub(super) struct Guarded {
    flow: Box<dyn Flow>,
    identity: Identity,
    meter: Option<Meter>,
    ledger: Arc<Ledger>,
    timer: Timer,
}

impl Guarded {
    pub(super) fn new(
        flow: Box<dyn Flow>,
        identity: Identity,
        meter: Option<Meter>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            flow,
            identity,
            meter,
            ledger,
            timer: Timer::default(),
        }
    }

    /// Ends the tunnel when its time is over.
    fn check(&mut self, cx: &FlowCx<'_>) -> Result<()> {
        match self
            .timer
            .has_ended(&mut cx.task(), &self.identity, &self.ledger)
        {
            // The next request is told so by its answer.
            true => Err(Error::new(StatusCode::UNAUTHORIZED, NOT_LET_IN)
                .with_stream_error(StreamError::RequestCancelled)),
            false => Ok(()),
        }
    }

    /// Counts what the flow has put out during a call, which began at `before`.
    fn after(&mut self, before: Sent, cx: &mut FlowCx<'_>) -> Result<()> {
        match &self.meter {
            Some(meter) => meter.meter_outbound(before, cx),
            None => Ok(()),
        }
    }
}

impl Flow for Guarded {
    fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        self.check(cx)?;
        if let Some(meter) = &self.meter {
            let passed = meter.meter(inbound.as_slice())?;
            cx.count_over_rate(inbound.len() - passed);
            inbound.truncate(passed);
        }
        let before = cx.sent();
        self.flow.on_datagrams(inbound, cx)?;
        self.after(before, cx)
    }

    fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        self.check(cx)?;
        if let Some(meter) = &self.meter {
            meter.charge(capsule.value.len())?;
        }
        let before = cx.sent();
        self.flow.on_capsule(capsule, cx)?;
        self.after(before, cx)
    }

    fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        if let Err(error) = self.check(cx) {
            return Poll::Ready(Err(error));
        }
        let before = cx.sent();
        let polled = self.flow.poll_outbound(cx);
        match self.after(before, cx) {
            Ok(()) => polled,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn on_reload(
        &mut self,
        endpoint: &(dyn Endpoint + 'static),
        cx: &mut FlowCx<'_>,
    ) -> Result<()> {
        let before = cx.sent();
        self.flow.on_reload(endpoint, cx)?;
        self.after(before, cx)
    }

    fn admit_capsule(&self, kind: u64, len: u64, start: &[u8]) -> Admit {
        self.flow.admit_capsule(kind, len, start)
    }
}

/// Content that breaks off when the identity that asked for it is not let in any more.
pub(super) struct GuardedContent {
    content: BodyStream,
    identity: Identity,
    ledger: Arc<Ledger>,
    timer: Timer,
}

impl GuardedContent {
    pub(super) fn new(content: BodyStream, identity: Identity, ledger: Arc<Ledger>) -> Self {
        Self {
            content,
            identity,
            ledger,
            timer: Timer::default(),
        }
    }
}

impl Stream for GuardedContent {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.timer.has_ended(cx, &this.identity, &this.ledger) {
            let error = io::Error::new(io::ErrorKind::PermissionDenied, NOT_LET_IN);
            return Poll::Ready(Some(Err(error)));
        }
        this.content.as_mut().poll_next(cx)
    }
}

/// Counts the bytes of one tunnel in the account of its identity.
#[derive(Debug)]
pub(super) struct Meter {
    seat: Seat,
    limits: IdentityLimits,
    clock: Clock,
}

impl Meter {
    pub(super) fn new(seat: Seat, limits: IdentityLimits, clock: Clock) -> Self {
        Self {
            seat,
            limits,
            clock,
        }
    }

    /// Counts a batch. Returns how many of its packets, from the first on, are within the rate.
    ///
    /// # Errors
    /// The volume is used up.
    fn meter(&self, packets: &[Packet]) -> Result<usize> {
        let lens = packets.iter().map(|packet| packet.len());
        let passed = match self.limits.rate {
            Some(rate) if !packets.is_empty() => {
                let now = self.clock.now();
                self.seat.account.bucket.admit(rate, now, lens.clone())
            }
            _ => packets.len(),
        };
        self.count(lens.take(passed).sum())?;
        Ok(passed)
    }

    /// Counts what cannot be dropped.
    fn charge(&self, len: usize) -> Result<()> {
        if let Some(rate) = self.limits.rate {
            let now = self.clock.now();
            self.seat.account.bucket.charge(rate, now, len);
        }
        self.count(len)
    }

    fn count(&self, len: usize) -> Result<()> {
        match self.limits.volume {
            Some(volume) if len > 0 && self.seat.account.count(len as u64) > volume => {
                Err(used_up())
            }
            _ => Ok(()),
        }
    }

    fn meter_outbound(&self, before: Sent, cx: &mut FlowCx<'_>) -> Result<()> {
        let capsules = cx.capsule_bytes_since(before);
        if capsules > 0 {
            self.charge(capsules)?;
        }
        let passed = self.meter(cx.packets_since(before))?;
        cx.keep_first(before, passed);
        Ok(())
    }
}

/// When the identity is looked at next. Asked for each batch, so asking costs a look at a flag.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Whether `identity`, looked at when the time is up, is not let in any more.
    fn has_ended(&mut self, task: &mut Context<'_>, identity: &Identity, ledger: &Ledger) -> bool {
        let pause = || match identity.expires() {
            Some(expires) => {
                let left = expires.duration_since(SystemTime::now());
                left.unwrap_or_default().min(ledger.check_interval)
            }
            None => ledger.check_interval,
        };
        self.is_due(task, pause) && !ledger.is_valid(identity)
    }

    /// Whether the time is up, which then begins anew and lasts for `pause`. It is up at the first call.
    fn is_due(&mut self, task: &mut Context<'_>, pause: impl Fn() -> Duration) -> bool {
        let is_first = self.sleep.is_none();
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(pause())));
        let wakes = |waker: &Waker| waker.will_wake(task.waker());
        if !sleep.is_elapsed() && self.waker.as_ref().is_some_and(wakes) {
            return false;
        }
        self.waker = Some(task.waker().clone());
        // Between the answer and its first use the client may let any time pass.
        let mut is_due = is_first;
        while sleep.as_mut().poll(task).is_ready() {
            is_due = true;
            // An identity that is over for good is not let in, and the flow not asked again.
            let pause = pause().max(Duration::from_millis(1));
            sleep.as_mut().reset(Instant::now() + pause);
        }
        is_due
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timer")
    }
}
