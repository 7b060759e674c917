//! [`Reporter`]: tells a target that what it sends is too long.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::icmp::TooLong;
use crate::raw::IcmpSink;

/// How many messages may leave at once, as RFC 4443 §2.4 (f) suggests for a small device: a target that
/// listens needs one, and the others are for those that are lost.
const BURST: u32 = 10;
/// The time from one message to the next once a burst is used up: ten a second, from the same place.
const INTERVAL: Duration = Duration::from_millis(100);

/// Sends the messages of one tunnel, at a bounded rate.
#[derive(Debug)]
pub(crate) struct Reporter {
    sink: Arc<dyn IcmpSink>,
    limit: RateLimit,
}

impl Reporter {
    pub(crate) fn new(sink: Arc<dyn IcmpSink>) -> Self {
        Self {
            sink,
            limit: RateLimit::new(Instant::now()),
        }
    }

    /// Tells the sender of a datagram, and returns whether it did. `too_long` is asked only if the rate
    /// allows a message.
    pub(crate) fn report<'a>(&mut self, too_long: impl FnOnce() -> Option<TooLong<'a>>) -> bool {
        if !self.limit.take(Instant::now()) {
            return false;
        }
        let Some(too_long) = too_long() else {
            return false;
        };
        let message = too_long.message();
        message.is_some_and(|message| self.sink.send(too_long.from, &message).is_ok())
    }
}

/// A bucket of [`BURST`] tokens to which one comes back every [`INTERVAL`].
#[derive(Debug)]
struct RateLimit {
    /// When the bucket is full again: says how many tokens are missing, without a count to keep.
    full_at: Instant,
}

impl RateLimit {
    fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes a token, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + INTERVAL;
        let is_allowed = full_at <= now + INTERVAL * BURST;
        if is_allowed {
            self.full_at = full_at;
        }
        is_allowed
    }
}
