//! [`Monitor`]: a thread beside the workers that looks whether they are alive, and how much memory there
//! is left for them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pasque::health::{Health, STALL};
use pasque::log::Quota;
use tracing::warn;

use crate::listener::Places;
use crate::mailbox::{Mailbox, Message};
use crate::memory::{Gauge, Step};

/// How often it looks while there are connections: twice in the time that it reports.
const BUSY: Duration = Duration::from_millis(STALL.as_millis() as u64 / 2);

/// How often it looks while there are none, and how long a worker may be silent before it is asked
/// for a sign of life.
const IDLE: Duration = Duration::from_secs(2);

/// How long nothing has been under way on a connection that gives up its place to another client.
pub(crate) const WELCOME: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// Lines that say so.
static LINES: Quota = Quota::new(10);

/// Looks after the health of a server until it is dropped.
#[derive(Debug)]
pub(crate) struct Monitor {
    /// Dropping it ends the thread.
    _stop: Sender<()>,
}

impl Monitor {
    pub(crate) fn start(
        health: Arc<Health>,
        workers: Arc<[Arc<Mailbox>]>,
        places: Arc<Places>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        thread::Builder::new()
            .name("monitor".into())
            .spawn(move || {
                let mut interval = IDLE;
                let mut gauge = Gauge::new(Instant::now());
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    let now = Instant::now();
                    health.look(now);
                    for (pulse, worker) in health.pulses().iter().zip(workers.iter()) {
                        if pulse.silence(now) >= IDLE {
                            worker.nudge();
                        }
                    }
                    let step = gauge.look(&places.memory, places.memory_budget(), now);
                    if let Some(step) = step {
                        give_up(step, &workers);
                    }
                    look_after_places(&places, &workers);
                    let is_busy = places.total() > 0 || places.memory.step() > Step::None;
                    interval = if is_busy { BUSY } else { IDLE };
                }
            })?;
        Ok(Self { _stop: stop })
    }
}

/// Has workers close what a step gives up.
pub(crate) fn give_up(step: Step, workers: &[Arc<Mailbox>]) {
    if step >= Step::Idle {
        shed(workers, Duration::ZERO);
    }
    if let Some(heavy) = step.heavy() {
        for worker in workers {
            worker.push(Message::ShedHeavy(heavy));
        }
    }
}

/// Makes room where a client was turned away because all places are taken: a connection costs its client
/// hardly anything, and would keep its place for as long as a packet comes from time to time.
pub(crate) fn look_after_places(places: &Places, workers: &[Arc<Mailbox>]) {
    if !places.were_wanted() {
        return;
    }
    if let Some(left_out) = LINES.take(Instant::now()) {
        warn!(
            connections = places.total(),
            left_out,
            "all places are taken: connections without a request for {} s are closed",
            WELCOME.as_secs()
        );
    }
    shed(workers, WELCOME);
}

fn shed(workers: &[Arc<Mailbox>], idle: Duration) {
    for worker in workers {
        worker.push(Message::Shed(idle));
    }
}
