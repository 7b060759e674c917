//! What one identity has used, over all its connections and on all workers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::bucket::Bucket;

/// Accounts from which on those are looked for that nobody needs any more.
const MANY: usize = 1024;

/// The accounts of all identities that have limits, by name.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    by_name: Mutex<HashMap<String, Arc<Account>>>,
}

impl Accounts {
    /// The account of `name`.
    pub(super) fn of(&self, name: &str) -> Arc<Account> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = by_name.get(name) {
            return account.clone();
        }
        // A power of two, so that looking costs little however many there are.
        if by_name.len() >= MANY && by_name.len().is_power_of_two() {
            by_name.retain(|_, account| Arc::strong_count(account) > 1 || account.used() > 0);
        }
        by_name.entry(name.to_owned()).or_default().clone()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_name.lock().unwrap().len()
    }
}

/// What one identity has used. What it may use comes with each of its requests.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) bucket: Bucket,
    /// Bytes, counted as long as the volume is limited.
    used: AtomicU64,
    /// Tunnels open now.
    tunnels: AtomicUsize,
}

impl Account {
    /// Bytes used of the volume.
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Counts bytes towards the volume. Returns how many there are now.
    pub(super) fn count(&self, len: u64) -> u64 {
        self.used.fetch_add(len, Ordering::Relaxed) + len
    }
}

/// One tunnel's place in an account; free again when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) account: Arc<Account>,
}

impl Seat {
    /// One more tunnel, unless there are `limit` already.
    pub(super) fn take(account: Arc<Account>, limit: Option<usize>) -> Option<Self> {
        let add = |open: usize| {
            let is_free = limit.is_none_or(|limit| open < limit);
            is_free.then_some(open + 1)
        };
        let taken = account
            .tunnels
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        // Made only when it was taken: dropping one gives a place back.
        taken.is_ok().then(|| Self { account })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.account.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}
