//! Creates BTF for kernels that have none: from each file of a BTFHub archive, the few types that an object needs.

mod archive;

use std::path::Path;

use eunomia::btf::{Btf, Index};
use eunomia::package::{Package, machine};

use crate::error::Result;
use crate::object::elf::Elf;

pub use archive::default_archive;

/// The BTF of a kernel, reduced to the types that an object needs.
pub struct KernelBtf {
    /// The distribution, its version and the machine, like the directories of BTFHub: `ubuntu/20.04/x86_64`.
    pub place: String,
    /// The release of the kernel, as uname(1) prints it.
    pub release: String,
    pub btf: Vec<u8>,
}

/// Creates the BTF for each kernel of `arch` in `archive`; none for an object that needs no types of the kernel.
pub fn kernels(package: &Package, archive: &Path, arch: &str) -> Result<Vec<KernelBtf>> {
    let elf = Elf::parse(&package.object)?;
    let malformed = |error: eunomia::Error| format!("clang wrote malformed BTF: {error}");
    let local = Btf::parse(elf.section(".BTF")).map_err(malformed)?;
    let relocations = match elf.section(".BTF.ext") {
        [] => Vec::new(),
        section => local.relocations(section).map_err(malformed)?,
    };
    let files = archive::files(archive, machine::name(arch))?;
    if relocations.is_empty() {
        eprintln!("ecc: warning: --btfgen: no BTF added: the program needs no types of the kernel");
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

/// Paths and content of a BTFHub archive. Machines have the names that uname(1) prints, because loaders look there.
pub fn tree(kernels: &[KernelBtf]) -> impl Iterator<Item = (String, &[u8])> {
    kernels.iter().map(|kernel| {
        let place = match kernel.place.strip_suffix("/arm64") {
            Some(place) => format!("{place}/aarch64"),
            None => kernel.place.clone(),
        };
        (format!("btfhub-archive/{place}/{}.btf", kernel.release), kernel.btf.as_slice())
    })
}
