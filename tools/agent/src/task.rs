//! One task: a package that runs, or should run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use eunomia::Vm;
use serde_json::{Map, Value, json};

use crate::loader::protocol::Origin;
use crate::log::Log;
use crate::messages::Messages;
use crate::restart::Attempts;
use crate::shape::Shapes;
use crate::spec::Spec;
use crate::state::Record;

/// A task.
pub struct Task {
    /// Its number.
    pub id: u64,
    /// Its specification, which never changes. A replacement changes only the package.
    pub spec: Spec,
    /// The time when it was started, in seconds since 1970.
    pub created: u64,
    /// Its events.
    pub log: Arc<Log>,
    /// Warnings and errors about it.
    pub messages: Arc<Messages>,
    /// The shapes of the events that have occurred.
    pub shapes: Arc<Shapes>,
    /// The last cursor that each caller of the former `/log` has sent. Lines up to it are not returned to that caller
    /// again.
    pub views: Mutex<BTreeMap<String, u64>>,
    /// The number of readers of its events. The limits for connections also limit the readers.
    readers: Arc<AtomicUsize>,
    /// Whether a change is in progress.
    is_changing: AtomicBool,
    current: Mutex<Current>,
}

/// The part of a task that changes.
pub struct Current {
    /// Its state.
    pub status: Status,
    /// Identifies the package.
    pub digest: String,
    /// The origin of the package.
    pub origin: Origin,
    /// Reads its events, unless it has failed.
    pub vm: Option<Arc<Vm>>,
    /// The key of the vm in the poller.
    pub key: usize,
    /// Counters of earlier versions.
    pub before: Totals,
    /// The number of times that the package was replaced.
    pub replaced: u64,
    /// The boot during which it was attached, until it is known to be healthy.
    pub attaching: Option<String>,
    /// The number of consecutive times that the loader has ended while it loaded this task.
    pub deaths: u32,
    /// The attempts to start it again.
    pub attempts: Attempts,
    /// The time when it was found to have failed.
    pub failed_at: Option<Instant>,
    /// What it uses, as measured by the loader; null without a budget.
    pub usage: Value,
    /// Whether it has failed because it used too much.
    pub is_over_budget: bool,
    /// Whether its events are written to its sink.
    pub has_sink: bool,
}

/// The state of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its programs are attached.
    Running,
    /// Its programs were detached on request.
    Paused,
    /// It could not be started again, or its events cannot be read.
    Failed(String),
}

impl Status {
    /// Returns its name.
    pub fn word(&self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Failed(_) => "failed",
        }
    }
}

/// Counters of events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Events that were read.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that the kernel has dropped, as far as it reports them.
    pub lost: u64,
    /// Records shorter than their type or otherwise unreadable.
    pub malformed: u64,
}

impl Totals {
    /// The counters of a vm, added to `self`.
    pub fn plus(self, vm: &Vm) -> Totals {
        let stats = vm.stats();
        Totals {
            events: self.events + stats.events,
            bytes: self.bytes + stats.bytes,
            lost: self.lost + stats.lost_kernel,
            malformed: self.malformed + stats.malformed,
        }
    }
}

/// A reader that is counted.
pub struct CountedReader(Arc<AtomicUsize>);

/// The right to change a task.
pub struct Change(Arc<Task>);

impl Task {
    /// Creates a task that should run but does not run yet.
    pub fn new(record: &Record, log: Log) -> Task {
        let Record { id, spec, digest, origin, is_paused, attaching, created } = record.clone();
        let status = if is_paused { Status::Paused } else { Status::Running };
        let (vm, key, before, replaced, deaths) = (None, 0, Totals::default(), 0, 0);
        let (attempts, failed_at) = (Attempts::default(), None);
        let current = Current {
            status,
            digest,
            origin,
            vm,
            key,
            before,
            replaced,
            attaching,
            deaths,
            attempts,
            failed_at,
            usage: Value::Null,
            is_over_budget: false,
            has_sink: false,
        };
        let (log, messages, shapes) = (Arc::new(log), Arc::default(), Arc::default());
        let (views, readers) = (Mutex::default(), Arc::default());
        let (is_changing, current) = (AtomicBool::new(false), Mutex::new(current));
        Task { id, spec, created, log, messages, shapes, views, readers, is_changing, current }
    }

    /// The part that changes.
    pub fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes several things that change, with one lock.
    pub fn with<T>(&self, work: impl FnOnce(&mut Current) -> T) -> T {
        work(&mut self.current())
    }

    /// Returns the right to change it, unless another caller has it.
    pub fn change(self: &Arc<Task>) -> Option<Change> {
        (!self.is_changing.swap(true, Relaxed)).then(|| Change(Arc::clone(self)))
    }

    /// Its file.
    pub fn record(&self) -> Record {
        let current = self.current();
        Record {
            id: self.id,
            spec: self.spec.clone(),
            digest: current.digest.clone(),
            origin: current.origin.clone(),
            is_paused: current.status == Status::Paused,
            attaching: current.attaching.clone(),
            created: self.created,
        }
    }

    /// Describes it.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        self.spec.write(&mut object);
        let current = self.current();
        object.insert("id".into(), json!(self.id));
        object.insert("created".into(), json!(self.created));
        object.insert("status".into(), json!(current.status.word()));
        let error = if let Status::Failed(why) = &current.status { why } else { "" };
        object.insert("error".into(), json!(error));
        object.insert("digest".into(), json!(format!("sha256:{}", current.digest)));
        object.insert("replaced".into(), json!(current.replaced));
        object.insert("attempts".into(), json!(current.attempts.count()));
        Value::Object(object)
    }

    /// The number of readers of its events.
    pub fn readers(&self) -> usize {
        self.readers.load(Relaxed)
    }

    /// Counts a reader of its events until the result is dropped.
    pub fn count_reader(&self) -> CountedReader {
        self.readers.fetch_add(1, Relaxed);
        CountedReader(Arc::clone(&self.readers))
    }

    /// The counters of all its versions.
    pub fn totals(&self) -> Totals {
        let current = self.current();
        match &current.vm {
            Some(vm) => current.before.plus(vm),
            None => current.before,
        }
    }
}

impl Drop for CountedReader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.is_changing.store(false, Relaxed);
    }
}
