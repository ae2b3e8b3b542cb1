//! Describes the measuring system: machine, kernel, versions, commit.

use std::fs;
use std::process::Command;

use super::{Result, output, root};

/// Returns a Markdown table.
pub fn description() -> Result<String> {
    let rows = [
        ("command", "`make bench`".to_owned()),
        ("commit", commit()?),
        ("machine", machine()?),
        ("load at the start", format!("{} (1, 5, 15 minutes)", load()?)),
        ("kernel", said(Command::new("uname").args(["-s", "-r", "-m"]))?),
        ("system", value("/etc/os-release", "PRETTY_NAME", '=')?),
        ("libeunomia", env!("CARGO_PKG_VERSION").to_owned()),
        ("libbpf, on all sides", locked("Cargo.lock", "libbpf-sys")?),
        ("libbpf-rs", locked("benches/libbpf_rs/Cargo.lock", "libbpf-rs")?),
        ("bpftrace", said(Command::new("bpftrace").arg("--version"))?),
        ("compilers", compilers()?),
        ("Python, Go", format!("{}, {}", said(&mut python())?, said(Command::new("go").arg("version"))?)),
    ];
    let rows = rows.map(|(name, value)| format!("| {name} | {value} |\n"));
    Ok(format!("| | |\n|---|---|\n{}", rows.concat()))
}

/// Returns the first line of a command's output.
fn said(command: &mut Command) -> Result<String> {
    Ok(output(command)?.lines().next().unwrap_or_default().to_owned())
}

fn python() -> Command {
    let mut python = Command::new(root().join("target/venv/bin/python"));
    python.arg("--version");
    python
}

fn compilers() -> Result<String> {
    let all = ["clang", "cc", "rustc"].map(|name| said(Command::new(name).arg("--version")));
    Ok(all.into_iter().collect::<Result<Vec<_>>>()?.join(", "))
}

/// Marks the commit if files were changed.
fn commit() -> Result<String> {
    let git = |args: &[&str]| output(Command::new("git").args(args).current_dir(root()));
    let (name, day) = (git(&["rev-parse", "--short=12", "HEAD"])?, git(&["log", "-1", "--format=%cs"])?);
    let sources = git(&["status", "--porcelain", "--", ".", ":!docs"])?;
    let changed = if sources.is_empty() { "" } else { ", with changes" };
    Ok(format!("{} of {}{changed}", name.trim(), day.trim()))
}

fn machine() -> Result<String> {
    let kb: u64 = super::host::field("/proc/meminfo", "MemTotal")?;
    let cores = std::thread::available_parallelism().map_err(|e| e.to_string())?;
    Ok(format!("{}, {cores} cores, {} GiB", value("/proc/cpuinfo", "model name", ':')?, kb.div_ceil(1 << 20)))
}

fn load() -> Result<String> {
    let text = read("/proc/loadavg")?;
    Ok(text.split(' ').take(3).collect::<Vec<_>>().join(", "))
}

/// Returns the text after a name in a file of lines.
fn value(path: &str, name: &str, separator: char) -> Result<String> {
    let text = read(path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(separator));
    line.map(|value| value.trim_matches([' ', '"']).to_owned()).ok_or_else(|| format!("{path}: no {name}"))
}

/// Returns the version of a crate in a lock file.
fn locked(file: &str, name: &str) -> Result<String> {
    let text = read(&root().join(file).to_string_lossy())?;
    let behind = text.split_once(&format!("name = \"{name}\"\nversion = \""));
    let version = behind.and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
    version.ok_or_else(|| format!("{file}: no {name}"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}
