//! A UDP tunnel one way, beside quiche and quinn-udp alone.
//!
//! ```text
//! up       client → psq-server → sink          down     client ← psq-server ← source
//!          core B   core A       core A                 core B   core A       core B
//!
//! ceiling  one connection with DATAGRAM frames between two processes, each run to completion: the
//!          same settings, no HTTP/3, no tunnel and nobody behind the server
//! ```

use std::time::Duration;

use pasque_tests::{Process, beside};

use crate::load::{self, Direction, Moved, Sample, WARM_UP};
use crate::machine::{Cpu, numbers, output, pin};
use crate::report::{Report, in_turn};
use crate::traffic::Target;
use crate::{Plan, Result};

/// Bytes of UDP payload.
const SIZES: [usize; 2] = [64, 1200];

/// The program of `framework/h3/examples`.
pub(crate) const CEILING: &str = "examples/ceiling";

pub(crate) fn measure(plan: &Plan) -> Result<Report> {
    let mut report = Report::default();
    for direction in [Direction::Up, Direction::Down] {
        for len in SIZES {
            let mut tunnel = || load::measure(plan, direction, len);
            let mut ceiling = || ceiling(plan, direction, len);
            let samples = in_turn(plan.runs, [&mut tunnel, &mut ceiling])?;
            add(&mut report, direction, len, &samples);
        }
    }
    report.note("calls and acknowledgements: of the server's QUIC socket, in the whole run");
    report.note(
        "server CPU: of the process, with the target's socket, which the ceiling does not have",
    );
    Ok(report)
}

fn add(report: &mut Report, direction: Direction, len: usize, samples: &[Vec<Sample>; 2]) {
    let name = match direction {
        Direction::Down => format!("{len} B, target to client: "),
        _ => format!("{len} B, client to target: "),
    };
    let mut both = |what: &str, unit, value: &dyn Fn(&Sample) -> f64| {
        let [tunnel, ceiling] = samples;
        report.row(name.clone() + what, unit, tunnel.iter().map(value));
        report.beside("quiche alone", ceiling.iter().map(value));
    };
    both("datagrams", "kpps", &|sample| sample.rate / 1e3);
    both("goodput", "Gbit/s", &|sample| {
        sample.rate * len as f64 * 8.0 / 1e9
    });
    both("server CPU", "ns/datagram", &|sample| {
        sample.cpu.total() * 1e9 / sample.arrived
    });
    both("kernel's share of it", "%", &|sample| {
        sample.cpu.kernel_share()
    });
    both("kernel's share of both ends", "%", &|sample| {
        sample.cpu.plus(sample.client_cpu).kernel_share()
    });
    if direction == Direction::Down {
        both("per send call", "packets", &|s| {
            s.moved.sent / s.moved.sends
        });
        both("acknowledgements", "per packet", &|s| {
            s.moved.received / s.moved.sent
        });
    } else {
        both("per receive call", "packets", &|s| {
            s.moved.received / s.moved.receives
        });
        both("acknowledgements", "per packet", &|s| {
            s.moved.sent / s.moved.received
        });
    }
}

/// One run of the ceiling.
pub(crate) fn ceiling(plan: &Plan, direction: Direction, len: usize) -> Result<Sample> {
    let target = match direction {
        Direction::Echo => Some(Target::batching_echo(plan.cores.client)?),
        _ => None,
    };
    let behind = target.map(|target| (target.address.to_string(), target));
    let program = beside(CEILING)?;
    let (at_server, at_client) = match direction {
        Direction::Down => ("source", "sink"),
        Direction::Up => ("sink", "source"),
        Direction::Echo => (
            behind.as_ref().map_or("", |(address, _)| address.as_str()),
            "ask",
        ),
    };
    let (len, seconds) = (len.to_string(), plan.time.as_secs().to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        pin(plan.cores.server)?;
        let mut server = Process::start(&program, ["serve", at_server, &len, &seconds])?;
        pin(plan.cores.client)?;
        let line = server.line("listening on ").await?;
        let address = line.rsplit(' ').next().unwrap_or_default().to_owned();
        let arguments = ["dial", &address, at_client, &len, &seconds].map(str::to_owned);
        let client = tokio::task::spawn_blocking({
            let program = program.clone();
            move || output(program.as_os_str(), arguments)
        });
        let client = client.await??;
        // It has left: the server knows at once, or after its idle timeout.
        tokio::time::timeout(WARM_UP + Duration::from_secs(40), server.exit()).await??;
        let served = server.output();
        let served = served.lines().last().unwrap_or_default();
        let receiver = match direction {
            Direction::Down | Direction::Echo => client.trim(),
            Direction::Up => served,
        };
        let missing = || format!("the ceiling printed {served:?} and {:?}", client.trim());
        let (receiver, server) = (numbers(receiver), numbers(served));
        let client = numbers(client.trim());
        let number = |of: &std::collections::HashMap<&str, f64>, name| {
            of.get(name).copied().ok_or_else(missing)
        };
        let arrived = number(&receiver, "datagrams")?;
        Ok(Sample {
            rate: arrived / number(&receiver, "seconds")?,
            lost: f64::NAN,
            cpu: Cpu {
                user: number(&server, "user")?,
                system: number(&server, "system")?,
            },
            client_cpu: Cpu {
                user: number(&client, "user")?,
                system: number(&client, "system")?,
            },
            arrived,
            allocations: f64::NAN,
            moved: Moved::parse(served).ok_or_else(missing)?,
        })
    })
}
