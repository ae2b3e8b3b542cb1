//! `--standalone`: links an executable that runs a package and contains the library.

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

/// The source of the executable.
const MAIN: &str = include_str!("../../include/standalone.c");
/// The header of the library's release that `MAIN` is written for. `MAIN` checks it against the version of the library.
const HEADER: &[u8] = include_bytes!("../../../../include/eunomia.h");
const LIBRARY: &str = "libeunomia.a";

/// Links the executable. `json` is the package.
pub fn link(package: &Package, json: &[u8], options: &Compile) -> Result<Vec<u8>> {
    let library = library(options.libeunomia.as_deref())?;
    let cache = Cache::open()?;
    let header = cache.write("standalone/eunomia.h", HEADER)?;
    // The compiler's temporary files go there too, so that they are removed if the run is interrupted.
    let dir = Temporary::directory()?;
    let (source, program) = (dir.path().join("standalone.c"), dir.path().join("standalone"));
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
    command.arg(&source).arg(&library).arg("-lm").env("TMPDIR", dir.path()).stdin(Stdio::null());
    if options.flags.verbose {
        eprintln!("ecc: {command:?}");
    }
    let install = "--standalone needs a C compiler: install gcc or select one with $CC";
    let output = temporary::output(&mut command)
        .map_err(|error| format!("{}: {}: {install}", words[0], Error::reason(&error)))?;
    // If stderr is closed, there is nobody to report to.
    let _ = std::io::stderr().write_all(&output.stderr);
    if !output.status.success() {
        return Err(Error::Diagnosed);
    }
    fs::read(&program).map_err(|error| Error::io(program.display(), &error))
}

/// Finds the library: the given file, else the one in the prefix where ecc is installed, else the one that pkg-config
/// reports.
fn library(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        // Checked here because the linker's message is less clear.
        fs::metadata(given).map_err(|error| Error::io(given.display(), &error))?;
        return Ok(given.into());
    }
    let ecc = std::env::current_exe().and_then(fs::canonicalize).unwrap_or_default();
    let in_prefix = ecc.ancestors().nth(2).map(|prefix| prefix.join("lib").join(LIBRARY));
    let mut pkg_config = Command::new("pkg-config");
    pkg_config.args(["--variable=libdir", "eunomia"]).stdin(Stdio::null());
    let output = temporary::output(&mut pkg_config).ok().filter(|output| output.status.success());
    let installed =
        output.map(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).join(LIBRARY));
    let found = [in_prefix, installed].into_iter().flatten().find(|library| library.is_file());
    let fix = "install libeunomia, or pass the file with --libeunomia";
    found.ok_or_else(|| format!("--standalone: no {LIBRARY} found: {fix}").into())
}

/// The options that select JSON output, unless the package has options with the same names.
fn json_options(package: &Package) -> String {
    let specs = args::specs(&package.meta);
    let letter = specs.iter().any(|spec| spec.short == Some('j'));
    let word = specs.iter().any(|spec| spec.long == "json" || spec.long == "j");
    let text = |is_taken: bool, option: &str| if is_taken { "0".into() } else { format!("{option:?}") };
    format!("#define JSON_LETTER {}\n#define JSON_WORD {}\n", text(letter, "-j"), text(word, "--json"))
}
