//! ecc compiles plain libbpf sources to packages that libeunomia runs.
//!
//! One run of clang makes the object; everything else is read from that object: what libbpf sees in it, its BTF and
//! symbols, and clang's debug information, which is left out of the package. WASM modules, which carry packages, are
//! another run of clang.

mod annotation;
mod btf;
mod btf_append;
mod btfgen;
mod cache;
mod check;
mod clang;
mod compile;
mod dwarf;
mod elf;
mod error;
mod event;
mod event_header;
mod export;
mod file;
mod flag;
mod flow;
mod former;
mod guest;
mod headers;
mod instruction;
mod limit;
mod line_info;
mod locals;
mod member;
mod options;
mod outputs;
mod package_header;
mod sdk;
mod shape;
mod skeleton;
mod standalone;
mod sys;
mod tar;
mod target;
mod temporary;
mod twin;
mod values;
mod vmlinux;
mod wasi;
mod watch;
mod yaml;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use error::{Error, Result};
use options::{Command, CommandLine, Compile};

fn main() -> ExitCode {
    let CommandLine { command, compile } = CommandLine::parse();
    let result = temporary::end_with_signals().and_then(|()| match command {
        Some(Command::GenWasmSkel(guest)) => guest::begin(&guest),
        Some(Command::Check(options)) => check::check(&options),
        Some(Command::BuildWasm(build)) => guest::build(&build),
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
        outputs::write(&compiled, options)
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
    watch::watch(files, build)
}
