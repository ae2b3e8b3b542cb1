//! Finds the types of the running kernel: in the kernel, in the package or in a file of the host.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::object_types::ObjectTypes;
use crate::btf::{Hook, Index};
use crate::error::{Error, Result, Status};
use crate::os::{self, KernelFile};
use crate::package::{Package, machine};

/// The file in which the kernel exposes its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Index of the running kernel's BTF.
static INDEX: Mutex<Index> = Mutex::new(Index::new());

/// Whether the running kernel exposes its BTF.
pub fn kernel_has_btf() -> bool {
    Path::new(KERNEL_BTF).exists()
}

/// The source of the running kernel's types.
#[derive(Clone, Default)]
pub enum KernelBtf {
    /// libbpf finds them.
    #[default]
    Usual,
    /// A file in memory: BTF of the package for a kernel that has none, or an excerpt of the kernel's BTF.
    Memory(Arc<File>),
    /// The package has BTF for other kernels only. The name is that of this kernel.
    Others(String),
}

impl KernelBtf {
    /// Looks in the package for the BTF of this kernel.
    fn of_package(package: &Package) -> Result<KernelBtf> {
        let ((release, machine), (id, version)) = (os::kernel(), distribution());
        let directory = format!("{id}/{version}/{}", machine::name(&machine));
        let Some(btf) = package.kernel_btf(&directory, &release)? else {
            return Ok(KernelBtf::Others(format!("{directory}/{release}")));
        };
        let failed = |e: os::Errno| Error::sys(Status::System, e.0, format_args!("BTF of the package: {e}"));
        os::memory_file(&btf).map(|file| KernelBtf::Memory(Arc::new(file))).map_err(failed)
    }

    /// The path that libbpf opens, if it needs one.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            KernelBtf::Memory(file) => Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into()),
            _ => None,
        }
    }
}

/// Finds the kernel's types and hooks for the object of a package. `btf_path` is the option of the host.
pub fn find(
    types: ObjectTypes,
    package: &Package,
    btf_path: Option<&Path>,
) -> Result<(KernelBtf, Vec<Hook>)> {
    if kernel_has_btf() && btf_path.is_none_or(Path::is_dir) {
        return Ok(in_kernel(types).unwrap_or_default());
    }
    let is_packaged = btf_path.is_none() && package.has_kernel_btf();
    let types = if is_packaged { KernelBtf::of_package(package)? } else { KernelBtf::Usual };
    Ok((types, Vec::new()))
}

/// Returns an excerpt of the kernel's BTF if it has everything that libbpf needs, and the hooks of an object. libbpf takes
/// several times as long with the whole BTF.
fn in_kernel(mut types: ObjectTypes) -> Option<(KernelBtf, Vec<Hook>)> {
    if types.relocations.is_empty() && types.hooks.is_empty() {
        return None;
    }
    let kernel = KernelFile::open(KERNEL_BTF).ok()?;
    // While another thread uses the index, this one works without it.
    let (mut shared, mut own) = (INDEX.try_lock(), Index::new());
    let index = shared.as_deref_mut().unwrap_or(&mut own);
    let excerpt = types.btf.excerpt(&types.relocations, &mut types.hooks, &kernel, index).ok()?;
    let is_sufficient = excerpt.is_sufficient && !types.relocations.is_empty();
    let found = if is_sufficient { os::memory_file(&excerpt.btf).ok() } else { None };
    Some((found.map_or(KernelBtf::Usual, |file| KernelBtf::Memory(Arc::new(file))), types.hooks))
}

/// Returns the file that libbpf uses for `btf_path`. A file is always used, a directory only if the kernel has no BTF.
pub fn given_btf(path: &Path) -> Result<Option<PathBuf>> {
    if !path.is_dir() {
        return if path.exists() { Ok(Some(path.into())) } else { Err(no_file(path)) };
    }
    if kernel_has_btf() {
        return Ok(None);
    }
    let (release, machine) = os::kernel();
    let (id, version) = distribution();
    let file = |machine: &str| path.join(format!("{id}/{version}/{machine}/{release}.btf"));
    // BTFHub uses other names for some machines.
    let (usual, btfhub) = (file(&machine), file(machine::name(&machine)));
    if usual.exists() {
        Ok(Some(usual))
    } else if btfhub.exists() {
        Ok(Some(btfhub))
    } else {
        Err(no_file(&usual))
    }
}

fn no_file(path: &Path) -> Error {
    let missing = Error::new(Status::NotFound, "does not exist");
    missing.about_file(&path.to_string_lossy()).at("btf_path")
}

/// Returns ID and VERSION_ID of os-release(5), the first two levels of a BTFHub archive.
fn distribution() -> (String, String) {
    let text = os::read_text("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    (value("ID"), value("VERSION_ID"))
}
