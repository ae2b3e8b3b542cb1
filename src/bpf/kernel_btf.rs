//! Where the types of the running kernel are: in the kernel, in the package, in a file of the host.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::object_types::ObjectTypes;
use crate::btf::{Hook, Index};
use crate::error::{Error, Result, Status};
use crate::os::{self, KernelFile};
use crate::package::{Package, machine};

/// Where the kernel has its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Of the running kernel.
static INDEX: Mutex<Index> = Mutex::new(Index::new());

/// Whether the running kernel carries its BTF.
pub fn kernel_has_btf() -> bool {
    Path::new(KERNEL_BTF).exists()
}

/// Where the types of the kernel at hand are.
#[derive(Clone, Default)]
pub enum KernelBtf {
    /// Where libbpf looks for them by itself.
    #[default]
    Usual,
    /// In memory: of the package, for a kernel that has none, or as much of the kernel's as the object asks for.
    Memory(Arc<File>),
    /// The package has those of other kernels; here is what was looked for.
    Others(String),
}

impl KernelBtf {
    /// Finds those of a kernel without BTF in the package.
    fn of_package(package: &Package) -> Result<KernelBtf> {
        let ((release, machine), (id, version)) = (os::kernel(), distribution());
        let place = format!("{id}/{version}/{}", machine::name(&machine));
        let Some(btf) = package.kernel_btf(&place, &release)? else {
            return Ok(KernelBtf::Others(format!("{place}/{release}")));
        };
        let failed = |e: os::Errno| Error::sys(Status::System, e.0, format_args!("BTF of the package: {e}"));
        os::memory_file(&btf).map(|file| KernelBtf::Memory(Arc::new(file))).map_err(failed)
    }

    /// The path by which libbpf opens it.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            KernelBtf::Memory(file) => Some(format!("/proc/self/fd/{}", file.as_raw_fd()).into()),
            _ => None,
        }
    }
}

/// Finds the kernel's types and hooks for the object of a package; `btf_path` is the host's.
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

/// The types of the kernel that an object asks for, where libbpf finds all that it needs among them, and its hooks. It
/// would take several times as long with the whole.
fn in_kernel(mut types: ObjectTypes) -> Option<(KernelBtf, Vec<Hook>)> {
    if types.relocations.is_empty() && types.hooks.is_empty() {
        return None;
    }
    let kernel = KernelFile::open(KERNEL_BTF).ok()?;
    // If another thread is at it, that is no reason to wait.
    let (mut shared, mut own) = (INDEX.try_lock(), Index::new());
    let index = shared.as_deref_mut().unwrap_or(&mut own);
    let excerpt = types.btf.excerpt(&types.relocations, &mut types.hooks, &kernel, index).ok()?;
    let is_sufficient = excerpt.is_sufficient && !types.relocations.is_empty();
    let found = if is_sufficient { os::memory_file(&excerpt.btf).ok() } else { None };
    Some((found.map_or(KernelBtf::Usual, |file| KernelBtf::Memory(Arc::new(file))), types.hooks))
}

/// What to hand to libbpf for a BTF path: a file always, out of a folder only what the kernel lacks.
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
    // BTFHub has another name for some machines.
    let (own, hubs) = (file(&machine), file(machine::name(&machine)));
    if own.exists() {
        Ok(Some(own))
    } else if hubs.exists() {
        Ok(Some(hubs))
    } else {
        Err(no_file(&own))
    }
}

fn no_file(path: &Path) -> Error {
    let missing = Error::new(Status::NotFound, "does not exist");
    missing.about_file(&path.to_string_lossy()).at("btf_path")
}

/// ID and VERSION_ID of os-release(5), the first two levels of a BTFHub archive.
fn distribution() -> (String, String) {
    let text = os::read_text("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    (value("ID"), value("VERSION_ID"))
}
