//! Event counters. Every event is either delivered or counted in one of the drop counters.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bpf::source::{LostKnown, Shape};
use crate::bpf::{MapFd, prog_facts};

/// Event counters, see [`Vm::stats`](crate::Vm::stats). Every record is either delivered or counted in one of the drop
/// counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events delivered to a callback or by `read`.
    pub events: u64,
    /// The size of these events in bytes, as the kernel wrote them.
    pub bytes: u64,
    /// Records dropped in the kernel: by perf buffers, and by ring buffers if the object counts the records that did not fit
    /// (`__eunomia_lost`).
    pub lost_kernel: u64,
    /// Records dropped because the queue was full.
    pub lost_queue: u64,
    /// Events dropped by a WASM guest.
    pub guest_dropped: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Calls of `poll`, `poll_batch` and `read`.
    pub polls: u64,
    /// Number of times that the package was replaced.
    pub replaces: u64,
    /// Runs of all programs, if the kernel counts them (sysctl kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// The time of these runs in nanoseconds.
    pub run_ns: u64,
    /// How complete `lost_kernel` is. The source whose count is the least complete decides.
    pub lost_known: LostKnown,
}

/// The counters, which are updated once per batch.
#[derive(Default)]
pub struct Counters {
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    pub lost_kernel: AtomicU64,
    pub lost_queue: AtomicU64,
    pub guest_dropped: AtomicU64,
    pub polls: AtomicU64,
    pub replaces: AtomicU64,
    /// Kernel objects with counters of their own.
    kernel: Mutex<KernelCounters>,
}

#[derive(Default)]
struct KernelCounters {
    lost: Vec<Arc<MapFd>>,
    sources: Vec<Arc<Shape>>,
    /// The lowest completeness of any source so far.
    known: LostKnown,
    /// Descriptors of programs, which belong to the object. They are not duplicated, so they are removed before the
    /// object is closed.
    progs: Vec<RawFd>,
    /// Runs and nanoseconds of programs that have been unloaded.
    past_runs: (u64, u64),
}

impl Counters {
    /// Replaces the kernel objects with those of a loaded package.
    pub fn watch(&self, lost: Option<Arc<MapFd>>, progs: Vec<RawFd>) {
        let lost = lost.into_iter().collect();
        *self.kernel() = KernelCounters { lost, progs, ..KernelCounters::default() };
    }

    /// Adds sources, unless they are there already. Removes sources that only the counters still refer to, and keeps their
    /// counts.
    pub fn watch_sources(&self, sources: &[Arc<Shape>]) {
        let mut kernel = self.kernel();
        let KernelCounters { sources: watched, known, .. } = &mut *kernel;
        watched.retain(|source| {
            let is_used = Arc::strong_count(source) > 1;
            if !is_used {
                self.lost_kernel.fetch_add(source.counted(), Relaxed);
            }
            is_used
        });
        for source in sources {
            *known = source.lost_known.min(*known);
            if !watched.iter().any(|watched| Arc::ptr_eq(watched, source)) {
                watched.push(Arc::clone(source));
            }
        }
    }

    /// Adds the kernel objects of one more package. Programs that are there already are not added again.
    pub fn watch_also(&self, lost: Option<Arc<MapFd>>, progs: Vec<RawFd>) {
        let mut kernel = self.kernel();
        let lost = lost.filter(|lost| !kernel.lost.iter().any(|known| Arc::ptr_eq(known, lost)));
        kernel.lost.extend(lost);
        kernel.progs.retain(|prog| !progs.contains(prog));
        kernel.progs.extend(progs);
    }

    /// Removes the kernel objects of one package before it is closed, and keeps their counts.
    pub fn forget(&self, lost: Option<Arc<MapFd>>, gone: &[RawFd]) {
        let mut kernel = self.kernel();
        let KernelCounters { lost: maps, progs, past_runs, .. } = &mut *kernel;
        progs.retain(|prog| {
            let is_gone = gone.contains(prog);
            if let Some(facts) = prog_facts(prog).ok().filter(|_| is_gone) {
                *past_runs = (past_runs.0 + facts.run_count, past_runs.1 + facts.run_ns);
            }
            !is_gone
        });
        maps.retain(|map| match &lost {
            Some(lost) if Arc::ptr_eq(map, lost) => {
                self.lost_kernel.fetch_add(reservations_lost(map), Relaxed);
                false
            }
            _ => true,
        });
    }

    /// Removes all programs before they are closed, and keeps their counts.
    pub fn forget_progs(&self) {
        let mut kernel = self.kernel();
        kernel.past_runs = kernel.runs();
        kernel.progs.clear();
    }

    /// Removes all kernel objects, and keeps their counts.
    pub fn settle(&self) {
        let mut kernel = self.kernel();
        self.lost_kernel.fetch_add(kernel.lost(), Relaxed);
        let (past_runs, known) = (kernel.runs(), kernel.known);
        *kernel = KernelCounters { past_runs, known, ..KernelCounters::default() };
    }

    /// Returns the current values.
    pub fn stats(&self) -> Stats {
        let kernel = self.kernel();
        let (run_count, run_ns) = kernel.runs();
        Stats {
            events: self.events.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            lost_kernel: self.lost_kernel.load(Relaxed) + kernel.lost(),
            lost_queue: self.lost_queue.load(Relaxed),
            guest_dropped: self.guest_dropped.load(Relaxed),
            polls: self.polls.load(Relaxed),
            replaces: self.replaces.load(Relaxed),
            run_count,
            run_ns,
            lost_known: kernel.known,
            ..Stats::default()
        }
    }

    fn kernel(&self) -> std::sync::MutexGuard<'_, KernelCounters> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KernelCounters {
    fn lost(&self) -> u64 {
        let in_rings: u64 = self.lost.iter().map(|map| reservations_lost(map)).sum();
        self.sources.iter().fold(in_rings, |sum, source| sum + source.counted())
    }

    /// Returns the runs of all programs and their time in nanoseconds.
    fn runs(&self) -> (u64, u64) {
        let facts = self.progs.iter().filter_map(|prog| prog_facts(prog).ok());
        facts.fold(self.past_runs, |(count, ns), facts| (count + facts.run_count, ns + facts.run_ns))
    }
}

/// Returns the sum over all CPUs of the only value in `__eunomia_lost`.
fn reservations_lost(map: &MapFd) -> u64 {
    let mut counters = vec![0; map.value_len()];
    match map.lookup(&[0; 4], &mut counters) {
        Ok(()) => counters.chunks_exact(8).filter_map(|c| c.try_into().ok().map(u64::from_ne_bytes)).sum(),
        Err(_) => 0,
    }
}
