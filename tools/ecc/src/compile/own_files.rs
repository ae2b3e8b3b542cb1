//! Distinguishes the files that belong to the program from those of the system, of libbpf and of the kernel.

use std::path::{Path, PathBuf};

use crate::compile::clang::Tools;
use crate::toolchain::{bpf_headers, clang};

/// The files that belong to the program: all files except those in system directories, those in the cache,
/// and libbpf's headers.
pub struct OwnFiles {
    foreign_dirs: Vec<PathBuf>,
}

impl OwnFiles {
    pub fn new(tools: &Tools) -> OwnFiles {
        let dirs = tools.clang.system_dirs().iter().map(PathBuf::as_path);
        let dirs = dirs.chain([tools.cache.root(), Path::new(clang::CACHE_NAME)]);
        OwnFiles { foreign_dirs: dirs.map(|path| path.canonicalize().unwrap_or(path.into())).collect() }
    }

    pub fn contains(&self, file: &Path) -> bool {
        // Collections of headers keep several versions, such as vmlinux_608.h, and the usual name is a link to one of them.
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        let is_vmlinux = name.starts_with(b"vmlinux") && name.ends_with(b".h");
        let is_foreign = || self.foreign_dirs.iter().any(|dir| file.starts_with(dir));
        !is_vmlinux && !bpf_headers::is_libbpf(file) && !is_foreign()
    }
}
