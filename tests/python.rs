//! The Python binding with the release build of the library: its own tests, and its wheel in a fresh virtual environment.
//! `make test` first creates the environment for the tests with `tools/setup.sh python`.

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

#[test]
fn every_function_accepts_and_returns_python_values() {
    needs_root!();
    unittest("test_vm");
}

#[test]
fn objects_are_released_and_exceptions_are_kept() {
    needs_root!();
    unittest("test_lifecycle");
}

fn unittest(module: &str) {
    let tests = format!("{ROOT}/bindings/python/tests");
    output(python().args(["-X", "dev", "-m", "unittest", "-v", module]).current_dir(tests));
}

/// The interpreter, with the binding of the source tree.
fn python() -> Command {
    let mut command = Command::new(format!("{ROOT}/target/venv/bin/python"));
    command.env("PYTHONPATH", format!("{ROOT}/bindings/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .env("EUNOMIA_LIBRARY", host::library().join("libeunomia.so"))
        .env("EUNOMIA_TEST_PACKAGES", packages());
    command.env("EUNOMIA_TEST_OTHER_VERSION", other_version());
    command
}

fn folder(name: &str) -> PathBuf {
    binding::folder("python", name)
}

fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = folder("packages");
        packages::make(&folder);
        folder
    })
}

fn other_version() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| binding::other_version(&folder("other")))
}

// ---- the wheel ------------------------------------------------------------------------------------------------

/// The lowest glibc that the library needs.
const TAG: &str = "manylinux_2_34";

#[test]
fn the_wheel_runs_its_readme_from_a_fresh_environment() {
    needs_root!();
    let folder = folder("wheel");
    let wheel = wheel(&folder);
    assert!(output(python().args(["-m", "auditwheel", "show"]).arg(&wheel)).contains(TAG), "{wheel:?}");

    let list = output(python().args(["-m", "zipfile", "--list"]).arg(&wheel));
    for file in ["eunomia/libeunomia.so", "eunomia/py.typed", "eunomia/LICENSE", "eunomia/NOTICE"] {
        assert!(list.contains(file), "no {file} in {list}");
    }

    let fresh = folder.join("fresh");
    output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&fresh));
    let interpreter = fresh.join("bin/python");
    let install = ["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"];
    output(Command::new(&interpreter).args(install).arg(&wheel));

    let program = folder.join("program.py");
    fs::write(&program, readme_program()).expect("the program can be written");
    let mut run = Command::new(&interpreter);
    run.arg("-u").arg(&program).arg(example_package("bootstrap")).current_dir("/").env_remove("PYTHONPATH");
    example::prints(&mut run, &["'exit_event': True"]);
}

/// Builds the wheel, the only file in the directory.
fn wheel(folder: &Path) -> PathBuf {
    let out = folder.join("out");
    drop(fs::remove_dir_all(&out)); // of an earlier run
    let build = ["-m", "build", "--wheel", "--no-isolation", "--outdir"];
    output(python().args(build).arg(&out).arg(format!("{ROOT}/bindings/python")));
    let mut files = fs::read_dir(&out).expect("the build made a directory");
    let wheel = files.next().expect("there is a wheel").expect("the directory can be read").path();
    let name = format!("eunomia-{}-py3-none-{TAG}_{}.whl", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    assert_eq!(wheel.file_name().and_then(|name| name.to_str()), Some(name.as_str()));
    wheel
}

/// The program of the README, which must be small.
fn readme_program() -> String {
    let readme = include_str!("../bindings/python/README.md");
    let (_, block) = readme.split_once("```python\n").expect("the README has a block of Python");
    let (program, _) = block.split_once("```").expect("the block ends");
    assert!(program.lines().count() <= 10, "{program}");
    program.to_owned()
}

// ---- examples -------------------------------------------------------------------------------------------------

#[test]
fn the_examples_print_their_events() {
    needs_root!();
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
    example::prints_until_interrupted(command("loop").arg(&bootstrap), &["tick", "'comm': 'true'"]);
    let several = [bootstrap.as_str(), &opensnoop];
    example::prints_until_interrupted(
        command("several").args(several),
        &["bootstrap/package.json {", "opensnoop/package.json {"],
    );
    let next = next_version(&bootstrap, &folder("replace"));
    example::prints(command("replace").args([&bootstrap, &next]), &REPLACED);
}

fn command(name: &str) -> Command {
    let mut command = python();
    command.arg("-u").arg(format!("{ROOT}/examples/python/{name}.py"));
    command
}
