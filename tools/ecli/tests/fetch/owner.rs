//! Directories that another user controls: their content is not used, and a message gives the path and a remedy.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use serde_json::json;

use crate::server::{Reply, Server};
use crate::support::sha256;
use crate::{Ended, Place, needs_root, package};

const FAILED: i32 = 1;
const SOURCE: i32 = 3;
const NOBODY: u32 = 65534;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A copy of a download in the format of ecli's cache, made by another user.
fn plant(place: &Place, cache: &str, url: &str, bytes: &[u8]) {
    let name = format!("{cache}/{}", sha256(url.as_bytes()));
    place.write(&name, bytes);
    let about = json!({"url": url, "sha256": sha256(bytes), "len": bytes.len(), "etag": "\"1\""});
    place.write(&format!("{name}.json"), about.to_string().as_bytes());
}

/// A URL where nobody answers.
const URL: &str = "http://127.0.0.1:1/package.json";

#[test]
fn a_cache_that_others_can_modify_is_not_used() {
    needs_root!();
    for (variable, value, cache) in [
        ("EUNOMIA_HOME", "theirs", "theirs/cache"),
        ("XDG_CACHE_HOME", "theirs", "theirs/libeunomia/ecli"),
        ("HOME", "theirs", "theirs/.cache/libeunomia/ecli"),
    ] {
        let inspect = |place: &Place| {
            let mut command = place.command(&["inspect", URL]);
            Ended::of(command.env(variable, place.path(value)))
        };
        // If the user controls the directory, the copy is used.
        let place = Place::new();
        plant(&place, cache, URL, &package());
        mode(&place.path("theirs"), 0o755);
        assert!(inspect(&place).worked().err.contains("using the cached copy"));

        let parts: Vec<&Path> = Path::new(cache).ancestors().filter(|part| *part != Path::new("")).collect();
        for part in &parts {
            let place = Place::new();
            plant(&place, cache, URL, &package());
            chown(place.path("").join(part), Some(NOBODY), None).unwrap();
            let ended = inspect(&place);
            assert_eq!(ended.code, Some(SOURCE), "{variable}: {ended:?}");
            let says = format!("{} belongs to user {NOBODY}", place.path("").join(part).display());
            assert!(ended.err.contains(&says) && ended.err.contains("EUNOMIA_HOME"), "{variable}: {ended:?}");
        }
        for part in &parts {
            let place = Place::new();
            plant(&place, cache, URL, &package());
            mode(&place.path("").join(part), 0o777);
            let ended = inspect(&place);
            assert_eq!(ended.code, Some(SOURCE), "{variable}: {ended:?}");
            assert!(ended.err.contains("others (mode 777)"), "{variable}: {ended:?}");
        }
    }
}

#[test]
fn a_link_of_another_user_is_not_followed() {
    needs_root!();
    let place = Place::new();
    plant(&place, "ours/cache", URL, &package());
    std::os::unix::fs::symlink(place.path("ours"), place.path("link")).unwrap();
    let inspect = || Ended::of(place.command(&["inspect", URL]).env("EUNOMIA_HOME", place.path("link")));
    inspect().worked();
    std::os::unix::fs::lchown(place.path("link"), Some(NOBODY), None).unwrap();
    let ended = inspect();
    assert!(ended.code == Some(SOURCE) && ended.err.contains("link belongs to user"), "{ended:?}");
}

#[test]
fn downloads_work_without_a_cache() {
    let (place, server) = (Place::new(), Server::new());
    server.on("/opensnoop/package.json", Reply::Tagged("\"1\"", package()));
    fs::create_dir(place.path("open")).unwrap();
    mode(&place.path("open"), 0o777);
    let mut command = place.command(&["inspect", "opensnoop"]);
    let command = command.env("EUNOMIA_HOME", place.path("open")).env("EUNOMIA_REPOSITORY", &server.url);
    let ended = Ended::of(command).worked();
    // The message is printed once, however many files are downloaded.
    assert_eq!(ended.err.matches("downloads are not cached").count(), 1, "{ended:?}");
    assert!(fs::read_dir(place.path("open/cache")).unwrap().next().is_none());
}

#[test]
fn keys_that_others_could_change_are_not_trusted() {
    let place = Place::new();
    place.write("p.json", &package());
    place.run(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]).worked();
    place.run(&["sign", "-s", "me.key", "p.json"]).worked();
    let key = fs::read(place.path("me.pub")).unwrap();
    let usual = ".config/libeunomia/trusted";
    for folder in ["trusted", usual] {
        place.write(&format!("{folder}/me.pub"), &key);
    }
    let given = ["inspect", "--require-signed", "--trust", "trusted", "p.json"];
    let usual_only = ["inspect", "--require-signed", "p.json"];
    place.run(&given).worked();
    place.run(&usual_only).worked();
    place.run(&["verify", "-p", "me.pub", "p.json"]).worked();

    for name in ["trusted", "trusted/me.pub"] {
        let before = fs::metadata(place.path(name)).unwrap().permissions();
        mode(&place.path(name), 0o777);
        let says = format!("{name} is writable by others");
        place.run(&given).refused(SOURCE, &[&says, "chown and chmod"]);
        fs::set_permissions(place.path(name), before).unwrap();
    }
    for name in [usual, ".config/libeunomia", ".config"] {
        mode(&place.path(name), 0o777);
        let ended = place.run(&usual_only);
        assert!(ended.code == Some(SOURCE) && ended.err.contains("is writable by others"), "{ended:?}");
        mode(&place.path(name), 0o755);
    }
    mode(&place.path("me.pub"), 0o666);
    place.run(&["verify", "-p", "me.pub", "p.json"]).refused(SOURCE, &["me.pub is writable by others"]);
    place.run(&usual_only).worked();
}

#[test]
fn credentials_in_other_hands_are_neither_sent_nor_written_over() {
    let (place, server) = (Place::new(), Server::new());
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    let challenge = Reply::Full(401, vec!["WWW-Authenticate: Basic realm=\"x\"".into()], vec![]);
    server.on("/v2/", challenge);
    let auths = json!({"auths": {&host: {"auth": "YWxpY2U6czNjcmV0"}}}).to_string();
    place.write(".docker/config.json", auths.as_bytes());
    let pull = || place.run(&["pull", "-o", "got", &format!("{host}/a/b:1")]);
    assert_eq!(pull().code, Some(SOURCE));
    let sent = server.sent("authorization");
    assert!(sent.iter().all(|line| line == "authorization: Basic YWxpY2U6czNjcmV0") && !sent.is_empty());
    for name in [".docker", ".docker/config.json"] {
        let before = fs::metadata(place.path(name)).unwrap().permissions();
        mode(&place.path(name), 0o777);
        let ended = pull();
        assert!(ended.code == Some(SOURCE) && ended.err.contains("DOCKER_CONFIG"), "{ended:?}");
        assert!(ended.err.contains(&format!("{name} is writable by others")), "{ended:?}");
        place.run(&["logout", &host]).refused(FAILED, &[name, "DOCKER_CONFIG"]);
        fs::set_permissions(place.path(name), before).unwrap();
    }
    assert_eq!(server.sent("authorization"), sent);
    assert_eq!(fs::read_to_string(place.path(".docker/config.json")).unwrap(), auths);
    // ecli does not block on a file that another user put there.
    fs::remove_file(place.path(".docker/config.json")).unwrap();
    mode(&place.path(".docker"), 0o777);
    let fifo = place.path(".docker/config.json");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let ended = pull();
    assert!(ended.code == Some(SOURCE) && ended.err.contains(".docker is writable by others"), "{ended:?}");
    // ecli does not store a password where others can read it.
    server.on("/v2/", Reply::Content(b"{}".to_vec()));
    fs::create_dir(place.path("open")).unwrap();
    mode(&place.path("open"), 0o777);
    let mut command = place.command(&["login", "-u", "kim", "-p", "sesame", &host]);
    Ended::of(command.env("DOCKER_CONFIG", place.path("open/docker")))
        .refused(FAILED, &["open is writable by others"]);
    assert!(!place.path("open/docker/config.json").exists());
}
