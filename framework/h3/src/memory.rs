//! [`Memory`]: what is given up, step by step, as the process comes near the memory that it may have.
//!
//! Limits bound what one peer can make the server hold; many peers together are bounded by this. The
//! monitor looks once a second. What is refused costs nothing, so whoever is served already goes on being
//! served, and the kernel has no reason to end the process.

#[cfg(test)]
mod tests;

use std::fs;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::param::page_size;
use tracing::{info, warn};

/// How often the monitor looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often at most the allocator returns what is free: meanwhile it serves nobody.
const TRIM_PAUSE: Duration = Duration::from_secs(10);

/// What a thread's heap keeps at its end although it is free, in bytes: more than the datagrams of one turn
/// of a worker, which quiche puts into memory of their own. By default the C library returns what is beyond
/// 128 KiB, so that each turn's pages would be returned and asked for again.
#[cfg(target_env = "gnu")]
const KEPT_FREE: libc::c_int = 4 << 20;

/// Shares of the budget, in percent, at which the steps begin.
const BEGINS: [(Step, u64); 4] = [
    (Step::Heavy, 100),
    (Step::Tunnels, 95),
    (Step::Idle, 90),
    (Step::Connections, 80),
];

/// How far below its beginning a step ends, in percent of the budget: it should not end by what it has
/// freed alone, and begin again with the next client.
const SLACK: u64 = 5;

/// What is not done any more. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Step {
    /// There is memory enough.
    None,
    /// No new connection, and none for which very much is held.
    Connections,
    /// No connection without a request or a tunnel is kept.
    Idle,
    /// No new tunnel.
    Tunnels,
    /// No connection for which much is held.
    Heavy,
}

impl Step {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Connections,
            2 => Self::Idle,
            3 => Self::Tunnels,
            _ => Self::Heavy,
        }
    }

    /// How many bytes of quiche's a connection is closed for.
    pub(crate) fn heavy(self) -> Option<usize> {
        match self {
            Self::None => None,
            // A quarter of what any may have.
            Self::Connections | Self::Idle | Self::Tunnels => Some(8 << 20),
            Self::Heavy => Some(1 << 20),
        }
    }

    /// The step after this one, at `share` percent of the budget.
    fn next(self, share: u64) -> Self {
        let holds = |&&(step, begins): &&(Self, u64)| {
            let begins = if step <= self { begins - SLACK } else { begins };
            share >= begins
        };
        BEGINS
            .iter()
            .find(holds)
            .map_or(Self::None, |(step, _)| *step)
    }
}

/// Where the process stands. Read by workers, written by the monitor.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    step: AtomicU8,
    refused_connections: AtomicU64,
    closed_connections: AtomicU64,
    refused_tunnels: AtomicU64,
}

impl Memory {
    pub(crate) fn step(&self) -> Step {
        Step::from_number(self.step.load(Ordering::Relaxed))
    }

    /// Whether a new connection has to be refused; counts it.
    pub(crate) fn refuses_connection(&self) -> bool {
        self.refuses(Step::Connections, &self.refused_connections)
    }

    /// Whether a new tunnel has to be refused; counts it.
    pub(crate) fn refuses_tunnel(&self) -> bool {
        self.refuses(Step::Tunnels, &self.refused_tunnels)
    }

    /// Counts connections that were closed because nothing was under way on them, or for what was held for
    /// them.
    pub(crate) fn count_closed(&self, count: u64) {
        self.closed_connections.fetch_add(count, Ordering::Relaxed);
    }

    fn refuses(&self, from: Step, counter: &AtomicU64) -> bool {
        let is_refused = self.step() >= from;
        if is_refused {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        is_refused
    }

    /// Whether something would be given up with `held` bytes of a budget of `budget`, or would stay so.
    fn is_short(&self, held: u64, budget: u64) -> bool {
        self.step().next(share(held, budget)) > Step::None
    }

    /// Takes the step for a process that holds `held` bytes of a budget of `budget`. Says what changes.
    pub(crate) fn judge(&self, held: u64, budget: u64) -> Step {
        let before = self.step();
        let share = share(held, budget);
        let step = before.next(share);
        self.step.store(step as u8, Ordering::Relaxed);
        let what = match step {
            Step::None => "all is served again",
            Step::Connections => "no new connections",
            Step::Idle => "no new connections, and none without a request",
            Step::Tunnels => "no new connections or tunnels, and no connection without a request",
            Step::Heavy => {
                "no new connections or tunnels, and no connection without a request or that holds much"
            }
        };
        let [refused, closed, tunnels] = [
            &self.refused_connections,
            &self.closed_connections,
            &self.refused_tunnels,
        ]
        .map(|counter| counter.load(Ordering::Relaxed));
        if step > before {
            warn!("memory: {share} % of the budget are in use: {what}");
        } else if step < before {
            info!(
                "memory: {share} % of the budget are in use: {what}; so far {refused} connections and \
                 {tunnels} tunnels refused, {closed} connections closed"
            );
        }
        step
    }
}

/// Looks at the memory of this process, now and then.
#[derive(Debug)]
pub(crate) struct Gauge {
    next: Instant,
    next_trim: Instant,
}

impl Gauge {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            next: now,
            next_trim: now,
        }
    }

    /// Looks, if it is time. Returns the step that holds from here on, if it has looked.
    pub(crate) fn look(&mut self, memory: &Memory, budget: u64, now: Instant) -> Option<Step> {
        if now < self.next {
            return None;
        }
        self.next = now + INTERVAL;
        let mut held = held()?;
        if memory.is_short(held, budget) {
            if now >= self.next_trim {
                give_back();
                self.next_trim = now + TRIM_PAUSE;
            }
            // What is free and cannot be returned, because something in use lies behind it, serves the next.
            held = held.min(in_use());
        }
        Some(memory.judge(held, budget))
    }
}

/// What part of the budget is held, in percent.
fn share(held: u64, budget: u64) -> u64 {
    held.saturating_mul(100) / budget.max(1)
}

/// Memory of this process that is not on disk, in bytes.
fn held() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let mut fields = pages.split_whitespace().map(str::parse::<u64>);
    let resident = fields.nth(1)?.ok()?;
    let of_files = fields.next()?.ok()?;
    Some(resident.saturating_sub(of_files) * page_size() as u64)
}

/// Has the allocator keep [`KEPT_FREE`] from here on, in the whole process (mallopt(3)).
pub(crate) fn keep_free() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call of the C library, which takes numbers")]
    // SAFETY: it takes the allocator's own lock, and changes a number.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_FREE);
    }
}

/// Has the allocator return what is free to the system: by itself the C library returns only what lies at
/// the end of its heaps.
fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call of the C library, which takes a number")]
    // SAFETY: it takes the allocator's own locks, and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Memory that the allocator has given out, in bytes, where it says so.
fn in_use() -> u64 {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "a call of the C library, which takes nothing")]
        // SAFETY: it takes the allocator's own locks, and returns a plain structure.
        let info = unsafe { libc::mallinfo2() };
        (info.uordblks as u64).saturating_add(info.hblkhd as u64)
    }
    #[cfg(not(target_env = "gnu"))]
    u64::MAX
}
