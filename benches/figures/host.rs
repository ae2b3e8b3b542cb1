//! A host program that runs until it is dropped, and its kernel statistics.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Result;

/// Number of wake-ups of each host in the same ten seconds.
pub fn wakeups(hosts: &[&Host]) -> Result<Vec<u64>> {
    // The hosts print "ready" just before they wait.
    thread::sleep(Duration::from_millis(500));
    let count = || hosts.iter().map(|host| host.wakeups()).collect::<Result<Vec<u64>>>();
    let before = count()?;
    thread::sleep(Duration::from_secs(10));
    Ok(count()?.iter().zip(before).map(|(after, before)| after - before).collect())
}

pub struct Host(Child);

impl Host {
    /// Starts a program.
    pub fn spawn(command: &mut Command) -> Result<Host> {
        command.spawn().map(Host).map_err(|e| format!("{command:?}: {e}"))
    }

    /// Starts a program with arguments and a package or object, and waits until it sleeps.
    pub fn start(program: &Path, words: &[&str], file: &Path) -> Result<Host> {
        let mut host = Host::spawn(Command::new(program).args(words).arg(file).stdout(Stdio::piped()))?;
        if host.first_line()? != "ready\n" {
            return Err(format!("{}: does not get ready", program.display()));
        }
        // The host prints "ready" just before it waits.
        thread::sleep(Duration::from_millis(500));
        Ok(host)
    }

    /// Returns the first line of its stdout, a pipe; later lines are not read.
    pub fn first_line(&mut self) -> Result<String> {
        let stdout = self.0.stdout.as_mut().ok_or("stdout is no pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
        Ok(line)
    }

    /// Returns its stderr, a pipe, until it exits.
    pub fn last_words(&mut self) -> Result<String> {
        let mut words = String::new();
        let mut stderr = self.0.stderr.take().ok_or("stderr is no pipe")?;
        stderr.read_to_string(&mut words).map_err(|e| e.to_string())?;
        Ok(words)
    }

    /// VmRSS.
    pub fn resident_kb(&self) -> Result<i64> {
        self.status("VmRSS").map(|kb| kb as i64)
    }

    /// Returns a number from its /proc/PID/status.
    pub fn status(&self, name: &str) -> Result<u64> {
        field(&format!("/proc/{}/status", self.0.id()), name)
    }

    /// Returns the CPU time of its first thread in nanoseconds.
    pub fn cpu_ns(&self) -> Result<f64> {
        let path = format!("/proc/{}/schedstat", self.0.id());
        let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        text.split(' ').next().and_then(|ns| ns.parse().ok()).ok_or_else(|| format!("{path}: {text:?}"))
    }

    /// Returns how often its threads went to sleep, which is the number of wake-ups.
    fn wakeups(&self) -> Result<u64> {
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
        // The host may have exited by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the number after `name:` in a file of /proc.
pub fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("{path}: no {name}"))
}
