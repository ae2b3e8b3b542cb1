//! Compiles hosts in C and C++ with the committed headers and links them with the release build of the library.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The directory of the release build of the library. `make test` builds it first.
pub fn library() -> PathBuf {
    let folder = super::root().join("target/dist");
    let file = folder.join("libeunomia.so");
    assert!(file.exists(), "{} is missing: run `make target/dist/libeunomia.so` first", file.display());
    folder
}

/// Flags of every compiler; a warning is an error.
const STRICT: [&str; 7] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g", "-O1", "-pthread"];

/// Compiles C sources below tests/ to object files in `directory`.
pub fn objects(sources: &[&str], folder: &Path) -> Vec<PathBuf> {
    let object = |source: &&str| {
        let object = folder.join(source.replace('/', "-") + ".o");
        let source = super::root().join("tests").join(source);
        run(Command::new("cc")
            .args(STRICT)
            .args(["-std=c11", "-D_GNU_SOURCE", "-c"])
            .arg(source)
            .arg("-o")
            .arg(&object));
        object
    };
    sources.iter().map(object).collect()
}

/// Compiles sources with `c++` or `cc` and links them with the library.
pub fn link(compiler: &str, flags: &[&str], sources: &[PathBuf], program: &Path) {
    let library = library();
    let rpath = format!("-Wl,-rpath,{}", library.display());
    let mut command = Command::new(compiler);
    command.args(STRICT).args(flags).args(sources).arg("-o").arg(program).arg("-L").arg(library);
    run(command.args(["-leunomia", &rpath]));
}

/// Checks that a source compiles, without output.
pub fn check(compiler: &str, flags: &[&str], source: &Path) {
    run(Command::new(compiler).args(STRICT).args(flags).arg("-fsyntax-only").arg(source));
}

/// Runs a compiler, which must succeed without warnings.
fn run(compiler: &mut Command) {
    let compiler = compiler.arg("-I").arg(super::root().join("include"));
    let output = compiler.output().unwrap_or_else(|e| panic!("{compiler:?}: {e}"));
    assert!(output.status.success(), "{compiler:?}: {}", String::from_utf8_lossy(&output.stderr));
}
