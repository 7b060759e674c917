//! [`Monitor`]: a thread beside the workers that looks whether they are alive, and how much memory there
//! is left for them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use pasque::health::{Health, STALL};

use crate::listener::Places;
use crate::mailbox::{Mailbox, Message};
use crate::memory::{Gauge, Step};

/// How often it looks while there are connections: twice in the time that it reports.
const BUSY: Duration = Duration::from_millis(STALL.as_millis() as u64 / 2);

/// How often it looks while there are none, and how long a worker may be silent before it is asked
/// for a sign of life.
const IDLE: Duration = Duration::from_secs(2);

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
                    if step >= Some(Step::Idle) {
                        workers.iter().for_each(|worker| worker.push(Message::Shed));
                    }
                    let is_busy = places.total() > 0 || places.memory.step() > Step::None;
                    interval = if is_busy { BUSY } else { IDLE };
                }
            })?;
        Ok(Self { _stop: stop })
    }
}
