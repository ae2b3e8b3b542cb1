//! Programs in registries: a real one is started for each test, with TLS and accounts if the test needs them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::certificate;
use crate::support::Process;
use crate::{Ended, Place, example, package};

const SOURCE: i32 = 3;

/// The output of htpasswd(1) for the user "kim" with the password "secret", by bcrypt.
const ACCOUNTS: &str = "kim:$2y$05$KMRLITKBfR.xROjuukg22efJxKVDnQDN0S2zI.TDgkBlBaMFzuJjG\n";

struct Registry {
    _process: Process,
    /// Host and port, as references begin.
    host: String,
    place: Place,
}

impl Registry {
    fn start(tls: bool, accounts: bool) -> Registry {
        let place = Place::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n",
            place.path("storage").display()
        );
        if tls {
            let (_, pair) = certificate();
            let (pem, key) =
                (place.write("ca.pem", pair.pem.as_bytes()), place.write("key.pem", pair.key.as_bytes()));
            config += &format!("  tls:\n    certificate: {}\n    key: {}\n", pem.display(), key.display());
        }
        if accounts {
            let file = place.write("htpasswd", ACCOUNTS.as_bytes());
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
        }
        let config = place.write("config.yml", config.as_bytes());
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("Debian's docker-registry is installed");
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Registry { _process: Process(process), host: format!("localhost:{port}"), place }
    }

    /// Runs ecli as a user who trusts the registry's certificate.
    fn ecli(&self, args: &[&str]) -> Ended {
        let mut command = self.place.command(args);
        let certificate = self.place.path("ca.pem");
        if certificate.exists() {
            command.env("SSL_CERT_FILE", certificate);
        }
        Ended::of(&mut command)
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }
}

#[test]
fn a_pushed_program_can_be_pulled_and_inspected() {
    let registry = Registry::start(false, false);
    let place = &registry.place;
    for (name, bytes) in [("package.json", package()), ("app.wasm", example("sigsnoop/app.wasm"))] {
        place.write(name, &bytes);
        let image = registry.image(&format!("tools/it:{}", name.replace('.', "-")));
        let pushed = registry.ecli(&["push", "-m", name, "-a", "note=hello", &image]).worked();
        assert!(pushed.out.contains("@sha256:"), "{pushed:?}");
        registry.ecli(&["pull", "-o", "got", &image]).worked();
        assert_eq!(fs::read(place.path("got")).unwrap(), bytes);
        // The digest of the image refers to the same image as its tag.
        let digest = pushed.out.trim().split_once('@').unwrap().1.to_owned();
        registry.ecli(&["pull", "-o", "got", &format!("{}@{digest}", registry.image("tools/it"))]).worked();
    }
    let image = registry.image("tools/it:package-json");
    assert!(registry.ecli(&["inspect", &image]).worked().out.contains("sys_enter_openat"));
    registry.ecli(&["pull", &registry.image("tools/other:1")]).refused(SOURCE, &["tools/other"]);
}

#[test]
fn accounts_are_asked_for_and_kept_as_docker_keeps_them() {
    let registry = Registry::start(true, true);
    let (place, host) = (&registry.place, registry.host.as_str());
    let image = registry.image("tools/it:1");
    place.write("p.json", &package());
    registry.ecli(&["push", "-m", "p.json", &image]).refused(SOURCE, &["login"]);
    registry
        .ecli(&["login", "-u", "kim", "-p", "wrong", host])
        .refused(SOURCE, &["wrong user \"kim\" or password"]);
    assert!(!place.path(".docker/config.json").exists());

    registry.ecli(&["login", "-u", "kim", "-p", "secret", host]).worked();
    let config = fs::read_to_string(place.path(".docker/config.json")).unwrap();
    assert!(config.contains(host) && config.contains("a2ltOnNlY3JldA=="), "{config}");
    registry.ecli(&["push", "-m", "p.json", &image]).worked();
    registry.ecli(&["pull", "-o", "got", &image]).worked();
    assert_eq!(fs::read(place.path("got")).unwrap(), package());

    // Stored credentials may have become invalid.
    fs::write(place.path(".docker/config.json"), config.replace("a2ltOnNlY3JldA==", "a2ltOm9sZA==")).unwrap();
    registry.ecli(&["pull", "-o", "got", &image]).refused(SOURCE, &["login"]);
    registry.ecli(&["pull", "-u", "kim", "-p", "secret", "-o", "got", &image]).worked();

    assert!(registry.ecli(&["logout", host]).worked().out.contains("logged out"));
    assert!(registry.ecli(&["logout", host]).worked().out.contains("no credentials"));
    registry.ecli(&["pull", "-o", "got", &image]).refused(SOURCE, &["login"]);
}

#[test]
fn a_registry_that_is_not_there_is_called_by_its_name() {
    let login = Place::new().run(&["login", "localhost:1", "-u", "kim", "-p", "secret"]);
    login.refused(SOURCE, &["ecli: localhost:1: Connection refused"]);
}

#[test]
fn the_certificate_of_a_registry_is_checked() {
    let registry = Registry::start(true, false);
    registry.place.run(&["pull", &registry.image("tools/it:1")]).refused(SOURCE, &["certificate"]);
}

#[test]
fn the_signature_travels_with_the_image() {
    let registry = Registry::start(false, false);
    let place = &registry.place;
    place.write("p.json", &package());
    place.run(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]).worked();
    fs::create_dir_all(place.path("trusted")).unwrap();
    fs::copy(place.path("me.pub"), place.path("trusted/me.pub")).unwrap();
    let image = registry.image("tools/it:1");
    registry.ecli(&["push", "-m", "p.json", &image]).worked();
    registry
        .ecli(&["inspect", "--require-signed", "--trust", "trusted", &image])
        .refused(SOURCE, &["not signed"]);
    place.run(&["sign", "-s", "me.key", "p.json"]).worked();
    registry.ecli(&["push", "-m", "p.json", &image]).worked();
    registry.ecli(&["inspect", "--require-signed", "--trust", "trusted", &image]).worked();
    registry.ecli(&["pull", "-o", "got.json", &image]).worked();
    place.run(&["verify", "--trust", "trusted", "got.json"]).worked();
}
