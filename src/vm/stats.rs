//! The event counters: every event is delivered, or dropped with its cause.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bpf::source::{LostKnown, Shape};
use crate::bpf::{MapFd, prog_facts};

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events delivered to a callback or by `read`.
    pub events: u64,
    /// Bytes of these events as the kernel wrote them.
    pub bytes: u64,
    /// Dropped in the kernel: by perf buffers, and by ring buffers where the object counts the records that found no
    /// space (`__eunomia_lost`).
    pub lost_kernel: u64,
    /// Dropped because the queue was full.
    pub lost_queue: u64,
    /// Dropped by a WASM guest.
    pub guest_dropped: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Polls and reads.
    pub polls: u64,
    /// Versions swapped in.
    pub replaces: u64,
    /// Runs of all programs, where the kernel counts them (sysctl kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// Nanoseconds spent in these runs.
    pub run_ns: u64,
    /// How far `lost_kernel` is known: as far as for the source of which least is known.
    pub lost_known: LostKnown,
}

/// The counters behind it, added to once per batch.
#[derive(Default)]
pub struct Counters {
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    pub lost_kernel: AtomicU64,
    pub lost_queue: AtomicU64,
    pub guest_dropped: AtomicU64,
    pub polls: AtomicU64,
    /// Kernel objects that count on their own.
    kernel: Mutex<KernelCounters>,
}

#[derive(Default)]
struct KernelCounters {
    lost: Vec<Arc<MapFd>>,
    sources: Vec<Arc<Shape>>,
    /// The least that was known of any source until now.
    known: LostKnown,
    /// The object's own descriptors, which a second one each would double; forgotten before the object is closed.
    progs: Vec<RawFd>,
    /// Runs and nanoseconds of programs that are gone.
    past_runs: (u64, u64),
}

impl Counters {
    /// Takes over the kernel objects of a loaded package.
    pub fn watch(&self, lost: Option<Arc<MapFd>>, progs: Vec<RawFd>) {
        let lost = lost.into_iter().collect();
        *self.kernel() = KernelCounters { lost, progs, ..KernelCounters::default() };
    }

    /// Takes over sources of events, those that it has already aside. Of sources that nobody else has any more, what they
    /// have counted stays.
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

    /// Takes over those of one more package.
    pub fn watch_also(&self, lost: Option<Arc<MapFd>>, progs: Vec<RawFd>) {
        let mut kernel = self.kernel();
        kernel.lost.extend(lost);
        kernel.progs.extend(progs);
    }

    /// Forgets those of one package, before it is closed; what they have counted stays.
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

    /// Forgets all programs, before they are closed; what they have counted stays.
    pub fn forget_progs(&self) {
        let mut kernel = self.kernel();
        kernel.past_runs = kernel.runs();
        kernel.progs.clear();
    }

    /// Forgets all other kernel objects; what they have counted stays.
    pub fn settle(&self) {
        let mut kernel = self.kernel();
        self.lost_kernel.fetch_add(kernel.lost(), Relaxed);
        let (past_runs, known) = (kernel.runs(), kernel.known);
        *kernel = KernelCounters { past_runs, known, ..KernelCounters::default() };
    }

    /// The counters now.
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

    /// Runs of all programs, and nanoseconds spent in them.
    fn runs(&self) -> (u64, u64) {
        let facts = self.progs.iter().filter_map(|prog| prog_facts(prog).ok());
        facts.fold(self.past_runs, |(count, ns), facts| (count + facts.run_count, ns + facts.run_ns))
    }
}

/// The sum over all CPUs of the one u64 in `__eunomia_lost`.
fn reservations_lost(map: &MapFd) -> u64 {
    let mut counters = vec![0; map.value_len()];
    match map.lookup(&[0; 4], &mut counters) {
        Ok(()) => counters.chunks_exact(8).filter_map(|c| c.try_into().ok().map(u64::from_ne_bytes)).sum(),
        Err(_) => 0,
    }
}
