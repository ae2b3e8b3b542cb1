//! The cost of events through the bindings, and leaks of thousands of vm life cycles in their hosts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::programs::Built;
use super::report::Report;
use super::{Result, median, output, package, root};

/// Maximum growth in kilobytes.
const MOST_KB: i64 = 1024;

pub fn figures(built: &Built, report: &mut Report) -> Result<()> {
    report.part("Events in other languages, in memory before the clock starts");
    python_events(built, report)?;
    go_events(built, report)
}

pub fn lives(built: &Built, report: &mut Report) -> Result<()> {
    report.part("Leaks after many cycles of open, attach and close");
    live(built, "at a raw tracepoint", 10_000, &built.raw.package, report)?;
    live(built, "at tracepoints", 300, &package("bootstrap"), report)
}

// ---- events ----

fn python_events(built: &Built, report: &mut Report) -> Result<()> {
    let text = output(python().arg("events").arg(&built.signal().package))?;
    for (name, shown, least) in [
        ("read_array", "Python `read_array`, numpy arrays of raw records", Some(5.0)),
        ("lines", "Python `read`, JSON lines in batches", Some(3.0)),
        ("events", "Python `events`, a dict each", Some(0.3)),
        ("batches", "Python `poll_batch`, raw records as bytes", None),
        ("poll", "Python `poll`, a callback each, raw", None),
    ] {
        let line = text.lines().find(|line| line.starts_with(name));
        let speed = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
        row(shown, speed.ok_or_else(|| format!("no {name} in {text:?}"))? / 1e6, least, report);
    }
    Ok(())
}

fn go_events(built: &Built, report: &mut Report) -> Result<()> {
    let mut go = go();
    go.args(["test", "-run", "^$", "-bench", "Read|Batch|Poll", "-count", "5"]);
    let text = output(go.env("EUNOMIA_FIGURES_PACKAGE", &built.signal().package))?;
    for (name, shown, least) in [
        ("BenchmarkRead", "Go `Read` into a buffer, visiting each record", Some(5.0)),
        ("BenchmarkBatch", "Go `PollBatch`, visiting each record", None),
        ("BenchmarkPoll", "Go `Poll`, a callback each, raw", None),
    ] {
        let nanoseconds = |line: &str| line.split_whitespace().nth(2)?.parse::<f64>().ok();
        let rounds: Vec<f64> =
            text.lines().filter(|line| line.starts_with(name)).filter_map(nanoseconds).collect();
        if rounds.is_empty() {
            return Err(format!("no {name} in {text:?}"));
        }
        row(shown, 1e3 / median(rounds), least, report);
    }
    Ok(())
}

fn row(name: &str, millions: f64, least: Option<f64>, report: &mut Report) {
    let target = least.map(|least| format!("{least} million/s"));
    let held = target.as_deref().zip(least.map(|least| millions >= least));
    report.row([name, "", &format!("{millions:.2} million/s"), ""], held);
}

// ---- lives ----

/// Opens, attaches and detaches `count` times. All hosts run at once, because most time is spent waiting for the kernel.
fn live(built: &Built, hook: &str, count: u32, package: &Path, report: &mut Report) -> Result<()> {
    let mut python_lives = python();
    python_lives.arg("lives");
    let hosts = [
        ("C", Command::new(&built.lives)),
        ("C++", Command::new(&built.lives_cpp)),
        ("Rust", super::lives::host()?),
        ("Python", python_lives),
    ];
    let hosts = hosts.map(|(language, mut host)| {
        host.arg(package).arg(count.to_string());
        (language, thread::spawn(move || output(&mut host)))
    });
    let mut go = go();
    go.args(["test", "-count=1", "-v", "-timeout", "1h", "-run", "ManyLives"]);
    go.env("EUNOMIA_TEST_LIVES", count.to_string()).env("EUNOMIA_TEST_LIFE", package);
    // The test prints the numbers, and then exits with an error if too much leaks.
    let go = go.stderr(Stdio::inherit()).output().map_err(|e| format!("go: {e}"))?;
    for (language, host) in hosts {
        let text = host.join().map_err(|_| format!("the thread for {language} ended"))??;
        left(&format!("{language}, {count} times {hook}"), &text, report)?;
    }
    let text = String::from_utf8_lossy(&go.stdout);
    let line = text.lines().find(|line| line.contains(" lives leave "));
    let growth = line.and_then(|line| line.split_once(" leave ")).map_or(&*text, |(_, after)| after);
    left(&format!("Go, {count} times {hook}"), growth, report)
}

/// Reads the first two numbers: descriptors and kB.
fn left(name: &str, text: &str, report: &mut Report) -> Result<()> {
    let numbers: Vec<i64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [descriptors, kb] = numbers[..] else {
        return Err(format!("{name}: not the growth after many lives: {text:?}"));
    };
    let shown = format!("{descriptors:+} descriptors, {kb:+} kB");
    let target = format!("+0, +{MOST_KB} kB");
    report.row([name, "", &shown, ""], Some((&target, descriptors == 0 && kb <= MOST_KB)));
    Ok(())
}

// ---- hosts ----

fn python() -> Command {
    let mut command = Command::new(root().join("target/venv/bin/python"));
    command.arg(root().join("benches/figures/binding.py"));
    command.env("PYTHONPATH", root().join("bindings/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("EUNOMIA_LIBRARY", root().join("target/dist/libeunomia.so"));
    command
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.current_dir(root().join("bindings/go")).env("GOCACHE", root().join("target/go"));
    command.env("PKG_CONFIG", "true").env("CGO_CFLAGS", format!("-I{}/include", root().display()));
    let library = root().join("target/dist");
    command.env("CGO_LDFLAGS", format!("-L{0} -leunomia -Wl,-rpath,{0}", library.display()));
    command
}
