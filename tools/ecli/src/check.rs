//! `ecli check`: has this kernel verify the programs of a package, one by one, and attaches nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use eunomia::{Options, Status, Vm};
use serde_json::json;

use crate::archive::Unpacked;
use crate::error::{Code, Failure, Result};
use crate::options::Check;
use crate::source::{self, Kind, Request};
use crate::{Ended, capabilities, output};

/// Lines of the verifier's log that are shown: what it looked at last, and why it refused.
const LOG_LINES: usize = 20;

/// Says of each program whether this kernel takes it; `Code::Kernel` if one is refused that would be loaded.
pub fn run(options: &Check) -> Ended {
    let request = Request { prog: &options.prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request)?;
    let mut package =
        Package { pins: Pins::new(), btf: options.btf.clone(), bytes: Vec::new(), is_object: false };
    let unpacked;
    match program.kind {
        Kind::Json => package.bytes = program.bytes,
        Kind::Object => (package.bytes, package.is_object) = (program.bytes, true),
        Kind::Tar => {
            unpacked = Unpacked::new(&program.bytes, &program.name)?;
            package.bytes = unpacked.package()?;
            package.btf = package.btf.or_else(|| unpacked.btf());
        }
        Kind::Wasm => {
            let text =
                format!("{}: a WASM module decides itself what it loads; see ecli inspect", program.name);
            return Err(Failure::new(Code::Usage, text));
        }
    }
    let programs = package.programs().map_err(|e| Failure::from(e).at(&program.name))?;
    // Maps come first: where these fail, no program is at fault.
    package.load(|_| false).map_err(|e| capabilities::explain(e).at(&program.name))?;
    let (mut text, mut is_refused) = (String::new(), false);
    for (name, autoload) in programs {
        let result = package.load(|other| other == name);
        is_refused |= autoload && result.is_err();
        text +=
            &if options.json { as_json(&name, autoload, &result) } else { as_text(&name, autoload, &result) };
    }
    output::print(text)?;
    Ok(if is_refused { Code::Kernel.into() } else { ExitCode::SUCCESS })
}

type Loaded = std::result::Result<(), eunomia::Error>;

/// A package that is loaded in parts, each time anew: a vm goes one way.
struct Package {
    bytes: Vec<u8>,
    is_object: bool,
    btf: Option<PathBuf>,
    pins: Pins,
}

impl Package {
    fn open(&self) -> Result<Vm, eunomia::Error> {
        let (btf_path, pin_path) = (self.btf.clone(), Some(self.pins.folder.clone()));
        let vm = Vm::new(Options { btf_path, pin_path, ..Options::default() })?;
        match self.is_object {
            true => vm.open_object(&self.bytes, None)?,
            false => vm.open(&self.bytes, eunomia::Kind::Json as u32)?,
        };
        Ok(vm)
    }

    /// The programs, and whether they are loaded unless told otherwise.
    fn programs(&self) -> Result<Vec<(String, bool)>, eunomia::Error> {
        let vm = self.open()?;
        let program =
            |index| vm.prog_at(index).map(|prog| (prog.name.to_string_lossy().into_owned(), prog.autoload));
        (0..vm.prog_count()?).map(program).collect()
    }

    /// Loads the maps and the programs that `wanted` names, and lets go of them.
    fn load(&self, wanted: impl Fn(&str) -> bool) -> Loaded {
        let vm = self.open()?;
        for index in 0..vm.prog_count()? {
            let name = vm.prog_at(index)?.name;
            let name = name.to_string_lossy();
            vm.prog_set_autoload(&name, wanted(&name))?;
        }
        vm.load()
    }
}

/// Where maps that are to be pinned are pinned meanwhile, so that none is left.
struct Pins {
    folder: PathBuf,
}

impl Pins {
    fn new() -> Pins {
        Pins { folder: PathBuf::from(format!("/sys/fs/bpf/ecli-{}", std::process::id())) }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for pin in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(pin.path());
        }
        let _ = std::fs::remove_dir(&self.folder);
    }
}

fn as_json(name: &str, autoload: bool, result: &Loaded) -> String {
    let error = result.as_ref().err();
    let value = json!({
        "program": name, "autoload": autoload, "ok": error.is_none(),
        "error": error.map(|e| &e.message), "log": error.map(|e| &e.detail),
    });
    format!("{value}\n")
}

fn as_text(name: &str, autoload: bool, result: &Loaded) -> String {
    let only = if autoload { "" } else { " (loaded only if asked for)" };
    let Err(error) = result else { return format!("{name}: ok{only}\n") };
    // The message names the program already.
    let mut text = format!("{name}: refused{only}: {}\n", error.message);
    if error.status == Status::Verifier {
        let lines: Vec<&str> = error.detail.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            text += &format!("    {line}\n");
        }
    }
    text
}
