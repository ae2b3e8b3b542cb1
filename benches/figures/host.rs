//! A host program that runs until it is dropped, and what the kernel says about it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Result;

pub struct Host(Child);

impl Host {
    /// Starts a program with a package or object, and waits until it is up and asleep.
    pub fn start(program: &Path, argument: &Path) -> Result<Host> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", program.display());
        let child = Command::new(program).arg(argument).stdout(Stdio::piped()).spawn();
        let mut host = Host(child.map_err(|e| named(&e))?);
        let mut line = String::new();
        if let Some(stdout) = host.0.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(|e| named(&e))?;
        }
        if line != "ready\n" {
            return Err(named(&"does not get ready"));
        }
        // It says so just before it waits.
        std::thread::sleep(Duration::from_millis(500));
        Ok(host)
    }

    /// VmRSS.
    pub fn resident_kb(&self) -> Result<i64> {
        field(&format!("/proc/{}/status", self.0.id()), "VmRSS").map(|kb| kb as i64)
    }

    /// How often its threads have gone to sleep, which is how often they were awake.
    pub fn wakeups(&self) -> Result<u64> {
        let folder = format!("/proc/{}/task", self.0.id());
        let tasks = fs::read_dir(&folder).map_err(|e| format!("{folder}: {e}"))?;
        let of = |task: &fs::DirEntry| {
            field(&task.path().join("status").to_string_lossy(), "voluntary_ctxt_switches")
        };
        tasks.flatten().map(|task| of(&task)).sum()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number behind `name:` in a file of /proc.
pub fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("{path}: no {name}"))
}
