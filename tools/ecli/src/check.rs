//! `ecli check`: has this kernel verify the programs of a package, one by one, and attaches nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use eunomia::vm::{self, Outcome, Verdict};
use eunomia::{Options, Vm};
use serde_json::json;

use crate::archive::Unpacked;
use crate::error::{Code, Failure, Result};
use crate::options::Check;
use crate::source::{self, Kind, Request};
use crate::{Ended, capabilities, output};

/// Says of each program whether this kernel takes it; `Code::Kernel` if the package cannot be loaded.
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
    let checked = vm::check(&|| package.open()).map_err(|e| capabilities::explain(e).at(&program.name))?;
    let line = |verdict| if options.json { as_json(verdict) } else { verdict.to_string() };
    output::print(checked.verdicts.iter().map(line).collect::<String>())?;
    match checked.refused {
        None => Ok(ExitCode::SUCCESS),
        Some(e) if checked.is_program_fine() => Err(capabilities::explain(e).at(&program.name)),
        Some(_) => Ok(Code::Kernel.into()),
    }
}

/// A package that is opened anew for each part that is loaded.
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

fn as_json(verdict: &Verdict) -> String {
    let (mut passed_over, mut error) = (None, None);
    match &verdict.outcome {
        Outcome::Taken => {}
        Outcome::PassedOver(why) => passed_over = Some(why),
        Outcome::Refused(e) => error = Some(e),
    }
    let value = json!({
        "program": verdict.name, "autoload": verdict.autoload, "ok": error.is_none(), "passed_over": passed_over,
        "missing": verdict.missing, "error": error.map(|e| &e.message), "log": error.map(|e| &e.detail),
    });
    format!("{value}\n")
}
