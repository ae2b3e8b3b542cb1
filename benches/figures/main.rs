//! The figures that libeunomia is held to, each beside its competitor: plain libbpf of the same version, or
//! hand-written C. `make bench` builds what this needs and runs it; docs/performance.md explains each row.
//!
//! What is measured, the bindings aside, is C: small programs next to this file, linked with the library as it ships and with the very
//! libbpf that is inside it. This program builds and runs them and prints the table. It never fails for a figure
//! that is missed: times belong to a machine and its load.

mod bindings;
mod compile;
mod ecli;
mod host;
mod lives;
mod programs;

use std::path::{Path, PathBuf};
use std::process::Command;

use host::Host;
use programs::Built;

/// Rounds of open, load, attach, and detach, which takes the kernel a tenth of a second for a tracepoint.
const LOAD_ROUNDS: &str = "20";

/// What went wrong, for people.
type Result<T> = std::result::Result<T, String>;

fn main() {
    if let Err(text) = lives::run().unwrap_or_else(figures) {
        eprintln!("{text}");
        std::process::exit(1);
    }
}

fn figures() -> Result<()> {
    let built = Built::build()?;
    println!("{:<24} {:<28} {:<28} {:<18} target", "", "competitor", "eunomia", "");
    events(&built)?;
    cpp_events(&built)?;
    guest_events(&built)?;
    load(&built, "bootstrap")?;
    load(&built, "opensnoop")?;
    guest_start(&built)?;
    memory(&built)?;
    guest_memory(&built)?;
    wakeups(&built)?;
    library(&built)?;
    package_size()?;
    compile::figures()?;
    ecli::figures(&built)?;
    bindings::figures(&built)
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// An example as `make packages` compiles it.
fn example(name: &str, file: &str) -> PathBuf {
    root().join("target/packages").join(name).join(file)
}

fn object(name: &str) -> PathBuf {
    example(name, &format!("{name}.bpf.o"))
}

fn package(name: &str) -> PathBuf {
    example(name, "package.json")
}

fn module(name: &str) -> PathBuf {
    example(name, "app.wasm")
}

/// What a command prints, once it has ended well.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {}\n{}", output.status, text.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One line of the table.
fn row(name: &str, competitor: &str, ours: &str, comparison: &str, target: &str, reached: bool) {
    let verdict = if reached { "reached" } else { "missed" };
    println!("{name:<24} {competitor:<28} {ours:<28} {comparison:<18} {target:<24} {verdict}");
}

/// The best and the median of many rounds, as the C programs print them.
struct Rounds {
    best: f64,
    median: f64,
}

impl Rounds {
    fn shown(&self, who: &str, unit: &str) -> String {
        format!("{who} {:.1} {unit} ({:.1})", self.best, self.median)
    }
}

/// Reads a line `NAME best median best median`: the competitor, then we.
fn rounds(line: &str) -> Result<(Rounds, Rounds)> {
    let numbers: Vec<f64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    let [best, median, our_best, our_median] = numbers[..] else {
        return Err(format!("not a line of rounds: {line:?}"));
    };
    Ok((Rounds { best, median }, Rounds { best: our_best, median: our_median }))
}

/// A row of times. The ratio is that of the best rounds: what the work costs when nothing else is at work.
fn times(name: &str, who: &str, unit: &str, line: &str, most: f64, most_ns: Option<f64>) -> Result<()> {
    let (theirs, ours) = rounds(line)?;
    let ratio = ours.best / theirs.best;
    let target = match most_ns {
        Some(ns) => format!("<= {most:.2} and <= {ns:.0} ns"),
        None => format!("<= {most:.2}"),
    };
    let reached = ratio <= most && most_ns.is_none_or(|ns| ours.best <= ns);
    let (theirs, ours) = (theirs.shown(who, unit), ours.shown("eunomia", unit));
    row(name, &theirs, &ours, &format!("ratio {ratio:.2}"), &target, reached);
    Ok(())
}

fn events(built: &Built) -> Result<()> {
    let text = output(Command::new(&built.event).arg(&built.signal_object).arg(&built.signal_package))?;
    let [raw, json, table] = text.lines().collect::<Vec<_>>()[..] else {
        return Err(format!("not three lines of rounds: {text:?}"));
    };
    times("raw event", "libbpf", "ns", raw, 2.0, Some(10.0))?;
    times("JSON event", "snprintf", "ns", json, 0.3, Some(100.0))?;
    times("text event", "snprintf", "ns", table, 0.4, None)
}

/// The interface for C++ beside the one for C.
fn cpp_events(built: &Built) -> Result<()> {
    let text = output(Command::new(&built.event_cpp).arg(&built.signal_package))?;
    let [raw, json] = text.lines().collect::<Vec<_>>()[..] else {
        return Err(format!("not two lines of rounds: {text:?}"));
    };
    times("raw event in C++", "in C", "ns", raw, 1.05, None)?;
    times("JSON event in C++", "in C", "ns", json, 1.05, None)
}

/// The same work on every event, by a guest and by a callback of libbpf.
fn guest_events(built: &Built) -> Result<()> {
    let text = output(Command::new(&built.guest_event).arg(&built.signal_object).args(&built.guests))?;
    let [each, batch] = text.lines().collect::<Vec<_>>()[..] else {
        return Err(format!("not two lines of rounds: {text:?}"));
    };
    for (name, line, most) in [("event by a guest", each, 250.0), ("  in batches", batch, 60.0)] {
        let (theirs, ours) = rounds(line)?;
        let more = ours.best - theirs.best;
        let (theirs, ours) = (theirs.shown("libbpf", "ns"), ours.shown("eunomia", "ns"));
        let (shown, target) = (format!("{more:+.1} ns"), format!("<= +{most:.0} ns"));
        row(name, &theirs, &ours, &shown, &target, more <= most);
    }
    Ok(())
}

/// The median counts: a guest is started once.
fn guest_start(built: &Built) -> Result<()> {
    const MOST_MS: f64 = 5.0;
    let text = output(Command::new(&built.guest_start).arg(module("sigsnoop")).arg(LOAD_ROUNDS))?;
    let (_, ours) = rounds(text.trim_end())?;
    row("start guest sigsnoop", "", &ours.shown("eunomia", "ms"), "", "<= (5.0 ms)", ours.median <= MOST_MS);
    Ok(())
}

fn load(built: &Built, name: &str) -> Result<()> {
    let text = output(Command::new(&built.load).arg(object(name)).arg(package(name)).arg(LOAD_ROUNDS))?;
    times(&format!("start {name} again"), "libbpf", "ms", text.trim_end(), 0.4, None)
}

fn memory(built: &Built) -> Result<()> {
    const MOST_MORE: i64 = 1000;
    let plain = Host::start(&built.plain_host, &object("bootstrap"))?.resident_kb()?;
    let ours = Host::start(&built.our_host, &package("bootstrap"))?.resident_kb()?;
    let more = ours - plain;
    let (plain, ours) = (format!("libbpf {plain} kB"), format!("eunomia {ours} kB"));
    row("resident memory", &plain, &ours, &format!("{more:+} kB"), "<= +1000 kB", more <= MOST_MORE);
    Ok(())
}

/// The same tool, as a package and as a guest.
fn guest_memory(built: &Built) -> Result<()> {
    const MOST_MORE: i64 = 6000;
    let json = Host::start(&built.our_host, &package("sigsnoop"))?.resident_kb()?;
    let guest = Host::start(&built.our_host, &module("sigsnoop"))?.resident_kb()?;
    let more = guest - json;
    let (json, guest) = (format!("its package {json} kB"), format!("eunomia {guest} kB"));
    row("  of guest sigsnoop", &json, &guest, &format!("{more:+} kB"), "<= +6000 kB", more <= MOST_MORE);
    Ok(())
}

/// All hosts sleep through the same ten seconds.
fn wakeups(built: &Built) -> Result<()> {
    const IDLE: std::time::Duration = std::time::Duration::from_secs(10);
    let plain = Host::start(&built.plain_host, &built.signal_object)?;
    let ours = Host::start(&built.our_host, &built.signal_package)?;
    let without_source = Host::start(&built.our_host, &built.idle_package)?;
    let guest = Host::start(&built.our_host, &built.guests[0])?;
    let tool = ecli::idle(&built.signal_package)?;
    let hosts = [&plain, &ours, &without_source, &guest, &tool];
    let count = || hosts.iter().map(|host| host.wakeups()).collect::<Result<Vec<u64>>>();
    let before = count()?;
    std::thread::sleep(IDLE);
    let counts: Vec<_> = count()?.iter().zip(before).map(|(after, before)| after - before).collect();
    let theirs = format!("libbpf {}", counts[0]);
    let names = ["wake-ups in 10 s", "  without a source", "  of a guest", "  of ecli"];
    for (name, &count) in names.iter().zip(&counts[1..]) {
        row(name, &theirs, &format!("eunomia {count}"), "", "0", count == 0);
    }
    Ok(())
}

fn library(built: &Built) -> Result<()> {
    const MOST: u64 = 1_000_000;
    const MAY_NEED: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];
    let size = size(&built.library)?;
    row("libeunomia.so", "", &format!("{size} bytes"), "", "<= 1000000 bytes", size <= MOST);
    let dynamic = output(Command::new("readelf").args(["--dynamic", "--wide"]).arg(&built.library))?;
    let entries = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let needed: Vec<_> =
        entries.filter_map(|line| Some(line.split_once('[')?.1.trim_end_matches(']'))).collect();
    let reached = needed.iter().all(|name| MAY_NEED.contains(name));
    row("  needs", "", &needed.join(" "), "", "libc libm libgcc_s ld-linux", reached);
    Ok(())
}

fn package_size() -> Result<()> {
    const MOST: u64 = 20_000;
    let size = size(&package("opensnoop"))?;
    row("package of opensnoop", "", &format!("{size} bytes"), "", "<= 20000 bytes", size <= MOST);
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    std::fs::metadata(path).map(|meta| meta.len()).map_err(|e| format!("{}: {e}", path.display()))
}
