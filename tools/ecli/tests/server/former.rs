//! The routes of the former ecli-server.

use base64::Engine;
use serde_json::{Value, json};

use crate::support::{package, wait_for};
use crate::{Marker, Server, counted, needs_root, policy};

/// A package as its clients sent it: base64 without padding.
fn sent(path: &str) -> String {
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(std::fs::read(path).unwrap())
}

#[test]
fn a_client_of_the_former_server_is_served() {
    needs_root!();
    let (_policy, policy) = policy("[callers]\nnetwork = \"any\"\n");
    let server = Server::start(&["-p", "0", "--insecure-no-auth", "--policy", &policy]);
    let path = counted(1);
    let post = |path: &str, body: Value| server.request_over_tcp("POST", path, "", &body.to_string());
    let list = || server.request_over_tcp("GET", "/task", "", "").1;
    assert_eq!(list(), json!({"tasks": []}));
    let body = json!({
        "program_data_buf": sent(&path), "program_type": "json", "program_name": "one", "btf_archive_path": null,
        "extra_args": ["--extra", "5"], "export_json": true,
    });
    let running = json!({"tasks": [{"id": 1, "name": "one", "status": "running"}]});
    assert_eq!(post("/task", body), (200, json!({"id": 1, "task_list": running})));
    let (code, started) =
        post("/task", json!({"program_data_buf": sent(&package("bootstrap")), "program_type": "json"}));
    assert_eq!((code, &started["id"]), (200, &json!(2)));
    assert!(
        started["task_list"]["tasks"][1]["name"].as_str().unwrap().starts_with("bpf-program-"),
        "{started}"
    );
    Marker::new().run("marker-former");
    let log = |body: Value| post("/log", body).1.as_array().unwrap().clone();
    let has_marker = || {
        log(json!({"id": 1}))
            .iter()
            .any(|entry| entry["log"]["log"].as_str().unwrap().contains("marker-former"))
    };
    wait_for("the marker", has_marker);
    let all = log(json!({"id": 1}));
    assert_eq!(all[0]["cursor"], 1);
    assert!(all[0]["log"]["log"].as_str().unwrap().starts_with("{\"number\":0,"), "{}", all[0]);
    assert!(
        all[0]["log"]["timestamp"].as_u64().unwrap() > 1_600_000_000 && all[0]["log"]["log_type"] == "plain"
    );
    assert_eq!(log(json!({"id": 1, "maximum_count": 1})).len(), 1);
    assert!(log(json!({"id": 2}))[0]["log"]["log"].as_str().unwrap().starts_with("TIME "));
    // Lines up to a cursor are forgotten for this caller, and only for it.
    let last = all.last().unwrap()["cursor"].clone();
    log(json!({"id": 1, "log_cursor": last}));
    assert!(log(json!({"id": 1})).iter().all(|entry| entry["cursor"].as_u64() > last.as_u64()));
    assert!(server.ok(&["log", "1"]).starts_with("{\"number\":0,"));
    assert_eq!(post("/pause", json!({"id": 1})), (200, json!({"status": "paused"})));
    assert_eq!(list()["tasks"][0]["status"], "paused");
    assert_eq!(post("/resume", json!({"id": 1})), (200, json!({"status": "running"})));
    assert_eq!(post("/stop", json!({"id": 1})), (200, json!({})));
    for path in ["/stop", "/log", "/pause", "/resume"] {
        let (code, error) = post(path, json!({"id": 1}));
        assert_eq!((code, &error["message"]), (404, &json!("there is no task 1")), "{path}");
    }
}

#[test]
fn what_it_could_do_and_this_one_cannot_is_explained() {
    needs_root!();
    let server = Server::start(&[]);
    let start = |body: Value| {
        let (code, error) = server.request("POST", "/task", &body);
        (code, error["message"].as_str().unwrap().to_owned())
    };
    let wasm = start(json!({"program_data_buf": "AGFzbQ", "program_type": "wasm"}));
    assert_eq!(wasm, (400, "program_type: the server does not run WASM modules".into()));
    let hidden = start(json!({"program_data_buf": "AGFzbQ", "program_type": "json"}));
    assert_eq!(
        hidden,
        (
            422,
            "package: this is a WASM module; the server runs JSON packages and tar archives with one".into()
        )
    );
    let path = start(json!({"program_data_buf": "e30", "program_type": "json", "btf_archive_path": "/etc"}));
    assert_eq!(path, (400, "btf_archive_path: paths in requests are refused".into()));
    let none = start(json!({"program_type": "json"}));
    assert_eq!(none, (400, "program_data_buf: expected a string, found null".into()));
    assert_eq!(
        start(json!({"program_data_buf": "e30"})),
        (400, "program_type: expected \"json\" or \"tar\", found null".into())
    );
}

#[test]
fn a_client_of_the_first_server_is_served() {
    needs_root!();
    let (_policy, policy) = policy("[callers]\nnetwork = \"any\"\n");
    let server = Server::start(&["-p", "0", "--insecure-no-auth", "--compat-e1", "--policy", &policy]);
    let list = || server.request_over_tcp("GET", "/list", "", "").1;
    assert_eq!(list(), json!(["status", "ok", "list", []]));
    // Its clients send text/plain, and the package is the whole body.
    let post = |path: &str, body: &str| {
        let address = server.address.as_ref().unwrap();
        let text = crate::message("POST", path, "Content-Type: text/plain\r\n", body);
        crate::exchange(std::net::TcpStream::connect(address).unwrap(), &text)
    };
    let bootstrap = std::fs::read_to_string(package("bootstrap")).unwrap();
    assert_eq!(post("/start", &bootstrap), (200, json!(["status", "ok", "id", 1])));
    assert_eq!(post("/start", &bootstrap), (200, json!(["status", "ok", "id", 2])), "it is started twice");
    assert_eq!(list(), json!(["status", "ok", "list", [[1, "bootstrap"], [2, "bootstrap-2"]]]));
    assert_eq!(server.ok(&["list"]), "1 bootstrap Running\n2 bootstrap-2 Running\n");
    assert_eq!(post("/start", "{}"), (404, json!(["status", "error"])));
    let (_folder, refused) = refused();
    assert_eq!(post("/start", &refused), (200, json!(["status", "error"])));
    assert_eq!(post("/stop", "{\"id\":1}"), (200, json!(["status", "ok"])));
    assert_eq!(post("/stop", "{\"id\":1}"), (200, json!(["status", "error"])));
    assert_eq!(list(), json!(["status", "ok", "list", [[2, "bootstrap-2"]]]));
    let without = Server::start(&[]);
    let (code, error) = without.request("GET", "/list", &Value::Null);
    assert!(code == 404 && error["hint"].as_str().unwrap().contains("--compat-e1"), "{error}");
}

/// A package that the verifier refuses.
fn refused() -> (tempfile::TempDir, String) {
    let folder = crate::support::compile(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n\
         SEC(\"tp_btf/sched_process_exec\") int on_exec(u64 *ctx) { return *(int *)ctx[100]; }\n",
    );
    let text = std::fs::read_to_string(folder.path().join("package.json")).unwrap();
    (folder, text)
}
