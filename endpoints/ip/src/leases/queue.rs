//! [`Queue`]: what is still to be written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::pool::ClientKey;

/// The latest change of each address or prefix.
pub(super) type Changes = HashMap<IpNetwork, Change>;

/// The most changes that wait. Only a disk that does not answer lets so many pile up.
const MAX_WAITING: usize = 65_536;

/// The time from one write to the next: each of them waits for the disk.
const PAUSE: Duration = Duration::from_millis(100);

/// The time from a failed write to the next attempt.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It says this from now on.
    Put {
        client: ClientKey,
        /// When it was given back, in seconds since 1970.
        ended: Option<u64>,
    },
    /// It is gone.
    Remove,
}

/// Changes on their way to the file's thread. A later one takes the place of one before it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    changes: Changes,
    is_closed: bool,
    has_written: bool,
}

impl Queue {
    /// Adds a change, without waiting. Beyond the limit it is dropped: the client then gets
    /// another address after a restart.
    pub(super) fn push(&self, network: IpNetwork, change: Change) {
        let mut state = self.lock();
        let is_full = state.changes.len() >= MAX_WAITING;
        match state.changes.entry(network) {
            Entry::Occupied(mut entry) => *entry.get_mut() = change,
            Entry::Vacant(entry) if !is_full => {
                entry.insert(change);
            }
            Entry::Vacant(_) => {}
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Returns changes that could not be written, except where a later one has come.
    pub(super) fn put_back(&self, changes: Changes) {
        let mut state = self.lock();
        for (network, change) in changes {
            state.changes.entry(network).or_insert(change);
        }
    }

    /// Waits until there are changes, and not too soon after the last ones. `None` once it is
    /// closed and nothing is left, or nothing can be done about what is left.
    pub(super) fn take(&self, is_failing: bool) -> Option<Changes> {
        let mut state = self.lock();
        if is_failing && state.is_closed {
            return None;
        }
        if state.has_written {
            let pause = if is_failing {
                PAUSE_AFTER_FAILURE
            } else {
                PAUSE
            };
            let waited = self
                .changed
                .wait_timeout_while(state, pause, |state| !state.is_closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let is_idle = |state: &mut State| state.changes.is_empty() && !state.is_closed;
        let waited = self.changed.wait_while(state, is_idle);
        state = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_written = true;
        let changes = std::mem::take(&mut state.changes);
        (!changes.is_empty()).then_some(changes)
    }

    /// Lets [`take`](Self::take) come to an end.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
