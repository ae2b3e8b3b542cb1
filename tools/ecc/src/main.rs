//! ecc compiles plain libbpf sources to packages that libeunomia runs.
//!
//! One run of clang makes the object; everything else is read from that object: what libbpf sees in it, its BTF and
//! symbols, and clang's debug information, which is left out of the package. WASM modules, which carry packages, are
//! another run of clang.

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

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use error::{Error, Result};
use options::{Command, CommandLine, Compile};

fn main() -> ExitCode {
    let CommandLine { command, compile } = CommandLine::parse();
    let result = files::temporary::end_with_signals().and_then(|()| match command {
        Some(Command::GenWasmSkel(guest)) => commands::wasm::begin(&guest),
        Some(Command::Check(options)) => commands::check::check(&options),
        Some(Command::BuildWasm(build)) => commands::wasm::build(&build),
        None => run(&compile),
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

/// Makes a package of a source, once or after each change.
fn run(options: &Compile) -> Result<()> {
    if options.header_only {
        return Err("--header-only is not there any more: name the header behind the program, \
                    and --event-header writes its structs for hosts"
            .into());
    }
    let (sources, header) = (options.sources(), options.header()?);
    let build = || {
        let compiled = compile::compile_all(&sources, header, &options.flags)?;
        output::write(&compiled, options)
    };
    if !options.watch {
        return build();
    }
    let files = || {
        // Why they cannot be told, the build says.
        let dependencies = |source: &&Path| compile::dependencies(source, &options.flags).unwrap_or_default();
        let mut files: Vec<PathBuf> = sources.iter().flat_map(dependencies).collect();
        files.extend(sources.iter().copied().chain(header).map(PathBuf::from));
        files.sort();
        files.dedup();
        files
    };
    commands::watch::watch(files, build)
}
