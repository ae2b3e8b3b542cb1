//! `ecc check`: has the kernel at hand verify the programs of a source or a package, and attaches nothing.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use eunomia::{Error as Refusal, Kind, Options, Status, Vm};

use crate::compile;
use crate::error::{Error, Result};
use crate::options::Check;
use crate::temporary::Temporary;

/// Where maps can be pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// Lines of the verifier's log that are shown: the instructions before the one that it refuses, and why.
const LOG_LINES: usize = 20;

/// Says of each program whether this kernel takes it; fails if the package cannot be loaded.
pub fn check(options: &Check) -> Result<()> {
    let pins = Temporary::claim(Path::new(BPFFS).join(format!("ecc-{}", std::process::id())));
    let package = Package { bytes: bytes(options)?, name: options.source.display().to_string(), pins };
    let whole = package.open().map_err(|refusal| package.error(&refusal))?;
    let programs = programs(&whole)?;
    let loaded = whole.load();
    if loaded.is_err() {
        // Where no program is at fault, this says so, once.
        package.load(|_| false).map_err(|refusal| package.error(&refusal))?;
    }
    drop(whole);

    let (mut report, mut refused) = (String::new(), false);
    for (name, autoload) in programs {
        let alone = if loaded.is_ok() && autoload { Ok(()) } else { package.load(|other| other == name) };
        refused |= autoload && alone.is_err();
        report += &verdict(&name, autoload, &alone);
    }
    std::io::stdout().write_all(report.as_bytes()).map_err(|error| Error::io("stdout", &error))?;
    match loaded {
        Ok(()) => Ok(()),
        Err(_) if refused => Err(Error::Diagnosed),
        // Each by itself is fine.
        Err(refusal) => Err(package.error(&refusal)),
    }
}

/// The package: the file, or what the source is compiled to.
fn bytes(options: &Check) -> Result<Vec<u8>> {
    let source = options.source.as_path();
    if source.extension().is_some_and(|ending| ending == "c") {
        let compiled = compile::compile(source, options.header.as_deref(), &options.flags)?;
        return Ok(compiled.package.to_json());
    }
    fs::read(source).map_err(|error| Error::io(source.display(), &error))
}

/// A package that is loaded in parts, each time anew: a vm goes one way.
struct Package {
    bytes: Vec<u8>,
    name: String,
    /// Where its maps are pinned meanwhile, if they are to be.
    pins: Temporary,
}

impl Package {
    fn open(&self) -> std::result::Result<Vm, Refusal> {
        let options = Options { pin_path: Some(self.pins.path().into()), ..Options::default() };
        let vm = Vm::new(options)?;
        vm.open(&self.bytes, Kind::Json as u32)?;
        Ok(vm)
    }

    /// Loads its maps and the programs that `wanted` names, and lets go of them.
    fn load(&self, wanted: impl Fn(&str) -> bool) -> std::result::Result<(), Refusal> {
        let vm = self.open()?;
        for index in 0..vm.prog_count()? {
            let name = vm.prog_at(index)?.name;
            let name = name.to_string_lossy();
            vm.prog_set_autoload(&name, wanted(&name))?;
        }
        vm.load()
    }

    fn error(&self, refusal: &Refusal) -> Error {
        format!("{}: {}", self.name, refusal.message).into()
    }
}

/// The name of each program, and whether it is loaded unless told otherwise.
fn programs(vm: &Vm) -> Result<Vec<(String, bool)>> {
    let count = vm.prog_count().map_err(|error| error.to_string())?;
    let programs = (0..count).map(|index| {
        let program = vm.prog_at(index).map_err(|error| error.to_string())?;
        Ok((program.name.to_string_lossy().into_owned(), program.autoload))
    });
    programs.collect()
}

/// The lines about one program.
fn verdict(name: &str, autoload: bool, loaded: &std::result::Result<(), Refusal>) -> String {
    let only = if autoload { "" } else { " (loaded only if asked for)" };
    let Err(refusal) = loaded else { return format!("{name}: ok{only}\n") };
    // The message names the program already.
    let mut text = format!("{name}: refused{only}: {}\n", refusal.message);
    if refusal.status == Status::Verifier {
        let lines: Vec<&str> = refusal.detail.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}
