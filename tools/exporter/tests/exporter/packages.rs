//! Packages from files, the configuration, a web server and a registry, with digests and signatures.

use std::net::TcpListener;

use super::*;

/// A web server with one file and its signature.
struct Server {
    address: String,
}

impl Server {
    /// Serves `files`, by their paths.
    fn start(files: Vec<(String, Vec<u8>)>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        // The thread ends with the process.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| respond(stream, &files)));
        Server { address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn respond(mut stream: TcpStream, files: &[(String, Vec<u8>)]) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|len| len == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match files.iter().find(|(known, _)| known == path) {
        Some((_, body)) => ("200 OK", &**body),
        None => ("404 Not Found", &b"nothing"[..]),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// A program that ecc, ecli or another program runs, which must succeed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ecli() -> Command {
    Command::new(built("ecli"))
}

/// The result of `--check` for a program with these keys: nothing, or the error.
fn check(folder: &Path, keys: &str) -> Result<(), String> {
    let metrics = "metrics: {counters: [{name: a_total}]}";
    let path = folder.join("config.yaml");
    std::fs::write(&path, format!("programs:\n- name: calls\n  {metrics}\n{keys}")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_eunomia-exporter"));
    command.arg("--check").arg("--config").arg(&path).env("EUNOMIA_HOME", folder.join("home"));
    let output = command.output().expect("it runs");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[track_caller]
fn refuses(folder: &Path, keys: &str, expected: &str) {
    let why = check(folder, keys).expect_err("it is refused");
    assert!(why.contains(expected), "{keys}: {why}");
}

#[test]
fn a_package_is_a_file_or_in_the_configuration() {
    needs_root!();
    let (folder, package) = (folder(), package());
    let object = package.with_file_name("calls.bpf.o");
    let bytes = std::fs::read(&package).expect("a package");
    let digest = sha256(&package);
    std::fs::copy(&package, folder.path().join("package.json")).expect("a copy");
    let inline = serde_json::Value::from(String::from_utf8(bytes).expect("JSON")).to_string();
    let at = folder.path();
    for keys in [
        "  package: package.json\n".to_owned(),
        format!("  package: ./package.json\n  sha256: {digest}\n"),
        format!("  compiled_ebpf_filename: package.json\n  sha256: sha256:{digest}\n"),
        format!("  ebpf_data: {inline}\n  sha256: {}\n", digest.to_uppercase()),
    ] {
        assert_eq!(check(at, &keys), Ok(()), "{keys}");
    }
    // An object without metadata.
    assert_eq!(check(at, &format!("  package: {}\n", object.display())), Ok(()));
    let wrong = "0".repeat(64);
    refuses(
        at,
        &format!("  package: package.json\n  sha256: {wrong}\n"),
        "line 4, column 12: program \"calls\": package: digest mismatch: expected SHA-256 0000",
    );
    refuses(
        at,
        "  package: package.json\n  sha256: 12\n",
        "has the digest \"12\": sha256 has 64 hexadecimal digits",
    );
    refuses(at, "  package: other.json\n", "other.json: No such file or directory");
    refuses(at, "  package: .\n", "not a regular file");
    refuses(at, "  package: /dev/zero\n", "not a regular file");
    refuses(at, "  package: package.json\n  ebpf_data: x\n", "has ebpf_data and package; keep one of them");
    refuses(at, "  package: '-'\n", "standard input is not supported");
    std::fs::write(at.join("app.wasm"), b"\0asm").expect("a file");
    refuses(at, "  package: app.wasm\n", "a WASM module; the exporter runs packages");
    let large = File::create(at.join("large.json")).expect("a file");
    large.set_len((16 << 20) + 1).expect("a sparse file");
    refuses(at, "  package: large.json\n", "larger than 16777216 bytes");
}

#[test]
fn a_package_is_downloaded_and_its_signature_is_verified() {
    needs_root!();
    let folder = folder();
    let at = folder.path();
    let file = |name: &str| std::fs::read(at.join(name)).expect("a file");
    std::fs::copy(package(), at.join("package.json")).expect("a copy");
    std::fs::create_dir(at.join("trusted")).expect("a folder");
    run(ecli().current_dir(at).args([
        "keygen",
        "--no-password",
        "--secret",
        "secret.key",
        "--public",
        "trusted/own.pub",
    ]));
    run(ecli().current_dir(at).args(["sign", "--secret", "secret.key", "package.json"]));
    let (package, signature) = (file("package.json"), file("package.json.minisig"));
    let changed = [&package[..], b" "].concat();
    let server = Server::start(vec![
        ("/package.json".into(), package.clone()),
        ("/package.json.minisig".into(), signature.clone()),
        ("/unsigned.json".into(), package.clone()),
        ("/changed.json".into(), changed),
        ("/changed.json.minisig".into(), signature.clone()),
        ("/large.json".into(), vec![b' '; (16 << 20) + 1]),
    ]);
    let digest = sha256(&at.join("package.json"));
    let signed = "  require_signed: true\n  trust: trusted\n";
    let text = |bytes: &[u8]| serde_json::Value::from(String::from_utf8_lossy(bytes)).to_string();
    let url = |path: &str| format!("  package: {}\n", server.url(path));
    for keys in [
        url("/package.json"),
        url(&format!("/package.json#sha256={digest}")),
        url("/package.json") + signed,
        format!("  package: package.json\n{signed}"),
        format!("  compiled_ebpf_filename: package.json\n{signed}"),
        format!("  ebpf_data: {}\n  signature: {}\n{signed}", text(&package), text(&signature)),
    ] {
        assert_eq!(check(at, &keys), Ok(()), "{:?}", &keys[..keys.len().min(100)]);
    }
    refuses(at, &url("/nothing.json"), "line 4, column 12: program \"calls\": package: http://");
    refuses(at, &url("/nothing.json"), "/nothing.json: the server responded 404 Not Found");
    refuses(at, &url("/large.json"), "larger than 16777216 bytes");
    refuses(at, &url(&format!("/unsigned.json#sha256={}", "0".repeat(64))), "digest mismatch");
    refuses(at, &(url("/unsigned.json") + signed), "not signed: no .minisig file found");
    refuses(at, &(url("/changed.json") + signed), "does not match: the file or the signature was modified");
    refuses(
        at,
        &(url("/package.json") + "  require_signed: true\n  trust: nowhere\n"),
        "but no key is trusted",
    );
    refuses(at, &(url("/package.json") + "  trust: trusted\n"), "has trust, but not require_signed: true");
    refuses(at, &(url("/package.json") + "  signature: x\n"), "has signature, which belongs to ebpf_data");
    refuses(at, "  package: http://127.0.0.1:1/p.json\n", "no server listens on this port");
    refuses(at, "  package: ftp://example.org/p.json\n", "unknown scheme \"ftp\"");
}

#[test]
fn a_package_is_pulled_from_a_registry() {
    needs_root!();
    let folder = folder();
    let at = folder.path();
    std::fs::copy(package(), at.join("package.json")).expect("a copy");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let storage = at.join("storage");
    std::fs::write(at.join("registry.yaml"), format!("version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n", storage.display())).expect("a file");
    let mut registry = Command::new("docker-registry");
    registry.arg("serve").arg(at.join("registry.yaml")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut registry = registry.spawn().expect("docker-registry is installed: tools/setup.sh test");
    wait_for("the registry", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let image = format!("localhost:{port}/tools/calls");
    let pushed = run(ecli().current_dir(at).env("HOME", at).args([
        "push",
        "-m",
        "package.json",
        &format!("{image}:1"),
    ]));
    let digest = pushed.trim().split_once('@').expect("a digest").1;
    for reference in [format!("{image}:1"), format!("{image}@{digest}"), format!("oci://{image}:1")] {
        assert_eq!(check(at, &format!("  package: {reference}\n")), Ok(()), "{reference}");
    }
    refuses(at, &format!("  package: {image}:2\n"), "localhost");
    refuses(at, &format!("  package: {image}:1\n  require_signed: true\n"), "not signed");
    registry.kill().expect("it runs");
    registry.wait().expect("a child");
}

#[test]
fn a_request_cannot_make_the_exporter_download() {
    needs_root!();
    let exporter = Exporter::start_with("programs: []\n", &["--insecure-no-auth"]);
    let json = "Content-Type: application/json\r\n";
    let program = r#"{"name":"a","package":"http://127.0.0.1:1/p.json","metrics":{}}"#;
    let expected = "only the configuration file can name a package that is downloaded";
    let (status, text) = exporter.request("POST", "/start", json, program);
    assert!(status == 404 && text.contains(expected), "{status}: {text}");
    let file = format!("{{\"programs\":[{program}]}}");
    let (status, text) = exporter.request("POST", "/v1/config", json, &file);
    assert!(status == 422 && text.contains(expected), "{status}: {text}");
}

fn sha256(path: &Path) -> String {
    run(Command::new("sha256sum").arg(path)).split(' ').next().expect("a digest").to_owned()
}
