//! Functions for the tests of language bindings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command, which must succeed, and returns its output.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; run `make test`"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Creates the directory for the output of a test of this language.
pub fn folder(language: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(language).join(name);
    fs::create_dir_all(&folder).expect("the directory can be created");
    folder
}

/// Builds a library that reports the version 0.2.7 and exports nothing else.
pub fn other_version(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("other.c"), folder.join("libother.so"));
    fs::write(&source, "unsigned eunomia_version(void) { return 207; }\n")
        .expect("the source can be written");
    output(Command::new("cc").args(["-shared", "-o"]).args([&library, &source]));
    library
}

/// The path of an example's package, which `make packages` built.
pub fn example_package(name: &str) -> String {
    let package = super::root().join(format!("target/packages/{name}/package.json"));
    assert!(package.exists(), "{} is missing: run `make packages`", package.display());
    package.to_str().expect("the path is UTF-8").to_owned()
}

/// Writes a new version of a package into `folder` and returns its path. Only a setting in its metadata differs.
pub fn next_version(package: &str, folder: &Path) -> String {
    let text = fs::read_to_string(package).expect("the package can be read");
    let mut next: serde_json::Value = serde_json::from_str(&text).expect("a package is JSON");
    next["meta"]["poll_timeout_ms"] = 77.into();
    let path = folder.join("next.json");
    fs::write(&path, next.to_string()).expect("the package can be written");
    path.to_str().expect("the path is UTF-8").to_owned()
}

/// The output of the example `replace`.
pub const REPLACED: [&str; 3] = ["exit_event", "swapped", "the new version stays"];
