//! A rate that many flows share without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What may come at once after a pause: this much time's worth.
const BURST: Duration = Duration::from_millis(100);

/// And at least so many bytes: what one read of a socket brings, also at a low rate.
const MIN_BURST_LEN: u64 = 96 << 10;

/// A token bucket, kept as the time at which it will be full again (the generic cell rate
/// algorithm): one number, and so one atomic operation for each batch.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// Nanoseconds on the [`Clock`].
    full_at: AtomicU64,
}

impl Bucket {
    /// How many of the packets with these lengths, from the first on, pass at `rate` bits per second.
    /// A packet passes when there is anything left: it may overdraw what there is, and the next ones
    /// wait for that.
    pub(super) fn admit(
        &self,
        rate: u64,
        now: Duration,
        lens: impl Iterator<Item = usize> + Clone,
    ) -> usize {
        let now = nanoseconds(now);
        let burst = nanoseconds(BURST).max(cost(MIN_BURST_LEN, rate));
        let limit = now.saturating_add(burst);
        let mut passed = 0;
        let take = |full_at: u64| {
            let start = full_at.max(now);
            let mut bytes = 0;
            passed = 0;
            for len in lens.clone() {
                if start.saturating_add(cost(bytes, rate)) >= limit {
                    break;
                }
                bytes += len as u64;
                passed += 1;
            }
            Some(start.saturating_add(cost(bytes, rate)))
        };
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        passed
    }

    /// Takes what cannot be dropped: `len` bytes, for which later packets wait.
    pub(super) fn charge(&self, rate: u64, now: Duration, len: usize) {
        let now = nanoseconds(now);
        let take = |full_at: u64| Some(full_at.max(now).saturating_add(cost(len as u64, rate)));
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }
}

/// Nanoseconds that `len` bytes take at `rate` bits per second.
fn cost(len: u64, rate: u64) -> u64 {
    let bits = u128::from(len) * 8 * 1_000_000_000;
    u64::try_from(bits / u128::from(rate.max(1))).unwrap_or(u64::MAX)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time since some moment in the past.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    Real(Instant),
    /// A test's, in nanoseconds.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests turn it"))]
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub(super) fn start() -> Self {
        Self::Real(Instant::now())
    }

    pub(super) fn now(&self) -> Duration {
        match self {
            Self::Real(start) => start.elapsed(),
            Self::Manual(nanoseconds) => Duration::from_nanos(nanoseconds.load(Ordering::Relaxed)),
        }
    }
}
