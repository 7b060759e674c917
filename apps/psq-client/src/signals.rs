//! The signals that ask the program to end.

use std::fs;
use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, as a terminal sends it for Ctrl-C, SIGTERM, as service managers do, and SIGHUP, which comes when
/// the terminal is closed.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Not there under `nohup`: the client is meant to outlive its terminal.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Takes the signals over. From here on they end nothing by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let hang_up = match ignores(&status, SignalKind::hangup()) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether a process of this `status` ignores `signal` (`proc_pid_status(5)`).
fn ignores(status: &str, signal: SignalKind) -> bool {
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = 1_u64.checked_shl(signal.as_raw_value().unsigned_abs().saturating_sub(1));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_is_ignored_is_a_bit_of_a_mask() {
        let hang_up = SignalKind::hangup();
        let status = |mask: &str| format!("SigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores(&status("0000000000001001"), hang_up));
        assert!(!ignores(&status("0000000000001000"), hang_up));
        assert!(ignores(
            &status("0000000000001002"),
            SignalKind::interrupt()
        ));
        assert!(!ignores("", hang_up));
    }
}
