//! Memory and wake-ups of an idle host.

use std::path::Path;

use super::host::{Host, wakeups};
use super::programs::Built;
use super::report::{Figure, Report};
use super::{RUNS, Result, columns, ecli, module, object, package};

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("An idle host");
    memory(built, report)?;
    idle(built, report)
}

/// VmRSS, each of a separate host.
fn memory(built: &Built, report: &mut Report) -> Result<()> {
    let hosts: [(&Path, &[&str], _); 5] = [
        (&built.plain_host, &[], object("bootstrap")),
        (&built.our_host, &[], package("bootstrap")),
        (&built.libbpf_rs, &["host"], object("bootstrap")),
        (&built.our_host, &[], package("sigsnoop")),
        (&built.our_host, &[], module("sigsnoop")),
    ];
    let mut runs = Vec::new();
    for _ in 0..RUNS {
        let sizes =
            hosts.iter().map(|(program, words, file)| Host::start(program, words, file)?.resident_kb());
        runs.push(sizes.map(|kb| kb.map(|kb| kb as f64)).collect::<Result<Vec<f64>>>()?);
    }
    let medians = columns(&runs);
    let kb = |who, column: usize| Figure::new(who, medians[column], "kB");
    report.more("resident memory with bootstrap", kb("libbpf", 0), kb("", 1), Some(1000.0));
    report.more("the same", kb("libbpf-rs", 2), kb("", 1), None);
    report.more("with guest sigsnoop", kb("its package", 3), kb("", 4), Some(6000.0));
    Ok(())
}

/// All hosts sleep during the same ten seconds.
fn idle(built: &Built, report: &mut Report) -> Result<()> {
    let signal = built.signal();
    let hosts = [
        Host::start(&built.plain_host, &[], &signal.object)?,
        Host::start(&built.our_host, &[], &signal.package)?,
        Host::start(&built.our_host, &[], &built.idle.package)?,
        Host::start(&built.our_host, &[], &built.guests[0])?,
        ecli::idle(&signal.package)?,
    ];
    let counts = wakeups(&hosts.each_ref())?;
    let theirs = format!("libbpf {}", counts[0]);
    let names = ["wake-ups in ten seconds", "without a source of events", "of a guest", "of `ecli`"];
    for (name, count) in names.into_iter().zip(&counts[1..]) {
        report.row([name, &theirs, &count.to_string(), ""], Some(("0", *count == 0)));
    }
    Ok(())
}
