//! What the policy refuses, and what the audit log contains about it.

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{self, compile, package, run, wait_for};
use crate::{Server, counted, folder, needs_root, package_value, policy};

/// The lines of an audit log.
fn lines(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The error of a client without the name of the program.
#[track_caller]
fn refused(server: &Server, args: &[&str]) -> String {
    let ran = server.client(args);
    assert_eq!(ran.code, Some(4), "{}", ran.err);
    ran.err
}

#[test]
fn the_network_starts_what_is_signed() {
    needs_root!();
    let keys = folder();
    let at = |name: &str| keys.path().join(name).to_str().unwrap().to_owned();
    // The signatures are beside the packages.
    let copied = |version: u32| {
        let path = at(&format!("{version}.json"));
        fs::copy(counted(version), &path).unwrap();
        path
    };
    let path = copied(1);
    let made = run(&["keygen", "--no-password", "-p", &at("k.pub"), "-s", &at("k.key")]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let (_policy, policy) = policy(&format!("keys = {:?}\n", keys.path()));
    let server = Server::start(&["-p", "0", "--insecure-no-auth", "--policy", &policy]);
    let endpoint = format!("http://{}", server.address.as_ref().unwrap());
    let start = |path: &str| run(&["client", "-e", &endpoint, "start", path]);
    let ran = start(&path);
    assert!(ran.code == Some(4) && ran.err.contains("refused by rule callers of the policy: network callers may start signed packages only, and this one is not signed"), "{}", ran.err);
    assert!(
        ran.err.contains(&format!("set callers.network = \"any\" in {policy}"))
            || ran.err.contains("set callers.network = \"any\" there"),
        "{}",
        ran.err
    );
    // The client sends the signature beside the file.
    assert_eq!(run(&["sign", "-s", &at("k.key"), &path]).code, Some(0));
    let ran = start(&path);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "2\n"), "{}", ran.err);
    // A signature of other bytes.
    let other = copied(2);
    fs::copy(format!("{path}.minisig"), format!("{other}.minisig")).unwrap();
    let ran = run(&["client", "-e", &endpoint, "update", "2", &other]);
    assert!(ran.code == Some(4) && ran.err.contains("does not match"), "{}", ran.err);
    assert_eq!(run(&["sign", "-s", &at("k.key"), &other]).code, Some(0));
    let ran = run(&["client", "-e", &endpoint, "update", "2", &other]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    // The signature is kept for the next loader.
    crate::survival::kill(server.loader());
    wait_for("another loader", || server.log().contains("another loader, which runs the tasks again"));
    wait_for("the task", || server.client(&["list"]).out.contains(" Running\n"));
}

#[test]
fn programs_and_replacements_do_only_what_is_listed() {
    needs_root!();
    let killer = compile(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("tp_btf/sched_process_exec")
int on_exec(void *ctx) { bpf_send_signal(0); return 0; }
"#,
    );
    let killer = killer.path().join("package.json").to_str().unwrap().to_owned();
    let audit = folder();
    let log = audit.path().join("audit").to_str().unwrap().to_owned();
    let (_policy, path) = policy("program_types = [\"tracing\"]\neffects = []\ntasks = 1\nmemory_mib = 1\n");
    let server = Server::start(&["--policy", &path, "--audit", &log]);
    let text = refused(&server, &["start", &killer]);
    assert!(text.contains("refused by rule effects of the policy: the program \"on_exec\" has the effect \"sends signals to processes\"; if that is intended, add \"sends signals to processes\" to effects in "), "{text}");
    let text = refused(&server, &["start", &package("opensnoop")]);
    assert!(text.contains("refused by rule program_types of the policy"), "{text}");
    // The ring buffer of this one has 1 MiB.
    let one = counted(1);
    let text = refused(&server, &["start", &one]);
    assert!(text.contains("refused by rule memory_mib of the policy"), "{text}");
    fs::write(&path, "effects = []\ntasks = 1\nmemory_mib = 16\ntotal_memory_mib = 16\n").unwrap();
    let reloaded = |text: &str| {
        support::signal(&server.child, Signal::HUP);
        wait_for(text, || server.log().contains(text));
    };
    reloaded("server: the settings were read again\n");
    let id = server.ok(&["start", &one, "--extra", "7"]);
    let id = id.trim();
    let number: u64 = id.parse().unwrap();
    let text = refused(&server, &["start", &package("bootstrap")]);
    assert!(text.contains("refused by rule tasks of the policy: 1 tasks run already"), "{text}");
    // A replace may not load what a start may not load; the task keeps running.
    let text = refused(&server, &["update", id, &killer]);
    assert!(text.contains("refused by rule effects of the policy"), "{text}");
    assert!(server.ok(&["list"]).ends_with(" Running\n"));
    // A broken file keeps the rules in force.
    fs::write(&path, "tasks = \"many\"\n").unwrap();
    reloaded("server: the settings stay as they were: ");
    assert!(server.log().contains("policy.toml: line 1: invalid type: string \"many\""), "{}", server.log());
    assert!(refused(&server, &["update", id, &killer]).contains("refused by rule effects"));
    server.ok(&["stop", id]);
    let lines = lines(&log);
    let found = |from: &str, action: &str, result: &str| {
        let is_it = |line: &&Value| {
            let text = line["result"].as_str().or(line["message"].as_str()).unwrap_or_default();
            line["from"] == from
                && line["action"].as_str().unwrap_or_default() == action
                && text.contains(result)
        };
        lines.iter().find(is_it).unwrap_or_else(|| panic!("{action} {result}: {lines:?}")).clone()
    };
    let allowed = found("loader", "load", "allowed");
    assert_eq!(allowed["who"], "user 0: POST /v1/tasks");
    assert!(allowed["digest"].as_str().unwrap().starts_with("sha256:") && allowed["task"] == number);
    assert_eq!(
        found("loader", "load", "refused by rule effects")["effects"],
        json!(["sends signals to processes"])
    );
    let who = format!("user 0: PUT /v1/tasks/{id}/package");
    assert_eq!(found("loader", "replace", "refused by rule effects")["who"], who);
    assert_eq!(found("loader", "unload", "")["task"], number);
    assert_eq!(found("server", "", "refused by rule tasks")["status"], 403);
    assert!(
        lines
            .iter()
            .any(|line| line["who"] == format!("user 0: DELETE /v1/tasks/{id}") && line["status"] == 200)
    );
}

#[test]
fn a_malformed_policy_starts_nothing() {
    needs_root!();
    let (_folder, path) = policy("task = 1\n");
    let state = folder();
    let at = |name: &str| state.path().join(name).to_str().unwrap().to_owned();
    let ran = run(&["server", "--socket", &at("s"), "--state", &at("state"), "--policy", &path]);
    assert_eq!(ran.code, Some(1));
    let last = ran.err.lines().last().unwrap();
    assert!(last.contains("policy.toml: line 1: unknown field `task`, expected one of"), "{}", ran.err);
    let ran = run(&["server", "--socket", &at("s"), "--state", &at("state"), "--policy", &at("none")]);
    assert!(ran.err.contains("none: No such file"), "{}", ran.err);
}

#[test]
fn executables_are_in_the_allowed_folders() {
    needs_root!();
    let source = |path: &str| {
        format!(
            r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("uprobe/{path}:main")
int on_call(void *ctx) {{ return 0; }}
"#
        )
    };
    let (_policy, path) = policy("uprobe_folders = [\"/usr/bin\"]\n");
    let server = Server::start(&["--policy", &path]);
    let start = |path: &str| {
        let folder = compile(&source(path));
        refused(&server, &["start", folder.path().join("package.json").to_str().unwrap()])
    };
    for (target, why) in [
        ("/usr/lib/os-release", "which is in none of the allowed directories"),
        ("/usr/bin/../lib/os-release", "which is in none of the allowed directories"),
        ("/proc/self/exe", "which is a path of a process"),
        ("libc.so.6", "which must be an absolute path"),
        ("/usr/bin/none", "which cannot be found"),
    ] {
        let text = start(target);
        assert!(
            text.contains("refused by rule uprobe_folders of the policy") && text.contains(why),
            "{target}: {text}"
        );
    }
}

#[test]
fn a_caller_that_hangs_up_is_noted() {
    needs_root!();
    let audit = folder();
    let log = audit.path().join("audit").to_str().unwrap().to_owned();
    let server = Server::start(&["--audit", &log]);
    let body = json!({"package": package_value(&package("bootstrap"))}).to_string();
    {
        let mut stream = std::os::unix::net::UnixStream::connect(server.path("socket")).unwrap();
        let message = crate::message("POST", "/v1/tasks", "Content-Type: application/json\r\n", &body);
        std::io::Write::write_all(&mut stream, message.as_bytes()).unwrap();
    }
    wait_for("the line", || {
        lines(&log).iter().any(|line| {
            line["from"] == "server" && line["who"] == "user 0: POST /v1/tasks" && line["status"].is_u64()
        })
    });
}

/// A package with one program.
fn compiled(source: &str) -> (tempfile::TempDir, String) {
    let folder = compile(&format!(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n{source}"
    ));
    let path = folder.path().join("package.json").to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_refused_package_leaves_no_pinned_map() {
    needs_root!();
    let server = Server::start(&[]);
    let pinned = |entries: u32, size: u32| {
        compiled(&format!(
            "struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, {entries}); __type(key, u32); __type(value, u64[{size}]);\n\
             __uint(pinning, LIBBPF_PIN_BY_NAME); }} agent_pins SEC(\".maps\");\n\
             SEC(\"tp_btf/sched_process_exec\") int on_exec(void *ctx) {{ u32 zero = 0; return !bpf_map_lookup_elem(&agent_pins, &zero); }}\n"
        ))
    };
    let ((_small, small), (_large, large)) = (pinned(1, 1), pinned(1 << 20, 1));
    let path = std::path::Path::new("/sys/fs/bpf/agent_pins");
    let _ = fs::remove_file(path);
    // The limit of the request is checked when the package is loaded.
    let ran = server.client(&["start", "--limit", "memory_mib=1", &large]);
    assert!(ran.err.contains("limits.memory_mib allows 1 MiB"), "{}", ran.err);
    assert!(!path.exists());
    server.ok(&["start", "-n", "small", "--limit", "memory_mib=1", &small]);
    assert!(path.exists());
    server.ok(&["stop", "small"]);
    // A map that was pinned before stays.
    let ran = server.client(&["start", "--limit", "memory_mib=1", &large]);
    assert!(ran.code != Some(0) && path.exists(), "{}", ran.err);
    fs::remove_file(path).unwrap();
    // A refused replacement leaves no pinned map either.
    let (_plain, plain) =
        compiled("SEC(\"tp_btf/sched_process_exec\") int on_exec(void *ctx) { return 0; }\n");
    server.ok(&["start", "-n", "plain", "--limit", "memory_mib=1", &plain]);
    let ran = server.client(&["update", "plain", &large]);
    assert!(ran.err.contains("limits.memory_mib allows 1 MiB") && !path.exists(), "{}", ran.err);
    server.ok(&["update", "plain", &small]);
    assert!(path.exists());
    fs::remove_file(path).unwrap();
}

#[test]
fn what_programs_call_decides_whether_they_run_without_a_server() {
    needs_root!();
    let server = Server::start(&["--detach-after", "0"]);
    let program = |body: &str| {
        compiled(&format!(
            "SEC(\"tp_btf/sched_process_exec\") int on_exec(void *ctx) {{ {body} return 0; }}\n"
        ))
    };
    let (_observes, observes) = program("");
    let (_signals, signals) = program("if (bpf_get_current_pid_tgid() == 1ull << 62) bpf_send_signal(0);");
    server.ok(&["start", "-n", "observes", &observes]);
    server.ok(&["start", "-n", "signals", &signals]);
    server.ok(&["start", "-n", "updated", &observes]);
    server.ok(&["update", "updated", &signals]);
    let loader = server.loader();
    assert_eq!(crate::survival::links(loader).len(), 3);
    let _folder = server.kill();
    wait_for("the end of two", || crate::survival::links(loader).len() == 1);
    crate::end_loader(_folder.path());
}

#[test]
fn a_plan_is_judged_like_a_start() {
    needs_root!();
    let (_policy, path) = policy("memory_mib = 1\n");
    let server = Server::start(&["--policy", &path]);
    let one = counted(1);
    let text = refused(&server, &["plan", &one]);
    assert!(text.contains("refused by rule memory_mib of the policy"), "{text}");
}

#[test]
fn a_package_may_have_more_maps_than_a_process_has_descriptors_by_default() {
    needs_root!();
    let maps = (0..1200).map(|number| {
        format!(
            "struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, u32); __type(value, u32); }} m{number} SEC(\".maps\");\n"
        )
    });
    let program = "SEC(\"tp_btf/sched_process_exec\") int on_exec(void *ctx) { u32 zero = 0; return !bpf_map_lookup_elem(&m0, &zero); }\n";
    let (_folder, package) = compiled(&(maps.collect::<String>() + program));
    let server = Server::start(&[]);
    server.ok(&["start", "-n", "a", &package]);
    let found = server.request("GET", "/v1/tasks/1/maps", &Value::Null).1;
    assert_eq!(found["maps"].as_array().unwrap().len(), 1200);
}
