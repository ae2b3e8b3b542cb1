//! WASM modules: the folder that one begins with, and the compilation.

use std::fs;
use std::path::{Path, PathBuf};

use eunomia::package::{MAX_DOCUMENT, Package};
use eunomia::{Kind, Options, Vm};

use crate::compile::{self, PACKAGE};
use crate::error::{Error, Result};
use crate::files;
use crate::files::Output;
use crate::options::{BuildWasm, Guest};
use crate::output::event_header;
use crate::output::wasm_header;
use crate::toolchain::cache::Cache;
use crate::toolchain::clang::Clang;
use crate::toolchain::guest_headers;
use crate::toolchain::shell_words;
use crate::toolchain::wasi;

const TEMPLATE: &str = "app.c";

/// Writes everything that a module needs; an app.c that is there stays.
pub fn begin(options: &Guest) -> Result<()> {
    let sources = Sources::find(&options.source)?;
    let folder = options.output_path.as_deref().unwrap_or(&sources.folder);
    let Some(program) = sources.program()? else {
        return Err(format!("{}: there is no .bpf.c file", options.source.display()).into());
    };
    let compiled = compile::compile(program, options.header.as_deref(), &options.flags)?;
    let mut outputs = headers(folder, &compiled.package, false)?;
    outputs.push(Output::new(folder.join(PACKAGE), compiled.package.to_json()));
    if !folder.join(TEMPLATE).exists() {
        outputs.push(Output::new(folder.join(TEMPLATE), guest_headers::TEMPLATE));
    }
    files::write_all(folder, &outputs, options.flags.verbose)?;
    guest_headers::write(folder)
}

/// Makes NAME.wasm of each NAME.c and NAME.cpp.
pub fn build(options: &BuildWasm) -> Result<()> {
    let guest = &options.guest;
    let sources = Sources::find(&guest.source)?;
    let folder = guest.output_path.as_deref().unwrap_or(&sources.folder);
    if sources.apps.is_empty() {
        let place = sources.folder.display();
        return Err(format!("{place}: there is no .c or .cpp file; ecc gen-wasm-skel writes one").into());
    }
    let flags = options.wasm_cflags.iter().map(|text| shell_words::split("--wasm-cflags", text));
    let flags = flags.collect::<Result<Vec<_>>>()?.concat();
    let clang = Clang::find(guest.flags.clang_bin.as_deref())?;
    wasi::check(&clang)?;
    let mut outputs = package(options, &sources, folder)?;
    files::write_all(folder, &outputs, guest.flags.verbose)?;
    outputs.clear();

    let cache = Cache::open()?;
    let kept = guest_headers::keep(&cache)?;
    for app in &sources.apps {
        let folders = [&sources.folder, folder, &kept];
        let module = wasi::compile(&clang, &cache, app, &folders, &flags, guest.flags.verbose);
        let module = module.inspect_err(|error| advise(error, app, &sources.folder))?;
        check(app, &module)?;
        let name = app.with_extension("wasm");
        outputs.push(Output::new(folder.join(name.file_name().unwrap_or_default()), module));
    }
    files::write_all(folder, &outputs, guest.flags.verbose)
}

/// What the library says of a module that it could not run, while nothing is written.
fn check(app: &Path, module: &[u8]) -> Result<()> {
    let opened = Vm::new(Options::default()).and_then(|vm| vm.open(module, Kind::Wasm as u32));
    opened.map(drop).map_err(|error| format!("{}: {error}", app.display()).into())
}

/// What sources of eunomia-bpf and of libbpf ask for, and what a guest has in its place.
const REPLACED: [(&str, &str); 4] = [
    ("argp.h", "argp is not in wasi-libc: use argparse, which eunomia-include/wasm-app.h brings"),
    ("bpf/libbpf.h", "libbpf is not there for guests: use eunomia-include/libbpf-wasm.h"),
    (
        "perf_buffer__",
        "libbpf's perf_buffer is not there for guests: use bpf_buffer of eunomia-include/libbpf-wasm.h",
    ),
    (
        "ring_buffer__",
        "libbpf's ring_buffer is not there for guests: use bpf_buffer of eunomia-include/libbpf-wasm.h",
    ),
];

/// Adds to what clang has said of a source what has to be changed in it.
fn advise(error: &Error, app: &Path, folder: &Path) {
    let Error::Diagnosed = error else { return };
    let text = fs::read(app).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    for (_, advice) in REPLACED.iter().filter(|(word, _)| text.contains(word)) {
        eprintln!("ecc: {}: {advice}", app.display());
    }
    if guest_headers::is_foreign(folder) {
        let headers = folder.join(guest_headers::FOLDER);
        eprintln!(
            "ecc: {}: these headers are not those of this ecc: renew them with ecc gen-wasm-skel",
            headers.display()
        );
    }
}

/// The files that the packages of the module, if it has any, become for the module's source to include.
fn package(options: &BuildWasm, sources: &Sources, folder: &Path) -> Result<Vec<Output>> {
    let guest = &options.guest;
    let program = if options.package.is_empty() { sources.program()? } else { None };
    if let Some(program) = program {
        let package = compile::compile(program, guest.header.as_deref(), &guest.flags)?.package;
        let mut files = renewed(sources, folder, &package, false)?;
        files.push(Output::new(folder.join(PACKAGE), package.to_json()));
        return Ok(files);
    }
    let beside = sources.folder.join(PACKAGE);
    let paths = match options.package.as_slice() {
        [] if beside.exists() => std::slice::from_ref(&beside),
        paths => paths,
    };
    let mut files: Vec<Output> = Vec::new();
    for path in paths {
        let bytes = files::read(path, MAX_DOCUMENT)?;
        let package = Package::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        for file in renewed(sources, folder, &package, paths.len() > 1)? {
            if files.iter().any(|other| other.path() == file.path()) {
                let (path, name) = (path.display(), event_header::name(&package));
                let text = format!("{path}: an earlier --package has an object of the same name, {name:?}");
                return Err(text.into());
            }
            files.push(file);
        }
    }
    Ok(files)
}

/// The headers of a package where a module's source finds them: a header beside the source is found first, so that is the
/// one to renew.
fn renewed(
    sources: &Sources,
    folder: &Path,
    package: &Package,
    is_one_of_several: bool,
) -> Result<Vec<Output>> {
    let is_beside = sources.folder.join(header_name(package, is_one_of_several)).exists();
    headers(if is_beside { &sources.folder } else { folder }, package, is_one_of_several)
}

fn header_name(package: &Package, is_one_of_several: bool) -> String {
    match is_one_of_several {
        true => format!("{}.{}", event_header::name(package), wasm_header::NAME),
        false => wasm_header::NAME.into(),
    }
}

/// The headers that a package becomes.
fn headers(folder: &Path, package: &Package, is_one_of_several: bool) -> Result<Vec<Output>> {
    let text = wasm_header::text(&event_header::name(package), &package.to_json());
    let mut headers = vec![Output::new(folder.join(header_name(package, is_one_of_several)), text)];
    let events = event_header::make(package, event_header::FOR_GUESTS)?;
    headers.extend(events.map(|(name, text)| Output::new(folder.join(name), text)));
    Ok(headers)
}

/// The sources of a module.
struct Sources {
    folder: PathBuf,
    programs: Vec<PathBuf>,
    /// The module itself: C and C++ files, by name.
    apps: Vec<PathBuf>,
}

impl Sources {
    /// Looks for them in the folder `source`, or around the one file `source`.
    fn find(source: &Path) -> Result<Sources> {
        let is_folder = fs::metadata(source).map_err(|error| Error::io(source.display(), &error))?.is_dir();
        let folder = if is_folder { source.into() } else { compile::source_folder(source) };
        let entries = fs::read_dir(&folder).map_err(|error| Error::io(folder.display(), &error))?;
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut programs: Vec<PathBuf> = files.iter().filter(|path| is_program(path)).cloned().collect();
        let mut apps: Vec<PathBuf> = files.into_iter().filter(|path| is_app(path)).collect();
        if !is_folder {
            *(if is_program(source) { &mut programs } else { &mut apps }) = vec![source.into()];
        }
        Ok(Sources { folder, programs, apps })
    }

    /// The BPF program, if there is one.
    fn program(&self) -> Result<Option<&Path>> {
        match self.programs.as_slice() {
            [] => Ok(None),
            [program] => Ok(Some(program)),
            several => {
                let place = self.folder.display();
                Err(format!("{place}: there are {} .bpf.c files; name one of them", several.len()).into())
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
