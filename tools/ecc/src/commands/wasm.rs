//! `ecc gen-wasm-skel` and `ecc build-wasm`: create the files of a WASM module, and compile it.

use std::fs;
use std::path::{Path, PathBuf};

use eunomia::package::{MAX_DOCUMENT, Package};
use eunomia::{Kind, Options, Vm};

use crate::compile::{self, PACKAGE};
use crate::error::{Error, Result};
use crate::files;
use crate::files::Output;
use crate::options::{BuildWasm, Guest};
use crate::output::{event_header, wasm_header};
use crate::toolchain::cache::Cache;
use crate::toolchain::clang::Clang;
use crate::toolchain::{guest_headers, shell_words, wasi};

const TEMPLATE: &str = "app.c";

/// Writes all files that a module needs. Keeps an existing app.c.
pub fn generate(options: &Guest) -> Result<()> {
    let sources = Sources::find(&options.source)?;
    let dir = options.output_path.as_deref().unwrap_or(&sources.dir);
    let Some(program) = sources.program()? else {
        return Err(format!("{}: no .bpf.c file found", options.source.display()).into());
    };
    let compiled = compile::compile(program, options.header.as_deref(), &options.flags)?;
    let mut outputs = headers(dir, &compiled.package, false)?;
    outputs.push(Output::new(dir.join(PACKAGE), compiled.package.to_json()));
    if !dir.join(TEMPLATE).exists() {
        outputs.push(Output::new(dir.join(TEMPLATE), guest_headers::TEMPLATE));
    }
    files::write_all(dir, &outputs, options.flags.verbose)?;
    guest_headers::write(dir)
}

/// Compiles each NAME.c and NAME.cpp to NAME.wasm.
pub fn build(options: &BuildWasm) -> Result<()> {
    let guest = &options.guest;
    let sources = Sources::find(&guest.source)?;
    let dir = guest.output_path.as_deref().unwrap_or(&sources.dir);
    if sources.apps.is_empty() {
        let place = sources.dir.display();
        return Err(format!("{place}: no .c or .cpp file found; create one with ecc gen-wasm-skel").into());
    }
    let flags = shell_words::split_all("--wasm-cflags", &options.wasm_cflags)?;
    let clang = Clang::find(guest.flags.clang_bin.as_deref())?;
    wasi::check(&clang)?;
    files::write_all(dir, &packages(options, &sources, dir)?, guest.flags.verbose)?;

    let cache = Cache::open()?;
    let guest_headers = guest_headers::unpack(&cache)?;
    let dirs = [&sources.dir, dir, &guest_headers];
    let mut modules = Vec::new();
    for app in &sources.apps {
        let module = wasi::compile(&clang, &cache, app, &dirs, &flags, guest.flags.verbose);
        let module = module.inspect_err(|error| print_hints(error, app, &sources.dir))?;
        check(app, &module)?;
        let name = app.with_extension("wasm");
        modules.push(Output::new(dir.join(name.file_name().unwrap_or_default()), module));
    }
    files::write_all(dir, &modules, guest.flags.verbose)
}

/// Checks that the library can run a module, before anything is written.
fn check(app: &Path, module: &[u8]) -> Result<()> {
    let opened = Vm::new(Options::new()).and_then(|vm| vm.open(module, Kind::Wasm));
    opened.map(drop).map_err(|error| format!("{}: {error}", app.display()).into())
}

/// Interfaces that sources of eunomia-bpf and of libbpf use, and what to use in a guest.
const REPLACED: [(&str, &str); 4] = [
    ("argp.h", "wasi-libc has no argp: use argparse from eunomia-include/wasm-app.h"),
    ("bpf/libbpf.h", "guests cannot use libbpf: include eunomia-include/libbpf-wasm.h"),
    (
        "perf_buffer__",
        "guests cannot use libbpf's perf_buffer: use bpf_buffer from eunomia-include/libbpf-wasm.h",
    ),
    (
        "ring_buffer__",
        "guests cannot use libbpf's ring_buffer: use bpf_buffer from eunomia-include/libbpf-wasm.h",
    ),
];

/// Prints hints after clang's diagnostics: what to change in a source.
fn print_hints(error: &Error, app: &Path, dir: &Path) {
    let Error::Diagnosed = error else { return };
    let text = fs::read(app).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    for (_, hint) in REPLACED.iter().filter(|(word, _)| text.contains(word)) {
        eprintln!("ecc: {}: {hint}", app.display());
    }
    if guest_headers::are_foreign(dir) {
        let headers = dir.join(guest_headers::DIR);
        eprintln!(
            "ecc: {}: these headers are of another version of ecc; update them with ecc gen-wasm-skel",
            headers.display()
        );
    }
}

/// The headers of all packages that the module embeds.
fn packages(options: &BuildWasm, sources: &Sources, dir: &Path) -> Result<Vec<Output>> {
    let guest = &options.guest;
    let program = if options.package.is_empty() { sources.program()? } else { None };
    if let Some(program) = program {
        let package = compile::compile(program, guest.header.as_deref(), &guest.flags)?.package;
        let mut files = updated_headers(sources, dir, &package, false)?;
        files.push(Output::new(dir.join(PACKAGE), package.to_json()));
        return Ok(files);
    }
    let default = sources.dir.join(PACKAGE);
    let paths = match options.package.as_slice() {
        [] if default.exists() => std::slice::from_ref(&default),
        paths => paths,
    };
    let mut files: Vec<Output> = Vec::new();
    for path in paths {
        let bytes = files::read(path, MAX_DOCUMENT)?;
        let package = Package::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        for file in updated_headers(sources, dir, &package, paths.len() > 1)? {
            if files.iter().any(|other| other.path() == file.path()) {
                let (path, name) = (path.display(), event_header::name(&package));
                return Err(
                    format!("{path}: two packages have an object with the same name, {name:?}").into()
                );
            }
            files.push(file);
        }
    }
    Ok(files)
}

/// The headers of a package, in the directory in which the module's source finds them. Headers next to the source are
/// found first; if they exist, they are the ones to update.
fn updated_headers(
    sources: &Sources,
    dir: &Path,
    package: &Package,
    is_one_of_several: bool,
) -> Result<Vec<Output>> {
    let is_next_to_source = sources.dir.join(header_name(package, is_one_of_several)).exists();
    headers(if is_next_to_source { &sources.dir } else { dir }, package, is_one_of_several)
}

fn header_name(package: &Package, is_one_of_several: bool) -> String {
    match is_one_of_several {
        true => format!("{}.{}", event_header::name(package), wasm_header::NAME),
        false => wasm_header::NAME.into(),
    }
}

/// The headers of a package: the package itself as a string, and its event structs.
fn headers(dir: &Path, package: &Package, is_one_of_several: bool) -> Result<Vec<Output>> {
    let text = wasm_header::text(&event_header::name(package), &package.to_json());
    let mut headers = vec![Output::new(dir.join(header_name(package, is_one_of_several)), text)];
    let events = event_header::create(package, event_header::FOR_GUESTS)?;
    headers.extend(events.map(|(name, text)| Output::new(dir.join(name), text)));
    Ok(headers)
}

/// The sources of a module.
struct Sources {
    dir: PathBuf,
    /// The BPF programs.
    programs: Vec<PathBuf>,
    /// The C and C++ files of the module, sorted by name.
    apps: Vec<PathBuf>,
}

impl Sources {
    /// Finds the sources in the directory `source`, or in the directory of the file `source`.
    fn find(source: &Path) -> Result<Sources> {
        let is_dir = fs::metadata(source).map_err(|error| Error::io(source.display(), &error))?.is_dir();
        let dir = if is_dir { source } else { files::directory_of(source) };
        let entries = fs::read_dir(dir).map_err(|error| Error::io(dir.display(), &error))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut programs: Vec<PathBuf> = files.iter().filter(|path| is_program(path)).cloned().collect();
        let mut apps: Vec<PathBuf> = files.into_iter().filter(|path| is_app(path)).collect();
        if !is_dir {
            *(if is_program(source) { &mut programs } else { &mut apps }) = vec![source.into()];
        }
        Ok(Sources { dir: dir.into(), programs, apps })
    }

    /// The BPF program, if there is one.
    fn program(&self) -> Result<Option<&Path>> {
        match self.programs.as_slice() {
            [] => Ok(None),
            [program] => Ok(Some(program)),
            several => {
                let place = self.dir.display();
                Err(format!("{place}: found {} .bpf.c files; pass one of them", several.len()).into())
            }
        }
    }
}

fn is_program(path: &Path) -> bool {
    path.to_string_lossy().ends_with(".bpf.c")
}

fn is_app(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "c" || ending == "cpp") && !is_program(path)
}
