//! `vmlinux.h`: the running kernel's types, or those of a given file, as C.
//!
//! Made once per kernel: the header is kept under the digest of the BTF it comes from.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files;
use crate::object::libbpf;
use crate::toolchain::cache::Cache;
use crate::toolchain::removed_members;

/// Goes into the name of what is kept: counts up with what is made of the same BTF.
const FORM: u32 = 3;
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Largest file with types that is read, in bytes: a vmlinux with all its debug information is below that.
const MAX_FILE: usize = 2 << 30;

/// Where the types come from.
pub struct Source {
    path: PathBuf,
    content: Vec<u8>,
}

impl Source {
    /// `given`, else the running kernel; `None` if that tells nothing of its types.
    pub fn open(given: Option<&Path>) -> Result<Option<Source>> {
        let path = given.unwrap_or(Path::new(KERNEL_BTF));
        match files::read(path, MAX_FILE) {
            Ok(content) => {
                let source = Source { path: path.into(), content };
                let is_text = !source.content.is_empty() && !source.content.contains(&0);
                if source.is_btf() || is_text {
                    return Ok(Some(source));
                }
                Err(format!("{}: neither BTF, nor a vmlinux with BTF, nor a header", path.display()).into())
            }
            Err(error) if given.is_some() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The folder for this `vmlinux.h`; it may be there from an earlier run.
    pub fn folder(&self, cache: &Cache) -> PathBuf {
        let digest = Sha256::digest(&self.content);
        let name: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        cache.root().join("vmlinux").join(format!("{name}-{FORM}"))
    }

    /// Makes the header unless it is there.
    pub fn make(&self, folder: &Path) -> Result<()> {
        let header = folder.join("vmlinux.h");
        if header.exists() {
            return Ok(());
        }
        fs::create_dir_all(folder)
            .map_err(|error| Error::io(format_args!("cannot make {}", folder.display()), &error))?;
        if self.is_btf() {
            let libbpf::Declarations { types, kfuncs } = libbpf::declarations(&self.path)?;
            files::write(&header, wrap(&removed_members::add(types), &kfuncs).as_bytes())
        } else {
            files::write(&header, &self.content)
        }
    }

    /// Raw BTF or an ELF with a .BTF section; else the file is a header already.
    fn is_btf(&self) -> bool {
        let magic = 0xeb9fu16.to_ne_bytes();
        self.content.starts_with(&magic) || self.content.starts_with(b"\x7fELF")
    }
}

/// The macro that leaves the kfuncs out, as in the headers that bpftool makes.
pub const NO_KFUNCS: &str = "BPF_NO_KFUNC_PROTOTYPES";

/// Guards and attributes as programs expect them of a `vmlinux.h`.
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
