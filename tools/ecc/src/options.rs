//! The command line.

mod target;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::error::Result;

const AFTER_HELP: &str = "\
Headers are searched in this order: directories from -a, the directory of the source, libbpf's headers (built into
ecc), a vmlinux.h created from the kernel's BTF, the system's directories.

Documentation comments (///, /** */) above variables, maps and programs may contain annotations, such as @cmdarg or
@sample, followed by JSON or text. Other text in the comment is the description.

Environment:
  CLANG  The clang to run, unless --clang is given
  CC     The C compiler for --standalone";

/// Compile a libbpf-style BPF program to a package
#[derive(Parser)]
#[command(
    name = "ecc",
    version,
    after_help = AFTER_HELP,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,

    #[command(flatten)]
    pub compile: Compile,
}

#[derive(Subcommand)]
pub enum Command {
    /// Create the files of a WASM module: package.json, headers, and app.c unless it exists
    GenWasmSkel(Guest),

    /// Load a source or package into the running kernel's verifier, without attaching it
    Check(Check),

    /// Compile the .c and .cpp files of a directory to WASM modules, except the BPF program
    BuildWasm(BuildWasm),
}

/// The options of `ecc SOURCE`.
#[derive(Args)]
pub struct Compile {
    /// BPF source; its name up to the first dot is the NAME of the outputs
    #[arg(value_name = "SOURCE.bpf.c", required = true)]
    pub source: Option<PathBuf>,

    /// More BPF sources to link, and optionally the header that defines the event structs
    #[arg(value_name = "SOURCE.bpf.c|HEADER")]
    pub others: Vec<PathBuf>,

    /// Output directory [default: the directory of the source]
    #[arg(short, long, value_name = "DIR")]
    pub output_path: Option<PathBuf>,

    /// Watch the sources and their headers, and recompile on change
    #[arg(long)]
    pub watch: bool,

    /// Do not write package.json
    #[arg(short, long)]
    pub no_generate_package_json: bool,

    /// Write YAML files instead of the JSON files; loaders read only JSON
    #[arg(short, long)]
    pub yaml: bool,

    /// Also write ewasm-skel.h, which embeds the package in a WASM module
    #[arg(long)]
    pub wasm_header: bool,

    /// Also write NAME.event.h, the event structs for hosts in C and C++
    #[arg(long)]
    pub event_header: bool,

    /// Also link NAME, an executable that runs the package
    #[arg(short, long)]
    pub standalone: bool,

    /// Path to libeunomia.a for --standalone [default: from ecc's install prefix, then pkg-config]
    #[arg(long, value_name = "FILE", requires = "standalone")]
    pub libeunomia: Option<PathBuf>,

    /// Ignored, for compatibility with eunomia-bpf: ecc needs no workspace
    #[arg(short, long, value_name = "DIR", hide = true)]
    pub workspace_path: Option<PathBuf>,

    /// Ignored, for compatibility with eunomia-bpf: ecc always creates a package
    #[arg(short, long, hide = true)]
    pub pack_object: bool,

    /// Refused with a hint: an option of eunomia-bpf that was removed
    #[arg(long, hide = true)]
    pub header_only: bool,

    #[command(flatten)]
    pub flags: Flags,
}

impl Compile {
    /// All sources. The first one names the program.
    pub fn sources(&self) -> Vec<&Path> {
        let others = self.others.iter().filter(|file| is_source(file));
        self.source.iter().chain(others).map(PathBuf::as_path).collect()
    }

    /// The header, if there is one.
    pub fn header(&self) -> Result<Option<&Path>> {
        let mut headers = self.others.iter().filter(|file| !is_source(file));
        match (headers.next(), headers.next()) {
            (header, None) => Ok(header.map(PathBuf::as_path)),
            (Some(first), Some(second)) => {
                Err(format!("{} and {}: only one header can be given", first.display(), second.display())
                    .into())
            }
            (None, Some(_)) => Ok(None),
        }
    }
}

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "c")
}

/// The options of `gen-wasm-skel`, and the common options of `build-wasm`.
#[derive(Args)]
pub struct Guest {
    /// BPF source, or a directory with one .bpf.c file
    #[arg(value_name = "SOURCE.bpf.c|DIR", default_value = ".")]
    pub source: PathBuf,

    /// Header that defines the event structs. Only needed if the event types are ambiguous
    pub header: Option<PathBuf>,

    /// Output directory [default: the directory of the source]
    #[arg(short, long, value_name = "DIR")]
    pub output_path: Option<PathBuf>,

    #[command(flatten)]
    pub flags: Flags,
}

/// The options of `check`.
#[derive(Args)]
pub struct Check {
    /// BPF source, or a package
    #[arg(value_name = "SOURCE.bpf.c|PACKAGE.json")]
    pub source: PathBuf,

    /// Header that defines the event structs. Only needed if the event types are ambiguous
    pub header: Option<PathBuf>,

    #[command(flatten)]
    pub flags: Flags,
}

/// The options of `build-wasm`.
#[derive(Args)]
pub struct BuildWasm {
    #[command(flatten)]
    pub guest: Guest,

    /// Package to embed; may be repeated [default: compiled from the BPF source, else package.json]
    #[arg(short, long, value_name = "FILE")]
    pub package: Vec<PathBuf>,

    /// Additional clang flags for the module; may be repeated
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub wasm_cflags: Vec<String>,
}

/// The options for compiling a BPF program.
#[derive(Args)]
pub struct Flags {
    /// Additional clang flags for the BPF program; may be repeated
    #[arg(short, long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub additional_cflags: Vec<String>,

    /// Path to clang [default: $CLANG, then the newest clang-N, then clang]
    #[arg(short, long, visible_alias = "clang", value_name = "PROGRAM")]
    pub clang_bin: Option<PathBuf>,

    /// Ignored, for compatibility with eunomia-bpf: ecc strips objects itself
    #[arg(short, long, value_name = "PROGRAM", hide = true)]
    pub llvm_strip_bin: Option<PathBuf>,

    #[command(flatten)]
    pub target: target::Target,

    /// Do not count events that are dropped because a ring buffer is full
    #[arg(long)]
    pub no_count_lost: bool,

    /// Print commands and output files
    #[arg(short, long)]
    pub verbose: bool,
}
