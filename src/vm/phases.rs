//! Replaces the running package with a new version while events flow, in one call or in phases: prepare, flip, commit or rollback.
//!
//! No lock is held while the new version is opened, loaded and attached to added hooks; another thread may poll. Both
//! locks are taken three times, each time for a moment: to read the settings of the running version, to compare, and to
//! switch. The switch is one store to the number that all dispatchers read, or the update of the only link. After the
//! grace period no program of the old version runs, and it is closed. Every failure comes before the switch and leaves
//! the old version as it was.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::kinds::json_package;
use super::replace::{Locks, ReplaceOptions, ReplaceTurn, Replaced, attached, running};
use super::state::Vm;
use super::version::Version;
use super::wait_set::Role;
use crate::bpf::exported::Exported;
use crate::bpf::session::Session;
use crate::bpf::session::migrate::describe_copied;
use crate::error::{Error, Result, Status};
use crate::os;

/// A version of a package that is loaded and does not run yet, see [`Vm::prepare`]. Dropping it unloads it and leaves
/// the running version as it is.
#[must_use]
pub struct Prepared<'a> {
    vm: &'a Vm,
    /// `None` if the running version is the same.
    new: Option<Version>,
    report: Replaced,
    options: ReplaceOptions,
    _turn: ReplaceTurn<'a>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
        vm: &'a Vm,
        new: Option<Version>,
        report: Replaced,
        options: ReplaceOptions,
        turn: ReplaceTurn<'a>,
    ) -> Prepared<'a> {
        Prepared { vm, new, report, options, _turn: turn }
    }

    /// The loaded version; `None` if the running version is the same.
    pub(super) fn session(&self) -> Option<&Session> {
        self.new.as_ref().map(|new| &new.session)
    }

    /// The result of the comparison: what happens to programs and maps, and whether the version equals the running one.
    pub fn report(&self) -> &Replaced {
        &self.report
    }

    /// Switches to this version, waits for the programs of the old one and closes it, unless
    /// [`keep_old`](ReplaceOptions::keep_old) is set. Events that the old version has sent are delivered by later polls.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`] in a callback.
    /// [`Status::State`] if the package has been detached, and if the running version is exported and this one is not.
    /// [`Status::System`] if the process is out of descriptors or memory, [`Status::Attach`] if the kernel refuses a program.
    /// After a failure the old version runs as before.
    pub fn flip(self) -> Result<Replaced> {
        let Prepared { vm, new, mut report, options, _turn } = self;
        let Some(mut new) = new else { return Ok(report) };
        vm.check_claim()?;
        let copied = new.session.copy_maps()?;
        let mut locks = vm.claim()?;
        running(&locks.inner)?;
        vm.flip(&mut locks, &mut new, &mut report)?;
        let mut report = vm.settle(locks, new, report, options)?;
        // The switch has succeeded. If the entries cannot be counted, only the report lacks the counts.
        report.migrated = describe_copied(&copied).unwrap_or_default();
        Ok(report)
    }

    /// Unloads this version. Dropping it does the same.
    pub fn abort(self) {}

    /// Copies the descriptors of this version, for the process that reads the events of the running one. That process
    /// adopts them with [`Vm::adopt`]. After that, call [`flip`](Prepared::flip).
    ///
    /// # Errors
    ///
    /// [`Status::State`] if the running version is not exported, or is the same. [`Status::System`] if the process is out of
    /// descriptors. [`Status::Busy`] in a callback.
    pub fn export(&mut self) -> Result<Exported> {
        self.vm.check_claim()?;
        if self.vm.claim()?.inner.readable().is_ok() {
            let text = "the running version is read in this process; export it first";
            return Err(Error::new(Status::State, text));
        }
        match &mut self.new {
            Some(Version { session, sources: Some(sources), .. }) => session.export(sources),
            _ => Err(Error::new(Status::State, "the prepared version is the running one")),
        }
    }
}

impl Prepared<'_> {
    /// Pins this version in the new directory `dir`, beside that of the running version. Then a process may end at any moment of
    /// the flip: one of the two versions runs, and [`running_pins`](super::running_pins) finds it. The pins of the old version are
    /// removed when it is closed, and those of this one if it is aborted. See [`Vm::pin`].
    ///
    /// # Errors
    ///
    /// Those of [`Vm::pin`]. [`Status::Unsupported`] also if the switch has several steps (programs on several interfaces or
    /// control groups, [`allow_gap`](ReplaceOptions::allow_gap), [`allow_overlap`](ReplaceOptions::allow_overlap)).
    /// [`Status::State`] also if the running version is the same.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// vm.pin("/sys/fs/bpf/tool/1")?;
    /// let mut prepared = vm.prepare(&std::fs::read("package.json")?, Default::default())?;
    /// prepared.pin("/sys/fs/bpf/tool/2")?;
    /// prepared.flip()?; // removes the first directory
    /// # Ok(())
    /// # }
    /// ```
    pub fn pin(&mut self, dir: impl AsRef<Path>) -> Result<()> {
        self.vm.check_claim()?;
        let locks = self.vm.claim()?;
        let old = running(&locks.inner)?;
        match &mut self.new {
            Some(Version { session, plan, .. }) => session.pin(dir.as_ref(), Some((old, plan))),
            None => Err(Error::new(Status::State, "the prepared version is the running one")),
        }
    }
}

impl Vm {
    /// Replaces the running package with the package `data`, while events flow.
    ///
    /// Exactly one of the two versions handles each event of the kernel. Events of the old version are delivered with
    /// the types of the old version. A map keeps its content if both versions define it alike. A failure changes
    /// nothing. Any thread may call this method, also while another thread polls.
    ///
    /// Variables, sizes and targets that the host has set before load are set again, by name. The command line of
    /// [`Vm::args_set`] is parsed again with the options of the new version: an option that it does not contain has
    /// that version's default.
    ///
    /// A WASM module is replaced by another one: its guest is ended, and [`Vm::wasm_run`] then runs the new guest, with
    /// the same arguments. No BPF program runs after the end of the old guest and before the start of the new one. Maps
    /// of packages that the old guest had open keep their content as above. The options have no effect.
    ///
    /// The package must be attached. In a vm with [`Options::replaceable`](crate::Options::replaceable) it may have any
    /// number of programs on kprobes, uprobes, tracepoints, raw tracepoints, perf events, BTF tracepoints, functions
    /// (fentry, fexit) and LSM hooks. In any vm it may be one program whose link the kernel can update: XDP, tcx, cgroup,
    /// sk_lookup, flow dissector.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`] in a callback and during another replace, [`Status::State`] if no package is attached,
    /// [`Status::Unsupported`] if a program of either version cannot be replaced, those of [`Vm::open`], [`Vm::load`] and
    /// [`Vm::attach`] for the new version.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let report = vm.replace(&std::fs::read("package.json")?, Default::default())?;
    /// println!("{}", report.to_json());
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace(&self, data: &[u8], options: ReplaceOptions) -> Result<Replaced> {
        if self.shared.has_module.load(SeqCst) {
            return self.replace_guest(data);
        }
        self.prepare(data, options)?.flip()
    }

    /// Does everything of a [`replace`](Vm::replace) that can fail or takes long: opens, compares and loads the new version, and
    /// attaches it to added hooks, where it does not run yet. [`Prepared::flip`] switches to the new version; dropping
    /// the result unloads it.
    ///
    /// Until then the running version keeps running. Another replace, commit or rollback returns [`Status::Busy`].
    /// Settings that the host changes after this call do not apply to the prepared version.
    ///
    /// # Errors
    ///
    /// Those of [`Vm::replace`]. [`Status::State`] while an old version is kept.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let prepared = vm.prepare(&std::fs::read("package.json")?, Default::default())?;
    /// // Tell others that everything is ready.
    /// let report = prepared.flip()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn prepare(&self, data: &[u8], options: ReplaceOptions) -> Result<Prepared<'_>> {
        let begin = os::monotonic_ns();
        let turn = self.take_turn()?;
        let package = json_package(data)?;
        let locks = self.claim()?;
        let mut report = Replaced::default();
        if running(&locks.inner)?.is_of(&package) {
            report.unchanged = true;
            return Ok(Prepared::new(self, None, report, options, turn));
        }
        let (config, mut types) = (locks.inner.config.clone(), locks.inner.types.clone());
        drop(locks);
        let mut session = Session::open(package, config, Arc::clone(&self.shared.log))?;
        report.maps = session.inherit(running(&self.claim()?.inner)?, options)?;
        let sources = Some(session.load_sharing(Some(&mut types))?);
        let plan;
        (plan, report.programs) = session.compare(running(&self.claim()?.inner)?, options)?;
        if options.keep_old && plan.is_parted() {
            let text = "the old version cannot be kept: some of its programs are detached, not switched";
            return Err(Error::new(Status::Unsupported, text));
        }
        session.attach_added(&plan)?;
        report.load_ns = os::monotonic_ns() - begin;
        Ok(Prepared::new(self, Some(Version { session, sources, types, plan }), report, options, turn))
    }

    /// Closes the old version that a replace with [`keep_old`](ReplaceOptions::keep_old) has kept, or that a reader had
    /// before [`adopt`](Vm::adopt). Events that it has sent are still delivered.
    ///
    /// # Errors
    ///
    /// [`Status::State`] if there is none, [`Status::Busy`] in a callback and during a replace.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let mut options = eunomia::vm::ReplaceOptions::default();
    /// options.keep_old = true;
    /// vm.replace(&std::fs::read("package.json")?, options)?;
    /// // ... the new version has proved itself
    /// vm.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn commit(&self) -> Result<()> {
        let _turn = self.take_turn()?;
        let mut locks = self.claim()?;
        let Locks { inner, delivery, .. } = &mut locks;
        let old = inner.kept.take().ok_or_else(none_kept)?;
        self.release(inner, delivery, &old);
        // Closing takes long, so the locks are released first.
        drop(locks);
        Ok(())
    }

    /// Returns to the kept version, without loading anything: the programs of the newer version stop, and it is closed. Maps that
    /// both use keep their content; other maps of the old version have the content that they had at the replace.
    ///
    /// The report has times and the number of events, but no programs and maps.
    ///
    /// # Errors
    ///
    /// [`Status::State`] if no version is kept or the package has been detached, [`Status::Busy`] in a callback and during a
    /// replace, [`Status::System`] and [`Status::Attach`] as for [`Prepared::flip`]. After a failure the newer version runs, and
    /// the old one is still kept.
    ///
    /// ```no_run
    /// # fn is_well() -> bool { true }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let vm = eunomia::Vm::new(eunomia::Options::new())?;
    /// let mut options = eunomia::vm::ReplaceOptions::default();
    /// options.keep_old = true;
    /// vm.replace(&std::fs::read("package.json")?, options)?;
    /// if is_well() {
    ///     vm.commit()?;
    /// } else {
    ///     vm.rollback()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn rollback(&self) -> Result<Replaced> {
        let _turn = self.take_turn()?;
        let mut locks = self.claim()?;
        attached(&locks.inner)?;
        let mut old = locks.inner.kept.take().ok_or_else(none_kept)?;
        let mut report = Replaced::default();
        old.plan.reverse();
        old.types = locks.inner.types.clone();
        self.move_kept(&mut locks, &mut old);
        if let Err(e) = self.flip(&mut locks, &mut old, &mut report) {
            old.plan.reverse();
            self.move_kept(&mut locks, &mut old);
            locks.inner.kept = Some(old);
            return Err(e);
        }
        self.settle(locks, old, report, ReplaceOptions::default())
    }

    /// Moves the sources of the kept version out of the retired versions, or back into them.
    fn move_kept(&self, locks: &mut Locks<'_>, old: &mut Version) {
        let delivery = &mut locks.delivery;
        delivery.swap_kept(&mut old.sources);
        // If a descriptor cannot be added, the next flip adds it.
        let _ = self.shared.wait_set().watch_sources(
            Role::Retired,
            &self.shared.epoll,
            &delivery.retired_sources(),
        );
    }

    /// Returns whether every event of older versions has been delivered and none can follow: none of their programs
    /// runs, and their buffers are empty. True without a replace. In a vm whose events another process reads, the
    /// result is true when that process has read them.
    ///
    /// # Errors
    ///
    /// [`Status::Busy`] in a callback.
    ///
    /// ```
    /// # fn main() -> eunomia::Result<()> {
    /// assert!(eunomia::Vm::new(eunomia::Options::new())?.drained()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn drained(&self) -> Result<bool> {
        self.check_claim()?;
        let mut locks = self.claim()?;
        self.drop_spent(&mut locks.delivery);
        Ok(locks.delivery.is_drained())
    }
}

fn none_kept() -> Error {
    Error::new(Status::State, "no old version is kept")
}
