//! The Go binding with the release build of the library. The tests of the binding run natively, with the race detector, with the
//! strictest pointer checks and constant garbage collection, and linked statically. The program in its README runs with a library
//! installed in a directory.

#[path = "conformance/packages.rs"]
mod packages;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use support::binding::{self, REPLACED, example_package, next_version, output};
use support::{example, host};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MODULE: &str = "github.com/eunomia-bpf/libeunomia/bindings/go";

#[test]
fn every_function_accepts_and_returns_go_values() {
    needs_root!();
    output(&mut go(&["test", "-count=1", "./..."]));
}

#[test]
fn the_race_detector_reports_nothing() {
    needs_root!();
    output(&mut go(&["test", "-count=1", "-race", "./..."]));
}

#[test]
fn c_keeps_no_go_pointer_and_no_live_object_is_collected() {
    needs_root!();
    output(go(&["test", "-count=1", "./..."]).env("GODEBUG", "cgocheck=2").env("GOGC", "1"));
}

#[test]
fn a_static_program_needs_no_library() {
    needs_root!();
    let program = folder("static").join("tests");
    let build = ["test", "-c", "-tags", "eunomia_static", "-o", path(&program)];
    output(&mut go(&build));
    let dynamic = output(Command::new("readelf").args(["--dynamic", "--wide"]).arg(&program));
    assert!(!dynamic.contains("libeunomia"), "{dynamic}");
    let mut tests = Command::new(&program);
    tests
        .env("EUNOMIA_TEST_STATIC", "1")
        .env("EUNOMIA_TEST_PACKAGES", packages())
        .env_remove("LD_LIBRARY_PATH");
    output(tests.args(["-test.run", "Events|Guest|Context"]));
}

/// A go command in the directory of the binding, with library and header installed in a directory.
fn go(args: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(args).current_dir(format!("{ROOT}/bindings/go"));
    command
        .env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig"))
        .env("LD_LIBRARY_PATH", prefix().join("lib"));
    command.env("GOFLAGS", "-mod=mod").env("GOCACHE", format!("{ROOT}/target/go")).env("GOPROXY", "off");
    command.env("EUNOMIA_TEST_PACKAGES", packages()).env("EUNOMIA_TEST_OTHER_VERSION", other_version());
    command
}

fn path(path: &Path) -> &str {
    path.to_str().expect("the path is UTF-8")
}

fn folder(name: &str) -> PathBuf {
    binding::folder("go", name)
}

/// A prefix with the files of `make install` that Go needs.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let (prefix, built, version) = (folder("prefix"), host::library(), env!("CARGO_PKG_VERSION"));
        let (minor, _) = version.rsplit_once('.').expect("a version has three parts");
        fs::create_dir_all(prefix.join("lib/pkgconfig")).expect("the directory can be created");
        fs::create_dir_all(prefix.join("include")).expect("the directory can be created");
        let copy = |from: PathBuf, to: &str| {
            fs::copy(&from, prefix.join(to))
                .unwrap_or_else(|e| panic!("{}: {e}; run `make test`", from.display()));
        };
        copy(built.join("libeunomia.a"), "lib/libeunomia.a");
        copy(built.join("libeunomia.so"), "lib/libeunomia.so");
        copy(built.join("libeunomia.so"), &format!("lib/libeunomia.so.{minor}"));
        copy(Path::new(ROOT).join("include/eunomia.h"), "include/eunomia.h");
        let template = include_str!("../bindings/c/eunomia.pc.in");
        let text = template
            .replace("@PREFIX@", path(&prefix))
            .replace("@LIBDIR@", "lib")
            .replace("@VERSION@", version);
        fs::write(prefix.join("lib/pkgconfig/eunomia.pc"), text).expect("the file can be written");
        prefix
    })
}

fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = folder("packages");
        packages::make(&folder);
        folder
    })
}

/// A library that, loaded before the real one, reports the version 0.2.7.
fn other_version() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| binding::other_version(&folder("other")))
}

// ---- programs -------------------------------------------------------------------------------------------------

#[test]
fn the_program_of_the_readme_runs_outside_the_source_tree() {
    needs_root!();
    let readme = include_str!("../bindings/go/README.md");
    let (_, block) = readme.split_once("```go\n").expect("the README has a block of Go");
    let (program, _) = block.split_once("```").expect("the block ends");
    let outside = tempfile::tempdir().expect("a temporary directory");
    fs::write(outside.path().join("main.go"), program).expect("the program can be written");
    let module = format!(
        "module host\n\ngo 1.19\n\nrequire {MODULE} v0.0.0\n\nreplace {MODULE} => {ROOT}/bindings/go\n"
    );
    fs::write(outside.path().join("go.mod"), module).expect("the module can be written");
    output(go(&["build", "-o", "host", "."]).current_dir(outside.path()));

    let mut host = Command::new(outside.path().join("host"));
    host.arg(example_package("bootstrap")).current_dir("/").env("LD_LIBRARY_PATH", prefix().join("lib"));
    example::prints(&mut host, &["\"exit_event\":true"]);
}

#[test]
fn the_examples_print_their_events() {
    needs_root!();
    let programs = folder("examples");
    let build = ["build", "-o", path(&programs), "./..."];
    output(go(&build).current_dir(format!("{ROOT}/examples/go")));
    let command = |name: &str| {
        let mut command = Command::new(programs.join(name));
        command.env("LD_LIBRARY_PATH", prefix().join("lib"));
        command
    };
    let (bootstrap, opensnoop) = (example_package("bootstrap"), example_package("opensnoop"));
    example::prints_until_interrupted(
        command("events").args([&bootstrap, "--min_duration_ns", "0"]),
        &["\"exit_event\":true"],
    );
    example::prints(command("events").args([&bootstrap, "--help"]), &["--min_duration_ns"]);
    example::prints_until_interrupted(command("raw").arg(&bootstrap), &["exit 0", "/true"]);
    example::prints(
        command("variables").arg(&opensnoop),
        &["targ_failed", "/nothing/here -2", "map started"],
    );
    example::prints_until_interrupted(command("loop").arg(&bootstrap), &["tick", "\"comm\":\"true\""]);
    let several = [bootstrap.as_str(), &opensnoop];
    let both = ["bootstrap/package.json {", "opensnoop/package.json {"];
    example::prints_until_interrupted(command("several").args(several), &both);
    let next = next_version(&bootstrap, &programs);
    example::prints(command("replace").args([&bootstrap, &next]), &REPLACED);
}
