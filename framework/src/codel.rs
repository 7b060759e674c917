//! [`Codel`]: when a queue in front of a tunnel is to lose a packet (RFC 8289).

use std::time::{Duration, Instant};

/// How long packets may wait. RFC 8289 proposes 5 ms for a router between networks; this queue is at a
/// host, where a single fast connection may keep some 20 ms of its own packets without harm to others,
/// and a loss would only slow it down.
pub const TARGET: Duration = Duration::from_millis(50);

/// For how long they may wait longer: a few round trips, in which a burst drains or a sender slows down.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// Bytes that may always wait: a queue of one packet is not what delays it.
const ALWAYS: usize = 1500;

/// A queue that was good for less than this many intervals goes on with the rate of losses that it had.
const MEMORY: u32 = 16;

/// The state of one queue: CoDel (RFC 8289). It knows no clock, and the queue itself is the caller's.
#[derive(Debug, Default)]
pub struct Codel {
    /// Since when packets have waited too long.
    above_since: Option<Instant>,
    /// When the next packet is lost, while packets are being lost.
    next: Option<Instant>,
    /// When packets were lost last.
    last: Option<Instant>,
    /// How many in a row.
    count: u32,
}

impl Codel {
    /// Whether the packet at the front, which has `waited`, is to be dropped. `left` is how many bytes are
    /// behind it. To be asked about every packet that leaves the queue.
    pub fn drops(&mut self, waited: Duration, left: usize, now: Instant) -> bool {
        if waited < TARGET || left <= ALWAYS {
            (self.above_since, self.next) = (None, None);
            return false;
        }
        let is_due = match self.next {
            Some(due) => now >= due,
            None => now >= *self.above_since.get_or_insert(now) + INTERVAL,
        };
        if !is_due {
            return false;
        }
        let is_recent = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < INTERVAL * MEMORY);
        self.count = match self.next {
            Some(_) => self.count.saturating_add(1),
            None if is_recent => self.count.saturating_sub(2).max(1),
            None => 1,
        };
        self.last = Some(now);
        let due = self.next.unwrap_or(now);
        self.next = Some(due + INTERVAL.div_f64(f64::from(self.count).sqrt()));
        true
    }
}
