//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::error::Result;

const AFTER_HELP: &str = "\
Headers are searched for in the folders that -a names, then beside the source, then among those that ecc brings:
libbpf's, and a vmlinux.h made from the kernel's BTF, kept in the cache folder of the user.

Documentation comments (///, /** */) above variables, maps and programs become annotations: @cmdarg, @sample,
@tchook and so on with JSON or text behind them; other text is the description.";

/// Compile a libbpf-style BPF source to a package: NAME.bpf.o, NAME.skel.json and package.json.
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
    /// Begin a WASM module: write package.json, ewasm-skel.h, NAME.wasm.h, eunomia-include/ and, unless there is one, app.c
    GenWasmSkel(Guest),

    /// Have this kernel verify a source or a package, and attach nothing: says of each program whether it is taken
    Check(Check),

    /// Compile each .c and .cpp file of a folder, the BPF program aside, to a WASM module
    BuildWasm(BuildWasm),
}

/// A package is made of one source, or of several that are linked.
#[derive(Args)]
pub struct Compile {
    /// The program; its name up to the first dot names the outputs
    #[arg(value_name = "SOURCE.bpf.c", required = true)]
    pub source: Option<PathBuf>,

    /// More sources to link with the first, and the header that defines the event structs; without it they are found
    /// where that is unambiguous
    #[arg(value_name = "SOURCE.bpf.c|HEADER")]
    pub others: Vec<PathBuf>,

    /// Where the outputs go [default: the folder of the source]
    #[arg(short, long, value_name = "DIR")]
    pub output_path: Option<PathBuf>,

    /// Stay, and compile again whenever the source or a header that it includes changes, until Ctrl-C
    #[arg(long)]
    pub watch: bool,

    /// Write no package.json
    #[arg(short, long)]
    pub no_generate_package_json: bool,

    /// Write NAME.skel.yaml and package.yaml instead of JSON, for people and their tools: loaders read JSON
    #[arg(short, long)]
    pub yaml: bool,

    /// Write ewasm-skel.h too, which embeds the package in a WASM module
    #[arg(long)]
    pub wasm_header: bool,

    /// Write NAME.event.h too: the event structs for programs in C and C++ that take them raw
    #[arg(long)]
    pub event_header: bool,

    /// Link NAME too: an executable that runs the package, with libeunomia inside. Needs a C compiler ($CC, else cc)
    #[arg(short, long)]
    pub standalone: bool,

    /// The libeunomia.a for it [default: that of ecc's own prefix, else the one that pkg-config knows]
    #[arg(long, value_name = "FILE", requires = "standalone")]
    pub libeunomia: Option<PathBuf>,

    /// Accepted and not needed: what eunomia-bpf kept in its workspace, ecc brings
    #[arg(short, long, value_name = "DIR", hide = true)]
    pub workspace_path: Option<PathBuf>,

    /// Accepted and not needed: a package is always made
    #[arg(short, long, hide = true)]
    pub pack_object: bool,

    /// Of eunomia-bpf; refused with a word on what to do instead
    #[arg(long, hide = true)]
    pub header_only: bool,

    #[command(flatten)]
    pub flags: Flags,
}

impl Compile {
    /// The sources, the first one first.
    pub fn sources(&self) -> Vec<&Path> {
        let others = self.others.iter().filter(|file| is_source(file));
        self.source.iter().chain(others).map(PathBuf::as_path).collect()
    }

    /// The header, of which there can be one.
    pub fn header(&self) -> Result<Option<&Path>> {
        let mut headers = self.others.iter().filter(|file| !is_source(file));
        match (headers.next(), headers.next()) {
            (header, None) => Ok(header.map(PathBuf::as_path)),
            (Some(first), Some(second)) => {
                Err(format!("{} and {}: one header can be given", first.display(), second.display()).into())
            }
            (None, Some(_)) => Ok(None),
        }
    }
}

fn is_source(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "c")
}

/// A WASM module is made in one folder.
#[derive(Args)]
pub struct Guest {
    /// The BPF program, or the folder that has no other
    #[arg(value_name = "SOURCE.bpf.c|DIR", default_value = ".")]
    pub source: PathBuf,

    /// The header that defines the event structs; without it they are found where that is unambiguous
    pub header: Option<PathBuf>,

    /// Where the outputs go [default: the folder of the source]
    #[arg(short, long, value_name = "DIR")]
    pub output_path: Option<PathBuf>,

    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Args)]
pub struct Check {
    /// The program, or a package
    #[arg(value_name = "SOURCE.bpf.c|PACKAGE.json")]
    pub source: PathBuf,

    /// The header that defines the event structs; without it they are found where that is unambiguous
    pub header: Option<PathBuf>,

    #[command(flatten)]
    pub flags: Flags,
}

#[derive(Args)]
pub struct BuildWasm {
    #[command(flatten)]
    pub guest: Guest,

    /// The package to embed; may be repeated, and each then has a header of its own, NAME.ewasm-skel.h [default: made of the
    /// folder's BPF program, else its package.json]
    #[arg(short, long, value_name = "FILE")]
    pub package: Vec<PathBuf>,

    /// More flags for clang when it compiles the module, separated by blanks; may be repeated
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub wasm_cflags: Vec<String>,
}

/// How a BPF program is compiled.
#[derive(Args)]
pub struct Flags {
    /// More flags for clang, separated by blanks; may be repeated
    #[arg(short, long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub additional_cflags: Vec<String>,

    /// The clang to run [default: $CLANG, else the newest clang-N, else clang]
    #[arg(short, long, visible_alias = "clang", value_name = "PROGRAM")]
    pub clang_bin: Option<PathBuf>,

    /// Accepted and not needed: ecc strips objects itself
    #[arg(short, long, value_name = "PROGRAM")]
    pub llvm_strip_bin: Option<PathBuf>,

    #[command(flatten)]
    pub target: crate::toolchain::machine::Options,

    /// Do not count the events that a full ring buffer drops
    #[arg(long)]
    pub no_count_lost: bool,

    /// Say what is done
    #[arg(short, long)]
    pub verbose: bool,
}
