//! `make hostile`: what hostile peers and shortages may cost, each figure beside its bound.
//!
//! ```text
//! hostile [--short] [ROW...]
//! hostile --list
//! ```
//!
//! The exit code is 1 when a bound is broken, or a row could not be run. Takes root, for networks
//! of its own.

use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use clap::Parser;
use pasque_tests::hostile::table::{Part, ROWS, Row, Scenario, Tests};
use pasque_tests::{Figure, Length, repository};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Cases of each property; those that are slow have a number of their own.
const CASES: &str = "4096";

/// Attacks the server in every way that is known, and says what that has cost.
#[derive(Parser)]
#[command(name = "hostile")]
struct Arguments {
    /// Attack as briefly as `make test` does
    #[arg(long)]
    short: bool,

    /// Say which rows there are, and attack nothing
    #[arg(long)]
    list: bool,

    /// What to run; everything if nothing is named
    #[arg(value_name = "ROW", value_parser = names())]
    rows: Vec<String>,
}

fn names() -> Vec<&'static str> {
    ROWS.iter().map(|row| row.name).collect()
}

/// One line of the table.
struct Line {
    what: String,
    measured: String,
    bound: String,
    is_kept: bool,
}

impl Line {
    fn failed(what: impl Into<String>, measured: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            measured: measured.into(),
            bound: String::new(),
            is_kept: false,
        }
    }

    /// A figure that a test has printed.
    fn parse(text: &str) -> Option<Self> {
        let (_, figure) = text.split_once("figure\t")?;
        let mut columns = figure.split('\t').map(str::to_owned);
        Some(Self {
            what: columns.next()?,
            measured: columns.next()?,
            bound: columns.next()?,
            is_kept: columns.next()? == "ok",
        })
    }
}

impl From<&Figure> for Line {
    fn from(figure: &Figure) -> Self {
        Self {
            what: figure.what().to_owned(),
            measured: figure.measured(),
            bound: figure.bound(),
            is_kept: figure.is_kept(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for row in ROWS {
            println!("{:14} {}", row.name, row.about);
        }
        return ExitCode::SUCCESS;
    }
    raise_descriptor_limit();
    let length = match arguments.short {
        true => Length::Short,
        false => Length::Full,
    };
    println!(
        "{:14} | {:48} | {:>12} | {:18} | ok",
        "row", "what", "measured", "bound"
    );
    let mut broken = 0;
    for row in ROWS {
        let is_wanted = arguments.rows.iter().any(|name| name == row.name);
        if is_wanted || arguments.rows.is_empty() {
            broken += run(row, length);
        }
    }
    match broken {
        0 => ExitCode::SUCCESS,
        _ => {
            println!("{broken} broken");
            ExitCode::FAILURE
        }
    }
}

/// Prints the lines of a row as they come. Returns how many bounds are broken.
fn run(row: &Row, length: Length) -> usize {
    let start = Instant::now();
    let mut broken = 0;
    for part in row.parts {
        let lines = match part {
            Part::Scenario(scenario) => run_scenario(*scenario, length),
            Part::Tests(tests) => run_tests(tests),
        };
        for line in lines {
            broken += usize::from(!line.is_kept);
            println!(
                "{:14} | {:48} | {:>12} | {:18} | {}",
                row.name,
                line.what,
                line.measured,
                line.bound,
                if line.is_kept { "ok" } else { "BROKEN" }
            );
        }
    }
    println!("{:14} | took {:.0?}", row.name, start.elapsed());
    broken
}

fn run_scenario(scenario: Scenario, length: Length) -> Vec<Line> {
    // A thread and a runtime of its own: what a scenario has left running ends with them.
    let scenario = move || match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime
            .block_on(scenario(length))
            .all()
            .iter()
            .map(Line::from)
            .collect(),
        Err(error) => vec![Line::failed("a runtime", error.to_string())],
    };
    // Its message has been printed.
    let failed = |_| vec![Line::failed("the scenario", "panicked")];
    thread::spawn(scenario).join().unwrap_or_else(failed)
}

fn run_tests(tests: &Tests) -> Vec<Line> {
    let name = [tests.target, tests.filters].concat().join(" ");
    let output = Command::new("cargo")
        .args([
            "test",
            "--locked",
            "--workspace",
            "--all-features",
            "--no-fail-fast",
        ])
        .args(tests.target)
        .args(["--", "--show-output"])
        .args(tests.filters)
        .env("PROPTEST_CASES", CASES)
        .current_dir(repository())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return vec![Line::failed(name, error.to_string())],
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<Line> = text.lines().filter_map(Line::parse).collect();
    let counts = text.lines().filter_map(counts);
    let (passed, failed) = counts.fold((0, 0), |(a, b), (passed, failed)| (a + passed, b + failed));
    let is_kept = output.status.success() && passed > 0;
    if !is_kept {
        eprintln!("{text}");
    }
    lines.push(Line {
        what: format!("tests: {name}"),
        measured: format!("{passed} passed"),
        bound: format!("{} of them", passed + failed),
        is_kept,
    });
    lines
}

/// How many tests have passed and failed, from the last line of a program of tests.
fn counts(line: &str) -> Option<(usize, usize)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut words = counts.split_whitespace();
    let passed = words.next()?.parse().ok()?;
    let failed = words.nth(1)?.parse().ok()?;
    Some((passed, failed))
}

/// A thousand clients have several descriptors each.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        eprintln!("hostile: the limit of open files stays at {limit:?}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["hostile", "unknown"]).is_err());
        let arguments = Arguments::try_parse_from(["hostile", "--short", "garbage"]).unwrap();
        assert_eq!(
            (arguments.short, &arguments.rows[..]),
            (true, &["garbage".to_owned()][..])
        );
        assert_eq!(names().iter().collect::<HashSet<_>>().len(), ROWS.len());
    }

    #[test]
    fn what_tests_print_is_understood() {
        let line = Line::parse("test a ... figure\tloss\t0.00 %\tat most 5 %\tok").unwrap();
        assert_eq!((line.what.as_str(), line.is_kept), ("loss", true));
        assert!(
            !Line::parse("figure\tloss\t6 %\tat most 5 %\tBROKEN")
                .unwrap()
                .is_kept
        );
        assert!(Line::parse("loss 6 %").is_none());
        let line = "test result: ok. 27 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out";
        assert_eq!(counts(line), Some((27, 1)));
        assert_eq!(counts("running 3 tests"), None);
    }
}
