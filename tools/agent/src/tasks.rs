//! All tasks, and what can be done with them. Every function that changes one blocks until the loader has replied.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eunomia::package::Package;
use eunomia::vm::Exported;
use eunomia::{Kind, Level, Options, Vm};
use http::StatusCode;

use crate::error::{ApiError, Result};
use crate::loader::Client;
use crate::loader::protocol::Request;
use crate::poller::Poller;
use crate::spec::{Spec, digest};
use crate::state::{Record, State};
use crate::task::{Change, Status, Task};

/// The most tasks.
const MAX_TASKS: usize = 64;
/// A task that has run for this time is started again after a crash of the machine.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);
/// The most changes that wait for the one in progress.
const MAX_WAITING: usize = 8;

/// All tasks.
pub struct Tasks {
    loader: Client,
    poller: Arc<Poller>,
    state: State,
    list: Mutex<BTreeMap<u64, Arc<Task>>>,
    /// Held by the change in progress: the numbers of the next task and vm.
    numbers: Mutex<Numbers>,
    waiting: AtomicUsize,
}

struct Numbers {
    next: u64,
    /// Numbers below it are reserved in the state.
    reserved: u64,
    key: usize,
}

/// Identifies how a task is attached: it differs after a new start and after a replace.
fn attached(task: &Task) -> (usize, u64) {
    let current = task.current();
    (current.key, current.replaced)
}

impl Tasks {
    /// No tasks yet.
    pub fn new(loader: Client, poller: Arc<Poller>, state: State) -> Tasks {
        let next = state.next();
        let numbers = Mutex::new(Numbers { next, reserved: next, key: 0 });
        Tasks { loader, poller, state, list: Mutex::default(), numbers, waiting: AtomicUsize::new(0) }
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

    /// Starts what the last server ran. Returns a line for each task that does not run.
    pub fn restore(&self) -> Vec<String> {
        let (records, mut problems) = self.state.load();
        // The file with the next number may have been lost.
        let mut numbers = self.numbers();
        numbers.next = numbers.next.max(records.last().map_or(1, |record| record.id + 1));
        drop(numbers);
        for record in records {
            let task = Arc::new(Task::new(&record, Status::Running));
            self.locked().insert(task.id, Arc::clone(&task));
            if let Err(why) = self.start_again(&task, &record) {
                problems.push(format!("task {} ({}): {why}", task.id, task.spec.name));
                task.current().status = Status::Failed(why);
            }
        }
        problems
    }

    fn start_again(&self, task: &Task, record: &Record) -> Result<(), String> {
        if record.attaching.as_ref().is_some_and(|boot| boot != self.state.boot()) {
            return Err(
                "the machine was restarted shortly after it was attached; resume it to try again".into()
            );
        }
        let package = self.state.package(&record.digest)?;
        let mut numbers = self.numbers();
        // As at its first start: if this crashes the machine, it is not attached again.
        let attaching = Some(self.state.boot().to_owned());
        task.current().attaching.clone_from(&attaching);
        let saved = self.state.save(&Record { attaching, ..record.clone() });
        saved.map_err(|error| format!("its state cannot be saved: {error}"))?;
        self.attach(task, &package, &mut numbers).map_err(|error| error.message)?;
        if record.is_paused {
            let paused = self.loader.run(&Request::Pause { task: task.id, on: true });
            paused.map_err(|error| error.message)?;
            task.current().status = Status::Paused;
        }
        Ok(())
    }

    /// Starts a task, unless one with this name runs the same. Returns it, and whether it is new.
    pub fn start(&self, spec: Spec, package: &[u8]) -> Result<(Arc<Task>, bool)> {
        let digest = digest(package);
        let mut numbers = self.turn()?;
        let same_name = self.locked().values().find(|task| task.spec.name == spec.name).cloned();
        if let Some(task) = same_name {
            if task.spec == spec && task.current().digest == digest {
                return Ok((task, false));
            }
            let text = format!("task {} has the name {:?} and runs something else", task.id, spec.name);
            return Err(ApiError::new(StatusCode::CONFLICT, "conflict", text).hint(format_args!(
                "choose another name, or replace its package: PUT /v1/tasks/{}/package",
                task.id
            )));
        }
        if self.locked().len() >= MAX_TASKS {
            let text = format!("there are {MAX_TASKS} tasks, which is the limit");
            return Err(
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tasks", text).hint("stop one first")
            );
        }
        if numbers.next >= numbers.reserved {
            numbers.reserved = self.state.reserve(numbers.next).map_err(|error| not_saved(&error))?;
        }
        let id = numbers.next;
        numbers.next += 1;
        let attaching = Some(self.state.boot().to_owned());
        let record = Record { id, spec, digest, is_paused: false, attaching, created: now() };
        let task = Arc::new(Task::new(&record, Status::Running));
        self.state.save_package(&record.digest, package).map_err(|error| not_saved(&error))?;
        // Before it is attached: if that crashes the machine, it is not attached again.
        self.state.save(&record).map_err(|error| not_saved(&error))?;
        if let Err(error) = self.attach(&task, package, &mut numbers) {
            self.forget(&record);
            return Err(error);
        }
        self.locked().insert(id, Arc::clone(&task));
        Ok((task, true))
    }

    /// Notes after a while that the task, as it has just been attached, did not crash the machine. Call it on a thread of the
    /// runtime.
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

    /// Stops a task and removes it.
    pub fn stop(&self, id: u64) -> Result<()> {
        let (task, _change, _numbers) = self.begin(id)?;
        self.locked().remove(&id);
        let record = task.record();
        let unloaded = self.loader.run(&Request::Unload { task: id });
        self.stop_reading(&task);
        task.log.end();
        self.forget(&record);
        unloaded
    }

    /// Detaches the programs of a task, or attaches them again. A failed task is started again instead.
    pub fn pause(&self, id: u64, on: bool) -> Result<Arc<Task>> {
        let (task, _change, mut numbers) = self.begin(id)?;
        let status = task.current().status.clone();
        match (status, on) {
            (Status::Failed(why), true) => {
                let text = format!("task {id} does not run: {why}");
                return Err(ApiError::new(StatusCode::CONFLICT, "failed", text));
            }
            (Status::Failed(_), false) => {
                // What is left of it, if anything.
                self.loader.run(&Request::Unload { task: id })?;
                self.stop_reading(&task);
                let digest = task.current().digest.clone();
                let package = self.state.package(&digest);
                let package =
                    package.map_err(|why| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "state", why))?;
                task.current().attaching = Some(self.state.boot().to_owned());
                self.state.save(&task.record()).map_err(|error| not_saved(&error))?;
                self.attach(&task, &package, &mut numbers)?;
                task.current().status = Status::Running;
            }
            (Status::Running, true) | (Status::Paused, false) => {
                self.loader.run(&Request::Pause { task: id, on })?;
                task.current().status = if on { Status::Paused } else { Status::Running };
            }
            _ => {}
        }
        self.save_or_complain(&task);
        Ok(task)
    }

    /// Replaces the package of a task. Returns the report, JSON. `expected` is the digest that the caller believes it runs.
    pub fn replace(&self, id: u64, package: &[u8], expected: Option<&str>) -> Result<(Arc<Task>, String)> {
        let (task, _change, _numbers) = self.begin(id)?;
        let (status, running) = task.with(|current| (current.status.clone(), current.digest.clone()));
        if let Some(expected) = expected.filter(|expected| *expected != running) {
            let text = format!("task {id} runs sha256:{running}, not sha256:{expected}");
            return Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "conflict", text));
        }
        let new = digest(package);
        if new == running && status != Status::Paused {
            return Ok((task, r#"{"unchanged":true}"#.to_owned()));
        }
        if status != Status::Running {
            let text = format!("task {id} is {}; resume it first", status.word());
            return Err(ApiError::new(StatusCode::CONFLICT, "conflict", text));
        }
        self.state.save_package(&new, package).map_err(|error| not_saved(&error))?;
        let report = self.flip(&task, package).inspect_err(|_| self.remove_package(&new))?;
        task.with(|current| {
            current.digest = new;
            current.replaced += 1;
            current.attaching = Some(self.state.boot().to_owned());
        });
        self.save_or_complain(&task);
        self.remove_package(&running);
        Ok((task, report))
    }

    /// Switches a task to a new package: it is prepared, then this process reads the events of both, then the loader switches.
    fn flip(&self, task: &Task, package: &[u8]) -> Result<String> {
        let Some(vm) = task.with(|current| current.vm.clone()) else {
            let text = format!("the events of task {} are not read", task.id);
            return Err(ApiError::new(StatusCode::CONFLICT, "failed", text));
        };
        let exported = self.loader.load(&Request::Replace { task: task.id, package: package.to_vec() })?;
        if let Err(error) = self.between_turns(|| vm.adopt(package, exported)) {
            self.loader.run(&Request::Abort)?;
            return Err(error.into());
        }
        let report = self.loader.text(&Request::Flip);
        let ended = self.between_turns(|| match report.is_ok() {
            true => vm.commit(),
            false => vm.rollback().map(drop),
        });
        if let Err(error) = ended {
            eprintln!("task {}: the events of both versions are read until the next one: {error}", task.id);
        }
        report
    }

    /// Does something with vms while no events are read.
    pub fn between_turns<T>(&self, work: impl FnOnce() -> T) -> T {
        self.poller.between_turns(work)
    }

    /// Describes a running task: its maps and programs.
    pub fn describe(&self, id: u64) -> Result<String> {
        self.get(id)?;
        let _numbers = self.turn()?;
        self.loader.text(&Request::Describe { task: id })
    }

    /// Loads and attaches a package, and reads its events.
    fn attach(&self, task: &Task, package: &[u8], numbers: &mut Numbers) -> Result<()> {
        let variables = task.spec.variables.iter().map(|(name, value)| (name.clone(), value.to_string()));
        let request = Request::Load {
            task: task.id,
            package: package.to_vec(),
            args: task.spec.args.clone(),
            variables: variables.collect(),
        };
        let exported = self.loader.load(&request)?;
        self.read_events(task, package, exported, numbers).inspect_err(|_| {
            // The error of importing is the one to report.
            let _ = self.loader.run(&Request::Unload { task: task.id });
        })
    }

    fn read_events(
        &self,
        task: &Task,
        package: &[u8],
        exported: Exported,
        numbers: &mut Numbers,
    ) -> Result<()> {
        let (id, name) = (task.id, task.spec.name.clone());
        let log = move |level: Level, line: &str| eprintln!("task {id} ({name}): {level:?}: {line}");
        let vm = Arc::new(Vm::import(package, exported, Options::new().log(log))?);
        let key = numbers.key;
        numbers.key += 1;
        self.poller.add(&vm, key, task.spec.format, &task.log)?;
        let mut current = task.current();
        (current.vm, current.key) = (Some(vm), key);
        Ok(())
    }

    /// Reads what is left in the buffers, and keeps the counters.
    fn stop_reading(&self, task: &Task) {
        let (vm, key) = task.with(|current| (current.vm.clone(), current.key));
        let Some(vm) = vm else { return };
        self.poller.remove(&vm, key, task.spec.format);
        let mut current = task.current();
        current.before = current.before.plus(&vm);
        current.vm = None;
    }

    /// Notes that the events of a task cannot be read any more.
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
            let text = format!("{MAX_WAITING} other changes wait already");
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

    /// Removes the files of a task.
    fn forget(&self, record: &Record) {
        if let Err(error) = self.state.remove(record.id) {
            eprintln!("task {}: its file cannot be removed, so it would start again: {error}", record.id);
        }
        self.remove_package(&record.digest);
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
            eprintln!(
                "task {}: its file cannot be written, so a restart does not restore it: {error}",
                task.id
            );
        }
    }
}

/// Reads the package of a request, without privileges: the first check, and its name.
pub fn check_package(package: &[u8]) -> Result<Package> {
    let other = match package {
        [0, b'a', b's', b'm', ..] => Some("a WASM module; the server runs JSON packages only"),
        [0x7f, b'E', b'L', b'F', ..] => Some("a BPF object; send the package.json that ecc writes"),
        _ if package.get(257..262) == Some(b"ustar") => Some("a tar archive; send the package.json inside"),
        _ => None,
    };
    if let Some(other) = other {
        let text = format!("package: this is {other}");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unsupported", text));
    }
    Ok(Package::parse(package)?)
}

/// Describes a package without loading it.
pub fn describe_package(package: &[u8]) -> Result<String> {
    check_package(package)?;
    let vm = Vm::new(Options::new())?;
    vm.open(package, Kind::Json)?;
    Ok(vm.describe()?)
}

fn not_saved(error: &std::io::Error) -> ApiError {
    let text = format!("the state cannot be saved, so nothing was changed: {error}");
    ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "state", text)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
