//! The loaded programs and maps, for hosts that inspect them before they are attached.

use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::phases::Prepared;
use super::state::Vm;
use crate::bpf::session::Session;
use crate::bpf::session::lookup::{ProgCode, ProgInfo};
use crate::error::{Error, Result, Status};

/// The programs of a loaded package, as the kernel received them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedCode {
    /// The loaded programs.
    pub programs: Vec<(ProgInfo, ProgCode)>,
    /// The maps that their instructions can refer to.
    pub maps: Vec<LoadedMap>,
    /// The kernel memory of the package with full maps, in bytes.
    pub kernel_memory: u64,
}

/// A map that has been created.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedMap {
    /// Its name.
    pub name: String,
    /// The number by which instructions refer to it.
    pub number: RawFd,
    /// The path at which it is pinned.
    pub pin_path: Option<PathBuf>,
}

impl Vm {
    /// Returns the loaded programs and maps. A host can inspect them after [`load`](Vm::load), before it calls
    /// [`attach`](Vm::attach).
    ///
    /// # Errors
    ///
    /// [`Status::State`] if nothing is loaded.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.load()?;
    /// for (prog, code) in vm.loaded_code()?.programs {
    ///     println!("{:?}: {} instructions", prog.name, code.instructions.len());
    /// }
    /// vm.attach()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn loaded_code(&self) -> Result<LoadedCode> {
        let inner = self.inner()?;
        let session = inner.session()?;
        if !session.is_loaded() {
            return Err(Error::new(Status::State, "nothing is loaded"));
        }
        Ok(code(session))
    }
}

impl Prepared<'_> {
    /// Returns the loaded programs and maps of this version. A host can inspect them before it calls
    /// [`flip`](Prepared::flip). `None` if the running version is the same.
    pub fn loaded_code(&self) -> Option<LoadedCode> {
        self.session().map(code)
    }
}

fn code(session: &Session) -> LoadedCode {
    let programs =
        (0..session.prog_count()).map(|index| (session.prog_info(index), session.prog_code(index)));
    let maps = session.maps().iter().enumerate().filter_map(|(index, map)| {
        let pin_path = session.pin_path(index).map(|path| OsStr::from_bytes(path.to_bytes()).into());
        Some(LoadedMap { name: map.label().into_owned(), number: session.map_number(index)?, pin_path })
    });
    LoadedCode {
        programs: programs.filter(|(info, _)| info.loaded).collect(),
        maps: maps.collect(),
        kernel_memory: session.kernel_memory(),
    }
}
