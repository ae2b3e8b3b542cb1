//! What the tests of a binding in another language share.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command prints; it must succeed.
pub fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; run `make test`"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// A folder for what the tests of a language make.
pub fn folder(language: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(language).join(name);
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder
}

/// Makes a library that says it is libeunomia 0.2.7, and has nothing else.
pub fn other_version(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("other.c"), folder.join("libother.so"));
    fs::write(&source, "unsigned eunomia_version(void) { return 207; }\n")
        .expect("the source can be written");
    output(Command::new("cc").args(["-shared", "-o"]).args([&library, &source]));
    library
}

/// The package of an example, as `make packages` leaves it.
pub fn example_package(name: &str) -> String {
    let package = super::root().join(format!("target/packages/{name}/package.json"));
    assert!(package.exists(), "{} is missing: run `make packages`", package.display());
    package.to_str().expect("the path is UTF-8").to_owned()
}
