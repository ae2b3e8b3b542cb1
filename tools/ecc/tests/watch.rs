//! `ecc --watch`: recompiles after each change, and sleeps between changes.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::Project;

const TOOL: &str = "#include \"deep/values.h\"\nSEC(SECTION) int pass(void *ctx) { return 0; }";

/// A running compiler.
struct Watching {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Watching {
    fn start(project: &Project, arguments: &[&str]) -> Watching {
        let mut command = project.command(arguments);
        let mut child = command.arg("--watch").stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Watching { child, lines }
    }

    /// The output until it waits.
    fn messages(&mut self) -> String {
        let mut messages = String::new();
        loop {
            let line = self.lines.next().expect("it waits").unwrap();
            if line.starts_with("ecc: watching ") {
                return messages;
            }
            messages = format!("{messages}{line}\n");
        }
    }

    /// The number of times that it was woken.
    fn switches(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        counts.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Ends it. Returns the remaining output.
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
        self.lines.map(|line| line.unwrap() + "\n").collect()
    }
}

/// Replaces a file as editors do: by renaming another one.
fn replace(project: &Project, name: &str, text: &str) {
    let other = project.path(&format!("{name}.swp"));
    fs::write(&other, text).unwrap();
    fs::rename(other, project.path(name)).unwrap();
}

/// The section of the program. Its source includes a header that defines it.
fn section(project: &Project) -> String {
    project.meta("tool")["bpf_skel"]["progs"][0]["attach"].as_str().unwrap().into()
}

#[test]
fn each_change_of_a_source_or_header_is_recompiled() {
    let project = Project::new("watch").source("tool.bpf.c", TOOL);
    let project = project.file("deep/values.h", "#define SECTION \"xdp\"\n");
    let mut watching = Watching::start(&project, &["tool.bpf.c"]);
    assert_eq!(watching.messages(), "ecc: compiled\n");
    assert_eq!(section(&project), "xdp");

    replace(&project, "deep/values.h", "#define SECTION \"tc\"\n");
    assert_eq!(watching.messages(), "ecc: compiled\n");
    assert_eq!(section(&project), "tc");

    // The header is written in place, with an error. The package stays unchanged.
    fs::write(project.path("deep/values.h"), "#define SECTION missing\n").unwrap();
    let messages = watching.messages();
    assert!(
        messages.contains("deep/values.h:1:") && messages.ends_with("ecc: compilation failed\n"),
        "{messages}"
    );
    assert_eq!(section(&project), "tc");

    // A missing header that is then created.
    replace(&project, "deep/values.h", "#include \"more.h\"\n");
    let messages = watching.messages();
    assert!(
        messages.contains("'more.h' file not found") && messages.ends_with("ecc: compilation failed\n"),
        "{messages}"
    );
    fs::write(project.path("deep/more.h"), "#define SECTION \"xdp\"\n").unwrap();
    assert_eq!(watching.messages(), "ecc: compiled\n");
    assert_eq!(section(&project), "xdp");

    // The directory is removed and created again, as when another branch is checked out.
    fs::rename(project.path("deep"), project.path("away")).unwrap();
    assert!(watching.messages().ends_with("ecc: compilation failed\n"));
    fs::rename(project.path("away"), project.path("deep")).unwrap();
    assert_eq!(watching.messages(), "ecc: compiled\n");
    replace(&project, "tool.bpf.c", "");
    assert_eq!(watching.messages(), "ecc: tool.bpf.c: the file is empty\n");
    assert_eq!(watching.end(), "");
}

#[test]
fn the_watcher_sleeps_without_changes() {
    let project = Project::new("watch-idle").source("tool.bpf.c", TOOL).file("notes", "");
    let project = project.file("deep/values.h", "#define SECTION \"xdp\"\n");
    // Its own outputs are in the watched directory.
    let mut watching = Watching::start(&project, &["tool.bpf.c", "--wasm-header"]);
    watching.messages();
    fs::write(project.path("notes"), "about something else").unwrap();
    let mut before = 0;
    while before != watching.switches() {
        before = watching.switches();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(watching.end(), "");
}

#[test]
fn the_target_of_a_link_is_watched() {
    let project = Project::new("watch-link").source("tool.bpf.c", TOOL);
    let project = project.file("deep/x", "").file("real/values.h", "#define SECTION \"xdp\"\n");
    std::os::unix::fs::symlink("../real/values.h", project.path("deep/values.h")).unwrap();
    let mut watching = Watching::start(&project, &["tool.bpf.c"]);
    assert_eq!(watching.messages(), "ecc: compiled\n");
    fs::write(project.path("real/values.h"), "#define SECTION \"tc\"\n").unwrap();
    assert_eq!(watching.messages(), "ecc: compiled\n");
    assert_eq!(section(&project), "tc");
    assert_eq!(watching.end(), "");
}
