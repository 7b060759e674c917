//! [`Inbox`]: what waits for one client, between the reader of the interface and the client's tunnel.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pasque::{Batch, Packet};

/// Packets that wait at most: a few bursts of a busy tunnel.
const MAX_PACKETS: usize = 512;
/// Bytes that wait at most.
const MAX_BYTES: usize = 1 << 20;

/// A bounded queue. When it is full, the oldest packet goes: a sender learns of congestion sooner from a
/// gap than from a delay.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    packets: VecDeque<Packet>,
    bytes: usize,
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

    /// Moves what waits into `batch`, as far as that has room.
    pub(super) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<Result<(), Closed>> {
        let mut ring = self.lock();
        if ring.packets.is_empty() {
            if ring.is_closed {
                return Poll::Ready(Err(Closed));
            }
            match &mut ring.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                waker => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        while !batch.is_full()
            && let Some(packet) = ring.pop()
        {
            let pushed = batch.push(packet);
            debug_assert!(pushed.is_ok());
        }
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
    fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }
}

/// An [`Inbox`] that takes packets. Dropping it wakes the tunnel.
#[derive(Debug)]
pub(super) struct OpenInbox<'a>(MutexGuard<'a, Ring>);

impl OpenInbox<'_> {
    pub(super) fn push(&mut self, packet: Packet) {
        let ring = &mut *self.0;
        ring.bytes += packet.len();
        ring.packets.push_back(packet);
        while ring.packets.len() > MAX_PACKETS || ring.bytes > MAX_BYTES {
            ring.pop();
            ring.dropped += 1;
        }
    }
}

impl Drop for OpenInbox<'_> {
    fn drop(&mut self) {
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(inbox: &Inbox, waker: &Waker) -> Poll<Result<Vec<u8>, Closed>> {
        let mut batch = Batch::new();
        let taken = inbox.poll_take(&mut Context::from_waker(waker), &mut batch);
        taken.map_ok(|()| batch.iter().map(|packet| packet[0]).collect())
    }

    #[test]
    fn a_full_inbox_drops_its_oldest_packets_and_counts_them() {
        let inbox = Inbox::default();
        let mut open = inbox.open();
        for n in 0..MAX_PACKETS + 3 {
            open.push(Packet::copy_from(&[n as u8]));
        }
        drop(open);
        assert_eq!((inbox.take_dropped(), inbox.take_dropped()), (3, 0));
        let Poll::Ready(Ok(first)) = take(&inbox, Waker::noop()) else {
            panic!("nothing is there");
        };
        assert_eq!(first, Vec::from_iter(3..67));
    }

    #[test]
    fn an_inbox_is_bounded_in_bytes_too() {
        let inbox = Inbox::default();
        for _ in 0..20 {
            inbox.open().push(Packet::copy_from(&[0; 65_000]));
        }
        assert_eq!(inbox.take_dropped(), 20 - (MAX_BYTES / 65_000) as u64);
    }

    #[test]
    fn a_run_of_packets_wakes_once_and_so_does_the_end() {
        let inbox = Inbox::default();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        assert!(take(&inbox, &waker).is_pending());
        let mut open = inbox.open();
        for n in 0..3 {
            open.push(Packet::copy_from(&[n]));
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
