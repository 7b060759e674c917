//! [`Attempts`]: how often one address may guess.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client_network;

/// Wrong passwords from one address in one [`WINDOW`].
const MAX_FAILURES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that are remembered. One hash after the other is computed, so that no minute has as many
/// failures as this.
const MAX_ADDRESSES: usize = 16 << 10;

/// Wrong passwords of the last minute, by address. A network of IPv6 is one address: its owner has
/// 2⁶⁴ of them.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Window>>);

#[derive(Clone, Copy, Debug)]
struct Window {
    started: Instant,
    /// Failures, and attempts that have not ended yet.
    failures: u32,
}

impl Attempts {
    /// Counts an attempt from `peer` as a failure, before it is looked at: many at once are no more
    /// than many in turn.
    ///
    /// # Errors
    /// How long until there is room for another.
    pub(super) fn begin(&self, peer: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| now.saturating_duration_since(window.started) >= WINDOW;
        if windows.len() >= MAX_ADDRESSES {
            windows.retain(|_, window| !is_over(window));
            if windows.len() >= MAX_ADDRESSES {
                return Err(WINDOW);
            }
        }
        let fresh = Window {
            started: now,
            failures: 0,
        };
        let window = windows.entry(client_network(peer)).or_insert(fresh);
        if is_over(window) {
            *window = fresh;
        }
        if window.failures >= MAX_FAILURES {
            return Err(WINDOW - now.saturating_duration_since(window.started));
        }
        window.failures += 1;
        Ok(())
    }

    /// The attempt was none to guess.
    pub(super) fn forgive(&self, peer: IpAddr) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get_mut(&client_network(peer)) {
            window.failures = window.failures.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_failures_a_minute_and_no_more() {
        let attempts = Attempts::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        for second in 0..10 {
            attempts.begin(peer, at(second)).unwrap();
        }
        assert_eq!(attempts.begin(peer, at(20)), Err(Duration::from_secs(40)));
        // Somebody else is not concerned; nor is the same one in the next minute.
        attempts
            .begin("192.0.2.2".parse().unwrap(), at(20))
            .unwrap();
        let wait = attempts.begin("::ffff:192.0.2.1".parse().unwrap(), at(59));
        assert_eq!(wait, Err(Duration::from_secs(1)));
        attempts.begin(peer, at(60)).unwrap();
    }

    #[test]
    fn a_success_is_no_failure() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let peer: IpAddr = "2001:db8::1".parse().unwrap();
        for _ in 0..100 {
            attempts.begin(peer, now).unwrap();
            attempts.forgive(peer);
        }
        // The whole network counts as one address.
        for host in 0..10 {
            let other = format!("2001:db8::{host}").parse().unwrap();
            attempts.begin(other, now).unwrap();
        }
        assert!(attempts.begin(peer, now).is_err());
        attempts
            .begin("2001:db8:0:1::1".parse().unwrap(), now)
            .unwrap();
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let peer = |index: usize| IpAddr::from(u32::try_from(index).unwrap().to_be_bytes());
        for index in 0..MAX_ADDRESSES {
            attempts.begin(peer(index), now).unwrap();
        }
        assert_eq!(attempts.begin(peer(MAX_ADDRESSES), now), Err(WINDOW));
        attempts.begin(peer(MAX_ADDRESSES), now + WINDOW).unwrap();
        assert_eq!(attempts.0.lock().unwrap().len(), 1);
    }
}
