//! `ecc check`: reports whether the running kernel accepts programs, and leaves nothing behind.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{LICENSE, Project, may_load, one_error};

const GOOD: &str = "SEC(\"xdp\") int good(struct xdp_md *ctx) { return XDP_PASS; }\n";

/// Dereferences the result of a map lookup without a check for NULL.
const MAP: &str =
    "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 16); __type(key, int); __type(value, int);
} numbers SEC(\".maps\");\n";
const BAD: &str = "SEC(\"xdp\") int bad(struct xdp_md *ctx) {
    int key = 0, *value = bpf_map_lookup_elem(&numbers, &key);
    return *value; }\n";

/// The output of the check, and whether it succeeds.
fn check(project: &Project, file: &str) -> (String, bool) {
    let output = project.run(&["check", file]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

#[test]
fn programs_that_the_kernel_accepts_are_ok() {
    if !may_load("programs_that_the_kernel_accepts_are_ok") {
        return;
    }
    let other = GOOD.replace("good", "other");
    let project = Project::new("check-good").source("p.bpf.c", &format!("{MAP}{GOOD}{other}"));
    assert_eq!(check(&project, "p.bpf.c"), ("good: ok\nother: ok\n".into(), true));
    assert_eq!(fs::read_dir(&project.dir).unwrap().count(), 1, "nothing is written");
    project.compile(&["p.bpf.c"]);
    fs::remove_file(project.path("p.bpf.c")).unwrap();
    assert_eq!(check(&project, "package.json"), ("good: ok\nother: ok\n".into(), true));
}

#[test]
fn a_refused_program_is_reported_with_the_end_of_the_log() {
    if !may_load("a_refused_program_is_reported_with_the_end_of_the_log") {
        return;
    }
    let project = Project::new("check-bad").source("p.bpf.c", &format!("{MAP}{BAD}{GOOD}"));
    let (report, content) = check(&project, "p.bpf.c");
    assert!(!content);
    let lines: Vec<&str> = report.lines().collect();
    let reason = "R0 invalid mem access 'map_value_or_null'";
    assert_eq!(lines[0], format!("bad: refused: rejected by the verifier: {reason}"));
    assert_eq!(*lines.last().unwrap(), "good: ok");
    let log = &lines[1..lines.len() - 1];
    assert!(log.len() <= 20 && log.iter().all(|line| line.starts_with("    ")), "{report}");
    assert!(log.contains(&format!("    {reason}").as_str()), "{report}");
    // The source line of the error.
    assert!(log.iter().any(|line| line.contains("return *value;")), "{report}");
}

#[test]
fn programs_that_are_not_autoloaded_do_not_fail_the_check() {
    if !may_load("programs_that_are_not_autoloaded_do_not_fail_the_check") {
        return;
    }
    let later = BAD.replace("xdp\"", "?xdp\"");
    let project = Project::new("check-later").source("p.bpf.c", &format!("{MAP}{later}{GOOD}"));
    let (report, content) = check(&project, "p.bpf.c");
    assert!(content && report.starts_with("bad: refused (loaded only on request): "), "{report}");
    assert!(report.ends_with("good: ok\n"), "{report}");
}

#[test]
fn a_program_that_another_one_replaces_is_skipped() {
    if !may_load("a_program_that_another_one_replaces_is_skipped") {
        return;
    }
    let source = BAD.replace("SEC", "/// @instead_of good\nSEC") + GOOD;
    let project = Project::new("check-over").source("p.bpf.c", &format!("{MAP}{source}"));
    let (report, content) = check(&project, "p.bpf.c");
    assert!(content && report.starts_with("bad: skipped: rejected by the verifier: "), "{report}");
    assert!(report.ends_with("\ngood: ok\n") && report.lines().count() == 2, "{report}");
}

/// A program for each section: `p0` and so on.
fn programs_at(sections: &[&str]) -> String {
    let programs = sections.iter().enumerate();
    programs.map(|(i, section)| format!("SEC(\"{section}\") int p{i}(void *ctx) {{ return 0; }}\n")).collect()
}

#[test]
fn missing_hooks_are_reported() {
    if !may_load("missing_hooks_are_reported") {
        return;
    }
    let sections = [
        "tp/sched/no_such",
        "tracepoint/sched/sched_switch",
        "?kprobe/no_such_function+0x4",
        "kprobe",
        "ksyscall/close",
    ];
    let project = Project::new("check-hooks").source("p.bpf.c", &programs_at(&sections));
    let (report, content) = check(&project, "p.bpf.c");
    let has_kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
    let lacks = "cannot attach: this kernel is built without kprobes (CONFIG_KPROBES)";
    let kprobe = if has_kprobes {
        "cannot attach (loaded only on request): this kernel has no function \"no_such_function+0x4\""
            .to_owned()
    } else {
        lacks.replace("attach:", "attach (loaded only on request):")
    };
    let syscall = if has_kprobes { "ok" } else { lacks };
    let expected = format!(
        "p2: {kprobe}
p0: cannot attach: this kernel has no tracepoint \"sched/no_such\"
p1: ok
p3: cannot attach: neither its section nor the package specifies where to attach it; set the program's target: \"func\"
p4: {syscall}
"
    );
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&report), sorted(&expected));
    // A program without a target makes the check fail.
    assert!(!content);
    // Programs with a missing hook are skipped if others attach.
    let project = project.source("p.bpf.c", &programs_at(&["tp/sched/no_such", "tp/sched/sched_switch"]));
    let (report, content) = check(&project, "p.bpf.c");
    assert!(
        content && report.contains("p0: skipped: this kernel has no tracepoint") && report.contains("p1: ok")
    );
}

#[test]
fn a_map_that_the_kernel_refuses_is_reported_once() {
    if !may_load("a_map_that_the_kernel_refuses_is_reported_once") {
        return;
    }
    let map = MAP.replace("max_entries, 16", "max_entries, 16); __uint(map_flags, 1 << 30");
    let other = GOOD.replace("good", "other");
    let use_map =
        "SEC(\"xdp\") int user(void *ctx) { int key = 0; return bpf_map_delete_elem(&numbers, &key); }\n";
    let project = Project::new("check-map").source("p.bpf.c", &format!("{map}{use_map}{GOOD}{other}"));
    let (report, content) = check(&project, "p.bpf.c");
    assert!(!content && report.contains("user: refused: map \"numbers\": the kernel refuses"), "{report}");
    assert!(report.contains("good: ok\n") && report.ends_with("other: ok\n"), "{report}");
    assert_eq!(report.matches("numbers").count(), 1, "{report}");
}

#[test]
fn a_check_leaves_no_pinned_map() {
    if !may_load("a_check_leaves_no_pinned_map") {
        return;
    }
    let map = MAP
        .replace("numbers", "ecc_check_pinned")
        .replace("max_entries, 16", "max_entries, 16); __uint(pinning, 1");
    let user = "SEC(\"xdp\") int user(void *ctx) { int key = 0; return bpf_map_delete_elem(&ecc_check_pinned, &key); }\n";
    let bad = BAD.replace("numbers", "ecc_check_pinned");
    let project = Project::new("check-pin").source("p.bpf.c", &format!("{map}{user}{bad}"));
    let mut command = project.command(&["check", "p.bpf.c"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let own = format!("/sys/fs/bpf/ecc-{}", child.id());
    let report = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(report.contains("user: ok") && report.contains("bad: refused"), "{report}");
    assert!(!Path::new("/sys/fs/bpf/ecc_check_pinned").exists() && !Path::new(&own).exists());
}

#[test]
fn inputs_that_cannot_be_checked_are_reported() {
    let project =
        Project::new("check-none").file("p.bpf.c", &format!("{GOOD}{LICENSE}")).file("x.json", "{}");
    assert_eq!(project.error(&["check", "missing.json"]), "missing.json: No such file or directory");
    assert!(project.error(&["check", "x.json"]).starts_with("x.json: "));
    // clang reports that headers are missing.
    let output = project.run(&["check", "p.bpf.c"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("p.bpf.c:1:"), "{output:?}");
    if !may_load("inputs_that_cannot_be_checked_are_reported") {
        return;
    }
    let project = project.source("good.bpf.c", GOOD);
    project.compile(&["good.bpf.c", "-o", "."]);
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set=-all",
        "--inh-caps=-all",
        env!("CARGO_BIN_EXE_ecc"),
        "check",
        "package.json",
    ]);
    let output = command.current_dir(&project.dir).output().unwrap();
    assert!(one_error(&output).starts_with("package.json: loading needs CAP_BPF"), "{output:?}");
}
