//! ecc compiles plain libbpf sources to packages that libeunomia runs.
//!
//! One run of clang compiles the object. Everything else is read from that object: its maps and programs as libbpf sees
//! them, BTF and symbols, and clang's debug information, which is removed from the package. WASM modules, which embed
//! packages, take another run of clang.

mod analysis;
mod btfgen;
mod commands;
mod compile;
mod error;
mod files;
mod object;
mod options;
mod output;
mod toolchain;

use std::process::ExitCode;

use clap::Parser;

use error::Error;
use options::{Command, CommandLine};

fn main() -> ExitCode {
    let CommandLine { command, compile } = CommandLine::parse();
    let result = files::temporary::clean_up_on_signals().and_then(|()| match command {
        Some(Command::GenWasmSkel(guest)) => commands::wasm::generate(&guest),
        Some(Command::Check(options)) => commands::check::check(&options),
        Some(Command::BuildWasm(build)) => commands::wasm::build(&build),
        None => commands::compile::run(&compile),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Text(line)) => {
            eprintln!("ecc: {line}");
            ExitCode::FAILURE
        }
        Err(Error::Diagnosed) => ExitCode::FAILURE,
    }
}
