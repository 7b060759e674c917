//! [`Gate`]: passwords are looked at one at a time, and each of them once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::attempts::Attempts;
use super::credentials::Secret;
use super::password::Scratch;
use super::refusal::Refusal;
use super::users::{User, Users};

/// Passwords that wait to be looked at. One takes tens of milliseconds, so that the last one waits for
/// a second or so.
const MAX_WAITING: usize = 32;

/// Passwords that are known to be right. Beyond it all are forgotten, and looked at again.
const MAX_KNOWN: usize = 4096;

/// What stands for a name and a password here: nothing can be learned from it elsewhere.
type Mark = [u8; 32];

type Look = Shared<BoxFuture<'static, Result<Arc<User>, Refusal>>>;

/// Looks at passwords. Clones are the same gate.
#[derive(Clone)]
pub(super) struct Gate(Arc<Inner>);

struct Inner {
    /// Makes marks; new with every start.
    key: [u8; 32],
    attempts: Attempts,
    state: Mutex<State>,
    /// Held by who is hashing.
    scratch: Arc<tokio::sync::Mutex<Scratch>>,
}

#[derive(Default)]
struct State {
    /// Users whose password was right, as they stood in the file then. A hash that has changed since
    /// is that of another password, or has another salt.
    known: HashMap<Mark, Arc<User>>,
    /// What is being looked at, or waits for it.
    looks: HashMap<Mark, Look>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            key: rand::random(),
            attempts: Attempts::default(),
            state: Mutex::default(),
            scratch: Arc::default(),
        }))
    }

    /// The user called `name`, if `password` is theirs. An unknown name takes as long as a wrong
    /// password, on a blocking thread either way.
    pub(super) async fn pass(
        &self,
        users: Arc<Users>,
        name: &str,
        password: Secret,
        peer: IpAddr,
    ) -> Result<Arc<User>, Refusal> {
        let mark = self.mark(name, &password);
        let look = {
            let mut state = self.state();
            let current = users.get(name);
            if let (Some(known), Some(current)) = (state.known.get(&mark), current)
                && known.hash == current.hash
            {
                return Ok(current.clone());
            }
            match state.looks.get(&mark) {
                // The same client again, with many requests at once.
                Some(look) => look.clone(),
                None => {
                    if state.looks.len() >= MAX_WAITING {
                        return Err(Refusal::Busy);
                    }
                    self.0
                        .attempts
                        .begin(peer, Instant::now())
                        .map_err(|wait| Refusal::TooMany(wait.as_secs() + 1))?;
                    let look = self.look(mark, users.clone(), name.into(), password, peer);
                    state.looks.insert(mark, look.clone());
                    look
                }
            }
        };
        look.await
    }

    /// Hashes on a task of its own, so that a client that goes away neither stops it nor is spared
    /// the count.
    fn look(
        &self,
        mark: Mark,
        users: Arc<Users>,
        name: String,
        password: Secret,
        peer: IpAddr,
    ) -> Look {
        let gate = self.clone();
        let task = tokio::spawn(async move {
            let found = gate.hash(users, name, password).await;
            let mut state = gate.state();
            state.looks.remove(&mark);
            if let Some(user) = &found {
                gate.0.attempts.forgive(peer);
                if state.known.len() >= MAX_KNOWN {
                    state.known.clear();
                }
                state.known.insert(mark, user.clone());
            }
            found
        });
        async move {
            match task.await {
                Ok(Some(user)) => Ok(user),
                Ok(None) => Err(Refusal::Password),
                // The server is ending.
                Err(_) => Err(Refusal::Busy),
            }
        }
        .boxed()
        .shared()
    }

    async fn hash(&self, users: Arc<Users>, name: String, password: Secret) -> Option<Arc<User>> {
        let mut scratch = self.0.scratch.clone().lock_owned().await;
        let work = move || {
            let user = users.get(&name);
            let stand_in = users.stand_in(&name);
            let hash = user.map_or(&stand_in, |user| &user.hash);
            let is_right = hash.matches(password.expose(), &mut scratch);
            user.filter(|_| is_right).cloned()
        };
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }

    fn mark(&self, name: &str, password: &Secret) -> Mark {
        // A key of 32 bytes is never refused.
        let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(&self.0.key) else {
            return rand::random();
        };
        hmac.update(&(name.len() as u64).to_be_bytes());
        hmac.update(name.as_bytes());
        hmac.update(password.expose().as_bytes());
        hmac.finalize().into_bytes().into()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gate")
    }
}
