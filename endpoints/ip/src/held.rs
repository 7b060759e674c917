//! [`Held`]: what all queues of this process hold together.
//!
//! A queue has as much room as its own bounds say while few hold much, and the less the more others hold:
//! it may hold as much as is left for all (dynamic thresholds, Choudhury and Hahne, 1998). A few downloads
//! get long queues, a thousand clients that take nothing get short ones, and something is left for whoever
//! comes next.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of memory that all queues hold at most together, beyond what each may have in any case.
const MAX_HELD: usize = 64 << 20;

/// The queues of this process.
static PROCESS: Account = Account::new();

/// Bytes of memory in some queues, as these last said.
#[derive(Debug)]
pub(crate) struct Account(AtomicUsize);

impl Account {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }
}

/// What one queue holds, in bytes of memory.
#[derive(Debug)]
pub(crate) struct Held {
    account: &'static Account,
    bytes: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self::of(&PROCESS)
    }
}

impl Held {
    pub(crate) const fn of(account: &'static Account) -> Self {
        Self { account, bytes: 0 }
    }

    /// Tells the other queues that this one holds so many bytes now. Once per turn is enough: they may be
    /// on other threads.
    pub(crate) fn set(&mut self, bytes: usize) {
        if self.bytes != bytes {
            let more = bytes.wrapping_sub(self.bytes);
            self.account.0.fetch_add(more, Ordering::Relaxed);
            self.bytes = bytes;
        }
    }

    /// Bytes that one queue may hold now: `least` even if all others hold much.
    pub(crate) fn share(&self, least: usize) -> usize {
        let held = self.account.0.load(Ordering::Relaxed);
        MAX_HELD.saturating_sub(held).max(least)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a queue takes at a time, and what it may have in any case.
    const BATCH: usize = 8 << 10;
    const LEAST: usize = 4 * BATCH;

    /// Lets queues take what they may, in turn, until none may take more. Returns what each has.
    fn fill(queues: &mut [Held]) -> Vec<usize> {
        let mut has_grown = true;
        while std::mem::take(&mut has_grown) {
            for queue in &mut *queues {
                if queue.bytes < queue.share(LEAST) {
                    queue.set(queue.bytes + BATCH);
                    has_grown = true;
                }
            }
        }
        queues.iter().map(|queue| queue.bytes).collect()
    }

    #[test]
    fn few_queues_may_be_long_and_many_are_short() {
        static ACCOUNT: Account = Account::new();
        let mut queues: Vec<_> = (0..2000).map(|_| Held::of(&ACCOUNT)).collect();
        let few = fill(&mut queues[..3]);
        assert!(few.iter().all(|bytes| *bytes >= MAX_HELD / 4), "{few:?}");
        // There is nearly as much again for the next one.
        assert!(queues[3].share(LEAST) >= MAX_HELD / 5);
        let many = fill(&mut queues[3..]);
        let all: usize = few.iter().chain(&many).sum();
        assert!(all <= MAX_HELD + queues.len() * LEAST, "{all}");
        let (least, most) = (many.iter().min().unwrap(), many.iter().max().unwrap());
        assert!(*least >= LEAST && most - least <= 2 * BATCH);
        drop(queues);
        assert_eq!(Held::of(&ACCOUNT).share(0), MAX_HELD);
    }
}
