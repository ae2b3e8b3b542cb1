//! Creates `vmlinux.h`: the types of the running kernel, or of a given file, as C.
//!
//! The header is created once per kernel. Its directory in the cache is named after the digest of the BTF.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::files;
use crate::object::libbpf;
use crate::toolchain::cache::Cache;
use crate::toolchain::removed_members;

/// Part of the directory's name. Increase it whenever the same BTF gives a different header.
const VERSION: u32 = 3;
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Largest file with types that is read, in bytes. A vmlinux with all its debug information is smaller.
const MAX_FILE: usize = 2 << 30;

/// A file with the types of a kernel.
pub struct Source {
    path: PathBuf,
    content: Vec<u8>,
}

impl Source {
    /// Opens `given`, else the BTF of the running kernel. Returns `None` if that has no BTF.
    pub fn open(given: Option<&Path>) -> Result<Option<Source>> {
        let path = given.unwrap_or(Path::new(KERNEL_BTF));
        match files::read(path, MAX_FILE) {
            Ok(content) => {
                let source = Source { path: path.into(), content };
                let is_text = !source.content.is_empty() && !source.content.contains(&0);
                if source.is_btf() || is_text {
                    return Ok(Some(source));
                }
                Err(format!("{}: not BTF, a vmlinux with BTF or a header", path.display()).into())
            }
            Err(error) if given.is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The directory for this `vmlinux.h`. An earlier run may have created it.
    pub fn dir(&self, cache: &Cache) -> PathBuf {
        let digest = Sha256::digest(&self.content);
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        cache.root().join("vmlinux").join(format!("{name}-{VERSION}"))
    }

    /// Creates the header unless it exists.
    pub fn create(&self, dir: &Path) -> Result<()> {
        let header = dir.join("vmlinux.h");
        if header.exists() {
            return Ok(());
        }
        files::create_dir(dir)?;
        if self.is_btf() {
            let libbpf::Declarations { types, kfuncs } = libbpf::declarations(&self.path)?;
            files::write(&header, wrap(&removed_members::add(types), &kfuncs).as_bytes())
        } else {
            files::write(&header, &self.content)
        }
    }

    /// Whether the file is raw BTF or an ELF file. Otherwise it is a header.
    fn is_btf(&self) -> bool {
        let magic = 0xeb9fu16.to_ne_bytes();
        self.content.starts_with(&magic) || self.content.starts_with(b"\x7fELF")
    }
}

/// The macro that leaves out the kfuncs, as in the headers that bpftool creates.
pub const NO_KFUNCS: &str = "BPF_NO_KFUNC_PROTOTYPES";

/// Adds the include guard and the attributes that programs expect of a `vmlinux.h`.
fn wrap(types: &str, kfuncs: &str) -> String {
    format!(
        "#ifndef __VMLINUX_H__\n\
         #define __VMLINUX_H__\n\n\
         #ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n\
         #pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)\n\
         #endif\n\n\
         {types}\n\
         #ifndef {NO_KFUNCS}\n\
         {kfuncs}\
         #endif\n\n\
         #ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n\
         #pragma clang attribute pop\n\
         #endif\n\n\
         #endif\n"
    )
}
