//! Changes that callers request: start, stop, pause, replace. Every function blocks until the loader has replied.

use std::sync::Arc;

use http::StatusCode;

use super::{MAX_TASKS, Tasks, no_log, not_saved, now};
use crate::archive;
use crate::error::{ApiError, Result};
use crate::loader::UNCHANGED;
use crate::loader::protocol::{Origin, Request};
use crate::log::Log;
use crate::spec::{Spec, digest};
use crate::state::Record;
use crate::task::{Status, Task};

impl Tasks {
    /// Starts a task, unless a task with this name runs the same package with the same settings. Returns the task, and whether it
    /// is new.
    pub fn start(&self, spec: Spec, package: &[u8], origin: Origin) -> Result<(Arc<Task>, bool)> {
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
            let text = format!("there are {MAX_TASKS} tasks already, the limit");
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
        let record = Record { id, spec, digest, origin, is_paused: false, attaching, created: now() };
        let log = Log::new().map_err(|error| no_log(&error))?;
        let task = Arc::new(Task::new(&record, log));
        self.state.save_package(&record.digest, package).map_err(|error| not_saved(&error))?;
        // The task is marked before it is attached: if that crashes the machine, it is not attached again.
        self.state.save(&record).map_err(|error| not_saved(&error))?;
        let attached = self.begin_sink(&task).and_then(|()| self.attach(&task, package, &mut numbers));
        if let Err(error) = attached {
            task.log.end();
            // The error of the start is reported, not that of removing the file.
            let _ = self.forget(&record);
            return Err(error);
        }
        self.locked().insert(id, Arc::clone(&task));
        Ok((task, true))
    }

    /// Stops a task and removes it.
    pub fn stop(&self, id: u64) -> Result<()> {
        let (task, _change, _numbers) = self.begin(id)?;
        self.locked().remove(&id);
        // If this process is killed now, the next server stops the task, because it has no file.
        let forgotten = self.forget(&task.record());
        let unloaded = self.loader.run(&Request::Unload { task: id });
        self.stop_reading(&task);
        task.log.end();
        // A loader that has ended has detached it.
        unloaded.or_else(|error| if error.is_loader_lost() { Ok(()) } else { Err(error) })?;
        forgotten.map_err(|error| {
            let text =
                format!("task {id} is stopped, but the next server starts it again, because its file cannot be removed: {error}");
            ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "state", text)
        })
    }

    /// Detaches the programs of a task, or attaches them again. A failed task is started again instead.
    pub fn pause(&self, id: u64, on: bool) -> Result<Arc<Task>> {
        let (task, _change, mut numbers) = self.begin(id)?;
        let status = task.current().status.clone();
        match (status, on) {
            (Status::Failed(why), true) => {
                let text = format!("task {id} is not running: {why}");
                return Err(ApiError::new(StatusCode::CONFLICT, "failed", text));
            }
            (Status::Failed(_), false) => {
                self.start_failed(&task, &mut numbers)?;
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

    /// Replaces the package of a task. Returns the report as JSON. If `expected` is given, the running package must have this digest.
    pub fn replace(
        &self,
        id: u64,
        package: &[u8],
        origin: Origin,
        expected: Option<&str>,
    ) -> Result<(Arc<Task>, String)> {
        let (task, _change, _numbers) = self.begin(id)?;
        let (status, running) = task.with(|current| (current.status.clone(), current.digest.clone()));
        if let Some(expected) = expected.filter(|expected| *expected != running) {
            let text = format!("task {id} runs sha256:{running}, not sha256:{expected}");
            return Err(ApiError::new(StatusCode::PRECONDITION_FAILED, "conflict", text));
        }
        let new = digest(package);
        if new == running && status != Status::Paused {
            return Ok((task, UNCHANGED.to_owned()));
        }
        if status != Status::Running {
            let text = format!("task {id} is {}; resume it first", status.word());
            return Err(ApiError::new(StatusCode::CONFLICT, "conflict", text));
        }
        let report = std::thread::scope(|scope| {
            // The disk takes about as long as the loader, so both work at the same time.
            let saved = scope.spawn(|| self.state.save_package(&new, package));
            self.flip(&task, package, &origin, || match saved.join() {
                Ok(saved) => saved.map_err(|error| not_saved(&error)),
                Err(_) => Err(ApiError::invalid("the package could not be saved")),
            })
        });
        let report = report.inspect_err(|_| self.remove_package(&new))?;
        let Some(report) = report else {
            // Another file with the same content.
            self.remove_package(&new);
            return Ok((task, UNCHANGED.to_owned()));
        };
        task.with(|current| {
            (current.digest, current.origin) = (new, origin);
            current.replaced += 1;
            current.attaching = Some(self.state.boot().to_owned());
        });
        self.save_or_complain(&task);
        if self.read_old(&task) {
            self.remove_package(&running);
        }
        Ok((task, report))
    }

    /// Switches a task to a new package: it is prepared, then this process reads the events of both, then the loader switches. `saved`
    /// waits until the package is on the disk. `None` if the package runs already.
    fn flip(
        &self,
        task: &Task,
        package: &[u8],
        origin: &Origin,
        saved: impl FnOnce() -> Result<()>,
    ) -> Result<Option<String>> {
        let Some(vm) = task.with(|current| current.vm.clone()) else {
            let text = format!("the events of task {} are not being read", task.id);
            return Err(ApiError::new(StatusCode::CONFLICT, "failed", text));
        };
        let opened = archive::open(package)?;
        let _requests = self.loader.replace();
        let Some(exported) = self.loader.prepare(task.id, package, origin)? else { return Ok(None) };
        let adopt = || Ok(self.between_turns(|| vm.adopt(&opened, exported))?);
        if let Err(error) = saved().and_then(|()| adopt()) {
            self.loader.run(&Request::Abort)?;
            return Err(error);
        }
        let report = self.loader.text(&Request::Flip);
        let ended = self.between_turns(|| match report.is_ok() {
            true => vm.commit(),
            false => vm.rollback().map(drop),
        });
        if let Err(error) = ended {
            say!("task {}: the events of both versions are read until the next one: {error}", task.id);
        }
        report.map(Some)
    }
}
