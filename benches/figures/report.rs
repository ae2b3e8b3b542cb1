//! The tables of results, printed row by row and written to docs/benchmarks.md at the end.

use std::fs;

use super::{Result, root};

const FILE: &str = "docs/benchmarks.md";
const HEAD: &str = "# Benchmarks

`make bench` generated this file from one run on one machine. [performance.md](performance.md) describes the method and the targets.
Times are medians. The comparison is the ratio of libeunomia's figure (`ecc`'s, `ecli`'s) to its competitor's, or, with a sign, the
difference.
";

/// The results so far, in Markdown.
pub struct Report(String);

impl Report {
    /// Starts with a description of the system.
    pub fn new(machine: String) -> Report {
        Report(machine)
    }

    /// Starts a table.
    pub fn part(&mut self, title: &str) {
        self.line(&format!("\n## {title}\n"));
        self.line("| | competitor | libeunomia | comparison | to reach | |\n|---|---|---|---|---|---|");
    }

    /// Adds a row with the target, if any, and whether it is reached.
    pub fn row(&mut self, [name, competitor, ours, comparison]: [&str; 4], held: Option<(&str, bool)>) {
        let (target, reached) = held.unwrap_or_default();
        let verdict = match held {
            None => "",
            Some(_) if reached => "reached",
            Some(_) => "missed",
        };
        self.line(&format!("| {name} | {competitor} | {ours} | {comparison} | {target} | {verdict} |"));
    }

    /// Adds a row whose target is a ratio, and with `most_ours` also an absolute value.
    pub fn ratio(
        &mut self,
        name: &str,
        theirs: Figure,
        ours: Figure,
        most: Option<f64>,
        most_ours: Option<f64>,
    ) {
        let ratio = ours.value / theirs.value;
        let mut target = most.map(|most| format!("{most:.2}")).unwrap_or_default();
        target += &most_ours.map(|most| format!(", {most} {}", ours.unit)).unwrap_or_default();
        let reached =
            most.is_none_or(|most| ratio <= most) && most_ours.is_none_or(|most| ours.value <= most);
        let held = most.map(|_| (target.as_str(), reached));
        self.row([name, &theirs.shown(), &ours.shown(), &format!("{ratio:.2}")], held);
    }

    /// Adds a row with a ratio whose target is an absolute value.
    pub fn compared(&mut self, name: &str, theirs: Figure, ours: Figure, most: f64) {
        let ratio = format!("{:.2}", ours.value / theirs.value);
        let target = format!("{most} {}", ours.unit);
        let held = Some((target.as_str(), ours.value <= most));
        self.row([name, &theirs.shown(), &ours.shown(), &ratio], held);
    }

    /// Adds a row whose target is a difference.
    pub fn more(&mut self, name: &str, theirs: Figure, ours: Figure, most: Option<f64>) {
        let more = Figure { who: "", value: ours.value - theirs.value, ..ours };
        let target = most.map(|most| format!("+{most} {}", ours.unit));
        let held = target.as_deref().zip(most.map(|most| more.value <= most));
        let sign = if more.value < 0.0 { "" } else { "+" };
        self.row([name, &theirs.shown(), &ours.shown(), &format!("{sign}{}", more.shown())], held);
    }

    /// Adds a row without a competitor.
    pub fn alone(&mut self, name: &str, ours: Figure, most: Option<f64>) {
        let target = most.map(|most| format!("{most} {}", ours.unit));
        let held = target.as_deref().zip(most.map(|most| ours.value <= most));
        self.row([name, "", &ours.shown(), ""], held);
    }

    /// Writes the file after a complete run.
    pub fn write(&self) -> Result<()> {
        fs::write(root().join(FILE), format!("{HEAD}\n{}", self.0)).map_err(|e| format!("{FILE}: {e}"))?;
        println!("\n{FILE} is written");
        Ok(())
    }

    fn line(&mut self, text: &str) {
        println!("{text}");
        self.0 += text;
        self.0 += "\n";
    }
}

/// A value, its owner and its unit.
#[derive(Clone, Copy)]
pub struct Figure<'a> {
    pub who: &'a str,
    pub value: f64,
    pub unit: &'a str,
}

impl<'a> Figure<'a> {
    pub fn new(who: &'a str, value: f64, unit: &'a str) -> Figure<'a> {
        Figure { who, value, unit }
    }

    /// Formats the value with up to two decimals: three digits in all, more for whole and large numbers.
    fn shown(&self) -> String {
        let Figure { who, value, unit } = self;
        let digits = match value.abs() {
            _ if value.fract() == 0.0 => 0,
            size if size < 10.0 => 2,
            size if size < 100.0 => 1,
            _ => 0,
        };
        format!("{who} {value:.digits$} {unit}").trim().to_owned()
    }
}
