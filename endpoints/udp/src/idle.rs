//! The end of a tunnel that nobody uses.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Fires once nothing has been seen for a while.
///
/// The timer is not moved with every batch: it fires when it was armed for, looks at when something
/// was seen last, and arms itself anew if that is not long enough ago.
#[derive(Debug)]
pub(crate) struct IdleTimer {
    limit: Duration,
    last_seen: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl IdleTimer {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            last_seen: Instant::now(),
            sleep: Box::pin(sleep(limit)),
        }
    }

    /// Something was seen at `now`.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.last_seen = now;
    }

    /// Another limit from here on.
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
        // A later time is found when this one has come.
        let deadline = self.last_seen + limit;
        if deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.sleep.as_mut().poll(cx).is_ready() {
            let deadline = self.last_seen + self.limit;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
