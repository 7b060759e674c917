//! What a figure has found, as lines of a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::Result;

/// The rows of one figure, and what is to be said about them.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
    failure: Option<String>,
}

/// One measured quantity.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    runs: Vec<f64>,
    baseline: Option<Baseline>,
}

/// What a quantity is compared with: the same quantity of something else.
#[derive(Debug)]
struct Baseline {
    what: String,
    runs: Vec<f64>,
}

impl Report {
    /// A figure that could not be measured, and why.
    pub(crate) fn failed(why: String) -> Self {
        Self {
            failure: Some(why),
            ..Self::default()
        }
    }

    /// A figure that is left out, and why.
    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        let mut report = Self::default();
        report.note(why);
        report
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Adds a row of one value per run.
    pub(crate) fn row(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        runs: impl IntoIterator<Item = f64>,
    ) {
        self.rows.push(Row {
            what: what.into(),
            unit,
            runs: runs.into_iter().collect(),
            baseline: None,
        });
    }

    /// Adds the baseline of the row that was added last.
    pub(crate) fn beside(&mut self, what: impl Into<String>, runs: impl IntoIterator<Item = f64>) {
        if let Some(row) = self.rows.last_mut() {
            row.baseline = Some(Baseline {
                what: what.into(),
                runs: runs.into_iter().collect(),
            });
        }
    }

    /// Adds a sentence.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn to_json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::to_json).collect();
        json!({ "rows": rows, "notes": self.notes, "failure": self.failure })
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let baseline = median(&self.baseline.as_ref()?.runs)?;
        Some(median(&self.runs)? / baseline).filter(|ratio| ratio.is_finite())
    }

    fn to_json(&self) -> Value {
        let baseline = self.baseline.as_ref().map(|baseline| {
            json!({
                "what": baseline.what,
                "median": median(&baseline.runs),
                "runs": baseline.runs,
            })
        });
        json!({
            "what": self.what,
            "unit": self.unit,
            "median": median(&self.runs),
            "runs": self.runs,
            "baseline": baseline,
            "ratio": self.ratio(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "  {row}")?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        match &self.failure {
            Some(why) => writeln!(f, "  not measured: {why}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, .. } = self;
        write!(f, "{what:50} {:>9} {unit:12}", short(median(&self.runs)))?;
        if let Some(baseline) = &self.baseline {
            let value = short(median(&baseline.runs));
            write!(f, " {:>9} {}", value, baseline.what)?;
        }
        match self.ratio() {
            Some(ratio) => write!(f, ", ratio {}", short(Some(ratio))),
            None => Ok(()),
        }
    }
}

/// Three digits that mean something.
fn short(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value.is_nan() => "-".into(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 1.0 || value == 0.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// The middle one; of an even number, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(match sorted.len() % 2 {
        1 => upper,
        _ => (sorted[middle - 1] + upper) / 2.0,
    })
}

/// The value that a share of `values` does not exceed.
pub(crate) fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((share * last as f64).round() as usize).copied()
}

/// Lets the contestants have their turn one after the other, `runs` times over: what the machine
/// does meanwhile happens to all of them. Returns what each has measured.
pub(crate) fn in_turn<T, const N: usize>(
    runs: usize,
    mut contestants: [&mut dyn FnMut() -> Result<T>; N],
) -> Result<[Vec<T>; N]> {
    let mut samples = [(); N].map(|()| Vec::with_capacity(runs));
    for _ in 0..runs {
        for (measure, samples) in contestants.iter_mut().zip(&mut samples) {
            samples.push(measure()?);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(percentile(&[], 0.5), None);
        let values: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), Some(99.0));
    }

    #[test]
    fn a_row_has_the_ratio_of_its_medians() {
        let mut report = Report::default();
        report.row("echo", "kpps", [10.0, 30.0, 20.0]);
        report.beside("plain", [40.0, 40.0, 400.0]);
        let row = &report.to_json()["rows"][0];
        assert_eq!(row["median"], 20.0);
        assert_eq!(row["baseline"]["median"], 40.0);
        assert_eq!(row["ratio"], 0.5);
        assert!(report.to_string().contains("ratio 0.500"), "{report}");
        report.row("without", "kpps", []);
        assert_eq!(report.to_json()["rows"][1]["ratio"], Value::Null);
    }

    #[test]
    fn contestants_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let say = |letter| {
            order.borrow_mut().push(letter);
            Ok(letter)
        };
        let samples = in_turn(2, [&mut || say('a'), &mut || say('b')]).unwrap();
        assert_eq!(samples, [vec!['a'; 2], vec!['b'; 2]]);
        assert_eq!(*order.borrow(), "abab");
    }
}
