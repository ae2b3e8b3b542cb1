//! The time to start compiled packages, also by their size, and guests.

use std::path::Path;
use std::process::Command;

use super::programs::Built;
use super::report::{Figure, Report};
use super::{Result, medians, module, object, package};

/// Starts per run of a program. Detaching from a tracepoint takes the kernel a tenth of a second.
const ROUNDS: &str = "15";

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part(
        "From a file to loaded, and to attached programs: the first package of a process, and later ones",
    );
    for name in ["bootstrap", "opensnoop"] {
        example(built, name, report)?;
    }
    report.part("From a file to one loaded program, by its size; not the first load of the process");
    sizes(built, report)?;
    report.part("A guest, from its file to its first line");
    let mut guest = Command::new(&built.guest_start);
    let figures = medians(&mut [guest.arg(module("sigsnoop")).arg(ROUNDS)])?;
    report.alone("sigsnoop", ms("", figures[0][0]), Some(5.0));
    Ok(())
}

fn example(built: &Built, name: &str, report: &mut Report) -> Result<()> {
    let mut libbpf_rs = Command::new(&built.libbpf_rs);
    libbpf_rs.arg("load").arg(object(name)).arg(ROUNDS);
    let mut programs = [load(built, &object(name)), load(built, &package(name)), libbpf_rs];
    let figures = medians(&mut programs)?;
    for (column, what, most) in [
        (1, "first package, attached", None),
        (3, "later package, attached", None),
        (0, "first package, loaded", None),
        (2, "later package, loaded", Some(0.4)),
    ] {
        let name = format!("{name}, {what}");
        let [libbpf, ours, libbpf_rs] = [0, 1, 2].map(|program| figures[program][column]);
        report.ratio(&name, ms("libbpf", libbpf), ms("", ours), most, None);
        report.ratio(&name, ms("libbpf-rs", libbpf_rs), ms("", ours), None, None);
    }
    Ok(())
}

fn load(built: &Built, file: &Path) -> Command {
    let mut load = Command::new(&built.load);
    load.arg(file).arg(ROUNDS);
    load
}

/// One program with few or many instructions and relocations.
fn sizes(built: &Built, report: &mut Report) -> Result<()> {
    for (program, relocations) in &built.sizes {
        let figures = medians(&mut [load(built, &program.object), load(built, &program.package)])?;
        let name = format!("{} instructions, {relocations} relocations", figures[0][4]);
        report.ratio(&name, ms("libbpf", figures[0][2]), ms("", figures[1][2]), None, None);
    }
    Ok(())
}

fn ms(who: &str, value: f64) -> Figure<'_> {
    Figure::new(who, value, "ms")
}
