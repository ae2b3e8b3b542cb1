//! Runs clang on a source, with everything that it can include: headers, flags and a `vmlinux.h`.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::files;
use crate::options::Flags;
use crate::toolchain::bpf_headers::{self, Headers};
use crate::toolchain::cache::Cache;
use crate::toolchain::clang::{Clang, Search};
use crate::toolchain::machine::Machine;
use crate::toolchain::{shell_words, vmlinux};

/// The compiler, and the cache for its headers.
pub struct Tools {
    pub clang: Clang,
    pub cache: Cache,
}

/// The headers that one source can include on one machine.
struct Includes<'a> {
    headers: Headers,
    flags: Vec<String>,
    /// The directories between those of the user and those of the system.
    dirs: Vec<PathBuf>,
    vmlinux: VmlinuxHeader<'a>,
}

/// The `vmlinux.h` of a machine, which is created if the source includes it.
struct VmlinuxHeader<'a> {
    machine: &'a Machine,
    source: Option<vmlinux::Source>,
    /// The directory for it; set if there is a source.
    dir: Option<PathBuf>,
}

/// The files that `source` consists of, itself included.
pub fn dependencies(source: &Path, flags: &Flags) -> Result<Vec<PathBuf>> {
    let machines = flags.target.machines()?;
    let tools = Tools::find(flags)?;
    let mut all = Vec::new();
    for machine in &machines {
        all.extend(
            tools.with_search(source, flags, machine, |search| tools.clang.dependencies(source, search))?,
        );
    }
    Ok(all)
}

impl Tools {
    pub fn find(flags: &Flags) -> Result<Tools> {
        Ok(Tools { clang: Clang::find(flags.clang_bin.as_deref())?, cache: Cache::open()? })
    }

    /// Calls `run` with the search path of `source`. Creates `vmlinux.h` before if it is included and missing.
    pub fn with_search<T>(
        &self,
        source: &Path,
        flags: &Flags,
        machine: &Machine,
        run: impl FnOnce(&Search) -> Result<T>,
    ) -> Result<T> {
        let includes = Includes::new(source, flags, machine, &self.cache)?;
        let search = Search {
            defines: if flags.no_count_lost { &[] } else { &[bpf_headers::COUNT_LOST] },
            wrapper: &includes.headers.wrapper,
            flags: &includes.flags,
            dirs: includes.dirs.iter().map(PathBuf::as_path).collect(),
            fallback: &includes.headers.fallback,
            cache: self.cache.root(),
            arch: machine.libbpf_name(),
        };
        let vmlinux = &includes.vmlinux;
        if !vmlinux.exists() && self.clang.misses(source, "vmlinux.h", &search)? {
            vmlinux.create()?;
        }
        run(&search)
    }
}

impl<'a> Includes<'a> {
    fn new(source: &Path, flags: &Flags, machine: &'a Machine, cache: &Cache) -> Result<Includes<'a>> {
        let headers = Headers::unpack(cache)?;
        let vmlinux = VmlinuxHeader::new(machine, cache)?;
        let flags = shell_words::split_all("--additional-cflags", &flags.additional_cflags)?;
        // The source directory comes first: a vmlinux.h in it is the one that the program expects. Collections with a
        // header for each architecture keep them in directories that have libbpf's names of the architectures.
        let mut dirs = vec![files::directory_of(source).to_owned()];
        let arch_dir = dirs[0].join(machine.libbpf_name());
        if machine.vmlinux.is_none() && arch_dir.join("vmlinux.h").exists() {
            dirs.push(arch_dir);
        }
        dirs.push(headers.libbpf.clone());
        dirs.extend(vmlinux.dir.clone());
        Ok(Includes { headers, flags, dirs, vmlinux })
    }
}

impl<'a> VmlinuxHeader<'a> {
    fn new(machine: &'a Machine, cache: &Cache) -> Result<VmlinuxHeader<'a>> {
        let given = machine.vmlinux.as_deref();
        let source =
            if given.is_none() && machine.is_foreign() { None } else { vmlinux::Source::open(given)? };
        let dir = source.as_ref().map(|source| source.dir(cache));
        Ok(VmlinuxHeader { machine, source, dir })
    }

    fn exists(&self) -> bool {
        self.dir.as_ref().is_some_and(|dir| dir.join("vmlinux.h").exists())
    }

    fn create(&self) -> Result<()> {
        if let (Some(source), Some(dir)) = (&self.source, &self.dir) {
            return source.create(dir);
        }
        if !self.machine.is_foreign() {
            return Err(
                "no vmlinux.h: the running kernel has no BTF; name a header or BTF with --vmlinux".into()
            );
        }
        let name = self.machine.name();
        let fix = format!("name a header, BTF or a vmlinux of such a kernel with --vmlinux {name}=FILE");
        Err(format!("no vmlinux.h for {name}: the running kernel is for another machine; {fix}").into())
    }
}
