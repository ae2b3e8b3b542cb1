//! Each program of examples/bpf delivers the events that its README describes when the test causes them. `make packages`
//! compiles the programs first. Tests named `vm_…` need kprobes, fentry or an LSM; `make vm` runs them.

#[allow(dead_code)]
#[path = "../support/cgroup.rs"]
mod cgroup;
mod files;
mod network;
mod processes;
mod scheduling;

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Vm};
use serde_json::Value;

/// Much longer than any test takes, also in emulation; reached only if an event never arrives.
const PATIENCE: Duration = Duration::from_secs(60);

/// An attached example and its events, each returned once. The first one is recorded for docs/kernels.md.
struct Example {
    name: String,
    delivered: bool,
    vm: Vm,
    events: VecDeque<Vec<u8>>,
    deadline: Instant,
}

impl Example {
    /// Opens an example's package, sets its options and attaches it; `None` if this user lacks the privileges.
    fn attach(name: &str, options: &[&str]) -> Option<Example> {
        let example = Example::open(name, options)?;
        example.vm.attach().unwrap();
        Some(example)
    }

    /// Does the same without attaching.
    fn open(name: &str, options: &[&str]) -> Option<Example> {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            assert!(std::env::var_os("CI").is_none(), "{name}: BPF needs root, and CI must not skip");
            eprintln!("SKIPPED: {name} needs root");
            return None;
        }
        let vm = Vm::new(Options::new()).unwrap();
        vm.open_file(package(name), Kind::Json).expect("`make packages` compiled it");
        vm.args_set(&[&[name], options].concat()).unwrap();
        let (events, deadline) = (VecDeque::new(), Instant::now() + PATIENCE);
        Some(Example { name: name.to_owned(), delivered: false, vm, events, deadline })
    }

    fn poll(&mut self, timeout: Duration) {
        let mut keep = |event: &Event| {
            if matches!(event.kind, EventKind::Sample | EventKind::MapEntry) {
                self.events.push_back(event.data.to_vec());
            }
            Flow::Continue
        };
        self.vm.poll(Some(timeout), Format::Json, &mut keep).unwrap();
    }

    /// Waits for the next event.
    fn next(&mut self) -> Value {
        while self.events.is_empty() {
            assert!(Instant::now() < self.deadline, "the awaited event never came");
            self.poll(Duration::from_millis(100));
        }
        self.delivers();
        serde_json::from_slice(&self.events.pop_front().unwrap()).unwrap()
    }

    /// Prints once that this example delivers events.
    fn delivers(&mut self) {
        if !std::mem::replace(&mut self.delivered, true) {
            println!("matrix example {}: works", self.name);
        }
    }

    /// Returns an event if one is pending or arrives shortly.
    fn poll_once(&mut self) -> Option<Value> {
        self.poll(Duration::from_millis(100));
        self.events.pop_front().map(|event| serde_json::from_slice(&event).unwrap())
    }

    /// Waits for an event that has all members of `wanted`.
    fn wait_for(&mut self, wanted: Value) -> Value {
        loop {
            let event = self.next();
            if has(&event, &wanted) {
                return event;
            }
        }
    }
}

fn package(name: &str) -> String {
    format!("{}/target/packages/{name}/package.json", env!("CARGO_MANIFEST_DIR"))
}

fn has(event: &Value, wanted: &Value) -> bool {
    match (event, wanted) {
        (Value::Object(event), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| event.get(name).is_some_and(|member| has(member, value)))
        }
        _ => event == wanted,
    }
}

/// Runs a shell script and returns the shell's process id.
fn shell(script: &str) -> u32 {
    let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

/// Runs a command, which must succeed, and returns its output.
fn output(program: &str, args: &[&str]) -> String {
    let ran = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(ran.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn a_package_takes_at_most_60_kb() {
    for folder in fs::read_dir(format!("{}/examples/bpf", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let folder = folder.unwrap();
        if folder.file_type().unwrap().is_dir() {
            let name = folder.file_name().into_string().unwrap();
            let size = fs::metadata(package(&name)).expect("`make packages` compiled it").len();
            assert!(size <= 60_000, "{name}: {size} bytes");
        }
    }
}
