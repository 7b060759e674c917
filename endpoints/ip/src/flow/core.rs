//! [`Core`]: what both ends of a tunnel have in common.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use pasque::{BATCH_LEN, Batch, Capsule, Error, FlowCx, Result, StreamError};
use tokio::time::{Instant, Sleep};

use super::{Role, context};
use crate::backlog::Backlog;
use crate::device::{PacketDevice, Reads};
use crate::filter::{Counters, DropReason};
use crate::icmp::ErrorLimiter;
use crate::mtu::PathGuard;
use crate::session::OutCapsule;

/// Packets that one turn reads from the interface at most, before other tunnels have their turn.
const READ_BUDGET: usize = 4 * BATCH_LEN;

/// With room for so many packets at once, the path takes all that it is given, and it is this program that
/// is the slower one. What waits does so in the kernel then: packets that wait here are no longer in the
/// cache when they go. With less room it is the path that is slow, there is time, and all is read that
/// the host has sent, so that what is small can pass what is large.
const AMPLE_ROOM: usize = BATCH_LEN;

/// What both ends have in common.
///
/// What the host sends faster than the tunnel does waits in the [`Backlog`]. The other way nothing is
/// queued, but what the interface refused for the moment, until the next turn.
pub(super) struct Core<R: Role> {
    // Fields are dropped in this order: the interface is to be gone before its addresses are free.
    pub(super) device: Arc<dyn PacketDevice>,
    pub(super) role: R,
    pub(super) guard: PathGuard,
    /// Tells our echo requests from those of the hosts behind us.
    pub(super) echo_id: u16,
    pub(super) errors: ErrorLimiter,
    /// Not told to the role yet.
    pub(super) counters: Counters,
    pub(super) total: Counters,
    /// For the interface: refused by it a moment ago.
    pub(super) unwritten: Batch,
    /// For the interface: ICMP errors about what came from it.
    pub(super) replies: Batch,
    /// From the interface: what one call brings. Kept for its memory.
    pub(super) reads: Reads,
    /// For the peer: what the turn had no room for, judged and without context ID.
    pub(super) backlog: Backlog,
    /// Set once there is a runtime around.
    pub(super) timer: Option<Pin<Box<Sleep>>>,
    /// The limit that the guard saw last.
    pub(super) max_len: usize,
    /// Something else that the guard looks at has changed.
    pub(super) is_guard_due: bool,
    /// Whether what the role knows of the peer has changed since it was reported.
    is_report_due: bool,
    pub(super) has_greeted: bool,
    /// The time of this call, once somebody has wanted to know it.
    pub(super) now: Option<std::time::Instant>,
    /// What the device itself has dropped so far.
    pub(super) refused_by_kernel: u64,
}

impl<R: Role> Core<R> {
    pub(super) fn new(
        role: R,
        device: Arc<dyn PacketDevice>,
        guard: PathGuard,
        echo_id: u16,
    ) -> Self {
        let refused_by_kernel = device.refused();
        Self {
            device,
            role,
            guard,
            echo_id,
            errors: ErrorLimiter::default(),
            counters: Counters::default(),
            total: Counters::default(),
            unwritten: Batch::new(),
            replies: Batch::new(),
            reads: Reads::default(),
            backlog: Backlog::default(),
            timer: None,
            max_len: 0,
            is_guard_due: true,
            is_report_due: false,
            has_greeted: false,
            now: None,
            refused_by_kernel,
        }
    }

    pub(super) fn on_datagrams(&mut self, inbound: &mut Batch, cx: &mut FlowCx<'_>) -> Result<()> {
        context::strip(inbound, &mut self.counters.outward);
        if inbound.is_empty() {
            return Ok(());
        }
        self.report_if_due();
        self.now = None;
        let now = self.now();
        inbound.retain(|packet| self.admit_outward(packet, now, cx));
        self.deliver(inbound, cx)
    }

    pub(super) fn on_capsule(&mut self, capsule: Capsule<'_>, cx: &mut FlowCx<'_>) -> Result<()> {
        let mut answers = Vec::new();
        let has_changed = self.role.on_capsule(capsule, &mut answers)?;
        send_capsules(&answers, cx);
        if has_changed {
            self.is_report_due = true;
            self.is_guard_due = true;
            cx.task().waker().wake_by_ref();
        }
        Ok(())
    }

    /// Makes what the peer's capsules have changed count: once for all that came together, because others are
    /// looked at for it.
    fn report_if_due(&mut self) {
        if std::mem::take(&mut self.is_report_due) {
            self.role.report(&self.guard);
        }
    }

    pub(super) fn poll_outbound(&mut self, cx: &mut FlowCx<'_>) -> Poll<Result<()>> {
        match self.take_turn(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn take_turn(&mut self, cx: &mut FlowCx<'_>) -> Result<()> {
        self.now = None;
        self.report_if_due();
        if !self.has_greeted {
            self.has_greeted = true;
            send_capsules(&self.role.greeting(), cx);
        }
        self.watch_path(cx)?;
        self.retry()?;
        let mut budget = READ_BUDGET;
        let is_ample = cx.room() >= AMPLE_ROOM;
        let mut has_left_some = false;
        loop {
            let has_enough = is_ample && self.backlog.len() >= cx.room();
            if has_enough || self.backlog.is_full() {
                has_left_some = true;
                break;
            }
            if budget == 0 {
                // Others come first; what is left is read in the next turn.
                cx.task().waker().wake_by_ref();
                break;
            }
            self.reads.limit(self.backlog.free() + cx.room());
            match self.device.poll_recv(&mut cx.task(), &mut self.reads) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(self.lose_device(error)),
                Poll::Ready(Ok(())) => {
                    budget = budget.saturating_sub(self.reads.len().max(1));
                    self.take_reads(cx);
                }
            }
        }
        self.send_backlog(cx);
        if has_left_some && cx.room() > 0 {
            // All that was read is gone, and the device was not asked to wake this tunnel for more.
            cx.task().waker().wake_by_ref();
        }
        self.send_replies()
    }

    /// The time, looked up once per call.
    pub(super) fn now(&mut self) -> std::time::Instant {
        *self.now.get_or_insert_with(|| Instant::now().into_std())
    }

    pub(super) fn count(&mut self) {
        self.role.count(&self.counters);
        self.total.add(&self.counters);
        self.counters = Counters::default();
    }

    /// The tunnel's end when its interface is gone.
    #[cold]
    pub(super) fn lose_device(&mut self, error: io::Error) -> Error {
        self.role.on_device_failure(&error);
        Error::internal("the tunnel's interface is gone")
            .with_source(error)
            .with_stream_error(StreamError::Connect)
    }
}

impl<R: Role> Drop for Core<R> {
    fn drop(&mut self) {
        // What was still held has not got through.
        for _ in self.unwritten.drain() {
            self.counters.outward.drop_one(DropReason::Device);
        }
        let waiting = self.backlog.len() as u64;
        self.counters
            .inward
            .drop_many(waiting, DropReason::QueueFull);
        self.count();
        self.role.on_end(&self.total);
    }
}

pub(super) fn send_capsules(capsules: &[OutCapsule], cx: &mut FlowCx<'_>) {
    for capsule in capsules {
        cx.send_capsule(capsule.kind, &capsule.value);
    }
}
