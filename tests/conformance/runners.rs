//! Builds and starts each runner. Its arguments are the table and the directory of the packages.

use std::path::Path;
use std::process::Command;

use super::support::{host, root, sanitizer};

/// Returns every language with the command that runs its runner, for a table as JSON and as lines.
pub fn all(packages: &Path, table: &Path, lines: &Path) -> Vec<(&'static str, Command)> {
    let mut runners = vec![("C", c(packages)), ("C++", cpp(packages))];
    for (_, command) in &mut runners {
        command.arg(lines);
    }
    let mut readers = vec![("Python", python()), ("Go", go(packages))];
    for (_, command) in &mut readers {
        command.arg(table);
    }
    runners.append(&mut readers);
    for (_, command) in &mut runners {
        command.arg(packages);
    }
    runners
}

/// Sources shared by C and C++.
const SHARED: [&str; 2] = ["conformance/c/main.c", "conformance/c/compare.c"];

pub fn c(folder: &Path) -> Command {
    let program = folder.join("runner-c");
    let sources = [SHARED.as_slice(), &["conformance/c/calls.c"]].concat();
    host::link("cc", &[], &host::objects(&sources, folder), &program);
    Command::new(program)
}

fn cpp(folder: &Path) -> Command {
    let program = folder.join("runner-cpp");
    let mut sources = host::objects(&SHARED, folder);
    sources.push(root().join("tests/conformance/cpp/calls.cpp"));
    host::link("c++", &[&["-std=c++17"], &sanitizer::MEMORY[..]].concat(), &sources, &program);
    Command::new(program)
}

/// Python reads JSON and uses the binding from the source tree.
fn python() -> Command {
    let mut command = Command::new(root().join("target/venv/bin/python"));
    command.arg(root().join("tests/conformance/python/runner.py"));
    command.env("PYTHONPATH", root().join("bindings/python/src")).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("EUNOMIA_LIBRARY", host::library().join("libeunomia.so"));
    command
}

/// Go also uses the source tree.
fn go(folder: &Path) -> Command {
    let (program, library) = (folder.join("runner-go"), host::library());
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).current_dir(root().join("tests/conformance/go"));
    build.env("PKG_CONFIG", "true").env("CGO_CFLAGS", format!("-I{}/include", root().display()));
    let link = format!("-L{0} -leunomia -Wl,-rpath,{0}", library.display());
    build.env("CGO_LDFLAGS", link).env("GOCACHE", root().join("target/go"));
    let output = build.output().expect("go runs");
    assert!(output.status.success(), "{build:?}: {}", String::from_utf8_lossy(&output.stderr));
    Command::new(program)
}
