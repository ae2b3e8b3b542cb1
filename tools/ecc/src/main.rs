//! ecc compiles plain libbpf sources to packages that libeunomia runs.
//!
//! One run of clang makes the object; everything else is read from that object: what libbpf sees in it, its BTF and
//! symbols, and clang's debug information, which is left out of the package.

mod annotation;
mod btf;
mod btf_append;
mod cache;
mod clang;
mod compile;
mod dwarf;
mod elf;
mod error;
mod event;
mod file;
mod flag;
mod flow;
mod headers;
mod skeleton;
mod sys;
mod vmlinux;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use eunomia::package::Package;

use compile::Compiled;
use error::{Error, Result};

const AFTER_HELP: &str = "\
Headers are searched for in the folders that -a names, then beside the source, then among those that ecc brings:
libbpf's, and a vmlinux.h made from the kernel's BTF, kept in the cache folder of the user.

Documentation comments (///, /** */) above variables, maps and programs become annotations: @cmdarg, @sample,
@tchook and so on with JSON or text behind them; other text is the description.";

/// Compile a libbpf-style BPF source to a package: NAME.bpf.o, NAME.skel.json and package.json.
#[derive(Parser)]
#[command(name = "ecc", version, after_help = AFTER_HELP)]
struct Options {
    /// The program; its name up to the first dot names the outputs
    #[arg(value_name = "SOURCE.bpf.c")]
    source: PathBuf,

    /// The header that defines the event structs; without it they are found where that is unambiguous
    header: Option<PathBuf>,

    /// Where the outputs go [default: the folder of the source]
    #[arg(short, long, value_name = "DIR")]
    output_path: Option<PathBuf>,

    /// More flags for clang, separated by blanks; may be repeated
    #[arg(short, long, value_name = "FLAGS", allow_hyphen_values = true)]
    additional_cflags: Vec<String>,

    /// The clang to run [default: $CLANG, else the newest clang-N, else clang]
    #[arg(short, long, visible_alias = "clang", value_name = "PROGRAM")]
    clang_bin: Option<PathBuf>,

    /// Accepted and not needed: ecc strips objects itself
    #[arg(short, long, value_name = "PROGRAM")]
    llvm_strip_bin: Option<PathBuf>,

    /// Write no package.json
    #[arg(short, long)]
    no_generate_package_json: bool,

    /// Take the kernel's types from this vmlinux.h, BTF file or vmlinux, not from the running kernel
    #[arg(long, value_name = "FILE")]
    vmlinux: Option<PathBuf>,

    /// Do not count the events that a full ring buffer drops
    #[arg(long)]
    no_count_lost: bool,

    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Text(line)) => {
            eprintln!("ecc: {line}");
            ExitCode::FAILURE
        }
        Err(Error::Diagnosed) => ExitCode::FAILURE,
    }
}

fn run(options: &Options) -> Result<()> {
    let name = program_name(&options.source)?;
    let output = options.output_path.clone().unwrap_or_else(|| compile::source_folder(&options.source));
    let compiled = compile::compile(options, &skeleton::object_name(name.as_bytes()))?;
    for warning in &compiled.warnings {
        eprintln!("ecc: warning: {warning}");
    }
    write(options, &output, &name, &compiled)
}

/// The name of the program, after a look at whether there is one.
fn program_name(source: &Path) -> Result<OsString> {
    let content = fs::read(source).map_err(|error| Error::io(source.display(), &error))?;
    if content.trim_ascii().is_empty() {
        return Err(format!("{}: the file is empty", source.display()).into());
    }
    let file = source.file_name().unwrap_or_default().as_bytes();
    if !file.ends_with(b".c") {
        return Err(format!("{}: not a C source, whose name ends in .c", source.display()).into());
    }
    match file.split(|&byte| byte == b'.').next() {
        Some(name) if !name.is_empty() => Ok(OsStr::from_bytes(name).into()),
        _ => Err(format!("{}: there is no name before the first dot", source.display()).into()),
    }
}

/// All outputs, or none of them.
fn write(options: &Options, folder: &Path, name: &OsStr, compiled: &Compiled) -> Result<()> {
    let path = |suffix: &str| {
        let mut file = name.to_os_string();
        file.push(suffix);
        folder.join(file)
    };
    let Compiled { object, meta, .. } = compiled;
    let package = Package::build(object, meta.clone()).map_err(|error| error.to_string())?;
    let mut outputs = Vec::new();
    if !options.no_generate_package_json {
        outputs.push((folder.join("package.json"), package.to_json()));
    }
    outputs.push((path(".bpf.o"), object.clone()));
    outputs.push((path(".skel.json"), format!("{meta:#}\n").into()));
    fs::create_dir_all(folder)
        .map_err(|error| Error::io(format_args!("cannot make the folder {}", folder.display()), &error))?;
    let drafts = outputs.iter().map(|(path, bytes)| file::Draft::write(path, bytes));
    let drafts: Vec<_> = drafts.collect::<Result<_>>()?;
    drafts.into_iter().try_for_each(file::Draft::publish)?;
    if options.verbose {
        outputs.iter().for_each(|(path, bytes)| eprintln!("ecc: {}: {} bytes", path.display(), bytes.len()));
    }
    Ok(())
}
