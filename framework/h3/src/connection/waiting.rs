//! [`Waiting`]: how many datagrams wait in quiche, of all connections of a worker together.
//!
//! What waits for a path that carries little is memory, and a thousand such paths are a lot of it: the more
//! waits, the less each connection may add (dynamic thresholds, Choudhury and Hahne, 1998).

use std::cell::Cell;

use crate::settings::MIN_DATAGRAM_WATERMARK;

/// Datagrams that wait on one thread, 16 MiB in their buffers, beyond the least that each connection may have.
const MAX_ON_THREAD: usize = 8192;

/// One connection may have at most what is left, divided by this.
const SHARE: usize = 8;

thread_local! {
    static ON_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// What one connection has of them.
#[derive(Debug, Default)]
pub(super) struct Waiting(usize);

impl Waiting {
    /// So many are left, now that was sent what could be.
    pub(super) fn set(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.0, count);
        if before != count {
            // The end of a thread changes nothing.
            let _ = ON_THREAD.try_with(|all| all.set((all.get() + count).saturating_sub(before)));
        }
    }

    /// How many may wait in a connection that would have `most` of them where others have few.
    pub(super) fn limit(most: usize) -> usize {
        let left = MAX_ON_THREAD.saturating_sub(ON_THREAD.get());
        // A share of what is left, so that the first that fall silent do not take it all from the rest.
        (left / SHARE).clamp(MIN_DATAGRAM_WATERMARK, most.max(MIN_DATAGRAM_WATERMARK))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{DATAGRAM_SEND_QUEUE, DATAGRAM_WATERMARK};

    #[test]
    fn many_connections_that_cannot_send_have_the_least_each() {
        let limit = || Waiting::limit(DATAGRAM_WATERMARK);
        let mut connections: Vec<_> = (0..1000).map(|_| Waiting::default()).collect();
        assert_eq!(Waiting::limit(DATAGRAM_SEND_QUEUE), DATAGRAM_SEND_QUEUE);
        for (n, connection) in connections.iter_mut().enumerate() {
            if n == 60 {
                // A few that are silent do not slow the others down.
                assert!(limit() > DATAGRAM_WATERMARK / 2);
            }
            connection.set(limit());
        }
        let all: usize = connections.iter().map(|connection| connection.0).sum();
        assert_eq!(connections[0].0, DATAGRAM_WATERMARK);
        assert_eq!(connections[999].0, MIN_DATAGRAM_WATERMARK);
        assert!(
            all <= MAX_ON_THREAD + 1000 * MIN_DATAGRAM_WATERMARK,
            "{all}"
        );
        // A slow path has no more because others have little.
        assert_eq!(
            Waiting::limit(MIN_DATAGRAM_WATERMARK),
            MIN_DATAGRAM_WATERMARK
        );
        // Other workers are not concerned.
        let elsewhere = std::thread::spawn(|| Waiting::limit(DATAGRAM_WATERMARK));
        assert_eq!(elsewhere.join().unwrap(), DATAGRAM_WATERMARK);
        drop(connections);
        assert_eq!(limit(), DATAGRAM_WATERMARK);
    }
}
