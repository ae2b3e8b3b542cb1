//! The install.sh of a release, run against a web server: what it installs, and what it refuses.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{self, Reply, Server};
use crate::{Ended, Place};

/// A replacement for the executable of the release, which creates a file when it runs.
const PROGRAM: &[u8] = b"#!/bin/sh\n: >\"$HOME/was-run\"\necho ecli\n";
/// The commands that install.sh uses on every machine.
const TOOLS: [&str; 15] = [
    "sh",
    "uname",
    "id",
    "mkdir",
    "mktemp",
    "rm",
    "mv",
    "chmod",
    "sha256sum",
    "sed",
    "head",
    "tail",
    "wc",
    "cmp",
    "grep",
];

/// A release on a web server, and a machine to install it on.
struct Release {
    place: Place,
    server: Server,
    script: PathBuf,
}

impl Release {
    fn new(server: Server) -> Release {
        let place = Place::new();
        place.run(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]).worked();
        place.write("release/ecli", PROGRAM);
        place.run(&["sign", "-s", "me.key", "release/ecli"]).worked();
        let mut installer =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../release/installer.sh"));
        installer.arg(place.path("release/ecli")).arg(place.path("me.pub")).arg(&server.url);
        let script = place.write("install.sh", Ended::of(&mut installer).worked().out.as_bytes());
        let release = Release { place, server, script };
        release.serve("", Reply::Content(PROGRAM.to_vec()));
        release
            .serve(".minisig", Reply::Content(fs::read(release.place.path("release/ecli.minisig")).unwrap()));
        release
    }

    /// Sets the reply to a request for the executable, or for the file with this ending beside it.
    fn serve(&self, ending: &str, reply: Reply) {
        let (version, machine) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        self.server.on(&format!("/ecli-{version}-{machine}-linux-gnu{ending}"), reply);
    }

    /// The command that runs the script on a machine that has only `TOOLS` and these.
    fn command(&self, tools: &[&str]) -> Command {
        let bin = tempfile::tempdir_in(self.place.folder.path()).unwrap().keep();
        for tool in TOOLS.iter().chain(tools) {
            symlink(found(tool), bin.join(tool)).unwrap();
        }
        let mut command = Command::new("sh");
        command.arg(&self.script).env_clear().env("PATH", bin).env("HOME", self.place.folder.path());
        command.env("EUNOMIA_PREFIX", self.place.path("usr"));
        command
    }

    fn install(&self, tools: &[&str]) -> Ended {
        Ended::of(&mut self.command(tools))
    }

    /// The script failed with these words, installed nothing, and ran nothing.
    #[track_caller]
    fn refuses(&self, tools: &[&str], words: &str) {
        let ended = self.install(tools);
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains(words), "no {words:?} in {ended:?}");
        assert_eq!(self.installed(), Vec::<String>::new(), "{ended:?}");
        assert!(!self.place.path("was-run").exists(), "{ended:?}");
    }

    /// The names in the directory of the installation.
    fn installed(&self) -> Vec<String> {
        let files = fs::read_dir(self.place.path("usr/bin")).into_iter().flatten().flatten();
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
    }
}

/// The path of a command of this machine.
fn found(tool: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|folder| folder.join(tool));
    candidates
        .into_iter()
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("{tool} not found; run `make setup-test`"))
}

#[test]
fn ecli_is_installed_with_curl_or_wget_and_each_verifier() {
    for tools in
        [&["curl", "minisign"][..], &["curl", "openssl"], &["wget", "minisign"], &["curl", "openssl", "wget"]]
    {
        let release = Release::new(Server::new());
        let ended = release.install(tools).worked();
        assert_eq!(ended.err, "", "{tools:?}");
        let file = release.place.path("usr/bin/ecli");
        assert!(ended.out.starts_with(&format!("installed {}", file.display())), "{ended:?}");
        assert_eq!(release.installed(), ["ecli"], "{tools:?}");
        assert_eq!(fs::read(&file).unwrap(), PROGRAM, "{tools:?}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o755);
    }
}

#[test]
fn a_machine_without_a_verifier_is_told_that_only_the_digest_was_checked() {
    let release = Release::new(Server::new());
    let ended = release.install(&["curl"]).worked();
    assert!(ended.err.contains("only the digest was checked"), "{ended:?}");
    assert_eq!(release.installed(), ["ecli"]);
}

#[test]
fn a_server_with_tls_has_to_have_a_trusted_certificate() {
    let (config, certificate) = server::certificate();
    let release = Release::new(Server::tls(config));
    release.refuses(&["curl", "minisign"], "the download failed");
    let authority = release.place.write("authority.pem", certificate.pem.as_bytes());
    Ended::of(release.command(&["curl", "minisign"]).env("CURL_CA_BUNDLE", authority)).worked();
    assert_eq!(release.installed(), ["ecli"]);
}

#[test]
fn a_mirror_is_used_in_place_of_the_server() {
    let release = Release::new(Server::new());
    let mirror = Release::new(Server::new());
    let command = || {
        let mut command = release.command(&["curl", "minisign"]);
        command.env("EUNOMIA_URL", &mirror.server.url);
        command
    };
    // The mirror's signature is by another key.
    assert_ne!(Ended::of(&mut command()).code, Some(0));
    mirror.serve(".minisig", Reply::Content(fs::read(release.place.path("release/ecli.minisig")).unwrap()));
    Ended::of(&mut command()).worked();
    assert_eq!(release.server.requests(), Vec::<String>::new());
}

#[test]
fn a_changed_file_is_refused_before_it_runs() {
    let release = Release::new(Server::new());
    for bytes in [[PROGRAM, b"\n"].concat(), PROGRAM.to_ascii_uppercase(), Vec::new()] {
        release.serve("", Reply::Content(bytes));
        release.refuses(&["curl", "minisign"], "the SHA-256 digest is");
    }
}

#[test]
fn a_file_of_another_key_is_refused() {
    let release = Release::new(Server::new());
    let place = &release.place;
    let signature = fs::read_to_string(place.path("release/ecli.minisig")).unwrap();
    place.run(&["keygen", "--no-password", "-s", "other.key", "-p", "other.pub"]).worked();
    place.write("./other", b"other");
    place.run(&["sign", "-s", "me.key", "./other"]).worked();
    let of_another_file = fs::read(place.path("other.minisig")).unwrap();
    fs::remove_file(place.path("release/ecli.minisig")).unwrap();
    place.run(&["sign", "-s", "other.key", "release/ecli"]).worked();
    let by_another_key = fs::read(place.path("release/ecli.minisig")).unwrap();
    let line = signature.lines().nth(1).unwrap();
    let cut_short = signature.replace(line, &line[..line.len() - 4]);
    for wrong in [of_another_file, by_another_key, cut_short.into_bytes(), b"garbage".to_vec(), Vec::new()] {
        release.serve(".minisig", Reply::Content(wrong));
        for verifier in ["minisign", "openssl"] {
            release.refuses(&["curl", verifier], "the signature is not one by the key");
        }
    }
}

#[test]
fn a_download_that_is_cut_short_or_missing_is_refused() {
    for ending in ["", ".minisig"] {
        let release = Release::new(Server::new());
        for reply in [Reply::Truncated(PROGRAM.to_vec()), Reply::Status(404)] {
            release.serve(ending, reply);
            release.refuses(&["curl", "minisign"], "the download failed");
        }
    }
}

#[test]
fn a_failed_installation_keeps_the_ecli_that_is_there() {
    let release = Release::new(Server::new());
    release.place.write("usr/bin/ecli", b"old");
    release.serve("", Reply::Content(b"changed".to_vec()));
    assert_ne!(release.install(&["curl", "minisign"]).code, Some(0));
    assert_eq!(fs::read(release.place.path("usr/bin/ecli")).unwrap(), b"old");
    assert_eq!(release.installed(), ["ecli"]);
}

#[test]
fn a_script_that_arrives_in_part_does_nothing() {
    let release = Release::new(Server::new());
    let script = fs::read(&release.script).unwrap();
    let end = script.len() - "main\n".len();
    assert!(script.ends_with(b"\nmain\n"));
    for len in (0..end).step_by(211).chain([end]) {
        fs::write(&release.script, &script[..len]).unwrap();
        release.install(&["curl", "minisign"]);
        assert!(!release.place.path("usr").exists(), "after {len} bytes");
    }
    assert_eq!(release.server.requests(), Vec::<String>::new());
}
