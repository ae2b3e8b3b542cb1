//! What events cost through the bindings, and what thousands of lives of a vm leave behind in their hosts.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::programs::Built;
use super::{Result, output, package, root, row};

/// Kilobytes that may stay.
const MOST_KB: i64 = 1024;

pub fn figures(built: &Built) -> Result<()> {
    python_events(built)?;
    go_events(built)?;
    lives(built, "raw_tp", 10_000, &built.raw_package)?;
    lives(built, "tracepoint", 300, &package("bootstrap"))
}

// ---- events ----

fn python_events(built: &Built) -> Result<()> {
    let text = output(python().arg("events").arg(&built.signal_package))?;
    for (name, shown, least) in [
        ("read_array", "read_array", Some(5.0)),
        ("lines", "JSON lines", Some(3.0)),
        ("events", "events", Some(0.3)),
        ("poll", "poll", None),
    ] {
        let line = text.lines().find(|line| line.starts_with(name));
        let best = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
        speed("Python", shown, best.ok_or_else(|| format!("no {name} in {text:?}"))? / 1e6, least);
    }
    Ok(())
}

fn go_events(built: &Built) -> Result<()> {
    let mut go = go();
    go.args(["test", "-run", "^$", "-bench", "Read|Poll", "-count", "5"]);
    let text = output(go.env("EUNOMIA_FIGURES_PACKAGE", &built.signal_package))?;
    for (name, shown, least) in [("BenchmarkRead", "Read", Some(5.0)), ("BenchmarkPoll", "Poll", None)] {
        let nanoseconds = |line: &str| line.split_whitespace().nth(2)?.parse::<f64>().ok();
        let rounds = text.lines().filter(|line| line.starts_with(name)).filter_map(nanoseconds);
        let best = rounds.min_by(f64::total_cmp).ok_or_else(|| format!("no {name} in {text:?}"))?;
        speed("Go", shown, 1e3 / best, least);
    }
    Ok(())
}

fn speed(language: &str, shown: &str, millions: f64, least: Option<f64>) {
    let target = least.map_or_else(String::new, |least| format!(">= {least} M/s"));
    let reached = least.is_none_or(|least| millions >= least);
    row(&format!("{language} {shown}"), "", &format!("{millions:.2} M/s"), "", &target, reached);
}

// ---- lives ----

/// `count` times open, attach and let go. All hosts at once: the time goes by waiting for the kernel.
fn lives(built: &Built, hook: &str, count: u32, package: &Path) -> Result<()> {
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
    // It fails where too much stays; the numbers are printed before that.
    let go = go.stderr(Stdio::inherit()).output().map_err(|e| format!("go: {e}"))?;
    for (language, host) in hosts {
        let text = host.join().map_err(|_| format!("the thread for {language} ended"))??;
        left(language, hook, count, &text)?;
    }
    let text = String::from_utf8_lossy(&go.stdout);
    let line = text.lines().find(|line| line.contains(" lives leave "));
    left(
        "Go",
        hook,
        count,
        line.and_then(|line| line.split_once(" leave ")).map_or(&text, |(_, after)| after),
    )
}

/// Reads the first two numbers: descriptors and kB.
fn left(language: &str, hook: &str, count: u32, text: &str) -> Result<()> {
    let numbers: Vec<i64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [descriptors, kb] = numbers[..] else {
        return Err(format!("{language}: not the growth after many lives: {text:?}"));
    };
    let shown = format!("{descriptors:+} descriptors, {kb:+} kB");
    let target = format!("+0, <= +{MOST_KB} kB");
    let name = format!("{language} {count} {hook}");
    row(&name, "", &shown, "", &target, descriptors == 0 && kb <= MOST_KB);
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
