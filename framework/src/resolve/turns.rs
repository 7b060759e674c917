//! [`Turns`]: how many look-ups run at once, in all and for one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::client_network;

/// Bounds on look-ups. Whoever has used up its own share waits behind itself, and holds up nobody else.
#[derive(Debug)]
pub(super) struct Turns {
    all: Semaphore,
    per_client: usize,
    /// Those that run or wait, by client; an entry goes with the last of them.
    clients: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// The right to look up one name. Given back when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    // Fields are dropped in this order: the entry of the client last.
    _one_of_all: SemaphorePermit<'a>,
    _one_of_its_own: OwnedSemaphorePermit,
    _entry: Entry<'a>,
}

impl Turns {
    pub(super) fn new(all: usize, per_client: usize) -> Self {
        Self {
            all: Semaphore::new(all.clamp(1, Semaphore::MAX_PERMITS)),
            per_client,
            clients: Mutex::default(),
        }
    }

    /// Waits for a turn of `client`. `None` is never seen: nobody closes the semaphores.
    pub(super) async fn take(&self, client: IpAddr) -> Option<Turn<'_>> {
        let entry = self.enter(client);
        let one_of_its_own = entry.own.clone().acquire_owned().await.ok()?;
        let one_of_all = self.all.acquire().await.ok()?;
        Some(Turn {
            _one_of_all: one_of_all,
            _one_of_its_own: one_of_its_own,
            _entry: entry,
        })
    }

    /// How many more look-ups may begin at once.
    pub(super) fn free(&self) -> usize {
        self.all.available_permits()
    }

    fn enter(&self, client: IpAddr) -> Entry<'_> {
        let client = client_network(client);
        let own = self
            .lock()
            .entry(client)
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_client)))
            .clone();
        Entry {
            turns: self,
            client,
            own,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One look-up that runs or waits.
#[derive(Debug)]
struct Entry<'a> {
    turns: &'a Turns,
    client: IpAddr,
    own: Arc<Semaphore>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        /// The map's and this one's.
        const LAST: usize = 2;
        let mut clients = self.turns.lock();
        if Arc::strong_count(&self.own) == LAST {
            clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_waits_behind_itself_only() {
        let turns = Turns::new(3, 2);
        let mut cx = Context::from_waker(Waker::noop());
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(address);
        let mut take = |client| match pin!(turns.take(client)).poll(&mut cx) {
            Poll::Ready(turn) => turn,
            Poll::Pending => None,
        };
        let first = take(a).unwrap();
        // The mapped form is the same client.
        let second = take(address("::ffff:192.0.2.1")).unwrap();
        assert!(take(a).is_none(), "its share is used up");
        let other = take(b).unwrap();
        assert!(take(b).is_none(), "everybody's share is used up");
        drop(first);
        let third = take(a).unwrap();
        assert_eq!(turns.free(), 0);
        drop((second, other, third));
        assert_eq!(turns.free(), 3);
        assert!(turns.lock().is_empty(), "nothing is kept of clients");
    }

    #[test]
    fn whoever_has_one_address_of_ipv6_has_the_network() {
        let of = |text| client_network(address(text));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
