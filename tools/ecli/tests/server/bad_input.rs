//! Every bad input has its own message, and none of them harms the server.

use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::support::{self, package};
use crate::{Server, needs_root, package_value};

#[test]
fn each_mistake_has_its_own_message() {
    needs_root!();
    let server = Server::start(&[]);
    server.ok(&["start", "-n", "taken", &package("bootstrap")]);
    server.ok(&["start", "-j", "-n", "json", &package("bootstrap")]);
    let good = package_value(&package("bootstrap"));
    let refused = |method: &str, path: &str, body: Value| {
        let (code, error) = server.request(method, path, &body);
        for member in ["status", "message", "detail", "hint"] {
            assert!(error[member].is_string(), "{path}: {member} in {error}");
        }
        format!("{code} {}: {}", error["status"].as_str().unwrap(), error["message"].as_str().unwrap())
    };
    let start = |body: Value| refused("POST", "/v1/tasks", body);
    let raw = |body: &str| {
        let stream = UnixStream::connect(server.path("socket")).unwrap();
        let headers = "Content-Type: application/json\r\n";
        crate::exchange(stream, &crate::message("POST", "/v1/tasks", headers, body)).1["message"].clone()
    };
    let with = |key: &str, value: Value| {
        let mut body = json!({"package": good});
        body[key] = value;
        start(body)
    };
    let found = [
        start(json!([])),
        start(json!({})),
        start(json!({"package": "x"})),
        start(json!({"package": {}, "package_base64": ""})),
        start(json!({"package_base64": "!"})),
        start(json!({"package_base64": 1})),
        start(json!({"package_base64": "f0VMRg"})),
        with("packages", json!(1)),
        with("name", json!("a/b")),
        with("name", json!("taken")),
        with("args", json!(["--no-such-option"])),
        with("args", json!(["--help"])),
        with("variables", json!({"no_such_variable": 1})),
        with("format", json!("csv")),
        with("on_agent_death", json!("ignore")),
        refused("GET", "/v1/nothing", Value::Null),
        refused("PATCH", "/v1/tasks", Value::Null),
        refused("GET", "/v1/tasks/x", Value::Null),
        refused("GET", "/v1/tasks/9", Value::Null),
        refused("PUT", "/v1/tasks/9/package", json!({})),
        refused("GET", "/v1/tasks/1/events?since=x", Value::Null),
        refused("GET", "/v1/tasks/1/events?follow=maybe", Value::Null),
        refused("GET", "/v1/tasks/1/events?filter=x", Value::Null),
        refused("GET", "/v1/tasks/2/events?filter=x", Value::Null),
        refused("GET", "/v1/tasks/2/events?filter=pid%20%3D", Value::Null),
        refused("GET", "/v1/tasks/1/events?filter=%4", Value::Null),
        refused("GET", "/v1/tasks/1/events?filters=x", Value::Null),
        refused("GET", "/v1/tasks/1/maps/none", Value::Null),
        refused("GET", "/v1/tasks/1/maps/exec_time?limit=0", Value::Null),
        refused("GET", "/v1/tasks/1/maps/exec_time?after=0", Value::Null),
        refused("GET", "/v1/tasks/1/maps/exec_time?after=00", Value::Null),
        refused("GET", "/v1/tasks/1/maps/exec_time?after=ffffffff", Value::Null),
        refused("GET", "/v1/tasks/1/maps/events", Value::Null),
        refused("POST", "/v1/plan", json!({"task": 9, "package": good})),
        refused("POST", "/v1/plan", json!({"task": "1", "package": good})),
        refused("POST", "/v1/plan", json!({"task": 1, "package": good, "args": ["x"]})),
        refused("POST", "/v1/plan", json!({"package": good, "args": ["--no-such-option"]})),
        refused("GET", "/v1/tasks/1/events?since=1&since=2", Value::Null),
        refused("POST", "/stop", json!({})),
        refused("POST", "/stop", json!({"id": "1"})),
        refused("POST", "/log", json!({"id": 1, "log_cursor": -1})),
    ];
    let expected = [
        "400 invalid: the body: expected an object, found []",
        "400 invalid: one of package, package_base64, digest, source is missing",
        "400 invalid: package: expected an object, found \"x\"",
        "400 invalid: package and package_base64 are mutually exclusive",
        "400 invalid: package_base64: invalid base64: ",
        "400 invalid: package_base64: expected a string, found 1",
        "422 unsupported: package: this is a BPF object; send the package.json that ecc writes",
        "400 invalid: unknown member \"packages\"; known are name, package, package_base64, digest, source, signature, args, variables, format, on_agent_death, restart, limits, sink",
        "400 invalid: name: \"a/b\" must be 1 to 64 letters, digits, dots, hyphens or underscores",
        "409 conflict: task 1 has the name \"taken\" and runs something else",
        "400 invalid: ",
        "400 invalid: args request only the help or the version of the program, so there is nothing to run",
        "422 not_found: variable \"no_such_variable\"",
        "400 invalid: format: expected \"json\" or \"text\", found \"csv\"",
        "400 invalid: on_agent_death: expected \"keep\" or \"detach\", found \"ignore\"",
        "404 not_found: there is no /v1/nothing",
        "405 method: /v1/tasks supports GET, POST, not PATCH",
        "400 invalid: \"x\" in the path is not the number of a task",
        "404 not_found: there is no task 9",
        "404 not_found: there is no task 9",
        "400 invalid: since: expected now or a cursor, found \"x\"",
        "400 invalid: follow: expected true or false, found \"maybe\"",
        "400 invalid: filter: task 1 keeps its events as text; start it with the format json",
        "400 invalid: filter: field \"x\": struct event has no \"x\"",
        "400 invalid: filter: unknown operator '='; use == to compare",
        "400 invalid: filter: \"%4\" is not percent-encoded UTF-8",
        "400 invalid: unknown parameter \"filters\"; known are since, follow, filter",
        "422 not_found: map \"none\"",
        "400 invalid: limit: expected 1 to 10000, found \"0\"",
        "400 invalid: after: expected the value of \"next\" of a page, found \"0\"",
        "400 invalid: after: a key of \"exec_time\" has 4 bytes, not 1",
        "409 conflict: after: \"exec_time\" has no entry with this key any more; begin again",
        "422 unsupported: map \"events\"",
        "404 not_found: there is no task 9",
        "400 invalid: task: expected the number of a task, found \"1\"",
        "400 invalid: args and variables are not allowed with task: a replace keeps those of the task",
        "400 invalid: ",
        "400 invalid: the parameter since occurs twice",
        "400 invalid: id is missing",
        "400 invalid: id: expected the number of a task, found \"1\"",
        "400 invalid: log_cursor: expected a number, found -1",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "\n   found {found}\nexpected {expected}");
    }
    assert!(found[10].contains("no-such-option"), "{}", found[10]);
    let nested = "[".repeat(100_000);
    for body in ["", "{", "nul", "{\"package\": {}} x", &nested] {
        let message = raw(body);
        assert!(message.as_str().unwrap().starts_with("the body is invalid JSON: "), "{message}");
    }
    assert_eq!(server.ok(&["list"]), "1 taken Running\n2 json Running\n", "nothing was started");
}

#[test]
fn a_program_that_the_kernel_refuses_leaves_nothing_behind() {
    needs_root!();
    let server = Server::start(&[]);
    let folder = support::compile(
        r#"
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
char LICENSE[] SEC("license") = "GPL";
SEC("raw_tp/sys_enter")
int unsafe_read(unsigned long *context) { return *(int *)context[0]; }
"#,
    );
    let path = folder.path().join("package.json");
    let (code, error) =
        server.request("POST", "/v1/tasks", &json!({"package": package_value(path.to_str().unwrap())}));
    assert_eq!((code, &error["status"]), (422, &json!("verifier")), "{error}");
    assert!(
        error["detail"].as_str().unwrap().contains("invalid mem access"),
        "the log of the verifier: {error}"
    );
    let ran = server.client(&["start", path.to_str().unwrap()]);
    assert!(
        ran.code == Some(5) && ran.err.contains("unsafe_read") && ran.err.contains("invalid mem access"),
        "{}",
        ran.err
    );
    assert_eq!(server.ok(&["list"]), "");
    for folder in ["state/tasks", "state/packages"] {
        assert_eq!(std::fs::read_dir(server.path(folder)).unwrap().count(), 0, "{folder}");
    }
}

#[test]
fn a_package_is_described_without_running() {
    needs_root!();
    let server = Server::start(&[]);
    let body = json!({"package": package_value(&package("bootstrap"))});
    let (code, described) = server.request("POST", "/v1/describe", &body);
    assert_eq!((code, &described["state"]), (200, &json!("opened")), "{described}");
    assert_eq!(server.ok(&["list"]), "");
    server.ok(&["start", &package("bootstrap")]);
    let (code, described) = server.request("GET", "/v1/tasks/1/inspect", &Value::Null);
    assert_eq!((code, &described["state"]), (200, &json!("attached")), "{described}");
}
