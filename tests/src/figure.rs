//! [`Figures`]: what a scenario has measured, each figure beside the bound that it must not cross.

use std::fmt;
use std::time::Duration;

/// How much of an attack there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// A second or two: enough to go red when a bound is crossed. `make test`.
    Short,
    /// As much as the bound was set for. `make hostile`.
    Full,
}

impl Length {
    /// One of two amounts.
    pub fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Share,
    Speed,
    Ratio,
    Seconds,
    PerSecond,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Exactly(f64),
}

/// One measured quantity and its bound.
#[derive(Clone, Debug)]
pub struct Figure {
    what: String,
    measured: f64,
    unit: Unit,
    bound: Bound,
}

impl Figure {
    /// Whether the bound was kept.
    pub fn is_kept(&self) -> bool {
        match self.bound {
            Bound::AtMost(bound) => self.measured <= bound,
            Bound::AtLeast(bound) => self.measured >= bound,
            #[expect(clippy::float_cmp, reason = "counts are whole numbers")]
            Bound::Exactly(bound) => self.measured == bound,
        }
    }

    /// Whether it depends on how fast the machine is, which unoptimised programs and other tests
    /// beside them make slow.
    fn is_about_speed(&self) -> bool {
        matches!(self.unit, Unit::Seconds | Unit::PerSecond | Unit::Speed)
    }

    /// What is measured.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What was measured, as text.
    pub fn measured(&self) -> String {
        self.unit.format(self.measured)
    }

    /// The bound, as text.
    pub fn bound(&self) -> String {
        let (word, bound) = match self.bound {
            Bound::AtMost(bound) => ("at most ", bound),
            Bound::AtLeast(bound) => ("at least ", bound),
            Bound::Exactly(bound) => ("", bound),
        };
        format!("{word}{}", self.unit.format(bound))
    }
}

/// The line that `make hostile` finds in the output of a test.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = if self.is_kept() { "ok" } else { "BROKEN" };
        let (what, measured, bound) = (&self.what, self.measured(), self.bound());
        write!(f, "figure\t{what}\t{measured}\t{bound}\t{kept}")
    }
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Bytes => format!("{:.1} MiB", value / f64::from(1 << 20)),
            Self::Share | Self::Speed => format!("{:.2} %", value * 100.0),
            Self::Ratio => format!("{value:.2}"),
            Self::Seconds if value.abs() < 1.0 => format!("{:.1} ms", value * 1000.0),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond => format!("{value:.1}/s"),
        }
    }
}

/// What a scenario has measured.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    fn push(&mut self, what: impl Into<String>, measured: f64, unit: Unit, bound: Bound) {
        self.0.push(Figure {
            what: what.into(),
            measured,
            unit,
            bound,
        });
    }

    /// A number of things, all of them or none.
    pub fn exactly(&mut self, what: impl Into<String>, measured: usize, bound: usize) {
        let bound = Bound::Exactly(bound as f64);
        self.push(what, measured as f64, Unit::Count, bound);
    }

    /// A number of things that is not to be exceeded.
    pub fn at_most(&mut self, what: impl Into<String>, measured: usize, bound: usize) {
        self.push(
            what,
            measured as f64,
            Unit::Count,
            Bound::AtMost(bound as f64),
        );
    }

    /// A number of things without which the scenario says nothing.
    pub fn at_least(&mut self, what: impl Into<String>, measured: usize, bound: usize) {
        let bound = Bound::AtLeast(bound as f64);
        self.push(what, measured as f64, Unit::Count, bound);
    }

    /// Bytes of memory that are not to be exceeded.
    pub fn memory(&mut self, what: impl Into<String>, measured: u64, bound: u64) {
        self.push(
            what,
            measured as f64,
            Unit::Bytes,
            Bound::AtMost(bound as f64),
        );
    }

    /// A share of a whole, 0 to 1, that is not to be exceeded.
    pub fn share(&mut self, what: impl Into<String>, measured: f64, bound: f64) {
        self.push(what, measured, Unit::Share, Bound::AtMost(bound));
    }

    /// A share of a speed that may be lost. Judged by `make hostile` only.
    pub fn speed(&mut self, what: impl Into<String>, measured: f64, bound: f64) {
        self.push(what, measured, Unit::Speed, Bound::AtMost(bound));
    }

    /// A ratio of two amounts that is not to be exceeded.
    pub fn ratio(&mut self, what: impl Into<String>, measured: f64, bound: f64) {
        self.push(what, measured, Unit::Ratio, Bound::AtMost(bound));
    }

    /// A time that is not to be exceeded. Judged by `make hostile` only.
    pub fn time(&mut self, what: impl Into<String>, measured: Duration, bound: Duration) {
        let bound = Bound::AtMost(bound.as_secs_f64());
        self.push(what, measured.as_secs_f64(), Unit::Seconds, bound);
    }

    /// A rate that is to be reached. Judged by `make hostile` only.
    pub fn rate(&mut self, what: impl Into<String>, measured: f64, bound: f64) {
        self.push(what, measured, Unit::PerSecond, Bound::AtLeast(bound));
    }

    /// All of them.
    pub fn all(&self) -> &[Figure] {
        &self.0
    }

    /// Adds those of another part.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Prints them, and fails a test of which one is broken that does not depend on speed.
    ///
    /// # Panics
    /// When there is one.
    #[expect(clippy::panic, reason = "a test fails by a panic")]
    pub fn check(&self) {
        for figure in &self.0 {
            println!("{figure}");
        }
        let broken = self
            .0
            .iter()
            .find(|figure| !figure.is_kept() && !figure.is_about_speed());
        if let Some(figure) = broken {
            panic!(
                "{}: {} instead of {}",
                figure.what,
                figure.measured(),
                figure.bound()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_kept_up_to_its_value() {
        let mut figures = Figures::default();
        figures.at_most("most", 3, 3);
        figures.at_least("least", 3, 3);
        figures.exactly("exactly", 3, 3);
        figures.share("share", 0.05, 0.05);
        assert!(figures.all().iter().all(Figure::is_kept));
        figures.check();

        let mut broken = Figures::default();
        broken.at_most("most", 4, 3);
        broken.at_least("least", 2, 3);
        broken.exactly("exactly", 2, 3);
        broken.memory("memory", 2, 1);
        broken.ratio("ratio", 1.1, 1.0);
        assert!(!broken.all().iter().any(Figure::is_kept));
    }

    #[test]
    fn a_test_does_not_fail_by_being_slow() {
        let mut figures = Figures::default();
        figures.time("slow", Duration::from_secs(2), Duration::from_millis(50));
        assert!(!figures.all()[0].is_kept());
        figures.check();
        let line = figures.all()[0].to_string();
        assert_eq!(line, "figure\tslow\t2.00 s\tat most 50.0 ms\tBROKEN");
    }
}
