//! Replaces the running package by a new version while events flow.
//!
//! No lock is held while the new version is opened, loaded and attached to added hooks; another thread may poll. Both
//! locks are taken for a moment each: to read the settings of the running version, to compare, and to switch. The
//! switch is one store to the number that all dispatchers read, or the update of the only link. After the grace period
//! no program of the old version runs, and it is closed. Every failure comes before the switch and leaves the old
//! version as it was.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, MutexGuard};

use super::delivery::Delivery;
use super::interrupt::{Claimed, Held};
use super::lock::{locked, poisoned, try_locked};
use super::queue::Queue;
use super::state::{Inner, Vm, system_error};
use super::wait_set::{CLAIM, Role};
use crate::bpf::session::Session;
use crate::bpf::session::replace::Plan;
use crate::bpf::source::Sources;
use crate::error::{Error, Result, Status};
use crate::os::{self, Epoll, Errno};
use crate::package::Package;
use crate::types::Type;
use crate::vm::kinds::{Kind, check_kind};

/// Options of [`Vm::replace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplaceOptions {
    /// Whether all events of the old version are delivered before the first of the new one. Polls wait for the grace period
    /// of the kernel, some 10 to 60 ms.
    pub ordered: bool,
    /// Whether all maps start empty.
    pub fresh_maps: bool,
    /// Whether a map of the old version that cannot be carried over is an error.
    pub strict_maps: bool,
    /// Whether variables have the values of the new version, not those that the host has set. The command line of
    /// [`Vm::args_set`] is not applied then.
    pub fresh_vars: bool,
}

/// What a replace has done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Replaced {
    /// Whether the new package equals the running one, so that nothing was done.
    pub unchanged: bool,
    /// Nanoseconds from the call to the switch: opening, comparing, loading and attaching.
    pub load_ns: u64,
    /// Nanoseconds in which no call could deliver, apart from the grace period of an ordered replace.
    pub flip_ns: u64,
    /// Nanoseconds of the wait for programs of the old version that still ran.
    pub grace_ns: u64,
    /// Whether that wait was complete. A kernel without a way to wait gets 100 ms.
    pub is_grace_over: bool,
    programs: String,
    maps: String,
    from_old: Arc<AtomicU64>,
}

impl Replaced {
    /// Number of events of the old version that have been delivered since the switch.
    pub fn events_from_old(&self) -> u64 {
        self.from_old.load(Relaxed)
    }

    /// Returns the report as JSON.
    pub fn to_json(&self) -> String {
        let list = |list: &str| if list.is_empty() { "[]" } else { list }.to_owned();
        let ms = |ns: u64| format!("{}.{:03}", ns / 1_000_000, ns / 1000 % 1000);
        let members = [
            ("events_from_old", self.events_from_old().to_string()),
            ("flip_ms", ms(self.flip_ns)),
            ("grace_complete", self.is_grace_over.to_string()),
            ("grace_ms", ms(self.grace_ns)),
            ("load_ms", ms(self.load_ns)),
            ("maps", list(&self.maps)),
            ("programs", list(&self.programs)),
            ("unchanged", self.unchanged.to_string()),
        ];
        let members = members.map(|(key, value)| format!("{key:?}:{value}"));
        format!("{{{}}}", members.join(","))
    }
}

/// The new version before the switch.
struct Prepared {
    session: Session,
    sources: Sources,
    types: Vec<Arc<Type>>,
    plan: Plan,
}

/// Both locks, taken from the thread that polls. Fields are dropped in this order.
struct Locks<'a> {
    inner: MutexGuard<'a, Inner>,
    delivery: MutexGuard<'a, Delivery>,
    _claim: Claimed<'a>,
}

impl Vm {
    /// Replaces the running package by the package `data`, while events flow.
    ///
    /// Each event of the kernel is handled by the old version or by the new one. What the old version has sent is delivered
    /// with its own types. Maps that fit keep their content. A failure changes nothing. Any thread may call it, also while
    /// another one polls.
    ///
    /// Variables, sizes and targets that the host has set before load are set again, by name. The command line of
    /// [`Vm::args_set`] is parsed again with the options of the new version: what it does not give has that version's default.
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
        let begin = os::monotonic_ns();
        if self.shared.stop.is_polling() {
            return Err(Error::new(Status::Busy, "replace: called from a callback of this vm"));
        }
        let _one = try_locked(&self.shared.replacing)?;
        check_kind(data, Kind::Json.into())?;
        if self.shared.has_module.load(SeqCst) {
            return Err(Error::new(
                Status::Unsupported,
                "replace: a WASM module is open, which cannot be replaced",
            ));
        }
        let package = Package::parse(data)?;
        let locks = self.claim()?;
        if running(&locks.inner)?.is_of(&package) {
            return Ok(Replaced { unchanged: true, ..Replaced::default() });
        }
        let (mut config, mut types) = (locks.inner.config.clone(), locks.inner.types.clone());
        drop(locks);
        config.open.name = package.meta.obj_name.clone();
        let mut report = Replaced::default();
        let mut session = Session::open(package, config, Arc::clone(&self.shared.log))?;
        let ReplaceOptions { fresh_maps, strict_maps, fresh_vars, ordered } = options;
        report.maps = session.inherit(running(&self.claim()?.inner)?, fresh_vars, fresh_maps, strict_maps)?;
        let sources = session.load_sharing(Some(&mut types))?;
        let plan;
        (plan, report.programs) = session.compare(running(&self.claim()?.inner)?)?;
        session.attach_added(&plan)?;
        report.load_ns = os::monotonic_ns() - begin;
        self.switch(Prepared { session, sources, types, plan }, report, ordered)
    }

    /// Takes both locks as soon as the call that has them reaches its next batch.
    fn claim(&self) -> Result<Locks<'_>> {
        let epoll = &self.shared.epoll;
        let claim = self.shared.stop.claim(|event| epoll.add(event, CLAIM));
        let claim = claim.map_err(|e| system_error("replace", e))?;
        let delivery = locked(&self.shared.delivery);
        claim.has(Held::Delivery);
        let inner = locked(&self.shared.inner);
        claim.has(Held::Both);
        if self.shared.delivery.is_poisoned() || self.shared.inner.is_poisoned() {
            return Err(poisoned());
        }
        Ok(Locks { inner, delivery, _claim: claim })
    }

    /// Switches to the new version, waits for the programs of the old one and closes it.
    #[inline(never)]
    fn switch(&self, new: Prepared, mut report: Replaced, ordered: bool) -> Result<Replaced> {
        let mut locks = self.claim()?;
        let begin = os::monotonic_ns();
        running(&locks.inner)?;
        let old = self.flip(&mut locks, new, &mut report)?;
        report.flip_ns = os::monotonic_ns() - begin;
        let begin = os::monotonic_ns();
        let held = ordered.then_some(locks);
        report.is_grace_over = os::wait_for_programs();
        report.grace_ns = os::monotonic_ns() - begin;
        let mut locks = match held {
            Some(locks) => locks,
            None => self.claim()?,
        };
        locks.delivery.end_retired();
        self.drop_spent(&mut locks.delivery);
        locks.inner.session()?.fill_all();
        self.shared.counters.forget(old.lost_map(), &old.prog_fds());
        drop(locks);
        Ok(report)
    }

    /// Makes the hooks and the delivery use the new version. Returns the old one. After a failure nothing has changed.
    #[inline(never)]
    fn flip(&self, locks: &mut Locks<'_>, new: Prepared, report: &mut Replaced) -> Result<Session> {
        let Locks { inner, delivery, .. } = locks;
        let mut wait_set = self.shared.wait_set();
        let (fds, again) = (new.sources.fds(), new.sources.again());
        let (queue, sources, theirs) = self.same_queue(delivery, new.sources)?;
        let system = |e: Errno| system_error("replace", e);
        let former = wait_set.retire(&self.shared.epoll, &theirs, &fds).map_err(system)?;
        let queues =
            delivery.queue_fds().into_iter().chain(queue.as_ref().map(Queue::fd)).collect::<Vec<_>>();
        let watched = wait_set.watch(Role::Queue, &self.shared.epoll, &queues).map_err(system);
        let mut session = new.session;
        let running = inner.session_mut()?;
        if let Err(e) = watched.and_then(|()| session.take_over(running, &new.plan)) {
            // Removing cannot fail.
            let _ = wait_set.watch(Role::Queue, &self.shared.epoll, &delivery.queue_fds());
            wait_set.undo(former);
            return Err(e);
        }
        // Nothing fails from here on.
        wait_set.commit(former, again);
        drop(wait_set);
        report.from_old = retire(delivery, &session, queue, sources);
        let counters = &self.shared.counters;
        counters.watch_also(session.lost_map(), session.prog_fds());
        counters.watch_sources(session.shapes());
        counters.replaces.fetch_add(1, Relaxed);
        session.forget_carried();
        let old = mem::replace(running, session);
        inner.types = new.types;
        inner.keep_types();
        Ok(old)
    }

    /// Starts a queue with the new sources if the running version has one. Returns the set that waits for them.
    #[inline(never)]
    fn same_queue(
        &self,
        delivery: &Delivery,
        new: Sources,
    ) -> Result<(Option<Queue>, Option<Sources>, Arc<Epoll>)> {
        let Some(old) = delivery.queue.as_ref().filter(|queue| queue.is_running()) else {
            return Ok((None, Some(new), Arc::clone(&self.shared.epoll)));
        };
        let system = |e: Errno| system_error("queue", e);
        let theirs = Arc::new(Epoll::new().map_err(system)?);
        let counters = Arc::clone(&self.shared.counters);
        let queue = Queue::start(new, Arc::clone(&theirs), old.max_bytes(), counters);
        Ok((Some(queue.map_err(|(e, _)| system(e))?), None, theirs))
    }
}

/// Moves the queue and the sources of the old version to the retired versions.
#[inline(never)]
fn retire(
    delivery: &mut Delivery,
    new: &Session,
    queue: Option<Queue>,
    sources: Option<Sources>,
) -> Arc<AtomicU64> {
    if let Some(stopped) = delivery.queue.as_mut().and_then(Queue::stop) {
        delivery.sources = Some(stopped);
    }
    if let Some(old) = &mut delivery.sources {
        old.leave(&|map| new.carries(&map.name));
    }
    delivery.replace(new.shapes().to_vec(), sources, queue)
}

/// Returns the running version, which is attached.
fn running(inner: &Inner) -> Result<&Session> {
    let session = inner.loaded()?;
    session.check_own()?;
    if session.is_attached() {
        return Ok(session);
    }
    Err(Error::new(Status::State, "the package is not attached; only a running package can be replaced"))
}
