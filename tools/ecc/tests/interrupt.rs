//! A run that is interrupted leaves no partial outputs.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use support::Project;

const PASS: &str = "SEC(\"xdp\") int pass(void *ctx) { return XDP_PASS; }";

/// All files below a directory.
fn files(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let below = |path: std::path::PathBuf| {
        if path.is_dir() { files(&path) } else { BTreeSet::from([path.to_str().unwrap().to_string()]) }
    };
    entries.flat_map(below).collect()
}

fn interrupt(mut child: Child, signal: Signal) -> ExitStatus {
    // The process id cannot be reused before the process has been waited for.
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap()
}

#[test]
fn a_signal_leaves_all_outputs_or_none() {
    let project = Project::new("moments").source("p.bpf.c", PASS).file("tmp/keep", "");
    let start = |cache: &str| {
        let mut command = project.command(&["p.bpf.c", "-o", "out"]);
        command.env("TMPDIR", project.path("tmp"));
        if cache.is_empty() {
            command.env_remove("HOME").env_remove("XDG_CACHE_HOME");
        } else {
            command.env("XDG_CACHE_HOME", project.path(cache));
        }
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let outputs = ["out/p.bpf.o", "out/p.skel.json", "out/package.json"];
    let all: BTreeSet<String> =
        outputs.iter().map(|name| project.path(name).to_str().unwrap().to_string()).collect();
    // The signals are spread over the duration of a run.
    let begin = Instant::now();
    assert!(start("cache").wait().unwrap().success());
    let step = begin.elapsed() / 32;
    fs::remove_dir_all(project.path("out")).unwrap();
    let mut ended = 0;
    for moment in 0..40 {
        let signal = if moment % 2 == 0 { Signal::INT } else { Signal::TERM };
        let child = start(if moment % 4 < 2 { "" } else { "cache" });
        std::thread::sleep(step * moment);
        let status = interrupt(child, signal);
        assert!(status.success() || status.signal() == Some(signal.as_raw()), "{status}");
        ended += u32::from(!status.success());
        let written = files(&project.path("out"));
        assert!(written.is_empty() || written == all, "after {moment} steps: {written:?}");
        assert_eq!(files(&project.path("tmp")).len(), 1, "after {moment} steps");
        let cached = files(&project.path("cache"));
        assert!(
            !cached.iter().any(|path| path.contains("/.") && !path.ends_with("/.writable")),
            "{cached:?}"
        );
        let _ = fs::remove_dir_all(project.path("out"));
    }
    assert!(ended > 0);
}

#[test]
fn clang_ends_with_the_run() {
    let project = Project::new("clang-ends").source("p.bpf.c", PASS);
    // Writes its process id when it is called to compile, then waits forever.
    let script = "#!/bin/sh\ncase $* in *-target*) ;; *) echo clang version 14.0.6 >&2; exit;; esac\n\
        echo $$ >pid.new; mv pid.new pid; exec sleep 1000\n";
    let clang = project.path("clang");
    fs::write(&clang, script).unwrap();
    fs::set_permissions(&clang, fs::Permissions::from_mode(0o755)).unwrap();
    let child = project.command(&["p.bpf.c", "-c", "./clang", "-o", "out"]).spawn().unwrap();
    while !project.path("pid").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = fs::read_to_string(project.path("pid")).unwrap();
    assert_eq!(interrupt(child, Signal::INT).signal(), Some(Signal::INT.as_raw()));
    // Nobody waits for the process, so its end may take a moment.
    while fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z ")) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(!project.path("out").exists());
}

#[test]
fn drafts_of_a_killed_run_are_removed() {
    let project = Project::new("killed").source("p.bpf.c", PASS);
    let project = project.file(".package.json.4711.0", "{\"half\":").file(".p.bpf.o.1.12", "");
    let project = project.file(".package.json.bak", "mine").file(".package.json.3.3", "of a run at work");
    let at_work = File::open(project.path(".package.json.3.3")).unwrap();
    flock(&at_work, FlockOperation::LockExclusive).unwrap();
    project.compile(&["p.bpf.c"]);
    let left: Vec<_> = files(&project.dir).into_iter().filter(|path| path.contains("/.")).collect();
    let path = |name: &str| project.path(name).to_str().unwrap().to_string();
    assert_eq!(left, [path(".package.json.3.3"), path(".package.json.bak")]);
    let mut text = String::new();
    File::open(project.path("package.json")).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.ends_with('}') || text.ends_with("}\n"));
}
