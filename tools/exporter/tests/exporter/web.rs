//! TLS, passwords and tokens, and the socket of a service manager.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use rustix::process::{Pid, Signal, kill_process};

use super::prometheus::Prometheus;
use super::*;

const METRICS: &str = "    counters:\n    - {name: calls_total, labels: [name]}\n";

/// A web configuration with a certificate for localhost, and a user.
fn write(folder: &Path, password: &str) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), pair.cert.pem()).expect("a file");
    std::fs::write(folder.join("key.pem"), pair.signing_key.serialize_pem()).expect("a file");
    // The lowest cost, because a test is not optimized.
    let hash = bcrypt::hash(password, 4).expect("a hash");
    let text = format!(
        "tls_server_config: {{cert_file: cert.pem, key_file: key.pem, min_version: TLS13}}\nbasic_auth_users: {{me: '{hash}'}}\n"
    );
    std::fs::write(folder.join("web.yaml"), text).expect("a file");
}

/// The status of a request over TLS.
fn status(exporter: &Exporter, files: &Path, path: &str, options: &[&str]) -> String {
    let port = exporter.address.rsplit_once(':').expect("a port").1;
    let mut command = Command::new("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--cacert"]);
    command.arg(files.join("cert.pem")).args(options).arg(format!("https://localhost:{port}{path}"));
    // The certificate is for this name, which may have an IPv6 address too.
    command.args(["--ipv4", "--noproxy", "*"]);
    let output = command.output().expect("curl runs: tools/setup.sh test");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn prometheus_scrapes_over_tls_with_a_password() {
    needs_root!();
    let (option, files) = (option(), folder());
    write(files.path(), "secret");
    let path = |name: &str| files.path().join(name).to_str().expect("UTF-8").to_owned();
    let digest = eunomia_agent::spec::digest(b"token");
    std::fs::write(path("tokens"), format!("operate {digest}\n")).expect("a file");
    let options = ["--web-config", &path("web.yaml"), "--tokens", &path("tokens")];
    let exporter = Exporter::start_with(&program(option, METRICS), &options);
    call(option, &[(1, b"a"), (1, b"a")]);
    let certificate = path("cert.pem");
    let prometheus = Prometheus::start_with(
        &exporter.address,
        &[],
        &format!(
            "  scheme: https\n  tls_config: {{ca_file: {certificate}, server_name: localhost}}\n  basic_auth: {{username: me, password: secret}}\n"
        ),
    );
    prometheus.wait_for("calls_total{name=\"a\"}", 2.0);
    prometheus.wait_for("up", 1.0);
    let ask = |path: &str, options: &[&str]| status(&exporter, files.path(), path, options);
    let start = ["--user", "me:secret", "--json", "{}"];
    for (path, options, expected) in [
        ("/metrics", &[][..], "401"),
        ("/metrics", &["--user", "me:wrong"], "401"),
        ("/metrics", &["--user", "you:secret"], "401"),
        ("/metrics", &["--oauth2-bearer", "wrong"], "401"),
        ("/metrics", &["--user", "me:secret"], "200"),
        ("/metrics", &["--oauth2-bearer", "token"], "200"),
        ("/list", &["--user", "me:secret"], "200"),
        ("/start", &start, "403"),
        ("/start", &["--oauth2-bearer", "token", "--json", "{}"], "404"),
        ("/-/healthy", &[], "200"),
        ("/-/ready", &[], "200"),
    ] {
        assert_eq!(ask(path, options), expected, "{path} {options:?}");
    }
    // Another password and certificate apply after SIGHUP.
    write(files.path(), "other");
    kill_process(Pid::from_child(&exporter.child), Signal::HUP).expect("it runs");
    wait_for("the new files", || ask("/metrics", &["--user", "me:other"]) == "200");
    assert_eq!(ask("/metrics", &["--user", "me:secret"]), "401");
    std::fs::write(path("web.yaml"), "basic_auth_users: {me: secret}\n").expect("a file");
    kill_process(Pid::from_child(&exporter.child), Signal::HUP).expect("it runs");
    wait_for("the mistake", || exporter.log().contains("the configuration cannot be applied: "));
    assert_eq!(ask("/metrics", &["--user", "me:other"]), "200");
}

#[test]
fn scrapes_need_a_token_on_request() {
    needs_root!();
    let files = folder();
    let tokens = files.path().join("tokens");
    let digest = eunomia_agent::spec::digest(b"token");
    std::fs::write(&tokens, format!("read {digest}\n")).expect("a file");
    let tokens = tokens.to_str().expect("UTF-8");
    let options = ["--tokens", tokens, "--protect-metrics"];
    let exporter = Exporter::start_with(&program(option(), METRICS), &options);
    assert_eq!(exporter.request("GET", "/metrics", "", "").0, 401);
    assert_eq!(exporter.request("GET", "/metrics", "Authorization: Bearer token\r\n", "").0, 200);
}

#[test]
fn a_service_manager_gives_the_socket_and_is_notified() {
    needs_root!();
    let folder = folder();
    let option = option();
    std::fs::write(folder.path().join("config.yaml"), program(option, METRICS)).expect("a file");
    let notified = folder.path().join("notify");
    let manager = UnixDatagram::bind(&notified).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(60))).expect("a time limit");
    let next = || {
        let mut buffer = [0; 100];
        let len = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let exporter = Exporter::run(folder, |command| {
        command.env("NOTIFY_SOCKET", &notified).stdin(OwnedFd::from(listener))
    });
    assert_eq!(exporter.address, address, "not that of --listen");
    assert_eq!(next(), "READY=1");
    assert!(exporter.metrics().contains("# TYPE calls_total counter"));
    drop(exporter);
    assert_eq!(next(), "STOPPING=1");
}
