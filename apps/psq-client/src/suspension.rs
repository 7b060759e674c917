//! Noticing that this machine was suspended, or this program stopped.
//!
//! The clock that timers follow stands still while a machine is suspended, and what came before is read
//! after it as if it had just come. So nothing else here notices: a connection that the server has long
//! given up would be held for alive until a sign of life fails to come.

use std::future::Future;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use tokio::time::sleep;

/// How often the clock is looked at: what a suspension costs beyond itself.
const INTERVAL: Duration = Duration::from_secs(2);

/// After so long, the server would have been given up by a machine that was awake.
const LONG: Duration = Duration::from_secs(8);

/// Waits for the end of a suspension after which no connection is worth keeping, and says how long it
/// was.
pub(crate) async fn ended() -> Duration {
    watch(since_boot, || sleep(INTERVAL)).await
}

/// The same with a clock that does not stand still, and a pause that is [`INTERVAL`] long for whoever is
/// awake.
async fn watch<F: Future<Output = ()>>(
    clock: impl Fn() -> Duration,
    pause: impl Fn() -> F,
) -> Duration {
    let mut before = clock();
    loop {
        pause().await;
        let now = clock();
        let late = now.saturating_sub(before).saturating_sub(INTERVAL);
        if late >= LONG {
            return late;
        }
        before = now;
    }
}

/// The time since this machine was started, with all that it was suspended for.
fn since_boot() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (tv_sec.try_into(), tv_nsec.try_into());
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_pause_that_was_much_too_long_ends_the_wait() {
        let seconds = Duration::from_secs;
        // Awake, a nap, awake, and then a night.
        let readings = [100, 102, 111, 113, 122, 124, 30_000];
        let readings = RefCell::new(VecDeque::from(readings.map(seconds)));
        let clock = || readings.borrow_mut().pop_front().expect("it was noticed");
        let slept = watch(clock, || ready(())).await;
        assert_eq!(slept, seconds(30_000 - 124 - 2));
        assert!(readings.borrow().is_empty());
    }

    #[test]
    fn the_clock_goes_on() {
        let before = since_boot();
        let after = since_boot();
        assert!(before > Duration::ZERO && after >= before);
        assert!(after - before < LONG);
    }
}
