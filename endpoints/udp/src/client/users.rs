//! The users of a forward, by source address.

use std::collections::HashMap;
use std::collections::hash_map;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::event::ForwardEvent;
use super::session::{self, Outcome, Tunnels};
use super::user::User;
use crate::failure::Failure;
use crate::inbox::{Inbox, MAX_MESSAGES, Message};

/// Socket reads in a row before others on the same thread have their turn.
const READS_PER_POLL: usize = 16;

/// How long a user waits after the first refusal; doubled with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// The longest a user waits after a refusal.
const LAST_BACK_OFF: Duration = Duration::from_secs(60);

/// What is known about a source address.
#[derive(Debug)]
enum Entry {
    /// It has a tunnel, or one is being opened.
    Active {
        user: Arc<User>,
        /// The wait before this attempt, if it is not the first.
        back_off: Option<Duration>,
    },
    /// The last attempt failed. Datagrams are dropped for a while.
    Refused { until: Instant, back_off: Duration },
}

/// All users of a forward, and the tasks that open their tunnels.
#[derive(Debug)]
pub(super) struct Users {
    tunnels: Arc<Tunnels>,
    entries: HashMap<SocketAddr, Entry>,
    sessions: JoinSet<(SocketAddr, Outcome)>,
    is_full: bool,
}

impl Users {
    pub(super) fn new(tunnels: Arc<Tunnels>) -> Self {
        Self {
            tunnels,
            entries: HashMap::new(),
            sessions: JoinSet::new(),
            is_full: false,
        }
    }

    /// Moves what users sent to their rings. Ready with the error of an unusable socket.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while let Poll::Ready(Some(session)) = self.sessions.poll_join_next(cx) {
            if let Ok((address, outcome)) = session {
                self.settle(address, outcome);
            }
        }
        for _ in 0..READS_PER_POLL {
            let read = Inbox::lend(|inbox| {
                let read = self.tunnels.socket.poll_recv(cx, inbox, MAX_MESSAGES);
                if let Poll::Ready(Ok(())) = read {
                    inbox.messages().for_each(|message| self.take(&message));
                }
                read
            });
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if Failure::of(&error) == Failure::Unusable => {
                    return Poll::Ready(error);
                }
                // Any other error is about some datagram, perhaps one that was sent long ago.
                Poll::Ready(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, message: &Message<'_>) {
        let back_off = match self.entries.get(&message.from) {
            Some(Entry::Active { user, .. }) if user.push(message.datagrams()) => return,
            // Its tunnel ends in this moment.
            Some(Entry::Active { .. }) => None,
            Some(Entry::Refused { until, .. }) if Instant::now() < *until => return,
            Some(Entry::Refused { back_off, .. }) => Some(*back_off),
            None => None,
        };
        if !self.entries.contains_key(&message.from) && !self.has_place(message.from) {
            return;
        }
        let user = Arc::new(User::new(message.from, message.to));
        user.push(message.datagrams());
        let session = session::run(user.clone(), self.tunnels.clone(), back_off.is_none());
        self.sessions.spawn(session);
        let entry = Entry::Active { user, back_off };
        self.entries.insert(message.from, entry);
    }

    /// Whether one more user may come. Those whose wait after a refusal is over make place.
    fn has_place(&mut self, user: SocketAddr) -> bool {
        let limit = self.tunnels.limits.users;
        if self.entries.len() < limit {
            return true;
        }
        let now = Instant::now();
        self.entries
            .retain(|_, entry| !matches!(entry, Entry::Refused { until, .. } if *until <= now));
        let has_place = self.entries.len() < limit;
        if !has_place && !self.is_full {
            (self.tunnels.on_event)(ForwardEvent::TooManyUsers { user, limit });
        }
        self.is_full = !has_place;
        has_place
    }

    fn settle(&mut self, address: SocketAddr, outcome: Outcome) {
        let hash_map::Entry::Occupied(mut entry) = self.entries.entry(address) else {
            return;
        };
        let Entry::Active { user, back_off } = entry.get() else {
            return;
        };
        // A newer session has taken the place of the one that ended.
        if !user.is_closed() {
            return;
        }
        match outcome {
            Outcome::Ended => {
                entry.remove();
            }
            Outcome::Refused => {
                let back_off = back_off.map_or(FIRST_BACK_OFF, |last| LAST_BACK_OFF.min(last * 2));
                let until = Instant::now() + back_off;
                entry.insert(Entry::Refused { until, back_off });
            }
        }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        // The flows live in the connection, which may live on: they end when they see this.
        for entry in self.entries.values() {
            if let Entry::Active { user, .. } = entry {
                user.close();
            }
        }
    }
}
