//! Prints the summary at the end of a run and the counters of `--stats`.

use std::time::Duration;

use eunomia::Vm;
use eunomia::vm::LostKnown;

use crate::error::{Result, say};

/// Prints how many events were shown, lost and dropped.
pub fn summary(vm: &Vm, shown: u64, time: Duration) {
    let stats = vm.stats();
    let lost = [
        (stats.lost_kernel, "in the kernel"),
        (stats.lost_queue, "in the queue"),
        (stats.malformed, "malformed"),
    ];
    let lost: Vec<String> = lost
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, cause)| format!("{count} {cause}"))
        .collect();
    let lost = match (lost.is_empty(), stats.lost_known) {
        (true, LostKnown::All) => "none lost".into(),
        (true, _) => "no losses known".into(),
        (false, _) => format!("lost {}", lost.join(", ")),
    };
    let unknown = match stats.lost_known {
        LostKnown::All => "",
        LostKnown::Reported => "; losses after the last record of each CPU are unknown",
        _ => "; ring buffer losses are not counted",
    };
    let of = if shown < stats.events { format!(" of {}", stats.events) } else { String::new() };
    let dropped = match stats.guest_dropped {
        0 => String::new(),
        count => format!(", {count} dropped by the module"),
    };
    say(format_args!("{shown}{of} events in {:.1} s, {lost}{dropped}{unknown}", time.as_secs_f64()));
}

/// The runs of each program: its name, their number, and their nanoseconds.
pub struct Runs(Vec<(String, u64, u64)>);

impl Runs {
    /// Reads the counters of the kernel.
    pub fn of(vm: &Vm) -> Result<Runs> {
        let one = |index| {
            let prog = vm.prog_at(index)?;
            Ok((prog.name.to_string_lossy().into_owned(), prog.run_count, prog.run_ns))
        };
        let all: eunomia::Result<Vec<_>> = (0..vm.prog_count().unwrap_or(0)).map(one).collect();
        Ok(Runs(all?))
    }

    /// Converts them to JSON.
    pub fn to_json(&self) -> String {
        serde_json::json!(self.0).to_string()
    }

    /// Reads JSON.
    pub fn from_json(json: &str) -> Option<Runs> {
        serde_json::from_str(json).ok().map(Runs)
    }
}

/// Prints all counters: of the vm, of each source and of each program.
pub fn stats(vm: &Vm, runs: &Runs) -> Result<()> {
    let stats = vm.stats();
    say(format_args!(
        "{} events, {} bytes, {} polls; lost: {} in the kernel, {} in the queue, {} malformed",
        stats.events, stats.bytes, stats.polls, stats.lost_kernel, stats.lost_queue, stats.malformed
    ));
    for index in 0..vm.source_count().unwrap_or(0) {
        let source = vm.source_at(index)?;
        let (name, lost) = (source.name.to_string_lossy(), source.lost);
        let lost = match source.lost_known {
            LostKnown::All => format!("{lost} lost"),
            LostKnown::Reported => {
                format!("{lost} lost before the last record of each CPU; losses after it are unknown")
            }
            _ => "losses not counted per buffer".into(),
        };
        say(format_args!("source {name}: {} events, {lost}", source.events));
    }
    for (name, count, ns) in &runs.0 {
        say(format_args!("program {name}: {count} runs, {} ns each", ns.checked_div(*count).unwrap_or(0)));
    }
    if stats.run_count == 0 && runs.0.iter().all(|(_, count, _)| *count == 0) {
        say("the kernel counts program runs only with sysctl kernel.bpf_stats_enabled=1");
    }
    Ok(())
}
