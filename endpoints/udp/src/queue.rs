//! [`Queue`]: what waits for a tunnel that takes less than its target sends.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Instant;

use pasque::Packet;
use pasque::codel::Codel;

/// Datagrams that wait at most: at 10 Mbit/s a third of a second of full ones. Beyond it the oldest goes.
const MAX_DATAGRAMS: usize = 256;

/// Datagrams that wait in all queues of a thread while more are read ahead, 4 MiB: with a thousand slow tunnels it
/// is the kernel's buffers that overflow, where that costs this process neither memory nor time.
const MAX_ON_THREAD: usize = 2048;

thread_local! {
    /// Datagrams in the queues of this thread.
    static ON_THREAD: Cell<usize> = const { Cell::new(0) };
}

/// Datagrams that may wait of one target in any case: one read can bring hundreds.
const FEW_DATAGRAMS: usize = 16;

/// A queue that keeps more places than this when it is empty gives them back.
const KEPT_PLACES: usize = 64;

/// Datagrams of one target, in order.
///
/// A target that sends faster than the tunnel for longer than a moment is told by a loss (CoDel,
/// RFC 8289), and what is lost is what has waited longest: what it said last is what its client wants
/// to know first. In the kernel's buffer it would be the other way round.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    datagrams: VecDeque<(Packet, Instant)>,
    bytes: usize,
    codel: Codel,
    dropped: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether more may be read than leaves at once.
    pub(crate) fn reads_ahead() -> bool {
        ON_THREAD.get() < MAX_ON_THREAD
    }

    /// Adds a payload behind the others.
    pub(crate) fn push(&mut self, payload: Packet, now: Instant) {
        let max = match Self::reads_ahead() {
            true => MAX_DATAGRAMS,
            false => FEW_DATAGRAMS,
        };
        if self.datagrams.len() >= max {
            self.dropped += u64::from(self.take().is_some());
        }
        self.bytes += payload.len();
        self.datagrams.push_back((payload, now));
        ON_THREAD.set(ON_THREAD.get() + 1);
    }

    /// The payload that goes next.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Packet> {
        while let Some((payload, since)) = self.take() {
            let waited = now.saturating_duration_since(since);
            if !self.codel.drops(waited, self.bytes, now) {
                return Some(payload);
            }
            self.dropped += 1;
        }
        if self.datagrams.capacity() > KEPT_PLACES {
            self.datagrams = VecDeque::new();
        }
        None
    }

    /// Payloads dropped since this was asked last.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn take(&mut self) -> Option<(Packet, Instant)> {
        let taken = self.datagrams.pop_front()?;
        self.bytes -= taken.0.len();
        forget(1);
        Some(taken)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        forget(self.datagrams.len());
    }
}

/// Datagrams that do not wait any more. The end of a thread, or of a queue on another one, changes nothing.
fn forget(count: usize) {
    let _ = ON_THREAD.try_with(|all| all.set(all.get().saturating_sub(count)));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pasque::codel::{INTERVAL, TARGET};

    use super::*;

    fn payload(number: u32) -> Packet {
        let mut bytes = [0; 1200];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Packet::copy_from(&bytes)
    }

    fn number(payload: &Packet) -> u32 {
        u32::from_be_bytes(*payload.first_chunk().unwrap())
    }

    #[test]
    fn all_queues_of_a_thread_together_read_ahead_only_so_much() {
        let now = Instant::now();
        let mut queues: Vec<_> = (0..8).map(|_| Queue::default()).collect();
        for queue in &mut queues {
            for i in 0..300 {
                assert!(Queue::reads_ahead());
                queue.push(payload(i), now);
                if ON_THREAD.get() == MAX_ON_THREAD {
                    break;
                }
            }
        }
        assert!(!Queue::reads_ahead());
        // Of one read that brings many, the last ones wait.
        let mut late = Queue::default();
        (0..40).for_each(|i| late.push(payload(i), now));
        assert_eq!(late.take_dropped(), 40 - FEW_DATAGRAMS as u64);
        drop(late);
        // Others are not concerned.
        assert!(std::thread::spawn(Queue::reads_ahead).join().unwrap());
        assert!(queues[0].pop(now).is_some());
        assert!(Queue::reads_ahead());
        assert_eq!(ON_THREAD.get(), MAX_ON_THREAD - 1);
        drop(queues);
        assert_eq!(ON_THREAD.get(), 0);
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for i in 0..300 {
            queue.push(payload(i), now);
        }
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop(now))
            .map(|p| number(&p))
            .collect();
        assert_eq!(rest, (44..300).collect::<Vec<_>>());
        assert_eq!((queue.take_dropped(), queue.take_dropped()), (44, 0));
        assert!(queue.is_empty());
        assert_eq!(queue.bytes, 0);
    }

    /// A sender at twice the rate of the path for three seconds, and one that bursts and pauses.
    #[test]
    fn what_keeps_waiting_too_long_is_lost_and_what_waits_for_a_moment_is_not() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let (mut longest, mut sent) = (Duration::ZERO, 0);
        for ms in 0..3000 {
            queue.push(payload(ms), at(ms.into()));
            if ms % 2 == 0
                && let Some(taken) = queue.pop(at(ms.into()))
            {
                sent += 1;
                longest = longest.max(at(ms.into()) - at(number(&taken).into()));
            }
        }
        assert!(queue.take_dropped() > 0);
        assert_eq!(sent, 1500);
        assert!(longest < TARGET + 2 * INTERVAL, "{longest:?}");

        let mut queue = Queue::default();
        for round in 0..20 {
            for i in 0..100 {
                queue.push(payload(i), at(round * 150));
            }
            for i in 0..100 {
                assert!(queue.pop(at(round * 150 + i)).is_some());
            }
        }
        assert_eq!(queue.take_dropped(), 0);
    }
}
