//! How many errors a tunnel may cause (RFC 4443 §2.4(f), RFC 1812 §4.3.2.8).

use std::time::{Duration, Instant};

/// Errors within any [`WINDOW`].
const ERRORS: usize = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Admits 10 errors within any second.
///
/// It remembers when it admitted the last ones. A bucket of 10 tokens that fills at 10 a second would
/// be as large, and would let 20 pass within a second once it was full.
#[derive(Clone, Debug, Default)]
pub struct ErrorLimiter {
    /// The oldest first.
    admitted: [Option<Instant>; ERRORS],
}

impl ErrorLimiter {
    /// Whether an error may be sent `now`. If so, it is counted.
    pub fn admit(&mut self, now: Instant) -> bool {
        let [oldest, ..] = &mut self.admitted;
        if oldest.is_some_and(|at| now.saturating_duration_since(at) < WINDOW) {
            return false;
        }
        *oldest = Some(now);
        self.admitted.rotate_left(1);
        true
    }
}
