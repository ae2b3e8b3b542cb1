//! Chores of the project that need more than a line of make.
//!
//! `cargo xtask size FILE`        how large the library, or ecc, is and what it needs; fails where a limit is passed
//! `cargo xtask header`           copies the generated header to include/
//! `cargo xtask kernels`          writes docs/kernels.md from what `make vm` saw
//! `cargo xtask man FILE`         writes the manual page, made from the header
//! `cargo xtask notice`           writes NOTICE: what is linked in, and under which licences
//! `cargo xtask python`           writes bindings/python/src/eunomia/_ffi.py from the header
//! `cargo xtask site MDBOOK`      builds the site in target/site with this mdBook and checks its links
//! `cargo xtask symbols FILE`     fails unless the library exports what the header and tests/data/abi/symbols.txt name
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

/// What `program` prints on its standard output.
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
