//! WASM modules in the style of eunomia-bpf, built by `ecc` and run: each event is shown once.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};
use support::{Ran, run, run_ecc};

/// The program of the former manual.
const PROGRAM: &str = r#"#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include "sigsnoop.h"
const volatile pid_t filtered_pid = 0;
const volatile int target_signal = 0;
const volatile bool failed_only = false;
struct {
    __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
    __uint(key_size, sizeof(__u32));
    __uint(value_size, sizeof(__u32));
} events SEC(".maps");
SEC("tracepoint/signal/signal_generate")
int sig_trace(struct trace_event_raw_signal_generate *ctx)
{
    struct event event = {};
    __u32 pid = bpf_get_current_pid_tgid() >> 32;
    if ((filtered_pid && pid != filtered_pid) || (target_signal && ctx->sig != target_signal))
        return 0;
    if (failed_only && ctx->errno == 0)
        return 0;
    event.pid = pid;
    event.tpid = ctx->pid;
    event.sig = ctx->sig;
    event.ret = ctx->errno;
    bpf_get_current_comm(event.comm, sizeof(event.comm));
    bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &event, sizeof(event));
    return 0;
}
char LICENSE[] SEC("license") = "Dual BSD/GPL";
"#;

const HEADER: &str = "#ifndef SIGSNOOP_H\n#define SIGSNOOP_H\n
struct event { unsigned int pid; unsigned int tpid; int sig; int ret; char comm[16]; };\n#endif\n";

/// The module's main, as in the manual of eunomia-bpf.
const MAIN: &str = r#"#include <stdbool.h>
#include <stdio.h>
#include "eunomia-include/wasm-app.h"
#include "eunomia-include/entry.h"
#include "ewasm-skel.h"
static const char *sig_name[] = {[0] = "N/A", [1] = "SIGHUP", [10] = "SIGUSR1", [28] = "SIGWINCH"};
static const char *const usages[] = {"sigsnoop [-h] [-x] [-k] [-n] [-p PID] [-s SIGNAL]", NULL};
static int target_pid = 0;
static int target_signal = 0;
static bool failed_only = false;
static bool kill_only = false;
int main(int argc, const char **argv)
{
    struct argparse_option options[] = {
        OPT_HELP(),
        OPT_BOOLEAN('x', "failed", &failed_only, "failed signals only", NULL, 0, 0),
        OPT_BOOLEAN('k', "killed", &kill_only, "kill only", NULL, 0, 0),
        OPT_INTEGER('p', "pid", &target_pid, "target pid", NULL, 0, 0),
        OPT_INTEGER('s', "signal", &target_signal, "target signal", NULL, 0, 0),
        OPT_END(),
    };
    struct argparse argparse;
    argparse_init(&argparse, options, usages, 0);
    argparse_describe(&argparse, "Trace standard and real-time signals.\n", "");
    argc = argparse_parse(&argparse, argc, argv);
    cJSON *program = cJSON_Parse(program_data);
    program = set_bpf_program_global_var(program, "filtered_pid", cJSON_CreateNumber(target_pid));
    program = set_bpf_program_global_var(program, "target_signal", cJSON_CreateNumber(target_signal));
    program = set_bpf_program_global_var(program, "failed_only", cJSON_CreateBool(failed_only));
    return start_bpf_program(cJSON_PrintUnformatted(program));
}
"#;

/// The handler of the module, as in that manual. `MORE` is replaced by the code that follows the printing.
const HANDLER: &str = r#"
int process_event(int ctx, char *e, int str_len)
{
    cJSON *json = cJSON_Parse(e);
    int sig = cJSON_GetObjectItem(json, "sig")->valueint;
    const char *name = sig_name[sig];
    cJSON_AddItemToObject(json, "sig_name", cJSON_CreateString(name));
    char *out = cJSON_PrintUnformatted(json);
    printf("%s\n", out);
    MORE
    return 0;
}
"#;

/// A directory with a module that has this handler.
fn built(handler: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("sigsnoop.bpf.c", PROGRAM);
    write("sigsnoop.h", HEADER);
    write("app.c", &format!("{MAIN}{handler}"));
    run_ecc(folder.path(), &["gen-wasm-skel"]);
    run_ecc(folder.path(), &["build-wasm"]);
    folder
}

/// Runs the module with ecli's options until it ends, while this process sends itself SIGWINCH.
fn watched(folder: &Path, options: &[&str]) -> Ran {
    let (module, pid) = (folder.join("app.wasm"), getpid());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                kill_process(pid, Signal::WINCH).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let pid = pid.as_raw_nonzero().to_string();
        let program = [module.to_str().unwrap(), "-p", &pid, "-s", "28"];
        let ran = run(&[&["run", "--duration", "60"], options, &program].concat());
        is_over.store(true, Ordering::Relaxed);
        ran
    })
}

/// The line that the ecli of eunomia-bpf printed for one of these signals.
fn line() -> Value {
    let pid = getpid().as_raw_nonzero();
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    json!({ "pid": pid, "sig": 28, "ret": 0, "comm": comm.trim(), "sig_name": "SIGWINCH" })
}

fn is_line(text: &str) -> bool {
    let Ok(Value::Object(mut event)) = serde_json::from_str(text) else { return false };
    let (tpid, comm) = (event.remove("tpid"), event.remove("comm"));
    let Value::Object(mut expected) = line() else { return false };
    // The thread has a name of its own.
    expected.remove("comm");
    tpid.is_some() && comm.is_some() && event == expected
}

#[test]
fn output_of_the_former_manual_is_printed_once() {
    needs_root!();
    // Later versions wrote the text back as well.
    for more in ["", "strncpy(e, out, str_len); cJSON_Delete(json);"] {
        let folder = built(&HANDLER.replace("MORE", more));
        let ran = watched(folder.path(), &["--count", "5"]);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
        assert_eq!(ran.out.lines().count(), 5, "{}", ran.out);
        assert!(ran.out.lines().all(is_line), "{}", ran.out);
        let members: Vec<String> = ran.out.lines().next().unwrap().split("\":").map(String::from).collect();
        let last_words = |text: &String| text.rsplit('"').next().unwrap().to_string();
        let names: Vec<String> = members[..6].iter().map(last_words).collect();
        assert_eq!(names, ["pid", "tpid", "sig", "ret", "comm", "sig_name"]);

        let out: PathBuf = folder.path().join("out");
        let ran = watched(folder.path(), &["--count", "4", "-o", out.to_str().unwrap()]);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
        let text = fs::read_to_string(out).unwrap();
        assert!(text.lines().count() == 4 && text.lines().all(is_line), "{text}");
    }
}

#[test]
fn the_former_manuals_help_and_mistakes_are_as_they_were() {
    let folder = built(&HANDLER.replace("MORE", ""));
    let module = folder.path().join("app.wasm");
    let help = run(&["run", module.to_str().unwrap(), "-h"]);
    assert_eq!(help.code, Some(0));
    assert!(
        help.out.starts_with("Usage: sigsnoop [-h] [-x] [-k] [-n] [-p PID] [-s SIGNAL]\n"),
        "{}",
        help.out
    );
    let wrong = run(&["run", module.to_str().unwrap(), "--wrong"]);
    // The exit code is that of an invalid option of a package.
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(2), ""), "{}", wrong.err);
}

#[test]
fn printed_events_are_not_shown_again() {
    needs_root!();
    // Prints every second event itself, without a line feed.
    let handler = r#"
int process_event(int ctx, char *e, int str_len)
{
    static int count;
    if (count++ % 2)
        printf("own %d\n", count), fflush(stdout);
    return 0;
}
"#;
    let folder = built(handler);
    let ran = watched(folder.path(), &["--count", "4"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let mut own = ran.out.lines().filter(|line| line.starts_with("own "));
    assert_eq!((own.next(), own.next(), own.next()), (Some("own 2"), Some("own 4"), None), "{}", ran.out);
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("{\"pid\":")).count(), 2, "{}", ran.out);
}

#[test]
fn a_module_that_sets_no_buffer_prints_line_by_line() {
    needs_root!();
    // An entry point of its own, which leaves stdout as wasi-libc sets it up.
    let main = MAIN
        .replace("#include \"eunomia-include/entry.h\"\n", "int main(int argc, const char **argv);\n")
        .replace(
            "int main(int argc, const char **argv)\n{",
            "static int begin(int argc, const char **argv)\n{",
        );
    let entry = r#"
int bpf_main(char *env_json, int str_len)
{
    const char *argv[33];
    int argc = 0;
    cJSON *argument;
    cJSON_ArrayForEach(argument, cJSON_Parse(env_json)) argv[argc++] = argument->valuestring;
    return begin(argc, argv);
}
"#;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("sigsnoop.bpf.c", PROGRAM);
    write("sigsnoop.h", HEADER);
    write("app.c", &format!("{main}{entry}{}", HANDLER.replace("MORE", "")));
    run_ecc(folder.path(), &["build-wasm"]);
    let ran = watched(folder.path(), &["--count", "3"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.lines().count() == 3 && ran.out.lines().all(is_line), "{}", ran.out);
}
