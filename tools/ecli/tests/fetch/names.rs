//! A name means the same whatever files are in the current directory.

use std::fs;

use crate::server::{Reply, Server};
use crate::support::sha256;
use crate::{Ended, Place, package};

const USAGE: i32 = 2;
const SOURCE: i32 = 3;

/// A file that another user has put into the directory: a different package, so that the test notices if it is read.
fn planted() -> Vec<u8> {
    crate::example("bootstrap/package.json")
}

fn offline(place: &Place, args: &[&str]) -> Ended {
    let mut command = place.command(args);
    // Nothing listens there, so no name is requested from a server.
    let nobody = "http://127.0.0.1:1";
    command.env("http_proxy", nobody).env("https_proxy", nobody).env("EUNOMIA_REPOSITORY", nobody);
    Ended::of(&mut command)
}

#[test]
fn a_file_never_replaces_a_url_an_image_or_a_name() {
    let place = Place::new();
    let digest = sha256(&planted());
    let names = [
        "https://example.org/tools/package.json".to_owned(),
        format!("https://example.org/tools/package.json#sha256={digest}"),
        "HTTPS://example.org/package.json".into(),
        "http://127.0.0.1:1/package.json".into(),
        "oci://127.0.0.1:1/org/tool:latest".into(),
        "127.0.0.1:1/org/tool:latest".into(),
        "127.0.0.1/org/tool".into(),
        format!("127.0.0.1:1/org/tool@sha256:{digest}"),
        "opensnoop".into(),
        "opensnoop:latest".into(),
        "opensnoop:v1".into(),
        "https:/example.org/package.json".into(),
        "https:package.json".into(),
        format!("package.json@sha256:{digest}"),
        format!("package.json#sha256={digest}"),
        "package.json:latest".into(),
        "tools/it:1".into(),
        "build.d/package.json".into(),
        "inspct".into(),
    ];
    for name in &names {
        place.write(name, &planted());
        for command in ["inspect", "run", "verify", "check"] {
            let ended = offline(&place, &[command, name]);
            assert!(matches!(ended.code, Some(USAGE | SOURCE)), "{command} {name}: {ended:?}");
            assert!(!ended.out.contains("bootstrap"), "{command} {name}: {ended:?}");
        }
        // The error suggests how to write the name of a file.
        let ended = offline(&place, &["inspect", &format!("./{name}")]).worked();
        assert!(ended.out.contains("bootstrap"), "{name}: {ended:?}");
    }
}

#[test]
fn a_directory_behind_a_link_is_not_a_registry() {
    let place = Place::new();
    place.write("real/package.json", &planted());
    std::os::unix::fs::symlink("real", place.path("127.0.0.1")).unwrap();
    std::os::unix::fs::symlink("real", place.path("link")).unwrap();
    offline(&place, &["inspect", "127.0.0.1/package"]).refused(SOURCE, &["127.0.0.1/package"]);
    offline(&place, &["inspect", "127.0.0.1/package.json"]).refused(SOURCE, &["./127.0.0.1/package.json"]);
    offline(&place, &["inspect", "org/tool"]).refused(SOURCE, &["No such file", "write its registry first"]);
    // A text that can only be a path is a path.
    offline(&place, &["inspect", "link/package.json"]).worked();
}

#[test]
fn a_file_of_the_same_name_does_not_prevent_a_download() {
    let (place, server) = (Place::new(), Server::new());
    server.on("/repo/opensnoop/package.json", Reply::Content(package()));
    let url = server.on("/p", Reply::Content(package()));
    place.write("opensnoop", &planted());
    place.write(&url, &planted());
    for name in ["opensnoop", &url] {
        let mut command = place.command(&["inspect", name]);
        let ended = Ended::of(command.env("EUNOMIA_REPOSITORY", format!("{}/repo", server.url))).worked();
        assert!(ended.out.contains("sys_enter_openat"), "{ended:?}");
    }
}

#[test]
fn sign_and_push_accept_files_only() {
    let place = Place::new();
    place.run(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]).worked();
    for name in ["opensnoop", "127.0.0.1:1/org/tool:latest", "https://example.org/p"] {
        place.write(name, &package());
        let file = format!("./{name}");
        place.run(&["sign", "-s", "me.key", name]).refused(USAGE, &[&file]);
        place.run(&["push", "-m", name, "127.0.0.1:1/org/tool:1"]).refused(USAGE, &[&file]);
        place.run(&["sign", "-s", "me.key", &file]).worked();
        place.run(&["verify", "-p", "me.pub", &file]).worked();
    }
}

#[test]
fn a_misspelt_command_is_not_downloaded() {
    let (place, server) = (Place::new(), Server::new());
    let ecli = |args: &[&str]| Ended::of(place.command(args).env("EUNOMIA_REPOSITORY", &server.url));
    for (args, command) in [
        (&["rum", "x.json"][..], "run"),
        (&["inspct", "x.json"], "inspect"),
        (&["-j", "lst"], "list"),
        (&["chekc"], "check"),
        (&["Inspect", "x.json"], "inspect"),
        (&["vresion"], "version"),
        (&["halp"], "help"),
        (&["run", "doctor"], "doctor"),
        (&["pull", "verfy"], "verify"),
    ] {
        ecli(args).refused(USAGE, &[&format!("did you mean `ecli {command}`?")]);
    }
    assert!(server.requests().is_empty(), "{:?}", server.requests());
    // With a tag it cannot be a typing error.
    server.on("/rum/package.json", Reply::Content(package()));
    ecli(&["inspect", "rum:latest"]).worked();
    for name in
        ["opensnoop", "runqlat", "profile", "hello", "tc", "capable", "statsnoop", "lsm-connect", "pythongc"]
    {
        ecli(&["inspect", name]).refused(SOURCE, &["no such program in"]);
    }
}

#[test]
fn help_and_version_are_commands() {
    let place = Place::new();
    assert!(place.run(&["help"]).worked().out.contains("Usage: ecli"));
    for command in ["run", "inspect", "pull", "version"] {
        assert!(place.run(&["help", command]).worked().out.contains(&format!("Usage: ecli {command}")));
    }
    let version = place.run(&["version"]).worked().out;
    assert_eq!(version, place.run(&["--version"]).worked().out);
    assert!(version.starts_with("ecli 0."), "{version}");
}

#[test]
fn a_password_in_a_url_is_sent_and_not_shown() {
    let (place, server) = (Place::new(), Server::new());
    server.on("/p", Reply::Full(200, vec!["ETag: \"1\"".into()], package()));
    let url = server.url.replace("//", "//kim:sesame@");
    place.run(&["pull", "-o", "got", &format!("{url}/p")]).worked();
    // The same holds for the program and for its signature.
    assert_eq!(server.sent("authorization"), ["authorization: Basic a2ltOnNlc2FtZQ=="; 2]);
    let pin = format!("{url}/p#sha256={}", "0".repeat(64));
    for args in [
        &["inspect", &format!("{url}/none")][..],
        &["run", &pin],
        &["list"],
        &["inspect", &format!("{url}/p")],
    ] {
        let ended = place.run(args);
        assert!(!format!("{ended:?}").contains("sesame"), "{args:?}: {ended:?}");
    }
    assert_eq!(fs::read(place.path("got")).unwrap(), package());
}
