//! `--standalone`: one executable that runs a package, with the library inside.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use eunomia::package::{Package, args};

use crate::error::{Error, Result};
use crate::files::temporary::{self, Temporary};
use crate::options::Compile;
use crate::output::event_header;
use crate::output::wasm_header;
use crate::toolchain::cache::Cache;
use crate::toolchain::shell_words;

/// What the executable does around the package.
const MAIN: &str = include_str!("../../include/standalone.c");
/// The library's header, of the release that `MAIN` is written for; a library of another one is told apart by it.
const HEADER: &[u8] = include_bytes!("../../../../include/eunomia.h");
const LIBRARY: &str = "libeunomia.a";

/// Links the executable; `json` is the package as it is written.
pub fn link(package: &Package, json: &[u8], options: &Compile) -> Result<Vec<u8>> {
    let library = library(options.libeunomia.as_deref())?;
    let cache = Cache::open()?;
    let header = cache.keep("standalone/eunomia.h", HEADER)?;
    // cc puts its own files there too, so that all of it goes with the run.
    let folder = Temporary::folder()?;
    let (source, program) = (folder.path().join("standalone.c"), folder.path().join("standalone"));
    let text = [
        json_options(package).into_bytes(),
        wasm_header::text(&event_header::name(package), json),
        MAIN.into(),
    ]
    .concat();
    fs::write(&source, text).map_err(|error| Error::io(source.display(), &error))?;

    let cc = std::env::var("CC").ok().filter(|cc| !cc.trim().is_empty()).unwrap_or("cc".into());
    let words = shell_words::split("CC", &cc)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["-O2", "-s", "-o"]).arg(&program).arg("-I").args(header.parent());
    command.arg(&source).arg(&library).arg("-lm").env("TMPDIR", folder.path()).stdin(Stdio::null());
    if options.flags.verbose {
        eprintln!("ecc: {command:?}");
    }
    let install = "--standalone needs a C compiler: install gcc or name one with $CC";
    let output = temporary::output(&mut command)
        .map_err(|error| format!("{}: {}: {install}", words[0], Error::reason(&error)))?;
    // Nobody is left to tell if stderr is gone.
    let _ = std::io::stderr().write_all(&output.stderr);
    if !output.status.success() {
        return Err(Error::Diagnosed);
    }
    fs::read(&program).map_err(|error| Error::io(program.display(), &error))
}

/// The library: what is given, else that of the prefix that ecc is installed in, else the one that pkg-config knows.
fn library(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        // Asked now, for the linker says less.
        fs::metadata(given).map_err(|error| Error::io(given.display(), &error))?;
        return Ok(given.into());
    }
    let ecc = std::env::current_exe().and_then(fs::canonicalize).unwrap_or_default();
    let beside = ecc.ancestors().nth(2).map(|prefix| prefix.join("lib").join(LIBRARY));
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.args(["--variable=libdir", "eunomia"]).stdin(Stdio::null());
    let known = temporary::output(&mut pkg_config).ok().filter(|output| output.status.success());
    let known = known.map(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(LIBRARY));
    let found = [beside, known].into_iter().flatten().find(|library| library.is_file());
    let how = "install libeunomia, or name the file with --libeunomia";
    found.ok_or_else(|| format!("--standalone: no {LIBRARY} found: {how}").into())
}

/// The options for JSON, where the package has none of these names itself.
fn json_options(package: &Package) -> String {
    let specs = args::specs(&package.meta);
    let letter = specs.iter().any(|spec| spec.short == Some('j'));
    let word = specs.iter().any(|spec| spec.long == "json" || spec.long == "j");
    let text = |taken: bool, option: &str| if taken { "0".into() } else { format!("{option:?}") };
    format!("#define JSON_LETTER {}\n#define JSON_WORD {}\n", text(letter, "-j"), text(word, "--json"))
}
