//! The runners: how each is built and started. Each gets the table and the folder with the packages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Every language and the command that runs its runner.
pub fn all(packages: &Path, lines: &Path) -> Vec<(&'static str, Command)> {
    let mut runners = vec![("C", c(packages))];
    for (_, command) in &mut runners {
        command.arg(lines).arg(packages).env("LD_LIBRARY_PATH", library());
    }
    runners
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the library as it ships.
fn library() -> PathBuf {
    let folder = root().join("target/dist");
    let file = folder.join("libeunomia.so");
    assert!(file.exists(), "{} is missing: run `make {}` first", file.display(), "target/dist/libeunomia.so");
    folder
}

/// Compiles sources of tests/conformance against the header and the library, without a warning.
fn compile(compiler: &str, flags: &[&str], sources: &[&str], program: &Path) -> Command {
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-g", "-O1", "-pthread", "-o"]).arg(program).args(flags);
    command.args(sources.iter().map(|source| root().join("tests/conformance").join(source)));
    command.arg("-I").arg(root().join("include")).arg("-L").arg(library()).arg("-leunomia");
    let output = command.output().expect("the compiler runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Command::new(program)
}

fn c(folder: &Path) -> Command {
    let sources = ["c/main.c", "c/calls.c", "c/compare.c"];
    compile("cc", &["-std=c11", "-D_GNU_SOURCE"], &sources, &folder.join("runner-c"))
}
