//! Downloads: a failure is reported on one line, and nothing runs.

use std::fs;

use crate::server::{Reply, Server, certificate};
use crate::support::sha256;
use crate::{Ended, Place, package};

const SOURCE: i32 = 3;

#[test]
fn a_program_is_downloaded_from_a_url() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/tools/package.json", Reply::Content(package()));
    let ended = place.run(&["pull", &url]).worked();
    assert!(ended.out.contains(&sha256(&package())), "{ended:?}");
    assert_eq!(fs::read(place.path("package.json")).unwrap(), package());
    assert!(place.run(&["inspect", &url]).worked().out.contains("sys_enter_openat"));
}

#[test]
fn an_error_status_is_reported() {
    let (place, server) = (Place::new(), Server::new());
    for status in [403, 404, 500, 503] {
        let url = server.on("/p", Reply::Status(status));
        place.run(&["run", &url]).refused(SOURCE, &[&url, &status.to_string()]);
    }
}

#[test]
fn content_that_is_not_a_program_is_reported() {
    let (place, server) = (Place::new(), Server::new());
    let empty = server.on("/empty", Reply::Content(Vec::new()));
    place.run(&["run", &empty]).refused(SOURCE, &["the response is empty"]);
    let page = server.on("/page", Reply::Content(b"<!DOCTYPE html><html>not here".to_vec()));
    place.run(&["run", &page]).refused(SOURCE, &["<!DOCTYPE html>"]);
    for source in ["\n#include <vmlinux.h>", "// SPDX", "/* a program */"] {
        place.write("hello.bpf.c", source.as_bytes());
        place.run(&["run", "hello.bpf.c"]).refused(SOURCE, &["hello.bpf.c: C source", "ecc"]);
    }
}

#[test]
fn an_interrupted_transfer_is_reported() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/p", Reply::Truncated(package()));
    place.run(&["run", &url]).refused(SOURCE, &["transfer failed after"]);
}

#[test]
fn a_large_response_is_refused_early() {
    let (place, server) = (Place::new(), Server::new());
    for reply in [Reply::Huge, Reply::Endless] {
        let url = server.on("/p", reply);
        place.run(&["run", &url]).refused(SOURCE, &["larger than"]);
    }
}

#[test]
fn an_idle_transfer_times_out() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/p", Reply::Slow(b"{".to_vec()));
    place
        .run(&["run", "--timeout", "1", &url])
        .refused(SOURCE, &["timed out waiting for data (see --timeout)"]);
}

#[test]
fn redirects_are_followed_but_not_in_circles() {
    let (place, server) = (Place::new(), Server::new());
    let target = server.on("/there", Reply::Content(package()));
    let here = server.on("/here", Reply::Redirect(target));
    place.run(&["pull", &here, "-o", "got"]).worked();
    let circle = server.on("/circle", Reply::Redirect("/circle".into()));
    place.run(&["pull", &circle]).refused(SOURCE, &["redirects"]);
}

#[test]
fn a_digest_pins_the_content() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/p", Reply::Content(package()));
    place.run(&["pull", &format!("{url}#sha256={}", sha256(&package())), "-o", "got"]).worked();
    let other = format!("{url}#sha256={}", sha256(b"other"));
    place.run(&["run", &other]).refused(SOURCE, &["digest mismatch", &sha256(&package()), &sha256(b"other")]);
    place.run(&["run", &format!("{url}#sha256=12")]).refused(SOURCE, &["64 hexadecimal digits"]);
}

#[test]
fn a_download_is_cached_until_it_changes() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/p", Reply::Tagged("\"one\"", package()));
    let pull = |args: &[&str]| {
        place.run(&[&["pull", &url, "-o", "got"], args].concat()).worked();
        fs::read(place.path("got")).unwrap()
    };
    assert_eq!(pull(&[]), package());
    // The server does not send the bytes again: if it did, they would be others under the same tag.
    server.on("/p", Reply::Tagged("\"one\"", b"{}".to_vec()));
    assert_eq!(pull(&[]), package());
    assert_eq!(pull(&["--no-cache"]), b"{}");
    server.on("/p", Reply::Tagged("\"two\"", b"{ }".to_vec()));
    assert_eq!(pull(&[]), b"{ }");
}

#[test]
fn a_modified_cache_entry_is_not_used() {
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/p", Reply::Tagged("\"one\"", package()));
    place.run(&["pull", &url, "-o", "got"]).worked();
    let cache = place.path(".cache/libeunomia/ecli");
    let content = fs::read_dir(&cache).unwrap().flatten().map(|entry| entry.path());
    let content: Vec<_> = content.filter(|path| path.extension().is_none()).collect();
    assert_eq!(content.len(), 1);
    fs::write(&content[0], b"{\"evil\":1}").unwrap();
    place.run(&["pull", &url, "-o", "got"]).worked();
    assert_eq!(fs::read(place.path("got")).unwrap(), package());
}

#[test]
fn without_a_network_the_cached_copy_runs() {
    let (place, proxy) = (Place::new(), Server::new());
    proxy.on("/p", Reply::Tagged("\"one\"", package()));
    let pull = |proxy: &str| {
        let mut command = place.command(&["pull", "http://nowhere.invalid/p", "-o", "got"]);
        Ended::of(command.env("http_proxy", proxy))
    };
    // Nothing listens on a port that was just closed.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = format!("http://127.0.0.1:{port}");
    pull(&nobody).refused(SOURCE, &["nowhere.invalid", "refused"]);
    pull(&proxy.url).worked();
    std::fs::remove_file(place.path("got")).unwrap();
    assert!(pull(&nobody).worked().err.contains("using the cached copy"));
    assert_eq!(std::fs::read(place.path("got")).unwrap(), package());
}

#[test]
fn a_name_is_a_program_in_the_repository() {
    let (place, server) = (Place::new(), Server::new());
    server.on("/repo/opensnoop/package.json", Reply::Content(package()));
    let run = |name: &str| {
        let mut command = place.command(&["pull", name, "-o", "got"]);
        Ended::of(command.env("EUNOMIA_REPOSITORY", format!("{}/repo", server.url)))
    };
    run("opensnoop").worked();
    assert_eq!(fs::read(place.path("got")).unwrap(), package());
    let expected = ["GET /repo/opensnoop/app.wasm HTTP/1.1", "GET /repo/opensnoop/package.json HTTP/1.1"];
    assert!(server.requests().starts_with(&expected.map(str::to_owned)), "{:?}", server.requests());
    // The file of that name is a directory, not a program.
    fs::create_dir(place.path("opensnoop")).unwrap();
    run("opensnoop").worked();
    run("nosuchtool").refused(SOURCE, &["nosuchtool", "EUNOMIA_REPOSITORY"]);
    let mut unreachable = place.command(&["run", "nosuchtool"]);
    Ended::of(unreachable.env("EUNOMIA_REPOSITORY", "http://127.0.0.1:1")).refused(
        SOURCE,
        &["nosuchtool: cannot download from the repository: http://127.0.0.1:1/nosuchtool/app.wasm: "],
    );
}

#[test]
fn the_repository_and_the_cache_are_listed() {
    let (place, server) = (Place::new(), Server::new());
    let list = |args: &[&str]| Ended::of(place.command(args).env("EUNOMIA_REPOSITORY", &server.url));
    list(&["list", "--repository"]).refused(SOURCE, &["has no list of programs"]);
    let index = br#"[{"name":"opensnoop","description":"Trace opens"},{"name":"x"}]"#;
    server.on("/index.json", Reply::Content(index.to_vec()));
    assert_eq!(list(&["list", "--repository"]).worked().out, "opensnoop  Trace opens\nx          \n");
    assert_eq!(list(&["list"]).worked().out, "");
    let url = server.on("/p", Reply::Tagged("\"one\"", package()));
    list(&["pull", &url, "-o", "got"]).worked();
    assert_eq!(list(&["list"]).worked().out, format!("{url}  {} bytes\n", package().len()));
}

#[test]
fn a_proxy_is_used_where_the_environment_names_one() {
    let (place, proxy) = (Place::new(), Server::new());
    proxy.on("/p", Reply::Content(package()));
    let mut command = place.command(&["pull", "http://nowhere.invalid/p", "-o", "got"]);
    Ended::of(command.env("http_proxy", &proxy.url)).worked();
    assert_eq!(proxy.requests()[0], "GET http://nowhere.invalid/p HTTP/1.1");
}

#[test]
fn tls_is_checked() {
    let place = Place::new();
    let (config, certificate) = certificate();
    let server = Server::tls(config);
    let url = server.on("/p", Reply::Content(package()));
    place.run(&["pull", &url]).refused(SOURCE, &[&url, "certificate"]);
    let trusted = place.write("ca.pem", certificate.pem.as_bytes());
    let mut command = place.command(&["pull", &url, "-o", "got"]);
    Ended::of(command.env("SSL_CERT_FILE", &trusted)).worked();

    // A redirect from https to http.
    let plain = Server::new();
    let target = plain.on("/p", Reply::Content(package()));
    let url = server.on("/away", Reply::Redirect(target));
    let mut command = place.command(&["pull", &url]);
    Ended::of(command.env("SSL_CERT_FILE", &trusted)).refused(SOURCE, &["refusing redirect from https"]);
    assert!(plain.requests().is_empty());
}

#[test]
fn unknown_schemes_are_refused() {
    let place = Place::new();
    place.run(&["run", "ftp://localhost/p"]).refused(SOURCE, &["unknown scheme \"ftp\""]);
    place.run(&["run", "file:///p"]).refused(SOURCE, &["file URLs are not supported"]);
}

/// The old file stays, and there is no partial file next to it.
#[test]
fn a_full_disk_keeps_the_existing_file() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must not skip it");
        eprintln!("SKIPPED: a_full_disk_keeps_the_existing_file needs root");
        return;
    }
    let (place, server) = (Place::new(), Server::new());
    let url = server.on("/package.json", Reply::Content(package().repeat(10)));
    fs::create_dir(place.path("small")).unwrap();
    // Runs in a mount namespace of its own, which ends with the command.
    let script = "mount -t tmpfs -o size=8k none small && echo before >small/got && \"$0\" pull -o small/got \"$1\"; \
                  echo \"exit $?\"; ls small; cat small/got";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_ecli"), &url]);
    let ended = Ended::of(command.current_dir(place.path("")).env("HOME", place.path("")));
    assert_eq!(ended.out, "exit 6\ngot\nbefore\n", "{ended:?}");
}
