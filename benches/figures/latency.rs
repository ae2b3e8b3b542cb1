//! The time from a program's submit to its arrival in a thread that sleeps.

use std::process::Command;

use super::programs::{Built, sources};
use super::report::{Figure, Report};
use super::{Result, medians};

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("From a program's submit to the callback, in a thread that sleeps");
    let [plain, ours, bpftrace] = &built.latency;
    let mut programs = [Command::new(plain), Command::new(ours), Command::new(bpftrace)];
    programs[0].arg(&built.latency_event.object);
    programs[1].arg(&built.latency_event.package);
    programs[2].arg(sources().join("latency.bt"));
    let figures = medians(&mut programs)?;
    let of = |who, program: usize, column: usize| Figure::new(who, figures[program][column], "µs");
    for (column, name) in ["p50", "p99"].into_iter().enumerate() {
        report.ratio(name, of("libbpf", 0, column), of("", 1, column), Some(1.1), None);
        let name = format!("{name}, up to bpftrace's line in a pipe");
        report.ratio(&name, of("bpftrace", 2, column), of("", 1, column), None, None);
    }
    Ok(())
}
