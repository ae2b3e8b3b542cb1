//! Maintenance tasks that need more than a line of make.
//!
//! `cargo xtask size FILE`        prints the size and dependencies of a library or tool; fails above a limit
//! `cargo xtask header`           copies the generated header to include/
//! `cargo xtask kernels`          writes docs/kernels.md from the results of `make vm`
//! `cargo xtask man FILE`         generates the manual page from the header
//! `cargo xtask notice`           writes NOTICE: linked components and their licences
//! `cargo xtask python`           writes bindings/python/src/eunomia/_ffi.py from the header
//! `cargo xtask site MDBOOK`      builds the site in target/site with this mdBook and checks its links
//! `cargo xtask symbols FILE`     fails unless library, header and tests/data/abi/symbols.txt agree
//! `cargo xtask symbols --write`  writes tests/data/abi/symbols.txt from the header

mod header;
mod kernels;
mod man;
mod notice;
mod python;
mod site;
mod size;
mod symbols;

use std::path::Path;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["size", library] => size::check(library),
        ["header"] => header::copy(),
        ["kernels"] => kernels::write(),
        ["man", page] => man::write(page),
        ["notice"] => notice::write(),
        ["python"] => python::write(),
        ["site", mdbook] => site::build(mdbook),
        ["symbols", "--write"] => symbols::write(),
        ["symbols", library] => symbols::check(library),
        _ => {
            Err("usage: cargo xtask size FILE | header | kernels | man FILE | notice | python | site MDBOOK | symbols FILE | symbols --write".to_string())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the standard output of a program.
fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let command = format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).output().map_err(|error| format!("{command}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
