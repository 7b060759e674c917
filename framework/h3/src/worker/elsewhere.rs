//! [`Elsewhere`]: connections that began at this worker and were given to another.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::cid::Cid;

/// The IDs that clients chose themselves and use until they know ours: they name no worker.
///
/// Kept for the time of a handshake; there are no more than connections began in that time.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    workers: HashMap<Cid, u8>,
    /// When each was noted, the oldest first.
    noted: VecDeque<(Instant, Cid)>,
}

impl Elsewhere {
    /// The worker that has the connection of `id`.
    pub(super) fn get(&self, id: &Cid) -> Option<u8> {
        self.workers.get(id).copied()
    }

    /// Notes where the connection of `id` is from now on, and forgets what is older than `kept`.
    pub(super) fn insert(&mut self, id: Cid, worker: u8, now: Instant, kept: Duration) {
        while let Some((noted, old)) = self.noted.front()
            && now.saturating_duration_since(*noted) > kept
        {
            self.workers.remove(old);
            self.noted.pop_front();
        }
        if self.workers.insert(id, worker).is_none() {
            self.noted.push_back((now, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_for_the_time_of_a_handshake() {
        let mut elsewhere = Elsewhere::default();
        let (start, kept) = (Instant::now(), Duration::from_secs(10));
        let ids: Vec<Cid> = (0..40).map(|_| Cid::random(0)).collect();
        for (second, id) in ids.iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            elsewhere.insert(*id, second as u8, now, kept);
            // Twice is once.
            elsewhere.insert(*id, second as u8, now, kept);
        }
        assert_eq!(elsewhere.get(&ids[39]), Some(39));
        assert_eq!(elsewhere.get(&ids[29]), Some(29));
        assert_eq!(elsewhere.get(&ids[28]), None);
        assert_eq!((elsewhere.workers.len(), elsewhere.noted.len()), (11, 11));
    }
}
