//! `ecli inspect`: shows what a program contains and what it could do, without running it.
//!
//! It creates nothing in the kernel and needs no privileges. The crate `eunomia-effects` analyses the instructions.

mod memory;
mod module;
mod package;
mod search;
mod text;

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::error::Result;
use crate::kind::Kind;
use crate::options::Inspect;
use crate::output;
use crate::source::{self, Program, Request};

/// Prints the report.
pub fn run(options: &Inspect) -> Result<ExitCode> {
    let request = Request { prog: &options.prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request)?;
    let report = report(&program)?;
    let text = if options.json { report.to_string() + "\n" } else { text::text(&report) };
    output::print(text)
}

fn report(program: &Program) -> Result<Value> {
    let (kind, packages) = match program.kind {
        Kind::Wasm => return module::report(program),
        Kind::Json => ("package", package::package(&program.bytes)),
        Kind::Tar => ("archive", package::package(&program.packed()?)),
        Kind::Object => ("object", package::object_alone(&program.bytes)),
    };
    let packages = packages.map_err(|failure| failure.at(&program.name))?;
    Ok(json!({ "name": program.name, "kind": kind, "bytes": program.bytes.len(), "packages": [packages] }))
}
