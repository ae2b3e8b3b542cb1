//! Replaces under load: how soon the new version runs, how long events wait, and what a dispatcher costs.

use std::collections::HashMap;
use std::process::Command;

use super::programs::Built;
use super::report::{Figure, Report};
use super::{Result, numbers, output};

/// The number of replaces of each kind.
const COUNT: &str = "100";

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("Replacing a package under load from two threads");
    let [one, two] = &built.replaced;
    let mut command = Command::new(&built.replace);
    command.args([&one.package, &two.package, &one.object]).arg(COUNT);
    let text = output(&mut command)?;
    let rows: HashMap<&str, Vec<f64>> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, rest)| (name, numbers(rest)))
        .collect();
    let of = |name: &str, column: usize| {
        rows.get(name).and_then(|row| row.get(column)).copied().ok_or_else(|| format!("replace: no {name}"))
    };
    for (column, share, most) in [(0, "p50", 10.0), (1, "p99", 50.0)] {
        let ms = |who, name| of(name, column).map(|value| Figure::new(who, value, "ms"));
        let plain = "libbpf, open, load, attach";
        let to_event = format!("from the call to the first event of the new program, {share}");
        report.compared(&to_event, ms(plain, "handled_plain")?, ms("", "handled")?, most);
        let to_delivery = format!("to the first event that is delivered, {share}");
        report.ratio(&to_delivery, ms(plain, "handled_plain")?, ms("", "delivered")?, None, None);
    }
    for (column, share) in [(0, "p50"), (1, "p99")] {
        for (name, what, most) in [("default", "", Some(5.0)), ("ordered", ", ordered", None)] {
            let [idle, ours] = [of("idle", column)?, of(name, column)?];
            let (idle, ours) = (Figure::new("without a replace", idle, "ms"), Figure::new("", ours, "ms"));
            let most = most.filter(|_| column == 1);
            report.more(&format!("longest time between two deliveries{what}, {share}"), idle, ours, most);
        }
    }
    let call = numbers(&output(Command::new(&built.dispatcher).arg(&one.package))?);
    let ns = |who, column: usize| Figure::new(who, call[column], "ns");
    report.more(
        "a system call with a program, through a dispatcher",
        ns("directly", 0),
        ns("", 1),
        Some(4.0),
    );
    Ok(())
}
