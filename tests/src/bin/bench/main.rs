//! `make bench`: what Pasque costs and how fast it is, each figure beside a baseline of the same
//! run.
//!
//! A number of one machine says little about another, and the machine itself drifts within minutes.
//! So a figure and its baseline take turns, each as often as `--runs` says, the medians count, and
//! their ratio is what to compare. Nothing is asserted.
//!
//! ```text
//! bench [--runs N] [--secs N] [--out FILE] [FIGURE...]
//! bench --list
//! ```

mod allocations;
mod echo;
mod engine;
mod fairness;
mod lab;
mod load;
mod loss;
mod machine;
mod memory;
mod oneway;
mod relay;
mod report;
mod setup;
mod traffic;
mod tunnel;
mod wireguard;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, value_parser};
use pasque_tests::repository;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use machine::Cores;
use report::Report;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures cost and speed, each beside a baseline of the same run.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// How often each measurement and its baseline take turns; the medians count
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u32).range(1..=99))]
    runs: u32,

    /// Length of each measurement in seconds, without its warm-up
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u64).range(1..=600))]
    secs: u64,

    /// Where the figures go as JSON [default: target/bench.json]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Say which figures there are, and measure nothing
    #[arg(long)]
    list: bool,

    /// What to measure; everything if nothing is named
    #[arg(value_name = "FIGURE", value_parser = FIGURES.map(|figure| figure.name))]
    figures: Vec<String>,
}

/// How long and how often to measure, and where.
#[derive(Clone, Copy, Debug)]
struct Plan {
    runs: usize,
    time: Duration,
    cores: Cores,
}

/// One part of the table.
struct Figure {
    name: &'static str,
    about: &'static str,
    measure: fn(&Plan) -> Result<Report>,
}

const FIGURES: [Figure; 9] = [
    Figure {
        name: "echo",
        about: "UDP through a tunnel and back, beside plain UDP",
        measure: echo::measure,
    },
    Figure {
        name: "oneway",
        about: "UDP through a tunnel one way, beside quiche and quinn-udp alone",
        measure: oneway::measure,
    },
    Figure {
        name: "engine",
        about: "both ends of a QUIC connection in memory, beside the AEAD of its packets",
        measure: engine::measure,
    },
    Figure {
        name: "allocations",
        about: "heap allocations for each datagram sent and received",
        measure: allocations::measure,
    },
    Figure {
        name: "memory",
        about: "a server's private memory for each connection and tunnel",
        measure: memory::measure,
    },
    Figure {
        name: "setup",
        about: "a thousand clients: their tunnels, and goodput at and beyond the peak",
        measure: setup::measure,
    },
    Figure {
        name: "tunnel",
        about: "TCP and echo requests through an IP tunnel, beside the bare network (root)",
        measure: tunnel::measure,
    },
    Figure {
        name: "loss",
        about: "TCP through an IP tunnel over a lossy path and over a long one (root)",
        measure: loss::measure,
    },
    Figure {
        name: "fairness",
        about: "what a greedy client leaves to another one (root)",
        measure: fairness::measure,
    },
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for figure in FIGURES {
            println!("{:12} {}", figure.name, figure.about);
        }
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures what was asked for. Returns whether all of it could be measured.
fn run(arguments: &Arguments) -> Result<bool> {
    raise_descriptor_limit();
    let plan = Plan {
        runs: arguments.runs as usize,
        time: Duration::from_secs(arguments.secs),
        cores: Cores::choose()?,
    };
    let machine = machine::describe();
    println!("{machine}; {}", plan.cores);
    println!(
        "medians of {} runs of {:?} each, taking turns with their baselines",
        plan.runs, plan.time
    );
    let mut results = Vec::new();
    let mut all_measured = true;
    for figure in &FIGURES {
        let is_wanted = arguments.figures.iter().any(|name| name == figure.name);
        if !is_wanted && !arguments.figures.is_empty() {
            continue;
        }
        println!("\n{}: {}", figure.name, figure.about);
        let started = Instant::now();
        // A thread of its own, because a figure keeps its thread, and what that starts, on a core.
        let measured = thread::scope(|scope| scope.spawn(|| (figure.measure)(&plan)).join());
        let report = match measured {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => Report::failed(error.to_string()),
            Err(_panic) => Report::failed("panicked".into()),
        };
        all_measured &= !report.is_failed();
        print!("{report}");
        let mut result = report.to_json();
        result["figure"] = figure.name.into();
        result["took_seconds"] = started.elapsed().as_secs().into();
        results.push(result);
    }
    let file = match &arguments.out {
        Some(file) => file.clone(),
        None => repository().join("target/bench.json"),
    };
    let document = json!({
        "machine": machine,
        "placement": plan.cores.to_string(),
        "runs": plan.runs,
        "seconds": plan.time.as_secs(),
        "figures": results,
    });
    fs::write(&file, format!("{document:#}\n"))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    println!("\nwritten to {}", file.display());
    Ok(all_measured)
}

/// A thousand clients have several descriptors each.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("bench: the limit of open files stays at {limit:?}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["bench", "--runs", "0"]).is_err());
        assert!(Arguments::try_parse_from(["bench", "unknown"]).is_err());
        let arguments = Arguments::try_parse_from(["bench", "--secs", "1", "echo"]).unwrap();
        assert_eq!(arguments.figures, ["echo"]);
    }
}
