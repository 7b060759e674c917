//! How long to wait before another connection is tried.

use std::time::Duration;

/// The longest wait before the first attempt: a server that has just been started again meets its
/// clients one after the other.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait before any attempt.
const LONGEST: Duration = Duration::from_secs(30);

/// A connection that held for so long was none of a series of failures.
pub(crate) const STEADY: Duration = Duration::from_secs(5);

/// Waits that become longer, without an end, and are the same for no two clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The wait before the next attempt. `random` is anywhere from 0 to 1.
    ///
    /// The first is any time up to [`FIRST`], the next ones are at least half and at most all of 1 s,
    /// 2 s, 4 s and so on up to [`LONGEST`].
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        match attempt.checked_sub(1) {
            None => FIRST.mul_f64(random),
            Some(doublings) => {
                // 2⁵ s are more than the longest.
                let longest = LONGEST.min(FIRST * (1 << doublings.min(5)));
                longest.mul_f64(0.5 + random / 2.0)
            }
        }
    }

    /// Begins again.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn waits(random: f64) -> Vec<f64> {
        let mut backoff = Backoff::default();
        let waits = (0..9).map(|_| backoff.next(random).as_secs_f64());
        waits.collect()
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        assert_eq!(waits(0.0), [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]);
        assert_eq!(
            waits(1.0),
            [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
        );
        assert_eq!(waits(0.5)[..3], [0.5, 0.75, 1.5]);
    }

    #[test]
    fn they_never_end_and_begin_again_when_told() {
        let mut backoff = Backoff { attempts: u32::MAX };
        assert_eq!(backoff.next(1.0), LONGEST);
        assert_eq!(backoff.next(1.0), LONGEST);
        backoff.reset();
        assert_eq!(backoff.next(0.25), Duration::from_millis(250));
    }

    #[test]
    fn a_thousand_clients_do_not_come_at_the_same_time() {
        // Lost at the same moment, and the server away for minutes: how many tries fall into each second.
        let mut random = StdRng::seed_from_u64(1);
        let mut tries = vec![0; 400];
        for _ in 0..1000 {
            let mut backoff = Backoff::default();
            let mut clock = Duration::ZERO;
            while clock.as_secs() < 399 {
                clock += backoff.next(random.random());
                tries[(clock.as_secs() as usize).min(399)] += 1;
            }
        }
        // 1000 clients in 15 to 30 seconds each, which are 44 in a second.
        let peak = tries[60..399].iter().max().unwrap();
        assert!(*peak < 100, "{peak} in one second");
    }
}
