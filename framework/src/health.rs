//! [`Health`]: whether the workers of a server still turn, and whose code holds one up.
//!
//! A worker notes in its [`Pulse`] that it has begun a turn, and which endpoint's code it is about
//! to run: two stores per batch. A thread beside the workers looks at the pulses now and then.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

/// A call of an endpoint's code that takes longer holds up every tunnel of its worker, and is
/// reported.
pub const STALL: Duration = Duration::from_millis(100);

/// A worker that has not turned for so long is not coming back.
pub const SILENCE: Duration = Duration::from_secs(10);

/// An endpoint that stalls over and over is named this often.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Bits of [`Pulse::running`] that say which endpoint it is; those above tell calls apart.
const CODE_BITS: u32 = 16;

/// The sign of life of one worker.
#[derive(Debug)]
pub struct Pulse {
    born: Instant,
    /// When the last turn began, in milliseconds after `born`.
    beat: AtomicU64,
    /// Zero, or which call of which endpoint's code is under way: no two calls have the same value.
    running: AtomicU64,
    calls: AtomicU64,
}

thread_local! {
    /// The pulse of the worker that this thread is.
    static HERE: RefCell<Option<Arc<Pulse>>> = const { RefCell::new(None) };
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self {
            born: now,
            beat: AtomicU64::new(0),
            running: AtomicU64::new(0),
            calls: AtomicU64::new(0),
        }
    }

    /// Makes this the pulse of the current thread: endpoints' code that runs here is noted in it.
    pub fn install(self: &Arc<Self>) {
        let _ = HERE.try_with(|here| here.borrow_mut().replace(self.clone()));
    }

    /// A turn begins.
    pub fn beat(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.born).as_millis();
        self.beat.store(elapsed as u64, Ordering::Relaxed);
    }

    /// How long ago the last turn began.
    pub fn silence(&self, now: Instant) -> Duration {
        let last = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        now.saturating_duration_since(self.born)
            .saturating_sub(last)
    }

    fn enter(&self, code: Code) -> u64 {
        // Only the thread that the pulse belongs to writes.
        let call = self.calls.load(Ordering::Relaxed) + 1;
        self.calls.store(call, Ordering::Relaxed);
        let before = self.running.load(Ordering::Relaxed);
        let running = (call << CODE_BITS) | u64::from(code.0);
        self.running.store(running, Ordering::Relaxed);
        before
    }
}

/// An endpoint's type as a number that fits into a [`Pulse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u16);

/// The tags behind the codes. As many as there are types of endpoint in the program.
static TAGS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

impl Code {
    /// The code of a type tag.
    pub(crate) fn of(tag: &'static str) -> Self {
        let mut tags = lock(&TAGS);
        let index = tags.iter().position(|known| *known == tag);
        let index = index.unwrap_or_else(|| {
            tags.push(tag);
            tags.len() - 1
        });
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }

    fn tag(self) -> &'static str {
        lock(&TAGS).get(usize::from(self.0)).unwrap_or(&"endpoint")
    }
}

/// Notes that an endpoint's code runs on this thread, until it is dropped.
pub(crate) struct Running {
    before: Option<u64>,
}

impl Running {
    pub(crate) fn enter(code: Code) -> Self {
        Self {
            before: with_pulse(|pulse| pulse.enter(code)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            with_pulse(|pulse| pulse.running.store(before, Ordering::Relaxed));
        }
    }
}

/// The pulse of this thread, if it is a worker's.
fn with_pulse<T>(call: impl FnOnce(&Pulse) -> T) -> Option<T> {
    // A thread that ends has none any more.
    HERE.try_with(|here| here.borrow().as_deref().map(call))
        .ok()
        .flatten()
}

/// The health of a server: the pulses of its workers.
#[derive(Debug)]
pub struct Health {
    pulses: Vec<Arc<Pulse>>,
    watch: Mutex<Watch>,
    stalls: AtomicU64,
}

/// What was seen at the last look.
#[derive(Debug, Default)]
struct Watch {
    /// By worker: the call that was under way, since when, and whether it was counted.
    calls: Vec<(u64, Option<Instant>, bool)>,
    /// When a type of endpoint was last named, and how often it was not since.
    named: HashMap<u16, (Instant, u64)>,
}

impl Health {
    /// For engines: the health of `workers` workers that are about to start.
    pub fn new(workers: usize) -> Self {
        let now = Instant::now();
        Self {
            pulses: (0..workers).map(|_| Arc::new(Pulse::new(now))).collect(),
            watch: Mutex::new(Watch {
                calls: vec![(0, None, false); workers],
                named: HashMap::new(),
            }),
            stalls: AtomicU64::new(0),
        }
    }

    /// The pulses, by worker.
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        &self.pulses
    }

    /// Whether every worker has begun a turn within the last ten seconds. An idle worker is woken
    /// to show that it still can.
    pub fn is_healthy(&self) -> bool {
        let now = Instant::now();
        self.pulses.iter().all(|pulse| pulse.silence(now) < SILENCE)
    }

    /// Calls of endpoints' code so far that held a worker up for more than [`STALL`], as far as they
    /// were seen.
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// For engines: looks whether an endpoint's code holds a worker up, and names it in the log, at
    /// most once in ten seconds for each type. To be called twice within [`STALL`] or more often.
    pub fn look(&self, now: Instant) {
        let mut watch = lock(&self.watch);
        let Watch { calls, named } = &mut *watch;
        for (worker, (pulse, seen)) in self.pulses.iter().zip(calls).enumerate() {
            let running = pulse.running.load(Ordering::Relaxed);
            if seen.0 != running || seen.1.is_none() {
                *seen = (running, Some(now), false);
            }
            let since = seen
                .1
                .map_or(Duration::ZERO, |since| now.duration_since(since));
            if running == 0 || since < STALL || std::mem::replace(&mut seen.2, true) {
                continue;
            }
            self.stalls.fetch_add(1, Ordering::Relaxed);
            let code = Code(running as u16);
            match named.get_mut(&code.0) {
                Some((last, unnamed)) if now.duration_since(*last) < WARNING_INTERVAL => {
                    *unnamed += 1;
                }
                earlier => {
                    let unnamed = earlier.map_or(0, |(_, unnamed)| *unnamed);
                    warn!(
                        endpoint = code.tag(),
                        worker,
                        more = unnamed,
                        "an endpoint holds its worker up: its code blocks, or computes for long"
                    );
                    named.insert(code.0, (now, 0));
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they hold has no invariant that a panic could have broken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_stays_is_a_stall_and_many_short_ones_are_none() {
        let health = Health::new(1);
        let (start, code) = (Instant::now(), Code::of("Sleepy"));
        health.pulses()[0].install();
        for tick in 0..10 {
            let _running = Running::enter(code);
            health.look(start + tick * STALL);
        }
        assert_eq!(health.stalls(), 0, "each was another call");
        {
            let _running = Running::enter(code);
            for tick in 20..30 {
                health.look(start + tick * STALL / 2);
            }
        }
        assert_eq!(health.stalls(), 1, "one call is one stall");
        health.look(start + 40 * STALL);
        health.look(start + 42 * STALL);
        assert_eq!(health.stalls(), 1, "nothing runs");
        HERE.with(|here| here.borrow_mut().take());
    }

    #[test]
    fn a_call_inside_another_gives_it_back() {
        let health = Health::new(1);
        let pulse = health.pulses()[0].clone();
        pulse.install();
        let outer = Running::enter(Code::of("Outer"));
        let before = pulse.running.load(Ordering::Relaxed);
        drop(Running::enter(Code::of("Inner")));
        assert_eq!(pulse.running.load(Ordering::Relaxed), before);
        drop(outer);
        assert_eq!(pulse.running.load(Ordering::Relaxed), 0);
        HERE.with(|here| here.borrow_mut().take());
    }

    #[test]
    fn a_worker_that_does_not_turn_is_not_healthy() {
        let health = Health::new(2);
        assert!(health.is_healthy());
        let later = Instant::now() + 2 * SILENCE;
        health.pulses()[0].beat(later);
        assert!(health.pulses()[0].silence(later) < SILENCE);
        assert!(health.pulses()[1].silence(later) >= SILENCE);
    }
}
