//! A UDP tunnel's echo throughput, beside that of plain UDP.
//!
//! ```text
//! plain    client                      →             echo
//!          core B                                    core A
//!
//! tunnel   client → psq-server → echo, and back the same way
//!          core B   core A       core B
//! ```
//!
//! All with the same number of datagrams under way. The ends of the tunnel move them in batches, its target
//! too, so that it is the tunnel that is measured; the plain ones take one system call for each. The ceiling
//! is that of [`oneway`](crate::oneway), with the same target behind its server.

use std::time::Instant;

use crate::load::{self, Direction, WARM_UP};
use crate::machine::{Cores, pin};
use crate::oneway::ceiling;
use crate::report::{Report, in_turn};
use crate::traffic::{Target, WINDOW, Window, socket};
use crate::{Plan, Result};

/// Bytes of UDP payload.
const SIZES: [usize; 2] = [64, 1200];

/// Round trips per second, and the share of datagrams that did not come back.
type Sample = (f64, f64);

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    for len in SIZES {
        let mut tunnel = || {
            let sample = load::measure(plan, Direction::Echo, len)?;
            Ok((sample.rate, sample.lost))
        };
        let mut plain = || plain(plan, plan.cores, len);
        let mut ceiling = || {
            let sample = ceiling(plan, Direction::Echo, len)?;
            Ok((sample.rate, sample.lost))
        };
        let contestants: [&mut dyn FnMut() -> Result<Sample>; 3] =
            [&mut tunnel, &mut plain, &mut ceiling];
        let [tunnel, plain, ceiling] = in_turn(plan.runs, contestants)?;
        let what = format!("{len} B, {WINDOW} under way: echoes");
        report.row(what, "kpps", tunnel.iter().map(|(rate, _)| rate / 1e3));
        report.beside("plain UDP", plain.iter().map(|(rate, _)| rate / 1e3));
        let what = format!("{len} B, {WINDOW} under way: echoes, quiche alone");
        report.row(what, "kpps", ceiling.iter().map(|(rate, _)| rate / 1e3));
        report.beside("plain UDP", plain.iter().map(|(rate, _)| rate / 1e3));
        let what = format!("{len} B, {WINDOW} under way: lost");
        report.row(what, "%", tunnel.iter().map(|(_, lost)| 100.0 * lost));
        report.beside("plain UDP", plain.iter().map(|(_, lost)| 100.0 * lost));
    }
    Ok(report)
}

/// Client and echo without anything between them.
fn plain(plan: &Plan, cores: Cores, len: usize) -> Result<Sample> {
    let echo = Target::echo(cores.server)?;
    pin(cores.client)?;
    let socket = socket()?;
    socket.connect(echo.address)?;
    let mut window = Window::new(WINDOW);
    let (mut sent, mut arrived) = (0, 0);
    let mut payload = vec![0; len];
    let start = Instant::now();
    let mut before = None;
    loop {
        while window.is_open() {
            window.stamp(&mut payload);
            // A full buffer loses it, as the network would.
            let _ = socket.send(&payload);
            sent += 1;
        }
        match socket.recv(&mut payload) {
            Ok(_) => {
                window.answer(&payload);
                arrived += 1;
            }
            Err(_stalled) => window.reset(),
        }
        let elapsed = start.elapsed();
        match before {
            None if elapsed >= WARM_UP => before = Some((elapsed, sent, arrived)),
            Some((began, sent_before, arrived_before)) if elapsed - began >= plan.time => {
                let (sent, arrived): (u64, u64) = (sent - sent_before, arrived - arrived_before);
                if arrived == 0 {
                    return Err(format!("of {sent} datagrams none came back").into());
                }
                let lost = sent.saturating_sub(arrived) as f64 / sent.max(1) as f64;
                return Ok((arrived as f64 / (elapsed - began).as_secs_f64(), lost));
            }
            _ => {}
        }
    }
}
