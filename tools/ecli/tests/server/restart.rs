//! The state that a server leaves, and the tasks that the next server starts from it.

use std::fs;

use serde_json::{Value, json};

use crate::support::{self, ecli, package, wait_for};
use crate::{Marker, Server, counted, needs_root, policy};

#[test]
fn a_killed_server_is_followed_by_one_that_runs_the_same() {
    needs_root!();
    let mut server = Server::start(&[]);
    let packages = [counted(1), counted(2)];
    server.ok(&["start", "-j", "-n", "one", &packages[0], "--extra", "3"]);
    server.ok(&["start", "-n", "two", &package("bootstrap")]);
    server.ok(&["start", "-n", "gone", &package("hello")]);
    server.ok(&["update", "1", &packages[1]]);
    server.ok(&["pause", "2"]);
    server.ok(&["stop", "3"]);
    // Once with the loader of the previous server, and once without it.
    for (marker, has_crashed) in [("marker-killed", false), ("marker-crashed", true)] {
        let folder = if has_crashed { server.crash() } else { server.kill() };
        server = Server::start_in(folder, &[]);
        assert_eq!(server.ok(&["list"]), "1 one Running\n2 two Paused\n");
        Marker::new().run(marker);
        let has_marker = || {
            let mut events = server.events("1").into_iter();
            events.any(|event| event["comm"] == marker && event["version"] == 2 && event["extra"] == 3)
        };
        wait_for("an event of the new version with its arguments", has_marker);
    }
    // The first server had reserved a hundred numbers.
    assert_eq!(server.ok(&["start", "-n", "new", &package("hello")]), "101\n", "numbers are not used again");
}

#[test]
fn a_broken_file_is_reported_and_the_other_tasks_run() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", "-n", "one", &package("bootstrap")]);
    server.ok(&["start", "-n", "two", &package("hello")]);
    let folder = server.kill();
    let file = folder.path().join("state/tasks/1.json");
    let text = fs::read(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    let server = Server::start_in(folder, &[]);
    assert_eq!(server.ok(&["list"]), "2 two Running\n");
    let log = server.log();
    assert!(log.contains("server: task 1 is stopped, because it has no file\n"), "{log}");
    assert!(log.contains("1.json: invalid JSON") && log.contains("; renamed to "), "{log}");
    assert!(server.path("state/tasks/1.json.broken").exists());
}

#[test]
fn a_task_that_may_have_crashed_the_machine_waits_for_a_decision() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", "-n", "one", &package("bootstrap")]);
    let folder = server.crash();
    let file = folder.path().join("state/tasks/1.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(record["attaching"], json!(boot.trim()), "written before the task is known to be healthy");
    record["attaching"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(&file, record.to_string()).unwrap();
    let server = Server::start_in(folder, &[]);
    assert_eq!(server.ok(&["list"]), "1 one Failed\n");
    let why = "the machine was restarted shortly after it was attached; resume it to try again";
    assert_eq!(server.request("GET", "/v1/tasks/1", &Value::Null).1["error"], why);
    assert!(server.log().contains(&format!("server: task 1 (one): {why}\n")), "{}", server.log());
    let (code, error) = server.request("POST", "/v1/tasks/1/pause", &Value::Null);
    assert_eq!((code, &error["status"]), (409, &json!("failed")), "{error}");
    server.ok(&["resume", "1"]);
    assert_eq!(server.ok(&["list"]), "1 one Running\n");
}

#[test]
fn a_task_is_marked_each_time_it_is_attached() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", "-n", "one", &package("bootstrap")]);
    let mut folder = server.crash();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for is_first in [true, false] {
        let file = folder.path().join("state/tasks/1.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(record["attaching"], json!(boot.trim()), "after the first start: {is_first}");
        // Changes the files as if the task had run for a while and the number of the next task were lost.
        record["attaching"] = Value::Null;
        fs::write(&file, record.to_string()).unwrap();
        fs::write(folder.path().join("state/next"), "?").unwrap();
        let server = Server::start_in(folder, &[]);
        assert_eq!(server.ok(&["list"]), "1 one Running\n");
        assert_ne!(server.ok(&["start", &package("hello")]), "1\n", "the number is in use");
        server.ok(&["stop", "2"]);
        folder = server.crash();
    }
}

#[test]
fn two_servers_do_not_share_a_state_or_a_socket() {
    needs_root!();
    let server = Server::start(&[]);
    let path = |name: &str| server.path(name).to_str().unwrap().to_owned();
    let start = |socket: &str, state: &str| {
        let output = ecli(&["server", "--socket", &path(socket), "--state", &path(state)]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(start("other", "state").contains("another server uses this directory"));
    assert!(start("socket", "other").contains("another server listens there"));
    assert_eq!(server.ok(&["list"]), "", "the first one goes on");
}

#[test]
fn a_task_that_has_failed_is_started_again_if_it_says_so() {
    needs_root!();
    let (_policy, path) = policy("");
    let server = Server::start(&["--policy", &path]);
    let package = counted(1);
    server.ok(&["start", "-n", "a", "--restart", "on-failure", &package]);
    server.ok(&["start", "-n", "b", &package]);
    fs::write(&path, "program_types = [\"xdp\"]\n").unwrap();
    let server = Server::start_in(server.crash(), &["--policy", &path]);
    assert_eq!(server.ok(&["list"]), "1 a Failed\n2 b Failed\n");
    let messages = || server.ok(&["messages", "1"]);
    let refused = "attempt 1 to start it again: refused by rule program_types of the policy";
    wait_for("an attempt", || messages().contains(refused));
    assert_eq!(server.ok(&["list"]), "1 a Failed\n2 b Failed\n");
    fs::write(&path, "").unwrap();
    support::signal(&server.child, rustix::process::Signal::HUP);
    wait_for("the task", || server.ok(&["list"]) == "1 a Running\n2 b Failed\n");
    assert!(messages().contains(" to start it again: it runs"), "{}", messages());
    let task = server.request("GET", "/v1/tasks/1", &Value::Null).1;
    assert!(task["restart"] == "on-failure" && task["attempts"].as_u64() > Some(1), "{task}");
}
