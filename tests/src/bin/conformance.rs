//! `make conformance`: which requirement is shown by which test.
//!
//! Reads what `cargo test` prints on standard input. A test shows a row of `conformance.txt` when
//! the last part of its name starts with the row's ID: `hdg_17_…` shows HDG-17, `udp_41_43_…` shows
//! UDP-41 and UDP-43. Exits with 1 when a row is shown by no test that passes, or by one that fails.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write as _};
use std::process::ExitCode;

const ROWS: &str = include_str!("../../conformance.txt");

fn main() -> ExitCode {
    let mut report = Report::new(ROWS);
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    // Line by line as bytes: what a test prints need not be UTF-8.
    while matches!(input.read_until(b'\n', &mut line), Ok(1..)) {
        report.read(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    // Standard output may be a pipe that nobody reads to its end.
    let _ = io::stdout().write_all(report.to_text().as_bytes());
    match report.is_complete() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What a test has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Ignored,
}

/// A requirement, and the tests that are named after it.
#[derive(Debug)]
struct Row {
    id: &'static str,
    text: &'static str,
    tests: Vec<(String, Outcome)>,
}

impl Row {
    fn has(&self, outcome: Outcome) -> bool {
        self.tests.iter().any(|(_, other)| *other == outcome)
    }

    fn is_shown(&self) -> bool {
        self.has(Outcome::Passed) && !self.has(Outcome::Failed)
    }

    fn verdict(&self) -> &'static str {
        match self {
            _ if self.has(Outcome::Failed) => "FAIL",
            _ if self.has(Outcome::Passed) => "pass",
            _ => "none",
        }
    }

    fn family(&self) -> &'static str {
        self.id.split('-').next().unwrap_or_default()
    }
}

#[derive(Debug)]
struct Report {
    rows: Vec<Row>,
    /// Tests whose name looks like that of a row which does not exist.
    strays: Vec<String>,
}

impl Report {
    /// A report without any test yet. `rows` has one row a line: ID, space, text.
    fn new(rows: &'static str) -> Self {
        let rows = rows
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(' '))
            .map(|(id, text)| Row {
                id,
                text,
                tests: Vec::new(),
            })
            .collect();
        Self {
            rows,
            strays: Vec::new(),
        }
    }

    /// Takes one line of the tests' output.
    fn read(&mut self, line: &str) {
        let Some((name, outcome)) = parse_result(line) else {
            return;
        };
        for id in self.ids(name) {
            match self.rows.iter_mut().find(|row| row.id == id) {
                Some(row) => row.tests.push((name.into(), outcome)),
                None => self.strays.push(format!("{name}: there is no {id}")),
            }
        }
    }

    /// The IDs that a test's name starts with.
    fn ids(&self, name: &str) -> Vec<String> {
        let last = name.rsplit("::").next().unwrap_or(name);
        let mut parts = last.split('_');
        let family = parts.next().unwrap_or_default().to_uppercase();
        if !self.rows.iter().any(|row| row.family() == family) {
            return Vec::new();
        }
        let is_number = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        parts
            .take_while(is_number)
            .map(|number| format!("{family}-{number}"))
            .collect()
    }

    fn is_complete(&self) -> bool {
        self.rows.iter().all(Row::is_shown)
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut families: Vec<(&str, usize, usize)> = Vec::new();
        for row in &self.rows {
            // The rows of a family stand together.
            if families
                .last()
                .is_none_or(|(family, ..)| *family != row.family())
            {
                families.push((row.family(), 0, 0));
            }
            if let Some((_, shown, all)) = families.last_mut() {
                *shown += usize::from(row.is_shown());
                *all += 1;
            }
            let _ = writeln!(text, "{:6} {}  {}", row.id, row.verdict(), row.text);
            for (name, outcome) in &row.tests {
                let remark = match outcome {
                    Outcome::Passed => "",
                    Outcome::Failed => "  FAILED",
                    Outcome::Ignored => "  ignored",
                };
                let _ = writeln!(text, "             {name}{remark}");
            }
        }
        let _ = writeln!(text);
        for stray in &self.strays {
            let _ = writeln!(text, "{stray}");
        }
        for (family, shown, all) in &families {
            let _ = writeln!(text, "{family:4} {shown:3} of {all:3} rows shown");
        }
        let shown = self.rows.iter().filter(|row| row.is_shown()).count();
        let _ = writeln!(text, "all  {shown:3} of {:3} rows shown", self.rows.len());
        text
    }
}

/// The name of a test and what it came to, if `line` tells it.
fn parse_result(line: &str) -> Option<(&str, Outcome)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let outcome = match outcome.split([',', ' ']).next()? {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        "ignored" => Outcome::Ignored,
        _ => return None,
    };
    Some((
        name.strip_suffix(" - should panic").unwrap_or(name),
        outcome,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "# two families\nUDP-41 one\n\nUDP-43 two\nH3-02 three\n";

    fn verdicts(output: &str) -> Vec<&'static str> {
        let mut report = Report::new(TABLE);
        output.lines().for_each(|line| report.read(line));
        report.rows.iter().map(Row::verdict).collect()
    }

    #[test]
    fn results_are_told_from_everything_else() {
        let name = "flow::tests::udp_41_a";
        for (line, expected) in [
            (
                "test flow::tests::udp_41_a ... ok",
                Some((name, Outcome::Passed)),
            ),
            (
                "test flow::tests::udp_41_a ... ok <0.012s>",
                Some((name, Outcome::Passed)),
            ),
            (
                "test flow::tests::udp_41_a ... FAILED",
                Some((name, Outcome::Failed)),
            ),
            (
                "test flow::tests::udp_41_a ... ignored, why",
                Some((name, Outcome::Ignored)),
            ),
            (
                "test flow::tests::udp_41_a - should panic ... ok",
                Some((name, Outcome::Passed)),
            ),
            (
                "test flow::tests::udp_41_a has been running for over 60 seconds",
                None,
            ),
            ("test result: ok. 5 passed; 0 failed; 0 ignored", None),
            ("running 5 tests", None),
            ("", None),
        ] {
            assert_eq!(parse_result(line), expected, "{line}");
        }
    }

    #[test]
    fn a_name_starts_with_the_rows_it_shows() {
        let report = Report::new(TABLE);
        assert_eq!(report.ids("a::udp_41_43_both"), ["UDP-41", "UDP-43"]);
        assert_eq!(report.ids("h3_02_a_request_of_10_bytes"), ["H3-02"]);
        assert_eq!(report.ids("udp_41"), ["UDP-41"]);
        for other in ["udp_works", "udp_4_a", "tcp_41_a", "udp::a_41", "a_udp_41"] {
            assert!(report.ids(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn one_failure_outweighs_all_that_passes() {
        let passed = "test a::udp_41_x ... ok\n";
        assert_eq!(verdicts(passed), ["pass", "none", "none"]);
        assert_eq!(
            verdicts(&format!("{passed}test b::udp_41_y ... FAILED")),
            ["FAIL", "none", "none"]
        );
        assert_eq!(
            verdicts("test udp_43_x ... ignored"),
            ["none", "none", "none"]
        );
    }

    #[test]
    fn complete_is_when_every_row_is_shown() {
        let mut report = Report::new(TABLE);
        report.read("test udp_41_43_a ... ok");
        assert!(!report.is_complete());
        report.read("test h3_02_a ... ok");
        assert!(report.is_complete());
        report.read("test h3_03_a ... ok");
        assert_eq!(report.strays, ["h3_03_a: there is no H3-03"]);
        let text = report.to_text();
        assert!(text.contains("UDP    2 of   2 rows shown"), "{text}");
        assert!(text.ends_with("all    3 of   3 rows shown\n"), "{text}");
    }

    #[test]
    fn the_table_is_well_formed() {
        let report = Report::new(ROWS);
        assert!(report.rows.is_sorted_by_key(|row| {
            let order = ["HDG", "XC", "H3", "UDP", "IP", "PS", "FS"];
            (
                order
                    .iter()
                    .position(|family| *family == row.family())
                    .unwrap(),
                row.id,
            )
        }));
        for row in &report.rows {
            let number = row.id.split_once('-').unwrap().1;
            let function = format!("{}_{number}_x", row.family().to_lowercase());
            assert_eq!(report.ids(&function), [row.id]);
            assert!(row.text.chars().count() <= 80, "{}", row.id);
        }
    }
}
