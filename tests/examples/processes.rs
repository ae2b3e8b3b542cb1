//! Examples for processes: starts, signals and user-space functions.

use std::fs::{self, File};
use std::io::Write;
use std::iter;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use eunomia::{Flow, Format};
use serde_json::json;

use super::cgroup::MemoryCgroup;
use super::{Example, output, shell};

#[test]
fn hello_prints_to_the_trace_log_and_delivers_nothing() {
    let pid = process::id();
    let Some(mut example) = Example::attach("hello", &["--target_pid", &pid.to_string()]) else { return };
    let mut null = File::create("/dev/null").unwrap();
    let greeted = || {
        null.write_all(b"x").unwrap();
        // A read of the log ends early if a write overtakes it.
        fs::read_to_string("/sys/kernel/tracing/trace")
            .unwrap()
            .contains(&format!("hello from process {pid}\n"))
    };
    assert!(iter::repeat_with(greeted).take(100).any(|greeted| greeted));
    example.delivers();
    assert_eq!(
        example.vm.poll(Some(Duration::from_millis(10)), Format::Json, |_| Flow::Continue).unwrap(),
        0
    );
}

#[test]
fn bootstrap_reports_exec_and_exit() {
    let Some(mut example) = Example::attach("bootstrap", &[]) else { return };
    let pid = shell("exit 3");

    let exec = json!({"pid": pid, "ppid": process::id(), "filename": "/bin/sh", "exit_event": false});
    assert_eq!(example.wait_for(exec)["duration_ns"], 0);
    let exit = example.wait_for(json!({"pid": pid, "exit_event": true, "exit_code": 3, "comm": "sh"}));
    assert_ne!(exit["duration_ns"], 0);
}

#[test]
fn bootstrap_can_report_only_long_runs() {
    let Some(mut example) = Example::attach("bootstrap", &["--min_duration_ns", "100000000"]) else { return };
    let short = shell(":");
    let long = shell("sleep 0.2");

    loop {
        let event = example.next();
        assert_eq!(event["exit_event"], true);
        assert_ne!(event["pid"], short);
        assert!(event["duration_ns"].as_u64().unwrap() >= 100_000_000);
        if event["pid"] == long {
            break;
        }
    }
}

#[test]
fn sigsnoop_reports_sender_target_and_signal() {
    let Some(mut example) = Example::attach("sigsnoop", &["--signal", "28"]) else { return };
    let pid = shell("kill -s WINCH $$");

    example.wait_for(json!({"pid": pid, "tpid": pid, "sig": 28, "ret": 0, "comm": "sh"}));
}

#[test]
fn execsnoop_reports_programs_with_their_arguments() {
    let pid = process::id().to_string();
    let Some(mut example) = Example::attach("execsnoop", &["--ppid", &pid]) else { return };
    let long = "x".repeat(600);
    output("/bin/echo", &["one", "two words", ""]);
    output("/bin/echo", &[&long]);

    let args = "/bin/echo one two words ";
    let uid_of_root = 0;
    let event = example.wait_for(json!({"ppid": process::id(), "comm": "echo", "args": args}));
    assert_eq!((&event["uid"], &event["args_size"]), (&json!(uid_of_root), &json!(args.len() + 1)));

    let cut = format!("/bin/echo {long}")[..511].to_string();
    example.wait_for(json!({"args": cut, "args_size": "/bin/echo".len() + 1 + long.len() + 1}));
}

#[test]
fn bashreadline_reports_lines_typed_into_bash() {
    let Some(mut example) = Example::attach("bashreadline", &[]) else { return };
    // bash uses readline only with a terminal; script(1) creates one.
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", "/bin/bash --norc --noprofile -i", "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    terminal.stdin.take().unwrap().write_all(b"echo typed by eunomia\nexit\n").unwrap();
    terminal.wait().unwrap();

    example.wait_for(json!({"comm": "bash", "line": "echo typed by eunomia"}));
}

#[test]
fn bashreadline_can_probe_the_readline_of_another_program() {
    let Some(mut example) = Example::open("bashreadline", &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (source, program) = (path("reader.c"), path("reader"));
    // Not a constant: a probe cannot read a page that is not in memory yet.
    let code = "char line[16];\n\
                __attribute__((noinline)) char *my_readline(int n) { return n > 1 ? __builtin_strcpy(line, \"not bash\") : 0; }\n\
                int main(int argc, char **argv) { return !my_readline(argc); }\n";
    fs::write(&source, code).unwrap();
    output("cc", &["-O1", "-o", &program, &source]);
    let target = json!({"path": program, "func": "my_readline"}).to_string();
    example.vm.prog_set_target_json("exit_readline", &target).unwrap();
    example.vm.attach().unwrap();
    // The first call returns NULL, which causes no event.
    Command::new(&program).status().unwrap();
    output(&program, &["argument"]);

    let event = example.next();
    assert_eq!((&event["comm"], &event["line"]), (&json!("reader"), &json!("not bash")));
}

#[test]
fn pythongc_reports_collections_and_what_they_freed() {
    let Some(mut example) = Example::open("pythongc", &[]) else { return };
    // The same setting selects a Python in another directory.
    let target = json!({"path": output("readlink", &["-f", "/usr/bin/python3"])}).to_string();
    for program in ["gc_start", "gc_done"] {
        example.vm.prog_set_target_json(program, &target).unwrap();
    }
    example.vm.attach().unwrap();
    let code = "import gc, os; gc.disable(); gc.collect(); l = []; l.append(l); del l; gc.collect(1); print(os.getpid())";
    let pid: u32 = output("/usr/bin/python3", &["-c", code]).parse().unwrap();

    let event = example.wait_for(json!({"pid": pid, "generation": 1, "collected": 1, "comm": "python3"}));
    assert_ne!(event["duration_ns"], 0);
}

#[test]
fn oomkill_reports_the_process_that_is_killed() {
    let Some(mut example) = Example::attach("oomkill", &[]) else { return };
    let group = MemoryCgroup::new(16 << 20);
    let [shell, option, enter, name] = group.wrapper();
    // It keeps the last lines of its input, which has none.
    let mut child = Command::new(shell).args([&option, &enter, &name, "tail", "/dev/zero"]).spawn().unwrap();
    let event = example.wait_for(json!({"pid": child.id()}));
    assert!(!child.wait().unwrap().success());
    assert!(event["comm"] == "tail" || event["comm"] == "", "{event}");
    assert_ne!(event["trigger_comm"], "");
}
