//! `ecli check`: loads the programs of a package into this kernel's verifier one by one, without attaching them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use eunomia::vm::{self, Outcome, Verdict};
use eunomia::{Hint, Options, Vm};
use eunomia_effects::{Effects, Findings, PinnedMaps};
use serde_json::json;

use crate::error::{self, Failure, Result};
use crate::kind::Kind;
use crate::options::Check;
use crate::source::{self, Request};
use crate::{attach, capabilities, cgroup, output};

/// Prints whether this kernel accepts each program. The exit code is that of a run.
pub fn run(options: &Check) -> Result<ExitCode> {
    let request = Request { prog: &options.prog, kind: options.prog_type, origin: &options.origin };
    let program = source::open(&request)?;
    let mut package = Package {
        pins: Pins::new(),
        btf: options.btf.clone(),
        bytes: Vec::new(),
        is_object: false,
        max_kernel_memory: 0,
    };
    package.max_kernel_memory = cgroup::enter(options.limits.max_kernel_memory);
    match program.kind {
        Kind::Json => package.bytes = program.bytes,
        Kind::Object => (package.bytes, package.is_object) = (program.bytes, true),
        Kind::Tar => package.bytes = program.packed()?,
        Kind::Wasm => {
            let text =
                format!("{}: a WASM module loads its programs at run time; use ecli inspect", program.name);
            return Err(Failure::new(error::Code::Usage, text));
        }
    }
    let mut effects = Effects::default();
    attach::apply(&package.open().map_err(|e| Failure::from(e).at(&program.name))?, &options.attach)?;
    let open = || {
        let vm = package.open()?;
        // The same options were applied to another vm without an error.
        let _ = attach::apply(&vm, &options.attach);
        Ok(vm)
    };
    let judged = vm::check(&open, &mut |vm, index| add_effects(&mut effects, vm, index));
    let mut checked = judged.map_err(|e| capabilities::explain(e).at(&program.name))?;
    for verdict in &mut checked.verdicts {
        name_options(&mut verdict.outcome);
    }
    let line = |verdict: &Verdict| {
        let effects = effects.by_program.get(&verdict.name);
        if options.json { as_json(verdict, effects) } else { as_text(verdict, effects) }
    };
    output::print(checked.verdicts.iter().map(line).collect::<String>())?;
    let is_told = checked.is_explained();
    match checked.refused.map(|e| capabilities::explain(e).at(&program.name)) {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) if is_told => Ok(failure.code.into()),
        Some(failure) => Err(failure),
    }
}

/// Rewrites the hint of an outcome in terms of ecli's options.
fn name_options(outcome: &mut Outcome) {
    if let Outcome::Skipped(error) | Outcome::Unattachable(error) | Outcome::Rejected(error) = outcome {
        if let Some(hint) = error::hint(error) {
            *error = error.clone().with_hint(Hint::Text(hint));
        }
    }
}

/// Finds what a program could do. Pinned maps have the paths of a run, not the temporary ones.
fn add_effects(effects: &mut Effects, vm: &Vm, index: usize) -> Result<(), eunomia::Error> {
    let pins = PinnedMaps::new(vm)?;
    let path =
        |map: &str| Some(format!("/sys/fs/bpf/{}", Path::new(&pins.path(map)?).file_name()?.to_str()?));
    effects.add(vm, index, &path)
}

/// A package, which is opened again for each part that is loaded.
struct Package {
    bytes: Vec<u8>,
    is_object: bool,
    btf: Option<PathBuf>,
    max_kernel_memory: u64,
    pins: Pins,
}

impl Package {
    fn open(&self) -> Result<Vm, eunomia::Error> {
        let mut options = Options::new()
            .pin_path(&self.pins.folder)
            .skip_missing_hooks(true)
            .max_kernel_memory(self.max_kernel_memory);
        if let Some(btf) = &self.btf {
            options = options.btf_path(btf);
        }
        let vm = Vm::new(options)?;
        match self.is_object {
            true => vm.open_object(&self.bytes, None)?,
            false => vm.open(&self.bytes, eunomia::Kind::Json)?,
        };
        Ok(vm)
    }
}

/// A temporary directory for pinned maps. Dropping it removes them.
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

fn as_text(verdict: &Verdict, effects: Option<&Findings>) -> String {
    let effects = effects.map(|it| it.effects.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    let effects = effects.filter(|effects| !effects.is_empty()).map(|effects| {
        // Names of maps and functions are not trusted.
        let plain = effects.replace(char::is_control, "?");
        format!("    could: {plain}\n")
    });
    format!("{verdict}{}", effects.unwrap_or_default())
}

fn as_json(verdict: &Verdict, effects: Option<&Findings>) -> String {
    let (mut skipped, mut missing, mut error) = (None, None, None);
    match &verdict.outcome {
        Outcome::Skipped(e) => skipped = Some(e.reason()),
        Outcome::Unattachable(e) => missing = Some(e.to_string()),
        Outcome::Rejected(e) => error = Some(e),
        _ => {}
    }
    let value = json!({
        "program": verdict.name, "autoload": verdict.autoload, "ok": error.is_none() && missing.is_none(),
        "skipped": skipped, "missing": missing, "effects": effects.map(|it| &it.effects),
        "error": error.map(|e| e.message()), "log": error.map(|e| e.detail()),
    });
    format!("{value}\n")
}
