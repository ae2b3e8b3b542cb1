//! The guests of examples/wasm behave as their READMEs describe, on this kernel. `make packages` compiles them first.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use eunomia::{Event, EventKind, Flow, Format, Kind, Options, Status, Vm};
use serde_json::{Value, json};

/// Opens a guest; `None` if this user cannot load programs.
fn open(name: &str) -> Option<Vm> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        assert!(std::env::var_os("CI").is_none(), "{name}: BPF needs root, and CI must not skip");
        eprintln!("SKIPPED: {name} needs root");
        return None;
    }
    let vm = Vm::new(Options::new()).unwrap();
    let path = format!("{}/target/packages/{name}/app.wasm", env!("CARGO_MANIFEST_DIR"));
    vm.open_file(&path, Kind::Wasm).expect("`make packages` comes first");
    Some(vm)
}

/// Runs a guest that ends by itself; returns its output and exit code.
fn print(vm: &Vm, arguments: &[&str]) -> (String, i32) {
    let mut printed = String::new();
    let mut keep = |event: &Event| {
        assert_eq!(event.kind, EventKind::Output);
        printed += std::str::from_utf8(event.data).unwrap();
        printed.push('\n');
        Flow::Continue
    };
    let code = vm.wasm_run(arguments, Format::Json, &mut keep).unwrap();
    (printed, code)
}

/// Runs a guest and repeats `act` until `is_last` returns true for an event; returns all events until then.
fn watch(vm: &Vm, arguments: &[&str], act: impl Fn() + Sync, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let is_over = AtomicBool::new(false);
    let mut events = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                act();
                thread::sleep(Duration::from_millis(50));
            }
        });
        let mut keep = |event: &Event| {
            events.push(serde_json::from_slice::<Value>(event.data).unwrap());
            if is_last(&events[events.len() - 1]) { Flow::End } else { Flow::Continue }
        };
        let result = vm.wasm_run(arguments, Format::Json, &mut keep);
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(result.unwrap(), 0);
    });
    events
}

fn kill(signal: i32, pid: u32) {
    // SAFETY: the signals are sent to this process and have no effect.
    unsafe { libc::kill(pid as i32, signal) };
}

#[test]
fn sigsnoop_names_signals() {
    let Some(vm) = open("sigsnoop") else { return };
    let pid = process::id();
    let arguments = ["sigsnoop", "-p", &pid.to_string(), "-s", "28"];
    let act = || {
        kill(0, pid);
        kill(libc::SIGWINCH, pid);
    };
    let events = watch(&vm, &arguments, act, |_| true);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&event["pid"], &event["tpid"]), (&json!(pid), &json!(pid)));
    assert_eq!(
        (&event["sig"], &event["ret"], &event["sig_name"]),
        (&json!(28), &json!(0), &json!("SIGWINCH"))
    );

    let arguments = ["sigsnoop", "-xkn", &format!("--pid={pid}")];
    let act = || {
        kill(libc::SIGWINCH, pid);
        kill(40, u32::MAX / 2);
    };
    let events = watch(&vm, &arguments, act, |_| true);
    assert_eq!((&events[0]["sig"], &events[0]["ret"]), (&json!("SIGRT_8"), &json!(-libc::ESRCH)));
    assert_eq!(events[0].get("sig_name"), None);
}

#[test]
fn sigsnoop_prints_its_help_and_names_invalid_options() {
    let Some(vm) = open("sigsnoop") else { return };
    let (help, code) = print(&vm, &["sigsnoop", "-h"]);
    assert_eq!(code, 0);
    assert!(help.starts_with("Usage: sigsnoop [-h] [-x] [-k] [-n] [-p PID] [-s SIGNAL]\n"), "{help}");
    assert!(help.contains("\n    -s, --signal=<int>  target signal\n"), "{help}");
    assert_eq!(print(&vm, &["sigsnoop", "-z"]), (String::new(), 2));
}

#[test]
fn opensnoop_filters_structs() {
    let Some(vm) = open("opensnoop") else { return };
    let pid = process::id().to_string();
    let act = || {
        let _ = (File::open("/etc/passwd"), File::open("/nonexistent/guest-test"));
    };
    let arguments = ["opensnoop", "-p", &pid, "-x", "--file", "guest-test"];
    let events = watch(&vm, &arguments, act, |_| true);
    assert_eq!((&events[0]["fname"], &events[0]["ret"]), (&json!("/nonexistent/guest-test"), &json!(-2)));
    let arguments = ["opensnoop", "-p", &pid, "-f", "passwd", "-n", ""];
    let events = watch(&vm, &arguments, act, |_| true);
    assert_eq!(events[0]["fname"], "/etc/passwd");
    assert!(events[0]["ts"].as_u64().unwrap() > 1 << 32, "{}", events[0]);
}

#[test]
fn bootstrap_filters_batches() {
    let Some(vm) = open("bootstrap") else { return };
    let run = |script: &str| {
        Command::new("/bin/sh").args(["-c", script]).status().unwrap();
    };
    let act = || {
        run("exit 0");
        run("exit 77");
    };
    let is_last = |event: &Value| event["exit_code"] == 77;
    let events = watch(&vm, &["bootstrap", "--failed", "-c", "sh"], act, is_last);
    let passed =
        |event: &Value| event["comm"] == "sh" && event["exit_event"] == true && event["exit_code"] != 0;
    assert!(events.iter().all(passed), "{events:?}");
    assert!(vm.stats().guest_dropped > 0);
}

#[test]
fn activity_runs_two_packages_at_once() {
    let Some(vm) = open("activity") else { return };
    let pid = process::id();
    let act = || {
        kill(libc::SIGWINCH, pid);
        let _ = File::open("/nonexistent/guest-test");
    };
    let kinds = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let is_last = |event: &Value| {
        kinds.borrow_mut().insert(event["kind"].as_str().unwrap().to_string());
        kinds.borrow().len() == 2
    };
    let events = watch(&vm, &["activity", "-p", &pid.to_string()], act, is_last);
    assert!(events.iter().all(|event| event["pid"] == pid), "{events:?}");
    for event in events {
        assert_eq!(event["kind"] == "signal", event.get("sig").is_some());
        assert_eq!(event["kind"] == "open", event.get("fname").is_some());
    }
}

#[test]
fn a_guest_ends_when_the_host_stops_it() {
    let Some(vm) = open("opensnoop") else { return };
    let pid = process::id().to_string();
    vm.stop();
    let stopped = vm.wasm_run(&["opensnoop", "-p", &pid], Format::Json, |_: &Event| Flow::Continue);
    assert_eq!(stopped.unwrap_err().status(), Status::Stopped);
}
