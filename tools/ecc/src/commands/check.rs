//! `ecc check`: loads a source or a package into the running kernel's verifier, without attaching anything.

use std::io::Write as _;
use std::path::Path;

use eunomia::package::MAX_DOCUMENT;
use eunomia::{Kind, Options, Vm, vm};

use crate::compile;
use crate::error::{Error, Result};
use crate::files;
use crate::files::temporary::Temporary;
use crate::options::Check;

/// The file system in which maps can be pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// Reports for each program whether the running kernel accepts it. Fails if the package cannot be loaded.
pub fn check(options: &Check) -> Result<()> {
    let bytes = bytes(options)?;
    // A temporary directory for maps that are to be pinned.
    let pins = Temporary::claim(Path::new(BPFFS).join(format!("ecc-{}", std::process::id())));
    let open = || {
        let options = Options::new().pin_path(pins.path()).skip_missing_hooks(true);
        let vm = Vm::new(options)?;
        vm.open(&bytes, Kind::Json)?;
        Ok(vm)
    };
    let failed =
        |refusal: &eunomia::Error| -> Error { format!("{}: {}", options.source.display(), refusal).into() };
    let checked = vm::check(&open, &mut |_, _| Ok(())).map_err(|refusal| failed(&refusal))?;
    let report: String = checked.verdicts.iter().map(vm::Verdict::to_string).collect();
    std::io::stdout().write_all(report.as_bytes()).map_err(|error| Error::io("stdout", &error))?;
    match &checked.refused {
        None => Ok(()),
        Some(_) if checked.is_explained() => Err(Error::Diagnosed),
        Some(refusal) => Err(failed(refusal)),
    }
}

/// The package: read from the file, or compiled from the source.
fn bytes(options: &Check) -> Result<Vec<u8>> {
    let source = options.source.as_path();
    if source.extension().is_some_and(|ending| ending == "c") {
        let compiled = compile::compile(source, options.header.as_deref(), &options.flags)?;
        return Ok(compiled.package.to_json());
    }
    files::read(source, MAX_DOCUMENT)
}
