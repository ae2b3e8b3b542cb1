//! The cost of an event: by the number of its members, in C++, with libbpf-rs, and through a guest.

use std::process::Command;

use super::programs::{Built, FIELDS};
use super::report::{Figure, Report};
use super::{Result, medians};

/// The formats of event.c: name, competitor, and the targets for five members (ratio, nanoseconds).
const FORMATS: [(&str, &str, f64, Option<f64>); 6] = [
    ("raw", "libbpf", 1.15, Some(10.0)),
    ("raw in batches", "libbpf", 0.95, None),
    ("raw by `eunomia_read`", "libbpf", 0.95, None),
    ("the same", "libbpf, copying", 0.95, None),
    ("JSON", "`snprintf`", 0.3, Some(100.0)),
    ("text", "`snprintf`", 0.4, None),
];

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("An event, from the ring buffer to a callback in C");
    fields(built, report)?;
    lengths(built, report)?;
    report.part("An event of five members, received by other methods");
    libbpf_rs(built, report)?;
    cpp(built, report)?;
    guests(built, report)
}

fn fields(built: &Built, report: &mut Report) -> Result<()> {
    let mut programs = [0, 1, 2, 3].map(|index| event(built, index));
    let figures = medians(&mut programs)?;
    for (index, (format, who, most, most_ns)) in FORMATS.into_iter().enumerate() {
        for (count, figures) in FIELDS.into_iter().zip(&figures) {
            let [theirs, ours] = [2 * index, 2 * index + 1].map(|column| figures[column]);
            let name = format!("{format}, {count} member{}", if count == 1 { "" } else { "s" });
            let (most, most_ns) = if count == 5 { (Some(most), most_ns) } else { (None, None) };
            report.ratio(&name, ns(who, theirs), ns("", ours), most, most_ns);
        }
    }
    Ok(())
}

/// Records of 8 to 71 bytes. Batches and `eunomia_read` are compared with a libbpf callback that copies each record.
fn lengths(built: &Built, report: &mut Report) -> Result<()> {
    let mut program = Command::new(&built.lengths_event);
    program.arg(&built.lengths.object).arg(&built.lengths.package);
    let figures = medians(&mut [program])?;
    let [raw, batch, _, copy] =
        [0, 1, 2, 3].map(|format| [figures[0][2 * format], figures[0][2 * format + 1]]);
    report.ratio("raw, random lengths", ns("libbpf", raw[0]), ns("", raw[1]), Some(1.15), None);
    report.ratio("raw in batches, random lengths", ns("libbpf", batch[0]), ns("", batch[1]), None, None);
    for (name, ours) in [("the same", batch[1]), ("raw by `eunomia_read`, random lengths", copy[1])] {
        report.ratio(name, ns("libbpf, copying", copy[0]), ns("", ours), Some(0.95), None);
    }
    Ok(())
}

fn event(built: &Built, index: usize) -> Command {
    let mut program = Command::new(&built.events[index]);
    program.arg(&built.fields[index].object).arg(&built.fields[index].package);
    program
}

/// The host on libbpf-rs runs in its own process, which alternates with the one that measures the library.
fn libbpf_rs(built: &Built, report: &mut Report) -> Result<()> {
    let mut theirs = Command::new(&built.libbpf_rs);
    theirs.arg("event").arg(&built.signal().object).arg("500");
    let figures = medians(&mut [theirs, event(built, 1)])?;
    report.ratio("raw", ns("libbpf-rs", figures[0][0]), ns("", figures[1][1]), None, None);
    Ok(())
}

/// The C++ interface compared with the C interface.
fn cpp(built: &Built, report: &mut Report) -> Result<()> {
    let mut program = Command::new(&built.event_cpp);
    let figures = medians(&mut [program.arg(&built.signal().package)])?;
    for (name, figures) in ["raw in C++", "JSON in C++"].into_iter().zip(figures[0].chunks_exact(2)) {
        report.ratio(name, ns("in C", figures[0]), ns("", figures[1]), Some(1.05), None);
    }
    Ok(())
}

/// The same work per event, by a guest and by a libbpf callback.
fn guests(built: &Built, report: &mut Report) -> Result<()> {
    let mut program = Command::new(&built.guest_event);
    let figures = medians(&mut [program.arg(&built.signal().object).args(&built.guests)])?;
    let ways = [("raw, by a guest's `process_event`", 250.0), ("the same by `process_events`", 60.0)];
    for ((name, most), figures) in ways.into_iter().zip(figures[0].chunks_exact(2)) {
        report.more(name, ns("libbpf", figures[0]), ns("", figures[1]), Some(most));
    }
    Ok(())
}

fn ns(who: &str, value: f64) -> Figure<'_> {
    Figure::new(who, value, "ns")
}
