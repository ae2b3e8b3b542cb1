//! Leaks of many vm life cycles in a Rust host; lives.c measures the same in C.

use std::fs;
use std::process::Command;

use eunomia::{Kind, Options, Vm};

use super::Result;

/// The argument that makes this program the host.
const WORD: &str = "lives";

/// The host: this program with that argument.
pub fn host() -> Result<Command> {
    let mut host = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    host.arg(WORD);
    Ok(host)
}

/// Runs as the host if the arguments are `lives PACKAGE COUNT`; prints the growth: descriptors and kB of resident memory.
pub fn run() -> Option<Result<()>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [word, package, count] = &args[..] else { return None };
    (word == WORD).then(|| measure(package, count.parse().map_err(|e| format!("{count}: {e}"))?))
}

fn measure(package: &str, count: u32) -> Result<()> {
    live(package, 10 + count / 10)?;
    let (open, kb) = (descriptors()?, resident_kb()?);
    live(package, count)?;
    println!("{} {}", descriptors()? - open, resident_kb()? - kb);
    Ok(())
}

fn live(package: &str, lives: u32) -> Result<()> {
    for _ in 0..lives {
        let vm = Vm::new(Options::new()).map_err(|e| e.to_string())?;
        vm.open_file(package, Kind::Json).map_err(|e| e.to_string())?;
        vm.attach().map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn descriptors() -> Result<i64> {
    fs::read_dir("/proc/self/fd").map(|entries| entries.count() as i64).map_err(|e| e.to_string())
}

fn resident_kb() -> Result<i64> {
    super::host::field("/proc/self/status", "VmRSS").map(|kb| kb as i64)
}
