//! Many packages in one process, attached to the same hook: the cost of each additional one.

use std::path::Path;
use std::process::{Command, Stdio};

use super::host::{Host, wakeups};
use super::programs::Built;
use super::report::{Figure, Report};
use super::{RUNS, Result, columns, numbers};

const COUNTS: [usize; 3] = [1, 10, 50];

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("1, 10 and 50 packages in one process, attached to the same hook");
    // The first attach to a hook just after a detach waits until old programs have finished.
    let _other = Host::start(&built.our_host, &[], &built.raw.package)?;
    let mut all = Vec::new();
    for count in COUNTS {
        let mut runs = [const { Vec::new() }; 2];
        for _ in 0..RUNS {
            for (runs, (program, file)) in runs.iter_mut().zip(contestants(built)) {
                runs.push(start(program, file, count)?.1);
            }
        }
        all.push(runs.map(|runs| columns(&runs)));
    }
    let what = [
        ("time to start the package", "time to start one more package", "ms"),
        ("time per event, a thousand in a row", "time per event, a thousand from each package", "ns"),
        ("time of a single event", "time per event, one from each package", "ns"),
        ("resident memory", "resident memory", "kB"),
    ];
    for (column, (of_one, of_many, unit)) in what.into_iter().enumerate() {
        for (count, [theirs, ours]) in COUNTS.into_iter().zip(&all) {
            let (what, most) = if count == 1 { (of_one, None) } else { (of_many, Some(0.4)) };
            let most = most.filter(|_| unit == "ms");
            let [theirs, ours] =
                [("libbpf", theirs), ("", ours)].map(|(who, of)| Figure::new(who, of[column], unit));
            report.ratio(&format!("{count}: {what}"), theirs, ours, most, None);
        }
    }
    idle(built, report)
}

fn contestants(built: &Built) -> [(&Path, &Path); 2] {
    [(&built.many_plain, &built.many.object), (&built.many_ours, &built.many.package)]
}

/// A host and its results, in the columns above.
fn start(program: &Path, file: &Path, count: usize) -> Result<(Host, Vec<f64>)> {
    let mut host =
        Host::spawn(Command::new(program).arg(file).arg(count.to_string()).stdout(Stdio::piped()))?;
    let mut figures = numbers(&host.first_line()?);
    figures.push(host.resident_kb()? as f64);
    Ok((host, figures))
}

/// All hosts at once, without events.
fn idle(built: &Built, report: &mut Report) -> Result<()> {
    let mut hosts = Vec::new();
    for count in COUNTS {
        for (program, file) in contestants(built) {
            hosts.push(start(program, file, count)?.0);
        }
    }
    let counts = wakeups(&hosts.iter().collect::<Vec<_>>())?;
    for (count, pair) in COUNTS.into_iter().zip(counts.chunks_exact(2)) {
        let name = format!("{count}: wake-ups in ten idle seconds");
        report.row(
            [&name, &format!("libbpf {}", pair[0]), &pair[1].to_string(), ""],
            Some(("0", pair[1] == 0)),
        );
    }
    Ok(())
}
