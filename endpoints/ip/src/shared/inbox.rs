//! [`Inbox`]: what waits for one client, between the reader of the interface and the client's tunnel.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::device::{Load, Reads};
use crate::held::Held;

/// Bytes of memory that wait at most, until the tunnel's next turn: 2048 packets, a few turns of the
/// interface's reader. Where they wait for longer is the tunnel's own backlog.
const MAX_BYTES: usize = 4 << 20;

/// What every inbox may hold even if others hold much, in bytes of memory: what one turn of the interface's
/// reader brings. A tunnel that keeps up loses nothing to those that do not.
const OWN_SHARE: usize = 128 << 10;

/// An inbox that keeps more places than this when it is empty gives them back.
const KEPT_PLACES: usize = 64;

/// A bounded queue. When it is full, the oldest goes: a sender learns of congestion sooner from a
/// gap than from a delay. It has no more room than its part of what all queues [hold](Held).
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    loads: VecDeque<Load>,
    /// Bytes of memory that these take.
    footprint: usize,
    held: Held,
    dropped: u64,
    is_closed: bool,
    waker: Option<Waker>,
}

/// The interface is gone, and nothing is to be expected any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Inbox {
    /// Locks it for a run of packets.
    pub(super) fn open(&self) -> OpenInbox<'_> {
        OpenInbox(self.lock())
    }

    /// Moves what waits into `reads`, as far as that has room.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        reads: &mut Reads,
    ) -> Poll<Result<(), Closed>> {
        let mut ring = self.lock();
        if ring.loads.is_empty() {
            if ring.is_closed {
                return Poll::Ready(Err(Closed));
            }
            match &mut ring.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                waker => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        while !reads.is_full()
            && let Some(load) = ring.pop()
        {
            reads.push(load);
        }
        if ring.loads.is_empty() && ring.loads.capacity() > KEPT_PLACES {
            ring.loads = VecDeque::new();
        }
        ring.settle();
        Poll::Ready(Ok(()))
    }

    /// No more packets come.
    pub(super) fn close(&self) {
        let mut ring = self.lock();
        ring.is_closed = true;
        let waker = ring.waker.take();
        drop(ring);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How many packets were dropped since this was asked last.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        // A queue of packets has no invariant that a panic elsewhere could have broken.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn pop(&mut self) -> Option<Load> {
        let load = self.loads.pop_front()?;
        self.footprint -= load.footprint();
        Some(load)
    }

    fn settle(&mut self) {
        self.held.set(self.footprint);
    }

    /// Whether more waits than may.
    fn overflows(&self) -> bool {
        self.footprint > self.held.share(OWN_SHARE).min(MAX_BYTES)
    }
}

/// An [`Inbox`] that takes loads. Dropping it wakes the tunnel.
#[derive(Debug)]
pub(super) struct OpenInbox<'a>(MutexGuard<'a, Ring>);

impl OpenInbox<'_> {
    pub(super) fn push(&mut self, load: Load) {
        let ring = &mut *self.0;
        ring.footprint += load.footprint();
        ring.loads.push_back(load);
        while ring.overflows() {
            let Some(oldest) = ring.pop() else { return };
            ring.dropped += oldest.packets() as u64;
        }
    }
}

impl Drop for OpenInbox<'_> {
    fn drop(&mut self) {
        let ring = &mut *self.0;
        ring.settle();
        if let Some(waker) = ring.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use pasque::Packet;

    use super::*;
    use crate::device::BLOCK;
    use crate::held::Account;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(inbox: &Inbox, waker: &Waker) -> Poll<Result<Vec<u8>, Closed>> {
        let mut reads = Reads::default();
        let taken = inbox.poll_take(&mut Context::from_waker(waker), &mut reads);
        taken.map_ok(|()| reads.drain().flatten().map(|packet| packet[0]).collect())
    }

    #[test]
    fn a_full_inbox_drops_its_oldest_packets_and_counts_them() {
        let inbox = Inbox::default();
        let mut open = inbox.open();
        for n in 0..MAX_BYTES / BLOCK + 3 {
            open.push(Packet::copy_from(&[n as u8]).into());
        }
        drop(open);
        assert_eq!((inbox.take_dropped(), inbox.take_dropped()), (3, 0));
        let Poll::Ready(Ok(first)) = take(&inbox, Waker::noop()) else {
            panic!("nothing is there");
        };
        assert_eq!(first, Vec::from_iter(3..67));
    }

    #[test]
    fn where_others_hold_much_there_is_room_for_one_turn_of_the_reader() {
        static ACCOUNT: Account = Account::new();
        // All that is to be held is held elsewhere.
        let mut others = Held::of(&ACCOUNT);
        others.set(1 << 30);
        let inbox = || {
            Inbox(Mutex::new(Ring {
                held: Held::of(&ACCOUNT),
                ..Ring::default()
            }))
        };
        let (slow, fast) = (inbox(), inbox());
        for _ in 0..20 {
            for inbox in [&slow, &fast] {
                let mut open = inbox.open();
                for n in 0..64 {
                    open.push(Packet::copy_from(&[n]).into());
                }
            }
            assert!(
                matches!(take(&fast, Waker::noop()), Poll::Ready(Ok(taken)) if taken.len() == 64)
            );
        }
        assert_eq!(slow.take_dropped() as usize, 20 * 64 - OWN_SHARE / BLOCK);
        assert_eq!(fast.take_dropped(), 0);
        // Once others hold less it may hold more.
        drop(others);
        for _ in 0..20 {
            slow.open().push(Packet::copy_from(&[0]).into());
        }
        assert_eq!(slow.take_dropped(), 0);
    }

    #[test]
    fn an_inbox_is_bounded_in_bytes_too() {
        let inbox = Inbox::default();
        for _ in 0..80 {
            inbox.open().push(Packet::copy_from(&[0; 65_000]).into());
        }
        assert_eq!(inbox.take_dropped(), 80 - (MAX_BYTES / 65_000) as u64);
    }

    #[test]
    fn a_run_of_packets_wakes_once_and_so_does_the_end() {
        let inbox = Inbox::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(take(&inbox, &waker).is_pending());
        let mut open = inbox.open();
        for n in 0..3 {
            open.push(Packet::copy_from(&[n]).into());
        }
        drop(open);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert_eq!(take(&inbox, &waker), Poll::Ready(Ok(vec![0, 1, 2])));
        assert!(take(&inbox, &waker).is_pending());
        inbox.close();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert_eq!(take(&inbox, &waker), Poll::Ready(Err(Closed)));
    }
}
