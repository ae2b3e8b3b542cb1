//! The runners: how each is built and started. Each gets the table and the folder with the packages.

use std::path::Path;
use std::process::Command;

use super::support::{host, root};

/// Every language and the command that runs its runner.
pub fn all(packages: &Path, lines: &Path) -> Vec<(&'static str, Command)> {
    let mut runners = vec![("C", c(packages)), ("C++", cpp(packages))];
    for (_, command) in &mut runners {
        command.arg(lines).arg(packages);
    }
    runners
}

/// What C and C++ share.
const SHARED: [&str; 2] = ["conformance/c/main.c", "conformance/c/compare.c"];

fn c(folder: &Path) -> Command {
    let program = folder.join("runner-c");
    let sources = [SHARED.as_slice(), &["conformance/c/calls.c"]].concat();
    host::link("cc", &[], &host::objects(&sources, folder), &program);
    Command::new(program)
}

fn cpp(folder: &Path) -> Command {
    let program = folder.join("runner-cpp");
    let mut sources = host::objects(&SHARED, folder);
    sources.push(root().join("tests/conformance/cpp/calls.cpp"));
    host::link("c++", &["-std=c++17"], &sources, &program);
    Command::new(program)
}
