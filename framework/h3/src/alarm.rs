//! [`Alarm`]: the one timer that a worker sleeps on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::time::{Sleep, sleep_until};

/// A timer that is set again only when it would ring too late.
///
/// With every packet the deadlines of its connection move, nearly always to a later time. Setting a
/// timer of the runtime costs a lock, and two system calls if it is the next one to ring; one that rings
/// early costs a turn that finds nothing to do.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    /// Set once there is a runtime around.
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it rings, if it is set.
    at: Option<Instant>,
}

impl Alarm {
    /// Completes at `due`, or once before it; never if `due` is `None`.
    pub(crate) async fn ring(&mut self, due: Option<Instant>) {
        match due {
            Some(due) => poll_fn(|cx| self.poll(due, cx)).await,
            None => std::future::pending().await,
        }
    }

    fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(due.into())));
        if self.at.is_none_or(|at| due < at) {
            sleep.as_mut().reset(due.into());
            self.at = Some(due);
        }
        ready!(sleep.as_mut().poll(cx));
        self.at = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_due_or_once_before_and_never_late() {
        let start = tokio::time::Instant::now();
        let after = |ms| Some((start + Duration::from_millis(ms)).into_std());
        let mut alarm = Alarm::default();
        assert!(alarm.ring(None).now_or_never().is_none());
        assert!(alarm.ring(after(50)).now_or_never().is_none());
        // A later time leaves it as it is, an earlier one does not.
        assert!(alarm.ring(after(90)).now_or_never().is_none());
        assert!(alarm.ring(after(20)).now_or_never().is_none());
        alarm.ring(after(90)).await;
        assert_eq!(start.elapsed().as_millis(), 20);
        alarm.ring(after(90)).await;
        assert_eq!(start.elapsed().as_millis(), 90);
    }
}
