//! Reports what a start or a replace would do: loads the programs, so that the kernel verifies them, and attaches nothing.

use std::path::{Path, PathBuf};

use eunomia::vm::{self, CheckReport, LoadedCode, Outcome, ReplaceOptions, Verdict};
use eunomia::{Error, Kind, Options, Vm};
use eunomia_effects::{Effects, Findings, PinnedMaps};
use serde_json::{Value, json};

use super::protocol::Failure;
use super::running::configure;

/// A plan as JSON. `running` is the vm whose package would be replaced.
pub fn plan(
    running: Option<&Vm>,
    package: &[u8],
    (args, variables): (&[String], &[(String, String)]),
    judge: &mut dyn FnMut(&LoadedCode) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let pins = Pins::new();
    let open = || {
        let vm = Vm::new(Options::new().pin_path(&pins.0).skip_missing_hooks(true))?;
        vm.open(package, Kind::Json)?;
        Ok::<_, Error>(vm)
    };
    let opened = open()?;
    configure(&opened, args, variables)?;
    let described: Value = serde_json::from_str(&opened.describe()?).unwrap_or_default();
    let mut effects = Effects::default();
    let open = || {
        let vm = open()?;
        // The same settings were applied to `opened` without an error.
        let _ = configure(&vm, args, variables);
        Ok(vm)
    };
    // The first vm has all programs, unless one of them cannot be loaded; then the package cannot run.
    let mut verdict = None;
    let report = vm::check(&open, &mut |vm, index| {
        if verdict.is_none() {
            verdict = vm.loaded_code().ok().map(|code| judge(&code));
        }
        let found = PinnedMaps::new(vm)?;
        // The path that a start would use, not the temporary one.
        let path =
            |map: &str| Some(format!("/sys/fs/bpf/{}", Path::new(&found.path(map)?).file_name()?.to_str()?));
        effects.add(vm, index, &path)
    })?;
    verdict.unwrap_or(Ok(()))?;
    let section = |name: &str| {
        let mut programs = described["programs"].as_array().into_iter().flatten();
        programs.find(|program| program["name"] == name).map(|program| program["section"].clone())
    };
    let one =
        |verdict: &Verdict| program(verdict, section(&verdict.name), effects.by_program.get(&verdict.name));
    let programs: Vec<Value> = report.verdicts.iter().map(one).collect();
    let replace = running.map(|vm| replace(vm, package));
    Ok(json!({
        "programs": programs, "maps": described["maps"], "kernel_memory": described["kernel_memory"],
        "refused": refused(&report), "replace": replace,
    })
    .to_string())
}

fn program(verdict: &Verdict, section: Option<Value>, found: Option<&Findings>) -> Value {
    let (is_fine, reason, log) = match &verdict.outcome {
        Outcome::Skipped(error) => (true, Some(error.reason().to_owned()), ""),
        Outcome::Unattachable(error) => (false, Some(error.message().to_owned()), ""),
        Outcome::Rejected(error) => (false, Some(error.message().to_owned()), error.detail()),
        _ => (true, None, ""),
    };
    json!({
        "name": verdict.name, "section": section, "autoload": verdict.autoload, "ok": is_fine, "reason": reason,
        "log": log, "effects": found.map(|found| &found.effects),
    })
}

/// Why the package cannot run.
fn refused(report: &CheckReport) -> Option<Value> {
    report.refused.as_ref().map(|error| failure(error.clone()))
}

fn failure(error: Error) -> Value {
    let Failure { message, detail, hint, .. } = error.into();
    json!({"message": message, "detail": detail, "hint": hint})
}

/// The report of a replace: prepares the new version and discards it.
fn replace(vm: &Vm, package: &[u8]) -> Value {
    match vm.prepare(package, ReplaceOptions::default()) {
        Ok(prepared) => serde_json::from_str(&prepared.report().to_json()).unwrap_or_default(),
        Err(error) => json!({"refused": failure(error)}),
    }
}

/// A directory for the maps that the package pins. Dropping it removes them.
struct Pins(PathBuf);

impl Pins {
    fn new() -> Pins {
        Pins(PathBuf::from(format!("/sys/fs/bpf/eunomia-plan-{}", std::process::id())))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        for pin in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = std::fs::remove_file(pin.path());
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}
