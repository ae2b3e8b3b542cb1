//! A package that survives its process: it is pinned in a BPF file system, and another process takes it over.

use std::path::Path;

use super::replace::running;
use super::state::{Vm, system_error};
use crate::bpf::exported::FdRole;
use crate::error::{Error, Result, Status};

impl Vm {
    /// Pins the running package in the new directory `dir` of a BPF file system: links, maps, programs, and the dispatchers with
    /// the number that selects the running version. If this process is killed, the programs stay attached and write to the
    /// same maps, until another process calls [`Vm::recover`] or [`remove_pins`](super::remove_pins).
    ///
    /// The pins belong to the vm: they are removed when it is detached or dropped, when its package is replaced, and when it
    /// is pinned in another directory. To keep a package pinned over a replace, call [`Prepared::pin`](super::Prepared::pin).
    /// Any thread may call this method, also while another thread polls.
    ///
    /// # Errors
    ///
    /// [`Status::Unsupported`] if a program has a link that the kernel cannot pin, see [`Vm::unpinnable`]. [`Status::State`] if no
    /// package is attached or an old version is kept. [`Status::Inval`] if `dir` exists. [`Status::Perm`] if it is not in a
    /// BPF file system, if its name has a dot, or if this process may not write there. After a failure nothing is pinned.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// use eunomia::{Kind, Options, Vm, vm};
    ///
    /// let vm = Vm::new(Options::new().replaceable(true))?;
    /// vm.open_file("package.json", Kind::Json)?;
    /// match vm::running_pins("/sys/fs/bpf/tool")? {
    ///     Some(dir) => vm.recover(dir)?,
    ///     None => {
    ///         vm.attach()?;
    ///         vm.pin("/sys/fs/bpf/tool/1")?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pin(&self, dir: impl AsRef<Path>) -> Result<()> {
        self.check_claim()?;
        let mut locks = self.claim()?;
        running(&locks.inner)?;
        locks.inner.session_mut()?.pin(dir.as_ref(), None)
    }

    /// Returns the parts of the attached package that pins do not keep, with the reasons. [`Vm::pin`] refuses a package with a
    /// [link](FdRole::Link) among them: USDT probes, classic tc filters, and before Linux 5.15 kprobes, uprobes, tracepoints and
    /// perf events. A [map](FdRole::Map) with a perf buffer is pinned, but what its programs send before the package is recovered
    /// is lost.
    ///
    /// # Errors
    ///
    /// [`Status::State`] if no package is loaded.
    ///
    /// ```no_run
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.attach()?;
    /// for (part, reason) in vm.unpinnable()? {
    ///     eprintln!("{part:?}: {reason}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn unpinnable(&self) -> Result<Vec<(FdRole, &'static str)>> {
        Ok(self.inner()?.loaded()?.unpinnable())
    }

    /// Takes over the version that a process which has ended has pinned in `dir`, instead of loading and attaching this package.
    /// Nothing is loaded, and no event is missed: ring buffers and maps have what the programs have written in the meantime.
    /// Open the package before, and set what the host had set (arguments, variables, targets), so that the next replace
    /// carries it over. [`running_pins`](super::running_pins) finds the directory.
    ///
    /// From then on the vm works as if it had loaded the package, and owns the pins. There are three exceptions. After a detach,
    /// the package cannot be attached again. Its programs cannot be run for a test. Variables have the values of the running
    /// programs, and constants cannot be set.
    ///
    /// # Errors
    ///
    /// [`Status::State`] if no package is open, if it is loaded, or if another version runs instead of the pinned one.
    /// [`Status::Inval`] if the pins are those of another package. [`Status::NotFound`] and [`Status::Perm`] if they cannot be opened.
    /// After a failure the package is open as before, and the pinned version is not affected.
    ///
    /// See [`Vm::pin`] for an example.
    pub fn recover(&self, dir: impl AsRef<Path>) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        let session = inner.session_mut()?;
        if session.is_loaded() {
            return Err(Error::new(Status::State, "the package is already loaded"));
        }
        let recovered = session.recover(dir.as_ref(), &mut |session, sources| {
            self.watch(session, sources, &mut delivery).map_err(|e| system_error("epoll", e))
        });
        self.shared.counters.watch_also(None, session.prog_fds());
        recovered.map_err(|e| self.unload(&mut inner, &mut delivery, e))?;
        inner.keep_types();
        Ok(())
    }
}
