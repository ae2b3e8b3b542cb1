//! WASM modules: the folder that one begins with, and the compilation.

use std::fs;
use std::path::{Path, PathBuf};

use eunomia::package::{MAX_DOCUMENT, Package};

use crate::cache::Cache;
use crate::clang::Clang;
use crate::compile::{self, PACKAGE};
use crate::error::{Error, Result};
use crate::file::Output;
use crate::options::{BuildWasm, Guest};
use crate::{event_header, file, flag, package_header, sdk, wasi};

const TEMPLATE: &str = "app.c";

/// Writes everything that a module needs; an app.c that is there stays.
pub fn begin(options: &Guest) -> Result<()> {
    let sources = Sources::find(&options.source)?;
    let folder = options.output_path.as_deref().unwrap_or(&sources.folder);
    let Some(program) = sources.program()? else {
        return Err(format!("{}: there is no .bpf.c file", options.source.display()).into());
    };
    let compiled = compile::compile(program, options.header.as_deref(), &options.flags)?;
    let mut outputs = headers(folder, &compiled.package)?;
    outputs.push(Output::new(folder.join(PACKAGE), compiled.package.to_json()));
    if !folder.join(TEMPLATE).exists() {
        outputs.push(Output::new(folder.join(TEMPLATE), sdk::TEMPLATE));
    }
    file::write_all(folder, &outputs, options.flags.verbose)?;
    sdk::write(folder)
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
    let flags = options.wasm_cflags.iter().map(|text| flag::split("--wasm-cflags", text));
    let flags = flags.collect::<Result<Vec<_>>>()?.concat();
    let clang = Clang::find(guest.flags.clang_bin.as_deref())?;
    wasi::check(&clang)?;
    let mut outputs = package(options, &sources, folder)?;
    file::write_all(folder, &outputs, guest.flags.verbose)?;
    outputs.clear();

    let cache = Cache::open()?;
    let kept = sdk::keep(&cache)?;
    for app in &sources.apps {
        let module =
            wasi::compile(&clang, app, &[&sources.folder, folder, &kept], &flags, guest.flags.verbose)?;
        let name = app.with_extension("wasm");
        outputs.push(Output::new(folder.join(name.file_name().unwrap_or_default()), module));
    }
    file::write_all(folder, &outputs, guest.flags.verbose)
}

/// The files that the package of the module, if it has one, becomes for the module's source to include.
fn package(options: &BuildWasm, sources: &Sources, folder: &Path) -> Result<Vec<Output>> {
    let guest = &options.guest;
    let program = if options.package.is_some() { None } else { sources.program()? };
    let beside = sources.folder.join(PACKAGE);
    let (package, written) = if let Some(program) = program {
        let package = compile::compile(program, guest.header.as_deref(), &guest.flags)?.package;
        let written = Output::new(folder.join(PACKAGE), package.to_json());
        (package, Some(written))
    } else if let Some(path) = options.package.as_ref().or(beside.exists().then_some(&beside)) {
        let bytes = file::read(path, MAX_DOCUMENT)?;
        let package = Package::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        (package, None)
    } else {
        return Ok(Vec::new());
    };
    // A header beside the source is found first, so that is the one to renew.
    let place = if sources.folder.join(package_header::NAME).exists() { &sources.folder } else { folder };
    let mut files = headers(place, &package)?;
    files.extend(written);
    Ok(files)
}

/// The headers that a package becomes.
fn headers(folder: &Path, package: &Package) -> Result<Vec<Output>> {
    let mut headers =
        vec![Output::new(folder.join(package_header::NAME), package_header::text(&package.to_json()))];
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
