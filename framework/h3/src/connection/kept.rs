//! [`Kept`]: content that quiche keeps, of all connections of the process together.
//!
//! quiche keeps what it has sent on a stream from the first byte that the peer has not acknowledged. A
//! peer that acknowledges everything but one packet, each time that it comes, would have it keep all that
//! the stream ever carries. So a connection is given content only as long as it does not keep more than a
//! fast and long path holds, and less where all keep much (dynamic thresholds, Choudhury and Hahne, 1998).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::ledger::apart;

/// Bytes that all connections keep at most together, beyond the least that each may have.
const MAX_KEPT: usize = 128 << 20;

/// One connection may keep at most what is left, divided by this: 16 MiB where others keep nothing, which
/// is 1.3 Gbit/s at 100 ms.
const SHARE: usize = 8;

/// What each connection may keep in any case, in bytes.
const LEAST: usize = 256 << 10;

/// Content is handed over in pieces of at most so many bytes, each of which is kept as long as any byte of
/// it is.
const PIECE: usize = 64 << 10;

/// Bytes that all connections keep now.
static IN_PROCESS: AtomicUsize = AtomicUsize::new(0);

#[cfg(test)]
thread_local! {
    /// Another limit, for a test.
    pub(crate) static LIMIT: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
    /// The most that a connection has kept.
    pub(crate) static MOST: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What one connection has of them.
#[derive(Debug, Default)]
pub(super) struct Kept(Arc<AtomicUsize>);

impl Kept {
    /// Whether the connection is to be given more content now. What makes room again is an acknowledgment
    /// or a timeout of the same connection: one that keeps nothing always has room.
    pub(super) fn has_room(&self) -> bool {
        self.bytes() < limit(IN_PROCESS.load(Ordering::Relaxed))
    }

    /// Bytes that the connection keeps.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// How much of `content` is handed over at once where there is room for `room` bytes.
    pub(super) fn len_of_piece(content: &Bytes, room: usize) -> usize {
        content.len().min(room).min(PIECE)
    }

    /// The first `len` bytes of `content`, which count as kept until they are dropped.
    pub(super) fn piece(&self, content: &Bytes, len: usize) -> Bytes {
        let bytes = content.slice(..len);
        if len == 0 {
            return bytes;
        }
        let _before = self.0.fetch_add(len, Ordering::Relaxed);
        #[cfg(test)]
        MOST.set(MOST.get().max(_before + len));
        IN_PROCESS.fetch_add(len, Ordering::Relaxed);
        let connection = self.0.clone();
        Bytes::from_owner(Piece { bytes, connection })
    }
}

/// What one connection may keep when all keep `held`.
fn limit(held: usize) -> usize {
    #[cfg(test)]
    if let Some(limit) = LIMIT.get() {
        return limit;
    }
    (MAX_KEPT.saturating_sub(held) / SHARE).max(LEAST)
}

/// Bytes that count as kept.
struct Piece {
    bytes: Bytes,
    connection: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Somebody else has taken that memory.
        let bytes = std::mem::take(&mut self.bytes);
        let len = bytes.len();
        apart(|| drop(bytes));
        self.connection.fetch_sub(len, Ordering::Relaxed);
        IN_PROCESS.fetch_sub(len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_until_the_last_of_a_piece_is_dropped() {
        let kept = Kept::default();
        let count = || kept.bytes();
        let content = Bytes::from(vec![7; PIECE + 1]);
        let mut first = kept.piece(&content, PIECE);
        assert_eq!((first.len(), count()), (PIECE, PIECE));
        let rest = kept.piece(&content.slice(PIECE..), 1);
        assert_eq!((&rest[..], count()), (&[7][..], PIECE + 1));
        let half = first.split_off(PIECE / 2);
        drop(first);
        assert_eq!(count(), PIECE + 1);
        drop(half);
        assert_eq!(count(), 1);
        assert!(kept.piece(&content, 0).is_empty());
        drop((rest, content));
        assert_eq!(count(), 0);
    }

    #[test]
    fn a_connection_has_room_until_it_keeps_its_share() {
        let (kept, other) = (Kept::default(), Kept::default());
        let content = Bytes::from(vec![7; PIECE]);
        let mut pieces = Vec::new();
        while kept.has_room() {
            pieces.push(kept.piece(&content, PIECE));
            assert!(pieces.len() <= MAX_KEPT / SHARE / PIECE);
        }
        // A share of what is left: others may keep something in tests, too.
        assert!(pieces.len() > MAX_KEPT / SHARE / PIECE / 2);
        assert!(other.has_room());
        pieces.pop();
        pieces.pop();
        assert!(kept.has_room());
    }

    #[test]
    fn many_connections_keep_little_each() {
        let mut kept = vec![0; 2000];
        for _ in 0..2 * MAX_KEPT / kept.len() / PIECE + 100 {
            for n in 0..kept.len() {
                if kept[n] < limit(kept.iter().sum()) {
                    kept[n] += PIECE;
                }
            }
        }
        assert!(kept.iter().all(|bytes| *bytes >= LEAST));
        let all: usize = kept.iter().sum();
        assert!(all <= MAX_KEPT + kept.len() * (LEAST + PIECE), "{all}");
    }
}
