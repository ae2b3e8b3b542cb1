//! Signatures are verified over the bytes that run, with trusted keys.

use std::fs;
use std::process::Command;

use crate::server::{Reply, Server};
use crate::{Ended, Place, package};

const SOURCE: i32 = 3;

/// A directory with a key pair, a trusted directory with the public key, and a signed package.
fn signed() -> Place {
    let place = Place::new();
    place.write("p.json", &package());
    place.run(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]).worked();
    place.run(&["sign", "-s", "me.key", "p.json"]).worked();
    place.write("trusted/me.pub", &fs::read(place.path("me.pub")).unwrap());
    place
}

#[test]
fn a_program_signed_by_a_trusted_key_is_opened() {
    let place = signed();
    let ended = place.run(&["verify", "--trust", "trusted", "p.json"]).worked();
    assert!(ended.out.contains("signed by trusted/me.pub") && ended.out.contains("file:p.json"), "{ended:?}");
    place.run(&["inspect", "--require-signed", "--trust", "trusted", "p.json"]).worked();
    place.run(&["verify", "-p", "me.pub", "p.json"]).worked();
}

#[test]
fn trusted_keys_are_read_from_the_configuration_directory() {
    let place = signed();
    place
        .run(&["inspect", "--require-signed", "p.json"])
        .refused(SOURCE, &["no key is trusted", "libeunomia/trusted"]);
    place.write(".config/libeunomia/trusted/me.pub", &fs::read(place.path("me.pub")).unwrap());
    place.run(&["inspect", "--require-signed", "p.json"]).worked();
}

#[test]
fn an_unsigned_program_is_refused_where_a_signature_is_required() {
    let place = signed();
    fs::remove_file(place.path("p.json.minisig")).unwrap();
    place
        .run(&["run", "--require-signed", "--trust", "trusted", "p.json"])
        .refused(SOURCE, &["p.json", "not signed"]);
}

#[test]
fn endless_keys_and_signatures_are_refused() {
    let place = signed();
    std::os::unix::fs::symlink("/dev/zero", place.path("endless.pub")).unwrap();
    place
        .run(&["verify", "-p", "endless.pub", "p.json"])
        .refused(SOURCE, &["endless.pub: more than 65536 bytes"]);
    place.run(&["sign", "-s", "endless.pub", "p.json"]).refused(SOURCE, &["more than 65536 bytes"]);
    place.run(&["verify", "-p", "missing.pub", "p.json"]).refused(SOURCE, &["missing.pub: No such file"]);
    fs::remove_file(place.path("p.json.minisig")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path("p.json.minisig")).unwrap();
    place
        .run(&["inspect", "--require-signed", "--trust", "trusted", "p.json"])
        .refused(SOURCE, &["p.json.minisig: more than 65536 bytes"]);
}

#[test]
fn a_flipped_byte_is_detected() {
    let place = signed();
    let good = package();
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        place.write("p.json", &bytes);
        place
            .run(&["run", "--require-signed", "--trust", "trusted", "p.json"])
            .refused(SOURCE, &["does not match: the file or the signature was modified"]);
    }
}

#[test]
fn a_damaged_signature_is_refused() {
    let place = signed();
    let good = fs::read_to_string(place.path("p.json.minisig")).unwrap();
    for bad in ["", "nonsense", &good[..good.len() / 2], &good.replace("file:p.json", "file:q.json")] {
        place.write("p.json.minisig", bad.as_bytes());
        place.run(&["verify", "--trust", "trusted", "p.json"]).refused(SOURCE, &["p.json"]);
    }
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let place = signed();
    place.run(&["keygen", "--no-password", "-s", "other.key", "-p", "other.pub"]).worked();
    place.run(&["sign", "-s", "other.key", "p.json"]).worked();
    place
        .run(&["verify", "--trust", "trusted", "p.json"])
        .refused(SOURCE, &["signed by key", "not among the 1 trusted"]);
}

#[test]
fn the_signature_of_a_url_has_a_suffix() {
    let (place, server) = (signed(), Server::new());
    let url = server.on("/p.json", Reply::Content(package()));
    let verify = ["verify", "--trust", "trusted", &url];
    place.run(&verify).refused(SOURCE, &["not signed"]);
    server.on("/p.json.minisig", Reply::Content(fs::read(place.path("p.json.minisig")).unwrap()));
    place.run(&verify).worked();
    let mut bytes = package();
    bytes[100] ^= 1;
    server.on("/p.json", Reply::Content(bytes));
    place
        .run(&["run", "--require-signed", "--trust", "trusted", &url])
        .refused(SOURCE, &["does not match: the file or the signature was modified"]);
}

#[test]
fn an_unreachable_signature_is_reported() {
    let (place, proxy) = (signed(), Server::new());
    proxy.on("/p.json", Reply::Tagged("\"one\"", package()));
    let inspect = |proxy: &str| {
        let url = "http://nowhere.invalid/p.json";
        let mut command = place.command(&["inspect", "--require-signed", "--trust", "trusted", url]);
        Ended::of(command.env("http_proxy", proxy))
    };
    inspect(&proxy.url).refused(SOURCE, &["not signed"]);
    // The program is in the cache, and the server no longer responds.
    let ended = inspect("http://127.0.0.1:1");
    assert_eq!(ended.code, Some(SOURCE), "{ended:?}");
    assert!(
        ended.err.contains("p.json.minisig: ") && ended.err.contains("cannot download the signature"),
        "{ended:?}"
    );
}

#[test]
fn signatures_are_compatible_with_minisign() {
    let place = signed();
    let minisign = |args: &[&str]| {
        let status = Command::new("minisign").args(args).current_dir(place.folder.path()).output().unwrap();
        assert!(status.status.success(), "{status:?}");
    };
    minisign(&["-V", "-p", "me.pub", "-m", "p.json"]);
    minisign(&["-G", "-W", "-p", "its.pub", "-s", "its.key"]);
    fs::remove_file(place.path("p.json.minisig")).unwrap();
    minisign(&["-S", "-s", "its.key", "-m", "p.json", "-t", "by minisign"]);
    let ended = place.run(&["verify", "-p", "its.pub", "p.json"]).worked();
    assert!(ended.out.contains("by minisign"), "{ended:?}");
    place.run(&["sign", "-s", "its.key", "p.json"]).worked();
    minisign(&["-V", "-p", "its.pub", "-m", "p.json"]);
}

#[test]
fn keys_are_not_overwritten_and_the_secret_key_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = signed();
    place.run(&["keygen", "--no-password", "-s", "me.key", "-p", "me.pub"]).refused(6, &["me.key", "exists"]);
    let mode = fs::metadata(place.path("me.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
