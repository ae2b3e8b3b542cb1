//! The benchmarks of libeunomia, each next to its competitor: plain libbpf of the same version, libbpf-rs, bpftrace,
//! clang, or hand-written C. `make bench` builds and runs this, which writes docs/benchmarks.md;
//! docs/performance.md describes the method. `make bench ROWS=NAME` runs one part and writes nothing.
//!
//! Except for the bindings, the measured programs are small C programs beside this file, linked with the release library and with the
//! libbpf version inside it. This program builds and runs them and prints the tables. It never fails because of a
//! missed target, because times depend on the machine and its load.

mod agent;
mod bindings;
mod compile;
mod ecli;
mod event;
mod exporter;
mod host;
mod latency;
mod lives;
mod machine;
mod many;
mod programs;
mod replace;
mod report;
mod rest;
mod size;
mod start;

use std::borrow::BorrowMut;
use std::path::{Path, PathBuf};
use std::process::Command;

use programs::Built;
use report::Report;

/// Runs of each program, alternating with the competitor. The median is reported.
const RUNS: usize = 5;

/// A human-readable error.
type Result<T> = std::result::Result<T, String>;

type Part = fn(&Built, &mut Report) -> Result<()>;

/// The names accepted by ROWS.
const PARTS: [(&str, Part); 13] = [
    ("event", event::figures),
    ("latency", latency::figures),
    ("start", start::figures),
    ("many", many::figures),
    ("replace", replace::figures),
    ("rest", rest::figures),
    ("size", size::figures),
    ("compile", |_, report| compile::figures(report)),
    ("ecli", ecli::figures),
    ("agent", agent::figures),
    ("exporter", exporter::figures),
    ("bindings", bindings::figures),
    ("lives", bindings::lives),
];

fn main() {
    if let Err(text) = lives::run().unwrap_or_else(figures) {
        eprintln!("{text}");
        std::process::exit(1);
    }
}

fn figures() -> Result<()> {
    // Cargo adds its own option.
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let names = PARTS.map(|(name, _)| name);
    if let Some(unknown) = named.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("no part is called {unknown}; there are {}", names.join(", ")));
    }
    let built = Built::build()?;
    let mut report = Report::new(machine::description()?);
    for (name, part) in PARTS {
        if named.is_empty() || named.iter().any(|word| word == name) {
            part(&built, &mut report)?;
        }
    }
    if named.is_empty() { report.write() } else { Ok(()) }
}

// ---- runs ----

/// Runs each program RUNS times, alternating. Returns for each the median of every number that it prints.
fn medians(programs: &mut [impl BorrowMut<Command>]) -> Result<Vec<Vec<f64>>> {
    let mut runs = vec![Vec::new(); programs.len()];
    for _ in 0..RUNS {
        for (program, runs) in programs.iter_mut().zip(&mut runs) {
            runs.push(numbers(&output(program.borrow_mut())?));
        }
    }
    Ok(runs.iter().map(|runs| columns(runs)).collect())
}

/// Returns the median of each column. All runs have the same columns, because a run that lacks one fails earlier.
fn columns(runs: &[Vec<f64>]) -> Vec<f64> {
    (0..runs[0].len()).map(|column| median(runs.iter().map(|run| run[column]).collect())).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the words that are numbers.
fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Returns the output of a command, or an error if it fails.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {}\n{}", output.status, text.trim_end()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

// ---- files ----

/// Returns the root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of the installed ecc or ecli.
fn tool(name: &str) -> PathBuf {
    root().join("target/release").join(name)
}

/// Returns the path of an example compiled by `make packages`.
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
