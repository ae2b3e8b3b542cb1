//! The callers that the server accepts, and what each of them may do.

use serde_json::{Value, json};

use crate::support::{self, package, run};
use crate::{Server, folder, needs_root, package_value, policy};

/// The line of a token in the file of the server.
fn line(role: &str, token: &str) -> String {
    format!("{role} {}\n", support::sha256(token.as_bytes()))
}

#[test]
fn root_does_everything_and_the_group_of_the_socket_reads() {
    needs_root!();
    let server = Server::start(&["--group", "65534"]);
    server.ok(&["start", &package("bootstrap")]);
    let endpoint = server.endpoint();
    let nobody =
        |args: &[&str]| support::without_privileges(&[&["client", "-e", &endpoint], args].concat(), "");
    assert_eq!(nobody(&["list"]).out, "1 bootstrap Running\n");
    assert_eq!(nobody(&["log", "1"]).code, Some(0));
    for args in [
        &["stop", "1"][..],
        &["pause", "1"],
        &["start", &package("bootstrap")],
        &["update", "1", &package("hello")],
    ] {
        let ran = nobody(args);
        let text = "ecli: this needs the role operate; you have read; root may do everything over the unix socket; tokens can have any role\n";
        assert_eq!((ran.code, ran.err.as_str()), (Some(4), text), "{args:?}");
    }
    assert_eq!(server.ok(&["list"]), "1 bootstrap Running\n");
    assert!(server.log().contains("server: user 65534: DELETE /v1/tasks/1: 403\n"), "{}", server.log());
    // The mode of the socket keeps out everybody else.
    let other = Server::start(&["--group", "0"]);
    let endpoint = other.endpoint();
    let ran = support::without_privileges(&["client", "-e", &endpoint, "list"], "");
    assert!(ran.code == Some(1) && ran.err.contains("Permission denied"), "{}", ran.err);
}

#[test]
fn tokens_have_roles_over_tcp_until_they_are_removed() {
    needs_root!();
    let tokens = folder();
    let path = tokens.path().join("tokens");
    std::fs::write(&path, line("read", "reader") + &line("operate", "operator")).unwrap();
    let (_policy, policy) = policy("[callers]\nnetwork = \"any\"\n");
    let server = Server::start(&["-p", "0", "--tokens", path.to_str().unwrap(), "--policy", &policy]);
    let get = |headers: &str| server.request_over_tcp("GET", "/v1/tasks", headers, "");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let (code, error) = get("");
    assert_eq!((code, &error["message"]), (401, &json!("a token is required")));
    assert!(error["hint"].as_str().unwrap().contains("--insecure-no-auth"), "{error}");
    assert_eq!(get(&bearer("other")).0, 401);
    assert_eq!(get(&bearer("reader")), (200, json!({"tasks": []})));
    let body = json!({"package": package_value(&package("bootstrap"))}).to_string();
    let start = |token: &str| server.request_over_tcp("POST", "/v1/tasks", &bearer(token), &body);
    assert_eq!(start("reader").0, 403);
    assert_eq!(start("operator").0, 201);
    // The client sends the token of a file.
    let file = tokens.path().join("token");
    std::fs::write(&file, "operator\n").unwrap();
    let endpoint = format!("http://{}", server.address.as_ref().unwrap());
    let list = ["client", "-e", &endpoint, "list", "--token-file", file.to_str().unwrap()];
    assert_eq!(run(&list).out, "1 bootstrap Running\n");
    let ran = run(&["client", "-e", &endpoint, "list"]);
    assert!(ran.code == Some(4) && ran.err.starts_with("ecli: a token is required"), "{}", ran.err);
    std::fs::write(&path, line("read", "reader")).unwrap();
    assert_eq!(get(&bearer("operator")).0, 401, "a token is invalid as soon as its line is removed");
    std::fs::write(&path, "nonsense\n").unwrap();
    let (code, error) = get(&bearer("reader"));
    assert!(
        code == 503 && error["message"].as_str().unwrap().contains("tokens: line 1: expected"),
        "{error}"
    );
}

#[test]
fn an_unsafe_server_is_not_started() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (socket, state, tokens) = (path("s"), path("state"), path("tokens"));
    std::fs::write(&tokens, "").unwrap();
    let refused = |options: &[&str]| {
        let ran = run(&[&["server", "--socket", &socket, "--state", &state], options].concat());
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{}", ran.err);
        ran.err
    };
    assert!(refused(&["-p", "0"]).contains("require a token with --tokens FILE"));
    assert!(refused(&["-a", "0.0.0.0", "--insecure-no-auth"]).contains("use a certificate (--tls-cert"));
    assert!(refused(&["-a", "192.0.2.1", "--tokens", &tokens]).contains("use a certificate (--tls-cert"));
    assert!(
        refused(&["-p", "0", "--tokens", &tokens, "--insecure-no-auth"]).contains("are mutually exclusive")
    );
    assert!(refused(&["-p", "0", "--tokens", "/nonexistent"]).contains("/nonexistent: No such file"));
    std::fs::write(&tokens, "read abc\n").unwrap();
    assert!(
        refused(&["-p", "0", "--tokens", &tokens])
            .contains("tokens: line 1: expected read, operate or admin")
    );
}

#[test]
fn web_pages_and_foreign_names_are_refused() {
    needs_root!();
    let server = Server::start(&["-p", "0", "--insecure-no-auth"]);
    let address = server.address.clone().unwrap();
    let send = |text: String| crate::exchange(std::net::TcpStream::connect(&address).unwrap(), &text).0;
    assert_eq!(send(format!("GET /task HTTP/1.1\r\nHost: {address}\r\n\r\n")), 200);
    assert_eq!(send("GET /task HTTP/1.1\r\nHost: attacker.example\r\n\r\n".into()), 421);
    assert_eq!(
        send(format!("GET /task HTTP/1.1\r\nHost: {address}\r\nOrigin: http://attacker.example\r\n\r\n")),
        403
    );
    // A request that a web page can send without a CORS preflight request.
    let simple = format!(
        "POST /stop HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n{{\"id\":1}}"
    );
    assert_eq!(send(simple), 415);
    assert_eq!(server.request("GET", "/v1/version", &Value::Null).1["api"], 1);
}
