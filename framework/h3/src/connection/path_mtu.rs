//! How long a packet the path carries: noticing that it carries less than it did, and more than it
//! is asked to (RFC 8899, RFC 9000 §14.3). No clock, no packets: numbers in, decisions out.
//!
//! quiche finds the first size: it begins with [`BASE`] and asks for more at once. From there on it
//! believes what it found. What it has in `revalidate_pmtu` only ever shrinks: the size that failed
//! once is never tried again, so a path that was narrow for a minute would stay narrow for the life
//! of the connection; and it exists on the connection's first path only. So quiche's result is the
//! ceiling here, and what happens below it is decided here:
//!
//! ```text
//!                   long packets vanish                 six probes lost
//!        ┌─────────┐ ───────────────► ┌─────────┐ ────────────────► size = BASE
//!     ┌─►│ settled │                  │ doubted │                        │
//!     │  └─────────┘ ◄─────────────── └─────────┘                        ▼
//!     │       │         probe came                                ┌──────────┐ ──┐ probe came:
//!     │       └───────────── after ten seconds, twenty … ───────► │ climbing │   │ size = next step
//!     │                    while size < ceiling                   └──────────┘ ◄─┘
//!     └───────────────── two probes lost, or ceiling reached ──────────┘
//! ```
//!
//! Losses alone never lower the size: they only raise the question. The answer is a probe, a padded
//! packet of the size in question whose fate is known for certain. So neither random loss nor an
//! outage is taken for a narrow path: under the first some probe comes through, and during the
//! second nothing is heard, which is no answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What every path of QUIC carries, in bytes of UDP payload (RFC 9000 §14). Longer packets are
/// *long* here: only they can be too long.
pub(super) const BASE: usize = 1200;

/// The sizes that are tried on the way up, before the ceiling itself. What tunnels in use leave of
/// 1500 bytes lies just above one of these, and 1320 carries an inner packet of 1280 bytes, which
/// IPv6 needs (RFC 9484 §7.2), with any stream ID. Steps of 40 bytes cost 3 % at most.
const STEPS: [usize; 6] = [1232, 1280, 1320, 1360, 1400, 1440];

/// Losses below this many bytes say nothing.
const SUSPICIOUS_LOSS: u64 = 4 * BASE as u64;

/// How long losses are counted together. The retransmissions of one TCP connection inside a tunnel
/// (after 0.2, 0.6, 1.4 and 3 seconds) have to fit.
const WINDOW: Duration = Duration::from_secs(5);

/// How far apart the moments are from which losses are counted.
const STRIDE: Duration = Duration::from_millis(500);

/// No new doubt for so long after one was cleared.
const TRUST: Duration = Duration::from_secs(2);

/// Probes that must be lost before the size in use is given up. At 5 % loss this happens by chance
/// once in 60 million doubts; where half of all packets are lost, once in 64.
const PROBES_DOWN: u8 = 6;

/// Probes that must be lost before the next step up is given up. A wrong answer costs little.
const PROBES_UP: u8 = 2;

/// When a longer packet is tried again. RFC 8899 §5.1.1 proposes 600 seconds (PMTU_RAISE_TIMER) where
/// nothing but time says that it is worth it; here the size may have been given up by mistake, on a path
/// that lost most of what was sent, whatever its length. Tests have less time.
const RAISE: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 10 });

/// The time doubles while there is no more to be had, up to some four hours: a path that stays narrow
/// for days costs a dozen probes.
const MAX_PATIENCE: u32 = 1 << 10;

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The peer has it.
    Came,
    /// It was lost, although the path carries other packets.
    Lost,
    /// The peer does not let us send one.
    Impossible,
}

/// What one path is known to carry.
#[derive(Debug)]
pub(super) struct PathMtu {
    /// The longest packet that quiche sends on this path.
    ceiling: usize,
    /// The longest packet that we let it send.
    cap: usize,
    state: State,
    /// When a longer packet is tried, while the size is below the ceiling.
    raise_at: Option<Instant>,
    /// How long that is after the last try, in times of [`RAISE`].
    patience: u32,
    history: History,
    /// No doubt before this.
    trusted_until: Option<Instant>,
    /// Doubts in a row that no probe could settle, and when the last one was.
    unsettled: Option<(u8, Instant)>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Settled,
    /// Is the size in use too long?
    Doubted {
        lost: u8,
    },
    /// Is the next step not too long?
    Climbing {
        lost: u8,
    },
}

/// Packets and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    fn mean(self) -> u64 {
        self.bytes.checked_div(self.packets).unwrap_or(0)
    }
}

/// What a connection has sent and lost since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Packets longer than [`BASE`] that were sent.
    pub(super) long: Tally,
    /// All others.
    pub(super) short: Tally,
    /// Packets of any length that were lost.
    pub(super) lost: Tally,
    /// Bytes of packets that the peer has acknowledged.
    pub(super) acked: u64,
}

impl Traffic {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            long: self.long.since(earlier.long),
            short: self.short.since(earlier.short),
            lost: self.lost.since(earlier.lost),
            acked: self.acked.saturating_sub(earlier.acked),
        }
    }

    /// About how many of the bytes lost were those of long packets. What is known of the lost is
    /// only their mean length: it lies between that of the long and that of the short ones as they
    /// have their shares.
    fn long_lost(&self) -> u64 {
        let (long, short) = (self.long.mean(), self.short.mean());
        let excess = self.lost.bytes.saturating_sub(self.lost.packets * short);
        (excess * long)
            .checked_div(long.saturating_sub(short))
            .unwrap_or(0)
    }

    /// On a path that is too narrow all long packets are lost; a fifth may be on its way still. What
    /// is lost beyond what was sent was sent before, and tells of another time.
    ///
    /// Of a lone TCP connection inside a tunnel there are soon nothing but retransmissions, one
    /// after ever longer times: there, two packets lost and nothing as long acknowledged will do.
    fn is_suspicious(&self) -> bool {
        if self.lost.bytes >= 2 * BASE as u64 && self.acked * 4 < self.lost.bytes {
            return true;
        }
        let (lost, sent) = (self.long_lost(), self.long.bytes);
        lost >= SUSPICIOUS_LOSS && lost * 5 >= sent * 4 && lost * 4 <= sent * 5
    }
}

/// What the traffic was at some moments of the last [`WINDOW`]. A path that becomes too narrow shows
/// from one of them on, whatever came before.
#[derive(Debug, Default)]
struct History {
    moments: VecDeque<(Instant, Traffic)>,
}

impl History {
    /// Forgets everything before `now`, when the traffic was as given.
    fn restart(&mut self, traffic: Traffic, now: Instant) {
        self.moments.clear();
        self.moments.push_back((now, traffic));
    }

    fn add(&mut self, traffic: Traffic, now: Instant) {
        self.moments.retain(|(at, _)| now - *at < WINDOW);
        if self
            .moments
            .back()
            .is_none_or(|(at, _)| now - *at >= STRIDE)
        {
            self.moments.push_back((now, traffic));
        }
    }

    fn is_suspicious(&self, traffic: &Traffic) -> bool {
        let mut moments = self.moments.iter();
        moments.any(|(_, earlier)| traffic.since(earlier).is_suspicious())
    }
}

impl PathMtu {
    /// A path on which quiche has found `ceiling` so far.
    pub(super) fn new(ceiling: usize) -> Self {
        Self {
            ceiling,
            cap: usize::MAX,
            state: State::Settled,
            raise_at: None,
            patience: 1,
            history: History::default(),
            trusted_until: None,
            unsettled: None,
        }
    }

    /// The longest packet that is known to pass.
    pub(super) fn size(&self) -> usize {
        self.ceiling.min(self.cap)
    }

    /// The longest packet that may be sent. Above [`size`](Self::size) there are only quiche's own
    /// probes, while it looks for the first size.
    pub(super) fn cap(&self) -> usize {
        self.cap
    }

    /// quiche has found out what the path carries.
    pub(super) fn set_ceiling(&mut self, ceiling: usize, now: Instant) {
        self.ceiling = ceiling;
        if self.state == State::Settled || self.next_step().is_none() {
            self.settle(self.cap, now);
        }
    }

    /// The connection has moved to another path, on which quiche sends up to `ceiling`. If it leads
    /// to the same host, only a port has changed on the way; of a way to another host nothing is
    /// known.
    pub(super) fn move_to(&mut self, ceiling: usize, is_same_host: bool, now: Instant) {
        let size = self.size();
        self.ceiling = ceiling;
        self.trusted_until = None;
        if is_same_host {
            self.settle(size, now);
        } else {
            self.fall(now);
        }
    }

    /// Takes note of what was sent and lost so far.
    pub(super) fn note(&mut self, traffic: Traffic, now: Instant) {
        let is_trusted = self.trusted_until.is_some_and(|until| now < until);
        if self.state != State::Settled || self.size() <= BASE || is_trusted {
            self.history.restart(traffic, now);
        } else if self.history.is_suspicious(&traffic) {
            self.state = State::Doubted { lost: 0 };
            self.history.restart(traffic, now);
        } else {
            self.history.add(traffic, now);
        }
    }

    /// A timeout ran out, and a short packet was answered after it: perhaps it was the length that
    /// kept those before it from arriving.
    pub(super) fn doubt(&mut self, now: Instant) {
        let is_trusted = self.trusted_until.is_some_and(|until| now < until);
        if self.state == State::Settled && self.size() > BASE && !is_trusted {
            self.state = State::Doubted { lost: 0 };
        }
    }

    /// Whether long packets are lost more often than not, and it is not known yet why.
    pub(super) fn is_doubted(&self) -> bool {
        matches!(self.state, State::Doubted { .. })
    }

    /// The size that is to be probed, if any. It stays the same until the verdict is known.
    pub(super) fn wanted(&self) -> Option<usize> {
        match self.state {
            State::Settled => None,
            State::Doubted { .. } => Some(self.size()),
            State::Climbing { .. } => self.next_step(),
        }
    }

    /// When [`on_time`](Self::on_time) has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.raise_at.filter(|_| self.state == State::Settled)
    }

    /// Begins to look for more, when it is time.
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
            self.climb(now);
        }
    }

    /// Takes the verdict on the probe that was [`wanted`](Self::wanted).
    pub(super) fn judge(&mut self, verdict: Verdict, now: Instant) {
        match (&mut self.state, verdict) {
            (State::Settled, _) => {}
            (State::Doubted { .. }, Verdict::Came) => {
                self.state = State::Settled;
                self.trusted_until = Some(now + TRUST);
                self.unsettled = None;
            }
            (State::Doubted { lost }, Verdict::Lost) => {
                *lost += 1;
                if *lost >= PROBES_DOWN {
                    self.fall(now);
                }
            }
            (State::Doubted { .. }, Verdict::Impossible) => {
                // What cannot be asked has to show: in as many doubts in a row as there would have
                // been probes.
                self.state = State::Settled;
                let earlier = self.unsettled.filter(|(_, at)| now - *at < 2 * WINDOW);
                let count = earlier.map_or(1, |(count, _)| count + 1);
                self.unsettled = Some((count, now));
                if count >= PROBES_DOWN {
                    self.fall(now);
                }
            }
            (State::Climbing { .. }, Verdict::Came) => {
                self.cap = self.next_step().unwrap_or(self.cap);
                self.patience = 1;
                self.climb(now);
            }
            (State::Climbing { lost }, _) => {
                *lost += 1;
                if *lost >= PROBES_UP || verdict == Verdict::Impossible {
                    self.settle(self.cap, now);
                }
            }
        }
    }

    /// Gives up the size in use, and looks for the one that the path has now.
    fn fall(&mut self, now: Instant) {
        self.cap = BASE;
        self.patience = 1;
        self.unsettled = None;
        self.climb(now);
    }

    /// Tries the next step, unless this was the last one.
    fn climb(&mut self, now: Instant) {
        self.state = State::Climbing { lost: 0 };
        if self.next_step().is_none() {
            self.settle(self.cap, now);
        }
    }

    /// Keeps to `size`, and looks for more later if there may be more.
    fn settle(&mut self, size: usize, now: Instant) {
        let is_whole = size >= self.ceiling;
        self.state = State::Settled;
        self.cap = if is_whole { usize::MAX } else { size };
        self.raise_at = (!is_whole).then_some(now + RAISE * self.patience);
    }

    /// The next longer size worth trying.
    fn next_step(&self) -> Option<usize> {
        let step = STEPS.iter().copied().find(|&step| step > self.cap);
        let next = step.map_or(self.ceiling, |step| step.min(self.ceiling));
        (next > self.cap).then_some(next)
    }
}

#[cfg(test)]
mod tests;
