//! A package in two processes: one loads it, the other one reads its events without any privilege.

use std::sync::Arc;

use super::kinds::json_package;
use super::lock::locked;
use super::options::Options;
use super::replace::Replaced;
use super::state::{Inner, Vm, system_error};
use super::version::Version;
use super::wait_set::Role;
use crate::bpf::exported::Exported;
use crate::bpf::session::Session;
use crate::bpf::session::replace::Plan;
use crate::error::{Error, Result, Status};

impl Vm {
    /// Copies the descriptors of the loaded package, for another process that reads its events with [`Vm::import`].
    /// This vm stops reading. It keeps the package loaded and attached until it is detached or dropped. It also keeps
    /// the buffers mapped, because programs can write to a perf buffer only as long as the process that opened it has
    /// it mapped.
    ///
    /// From then on poll, run, events, channel, read, `poll_batch`, `drain_to` and `queue_start` return [`Status::State`]. So
    /// does [`replace`](Vm::replace): the reader has to take part, see [`Prepared::export`](super::Prepared::export). All other
    /// calls work as before. A second export is for a second reader that continues when the first one has ended; only one
    /// may read at a time. Both processes count lost records of the kernel in their statistics.
    ///
    /// # Errors
    ///
    /// [`Status::State`] if no package is loaded, while the queue runs or holds events, while a record is kept for the next
    /// read, while a version that was replaced has events, and if the vm is in a group. [`Status::System`] if the process is
    /// out of descriptors. After a failure this vm reads as before.
    ///
    /// ```no_run
    /// # fn send(description: &str, fds: &[std::os::fd::BorrowedFd<'_>]) {}
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.attach()?;
    /// let exported = vm.export()?.for_reader();
    /// send(&exported.description(), &exported.fds()); // with SCM_RIGHTS
    /// # Ok(())
    /// # }
    /// ```
    pub fn export(&self) -> Result<Exported> {
        let (mut inner, mut delivery) = self.exclusive()?;
        inner.loaded()?.check_own()?;
        if locked(&self.shared.membership).as_ref().is_some_and(|membership| membership.is_alive()) {
            return Err(Error::new(Status::State, "the vm is in a group; remove it first"));
        }
        self.drop_spent(&mut delivery);
        if delivery.pending.is_some() || delivery.queue.is_some() || !delivery.retired.is_empty() {
            let text =
                "there are events that another reader would miss; stop the queue and deliver them first";
            return Err(Error::new(Status::State, text));
        }
        let Some(sources) = &mut delivery.sources else {
            return Err(Error::new(Status::Internal, "the sources are gone"));
        };
        let exported = inner.session_mut()?.export(sources)?;
        // Removing descriptors cannot fail.
        let _ = self.shared.wait_set().watch_sources(Role::Source, &self.shared.epoll, &[]);
        Ok(exported)
    }

    /// Creates a vm that reads the events of a package that another process has loaded: `data` is the package, `exported` are
    /// its descriptors. The vm needs no capability from Linux 6.0 on. On older kernels, map calls need `CAP_BPF` unless
    /// the sysctl `kernel.unprivileged_bpf_disabled` is 0.
    ///
    /// Every call that delivers events works, as do the queue, sources, maps, variables (to read), descriptions and statistics.
    /// Reading of ring buffers and perf buffers continues where the previous reader stopped. Calls that would change the package (load, attach,
    /// detach, replace, `var_set`, targets) return [`Status::State`]. Of `options`, those for log, polling and WASM apply.
    ///
    /// The vm closes the descriptors that it does not need. Dropping it detaches nothing.
    ///
    /// # Errors
    ///
    /// [`Status::Package`] if the package is malformed, [`Status::Inval`] if `exported` is of another package or lacks a
    /// buffer, [`Status::Perm`] if the kernel refuses.
    ///
    /// ```no_run
    /// use eunomia::vm::Exported;
    /// use eunomia::{Flow, Format, Options, Vm};
    ///
    /// # fn receive() -> (Vec<u8>, String, Vec<std::os::fd::OwnedFd>) { (Vec::new(), String::new(), Vec::new()) }
    /// # fn main() -> eunomia::Result<()> {
    /// let (package, description, fds) = receive();
    /// let vm = Vm::import(&package, Exported::from_parts(&description, fds)?, Options::new())?;
    /// vm.run(Format::Json, |event| {
    ///     println!("{}", String::from_utf8_lossy(event.data));
    ///     Flow::Continue
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn import(data: &[u8], exported: Exported, options: Options) -> Result<Vm> {
        let vm = Vm::new(options)?;
        vm.open_exported(data, exported)?;
        Ok(vm)
    }

    /// Makes this vm, which is empty, read the events of the package. See [`Vm::import`].
    pub(crate) fn open_exported(&self, data: &[u8], exported: Exported) -> Result<()> {
        let (mut inner, mut delivery) = self.exclusive()?;
        inner.check_empty()?;
        let package = json_package(data)?;
        let (config, mut types) = (inner.config.clone(), Vec::new());
        let log = Arc::clone(&self.shared.log);
        let (session, sources) = Session::import(package, config, log, exported, &mut types)?;
        self.watch(&session, sources, &mut delivery).map_err(|e| system_error("epoll", e))?;
        inner.session = Some(session);
        inner.keep_types();
        Ok(())
    }

    /// Makes this vm, which [`Vm::import`] has created, read the next version of its package: `data` is the package,
    /// `exported` are the descriptors of [`Prepared::export`](super::Prepared::export). The vm polls the buffers of
    /// both versions, and delivers the events of each with their own types.
    ///
    /// Then the loader calls [`flip`](super::Prepared::flip). When that has returned, [`commit`](Vm::commit) lets this vm close
    /// the old buffers as soon as they are empty. If the loader aborts the new version, or rolls back,
    /// [`rollback`](Vm::rollback) returns to the old one.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::import`]. [`Status::State`] if this vm was not imported or has an old version already, [`Status::Busy`] in a
    /// callback.
    ///
    /// ```no_run
    /// # fn receive() -> eunomia::Result<(Vec<u8>, eunomia::vm::Exported)> { std::process::exit(0) }
    /// # fn tell(_: &str) {}
    /// # fn wait_for(_: &str) {}
    /// # fn main() -> eunomia::Result<()> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let (package, exported) = receive()?;
    /// vm.adopt(&package, exported)?;
    /// tell("adopted");
    /// wait_for("flipped"); // while another thread polls
    /// vm.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn adopt(&self, data: &[u8], exported: Exported) -> Result<()> {
        let _turn = self.take_turn()?;
        let package = json_package(data)?;
        let locks = self.claim()?;
        check_imported(&locks.inner)?;
        let (config, mut types) = (locks.inner.config.clone(), locks.inner.types.clone());
        drop(locks);
        let log = Arc::clone(&self.shared.log);
        let (session, sources) = Session::import(package, config, log, exported, &mut types)?;
        let mut new = Version { session, sources: Some(sources), types, plan: Plan::default() };
        let mut locks = self.claim()?;
        check_imported(&locks.inner)?;
        self.flip(&mut locks, &mut new, &mut Replaced::default())?;
        locks.inner.kept = Some(new);
        Ok(())
    }
}

/// Checks that another process has loaded the package and that there is only one version.
fn check_imported(inner: &Inner) -> Result<()> {
    if inner.loaded()?.check_own().is_ok() {
        return Err(Error::new(Status::State, "the vm was not imported; replace its package instead"));
    }
    match inner.kept {
        Some(_) => Err(Error::new(Status::State, "an old version is kept; commit or roll back first")),
        None => Ok(()),
    }
}
