//! Switches from the running version of a package to another one, and closes the one that no longer runs.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::delivery::Delivery;
use super::lock::locked;
use super::queue::{Cell, Queue};
use super::replace::{Locks, ReplaceOptions, Replaced};
use super::state::{Inner, Vm, system_error};
use super::version::Version;
use super::wait_set::Role;
use crate::bpf::session::Session;
use crate::bpf::source::Sources;
use crate::error::Result;
use crate::os::{self, Epoll, Errno};

impl Vm {
    /// Waits for the programs of the old version, and closes or keeps it.
    #[inline(never)]
    pub(super) fn settle(
        &self,
        locks: Locks<'_>,
        mut old: Version,
        mut report: Replaced,
        options: ReplaceOptions,
    ) -> Result<Replaced> {
        let held = options.ordered.then_some(locks);
        report.doubled = old.session.end_parted(&old.plan);
        let begin = os::monotonic_ns();
        report.is_grace_over = os::wait_for_programs();
        report.grace_ns = os::monotonic_ns() - begin;
        let mut locks = match held {
            Some(locks) => locks,
            None => self.claim()?,
        };
        let Locks { inner, delivery, .. } = &mut locks;
        if options.keep_old {
            delivery.end_retired(true);
            inner.kept = Some(old);
        } else {
            self.release(inner, delivery, &old);
            drop(locks);
        }
        Ok(report)
    }

    /// Removes all references to a version whose programs have ended: from the dispatchers, which then call only the
    /// running version, and from the counters, which keep its counts. The caller closes the version, if necessary after
    /// it has released the locks.
    #[inline(never)]
    pub(super) fn release(&self, inner: &Inner, delivery: &mut Delivery, old: &Version) {
        delivery.end_retired(false);
        self.drop_spent(delivery);
        inner.session.iter().for_each(Session::fill_all);
        self.shared.counters.forget(old.session.lost_map(), &old.session.prog_fds());
    }

    /// Makes the hooks and the delivery use the version `new`. After that, `new` holds the version that ran before.
    /// After a failure nothing has changed.
    #[inline(never)]
    pub(super) fn flip(&self, locks: &mut Locks<'_>, new: &mut Version, report: &mut Replaced) -> Result<()> {
        let begin = os::monotonic_ns();
        let Locks { inner, delivery, .. } = locks;
        let mut wait_set = self.shared.wait_set();
        let fds = new.sources.as_ref().map(Sources::fds).unwrap_or_default();
        let again = new.sources.as_ref().and_then(Sources::again);
        let system = |e: Errno| system_error("replace", e);
        let cell = Cell::default();
        let mut held = locked(&cell);
        let (queue, theirs) = self.same_queue(delivery, &cell).map_err(system)?;
        let switched = wait_set.retire(&self.shared.epoll, &theirs, &fds).map_err(system);
        let switched = switched.and_then(|former| {
            let queues =
                delivery.queue_fds().into_iter().chain(queue.as_ref().map(Queue::fd)).collect::<Vec<_>>();
            let watched = wait_set.watch(Role::Queue, &self.shared.epoll, &queues).map_err(system);
            let running = inner.opened_mut()?;
            match watched.and_then(|()| new.session.take_over(running, &new.plan)) {
                Ok(gap_ns) => Ok((former, running, gap_ns)),
                Err(e) => {
                    // Removing cannot fail.
                    let _ = wait_set.watch(Role::Queue, &self.shared.epoll, &delivery.queue_fds());
                    wait_set.undo(former);
                    Err(e)
                }
            }
        });
        let (former, running, gap_ns) = match switched {
            Ok(switched) => switched,
            Err(e) => {
                drop(held);
                return Err(e);
            }
        };
        // Nothing fails from here on.
        new.sources.iter_mut().for_each(Sources::wake);
        let sources = match queue {
            Some(_) => {
                *held = new.sources.take();
                None
            }
            None => new.sources.take(),
        };
        drop(held);
        wait_set.commit(former, again);
        drop(wait_set);
        mem::swap(running, &mut new.session);
        running.forget_carried();
        report.from_old = retire(delivery, running, queue, sources);
        let counters = &self.shared.counters;
        counters.watch_also(running.lost_map(), running.prog_fds());
        counters.watch_sources(running.shapes());
        counters.replaces.fetch_add(1, Relaxed);
        inner.types = mem::take(&mut new.types);
        inner.keep_types();
        report.gap_ns = gap_ns;
        report.flip_ns = os::monotonic_ns() - begin;
        Ok(())
    }

    /// Starts a queue that takes its sources from `cell`, if the running version has a queue. Returns the set that waits for
    /// the new sources.
    #[inline(never)]
    fn same_queue(&self, delivery: &Delivery, cell: &Cell) -> os::Result<(Option<Queue>, Arc<Epoll>)> {
        let Some(old) = delivery.queue.as_ref().filter(|queue| queue.is_running()) else {
            return Ok((None, Arc::clone(&self.shared.epoll)));
        };
        let theirs = Arc::new(Epoll::new()?);
        let counters = Arc::clone(&self.shared.counters);
        let queue = Queue::start(cell, Arc::clone(&theirs), old.max_bytes(), counters)?;
        Ok((Some(queue), theirs))
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
        old.leave(&|map| new.has_map(map));
    }
    delivery.replace(new.shapes().to_vec(), sources, queue)
}
