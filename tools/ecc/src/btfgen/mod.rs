//! BTF for kernels that have none: of each in a BTFHub-style archive, the few types that an object asks for.

mod archive;

use std::path::Path;

use eunomia::btf::{Btf, Index};
use eunomia::package::{Package, machine};

use crate::error::Result;
use crate::object::elf::Elf;

pub use archive::default_folder;

/// The BTF of a kernel, as little of it as an object needs.
pub struct KernelBtf {
    /// The distribution, its version and the machine, as BTFHub's folders have it: `ubuntu/20.04/x86_64`.
    pub place: String,
    /// As uname(1) has it.
    pub release: String,
    /// The BTF itself.
    pub btf: Vec<u8>,
}

/// Makes it for each kernel of `arch` in `archive`. Nothing for an object that asks for nothing.
pub fn kernels(package: &Package, archive: &Path, arch: &str) -> Result<Vec<KernelBtf>> {
    let elf = Elf::parse(&package.object)?;
    let damaged = |error: eunomia::Error| format!("the BTF that clang wrote: {error}");
    let local = Btf::parse(elf.section(".BTF")).map_err(damaged)?;
    let relocations = match elf.section(".BTF.ext") {
        [] => Vec::new(),
        section => local.relocations(section).map_err(damaged)?,
    };
    let files = archive::files(archive, machine::name(arch))?;
    if relocations.is_empty() {
        eprintln!("ecc: warning: --btfgen: the program asks for no type of the kernel, so it needs no BTF");
        return Ok(Vec::new());
    }
    let mut kernels = Vec::new();
    for file in files {
        let excerpt = local.excerpt(&relocations, &mut [], &file.read()?, &mut Index::new());
        let btf = excerpt.map_err(|error| format!("{}: {error}", file.path.display()))?.btf;
        kernels.push(KernelBtf { place: file.place, release: file.release, btf });
    }
    Ok(kernels)
}

/// The tree of a BTFHub archive, with machines named as uname(1) has them, which is where loaders look.
pub fn tree(kernels: &[KernelBtf]) -> impl Iterator<Item = (String, &[u8])> {
    kernels.iter().map(|kernel| {
        let place = match kernel.place.strip_suffix("/arm64") {
            Some(place) => format!("{place}/aarch64"),
            None => kernel.place.clone(),
        };
        (format!("btfhub-archive/{place}/{}.btf", kernel.release), kernel.btf.as_slice())
    })
}
