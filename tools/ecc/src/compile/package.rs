//! The last stage: builds the package from the analysed object and its metadata.

use std::path::{Component, Path, PathBuf};

use eunomia::package::Package;
use eunomia::{Options, Vm};
use serde_json::Value;

use crate::analysis::annotations::Annotations;
use crate::btfgen::{self, KernelBtf};
use crate::compile::{Compiled, Job, Program, warnings};
use crate::error::Result;
use crate::files;
use crate::object::line_info;
use crate::toolchain::machine::Machine;

impl Job<'_> {
    /// Builds the package, and checks that the library accepts it.
    pub fn emit(
        &self,
        machine: &Machine,
        program: &Program,
        annotations: &Annotations,
        meta: Value,
    ) -> Result<Compiled> {
        let object = self.stripped(program)?;
        let located =
            |error: eunomia::Error| annotations.locate(&meta, &error).unwrap_or_else(|| error.to_string());
        let mut package = Package::build(&object, meta.clone()).map_err(located)?;
        warnings::print(&[&warnings::renamed_options(&package.meta)]);
        if !machine.is_foreign() {
            try_values(&object, &meta).map_err(located)?;
        }
        if let Some(arch) = machine.arch {
            package.set_arch(arch);
        }
        let kernels = self.add_kernels(machine, &mut package)?;
        Ok(Compiled { name: self.name.clone(), package, meta, kernels })
    }

    /// The object without debug information. Its line information names the program's files relative to the source
    /// directory, so that the same source gives the same object wherever it is stored.
    fn stripped(&self, program: &Program) -> Result<Vec<u8>> {
        let dir = files::directory_of(self.source).canonicalize().unwrap_or_default();
        let short_name = |name: &str| {
            let file = Path::new(name).canonicalize().ok().filter(|file| self.own_files.contains(file))?;
            Some(relative(&dir, &file).display().to_string())
        };
        let line_info = program.elf.section(".BTF.ext");
        let (types, lines) = line_info::rename_files(&program.btf, line_info, &short_name)
            .ok_or("clang wrote malformed line information")?;
        program.elf.strip(types, Some(lines))
    }

    /// Adds the BTF of kernels that have none, if requested.
    fn add_kernels(&self, machine: &Machine, package: &mut Package) -> Result<Vec<KernelBtf>> {
        let Some(archive) = self.flags.target.archive() else { return Ok(Vec::new()) };
        let kernels = btfgen::kernels(package, &archive, machine.name())?;
        for kernel in &kernels {
            package.add_kernel_btf(&kernel.place, &kernel.release, &kernel.btf);
        }
        Ok(kernels)
    }
}

/// Lets the library set the values that the package gives to variables, as it does before each run.
fn try_values(object: &[u8], meta: &Value) -> eunomia::Result<()> {
    let vm = Vm::new(Options::new())?;
    vm.open_object(object, Some(&meta.to_string()))?;
    vm.args_set(&["ecc"]).map(drop)
}

/// The path to a file from a directory; both are absolute.
fn relative(dir: &Path, file: &Path) -> PathBuf {
    let shared = dir.components().zip(file.components()).take_while(|(one, other)| one == other).count();
    let up = dir.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(file.components().skip(shared)).collect()
}
