//! All tasks, and the operations on them.

mod change;
mod meter;
mod package;
mod reading;
mod reconcile;
mod retry;
mod sink;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde_json::Value;
use tokio::sync::Notify;

use crate::error::{ApiError, Result};
use crate::fetcher::Fetcher;
use crate::loader::Client;
use crate::loader::protocol::{Origin, Request};
use crate::poller::Poller;
use crate::spec::Spec;
use crate::state::{Record, State};
use crate::task::{Change, Status, Task};

pub use package::{Given, describe_package};

/// Maximum number of tasks.
const MAX_TASKS: usize = 64;
/// A task that was attached for at least this long before the machine crashed is not suspected as the cause,
/// and is started again.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of changes that wait for the one in progress.
const MAX_WAITING: usize = 8;

/// All tasks.
pub struct Tasks {
    loader: Arc<Client>,
    fetcher: Fetcher,
    poller: Arc<Poller>,
    state: State,
    list: Mutex<BTreeMap<u64, Arc<Task>>>,
    /// The numbers of the next task and vm. The change in progress holds the lock.
    numbers: Mutex<Numbers>,
    waiting: AtomicUsize,
    /// Notified when a task has failed.
    failures: Arc<Notify>,
    /// Notified when a task was attached or the policy was read again.
    attached: Notify,
    /// The number of seconds without a server after which programs that must not run without one are detached.
    detach_after: u64,
}

struct Numbers {
    next: u64,
    /// The numbers of tasks below this one are reserved in the state.
    reserved: u64,
    key: usize,
}

impl Numbers {
    /// The key of the next vm.
    fn key(&mut self) -> usize {
        self.key += 1;
        self.key
    }
}

/// Identifies how a task is attached: it differs after a new start and after a replace.
fn attached(task: &Task) -> (usize, u64) {
    let current = task.current();
    (current.key, current.replaced)
}

impl Tasks {
    /// Creates the list, without tasks.
    pub fn new(
        (loader, fetcher): (Client, Fetcher),
        poller: Arc<Poller>,
        state: State,
        detach_after: u64,
    ) -> Tasks {
        let next = state.next();
        let numbers = Mutex::new(Numbers { next, reserved: next, key: 0 });
        let (list, waiting) = (Mutex::default(), AtomicUsize::new(0));
        let failures = poller.failures();
        let attached = Notify::new();
        let loader = Arc::new(loader);
        Tasks { loader, fetcher, poller, state, list, numbers, waiting, failures, attached, detach_after }
    }

    /// The loader, which has the programs.
    pub fn loader(&self) -> &Client {
        &self.loader
    }

    /// Waits until a task has failed.
    pub async fn wait_for_failure(&self) {
        self.failures.notified().await;
    }

    /// Reports that a task may have a budget now.
    pub fn note_budgets(&self) {
        self.attached.notify_one();
    }

    /// Waits until a task may have a budget.
    pub async fn wait_for_budgets(&self) {
        self.attached.notified().await;
    }

    /// Adds a line to the audit log.
    pub fn note(&self, line: &Value) -> Result<()> {
        self.loader.note(line).map_err(|error| {
            let text = format!("the audit log cannot be written: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "audit", text)
        })
    }

    /// All tasks, by their numbers.
    pub fn list(&self) -> Vec<Arc<Task>> {
        let tasks: Vec<Arc<Task>> = self.locked().values().cloned().collect();
        tasks.iter().for_each(|task| self.note_failure(task));
        tasks
    }

    /// A task by its number.
    pub fn get(&self, id: u64) -> Result<Arc<Task>> {
        let found = self.locked().get(&id).cloned();
        let task = found.ok_or_else(|| {
            ApiError::new(StatusCode::NOT_FOUND, "not_found", format_args!("there is no task {id}"))
        })?;
        self.note_failure(&task);
        Ok(task)
    }

    /// Waits for [`HEALTHY_AFTER`], then records that the task, as it was attached, did not crash the machine. Call it on a thread of
    /// the async runtime.
    pub fn note_healthy_later(self: &Arc<Self>, task: &Arc<Task>) {
        let attached = attached(task);
        let (tasks, task) = (Arc::clone(self), Arc::clone(task));
        tokio::runtime::Handle::current().spawn(async move {
            tokio::time::sleep(HEALTHY_AFTER).await;
            tokio::task::spawn_blocking(move || tasks.note_healthy(&task, attached));
        });
    }

    fn note_healthy(&self, task: &Task, since: (usize, u64)) {
        let _numbers = self.numbers();
        if self.locked().contains_key(&task.id) && attached(task) == since {
            task.current().attaching = None;
            self.save_or_complain(task);
        }
    }

    /// Runs work on vms while no events are read.
    pub fn between_turns<T>(&self, work: impl FnOnce() -> T) -> T {
        self.poller.between_turns(work)
    }

    /// Describes a running task: its maps and programs.
    pub fn describe(&self, id: u64) -> Result<String> {
        self.get(id)?;
        let _numbers = self.turn()?;
        self.loader.text(&Request::Describe { task: id })
    }

    /// Reports as JSON what a start, or a replace of a task, would do. Nothing is attached.
    pub fn plan(&self, task: Option<u64>, spec: &Spec, package: &[u8], origin: Origin) -> Result<String> {
        let _numbers = self.turn()?;
        let spec = match task {
            Some(id) => &self.get(id)?.spec.clone(),
            None => spec,
        };
        let variables = spec.variables.iter().map(|(name, value)| (name.clone(), value.to_string()));
        self.loader.text(&Request::Plan {
            task: task.unwrap_or(0),
            package: package.to_vec(),
            args: spec.args.clone(),
            variables: variables.collect(),
            origin,
        })
    }

    /// Detaches everything and ends the loader. The tasks stay in the state.
    pub fn end(&self) {
        let _numbers = self.numbers();
        if let Err(error) = self.loader.run(&Request::End) {
            say!("server: {}", error.message);
        }
    }

    /// Records that the events of a task can no longer be read.
    fn note_failure(&self, task: &Task) {
        let mut current = task.current();
        if current.vm.is_some()
            && let Some(why) = self.poller.failure(current.key)
        {
            current.status = Status::Failed(why);
        }
    }

    /// Begins a change of a task.
    fn begin(&self, id: u64) -> Result<(Arc<Task>, Change, MutexGuard<'_, Numbers>)> {
        let task = self.get(id)?;
        let (change, numbers) = (self.change(&task)?, self.turn()?);
        // Another change may have removed it.
        self.get(id)?;
        Ok((task, change, numbers))
    }

    fn change(&self, task: &Arc<Task>) -> Result<Change> {
        task.change().ok_or_else(|| {
            let text = format!("task {} is being changed by another request", task.id);
            ApiError::new(StatusCode::CONFLICT, "conflict", text).hint("try again when that is done")
        })
    }

    /// Waits until no other change is in progress.
    fn turn(&self) -> Result<MutexGuard<'_, Numbers>> {
        if self.waiting.fetch_add(1, Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Relaxed);
            let text = format!("{MAX_WAITING} other changes are waiting already");
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text).header("Retry-After", 1));
        }
        let numbers = self.numbers();
        self.waiting.fetch_sub(1, Relaxed);
        Ok(numbers)
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Task>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files of a task, so that no server starts it again.
    fn forget(&self, record: &Record) -> io::Result<()> {
        let removed = self.state.remove(record.id);
        if let Err(error) = &removed {
            say!("task {}: its file cannot be removed, so it would start again: {error}", record.id);
        }
        self.remove_package(&record.digest);
        removed
    }

    /// Removes a package that no task uses.
    fn remove_package(&self, digest: &str) {
        if !self.locked().values().any(|task| task.current().digest == digest) {
            self.state.remove_package(digest);
        }
    }

    /// Saves what has been done already.
    fn save_or_complain(&self, task: &Task) {
        if let Err(error) = self.state.save(&task.record()) {
            say!("task {}: its file cannot be written, so a restart does not restore it: {error}", task.id);
        }
    }
}

fn not_saved(error: &io::Error) -> ApiError {
    let text = format!("the state cannot be saved, so nothing was changed: {error}");
    ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "state", text)
}

fn no_log(error: &io::Error) -> ApiError {
    let text = format!("there is no memory for the log: {error}");
    ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "no_memory", text)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
