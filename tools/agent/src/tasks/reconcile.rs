//! Makes the loader run the tasks of the state: at the start of the server, and when there is a new loader.
//!
//! A task that the loader already runs as specified keeps running, and this process reads its events. A task that does not run
//! is started. A task that runs and is not in the state is stopped. The loader knows which package of a task runs. The state
//! does not, because a server may have been killed between the switch to a new version and the write of its file.

use std::collections::BTreeMap;
use std::sync::Arc;

use eunomia::Level;

use super::reading::note_gap;
use super::{Numbers, Tasks};
use crate::error::{ApiError, Result};
use crate::loader::protocol::{Listed, Request};
use crate::log::Log;
use crate::task::{Status, Task};

/// A task is not started again after the loader has ended this many times while it loaded the task.
pub(super) const DEATHS: u32 = 3;

impl Tasks {
    /// Reads the tasks that the previous server ran, with the logs that the loader has kept. Returns a line for each file that
    /// cannot be read.
    pub fn restore(&self) -> std::result::Result<Vec<String>, String> {
        let (records, mut problems) = self.state.load()?;
        // The file with the next number may have been lost.
        let mut numbers = self.numbers();
        numbers.next = numbers.next.max(records.last().map_or(1, |record| record.id + 1));
        drop(numbers);
        for record in records {
            let kept = self.loader.log(record.id).ok().flatten();
            let kept = kept.map(Log::open).transpose().unwrap_or_else(|error| {
                problems.push(format!("task {}: its earlier events are gone: {error}", record.id));
                None
            });
            let log = kept.map_or_else(Log::new, Ok).map_err(|error| format!("a log: {error}"))?;
            let task = Task::new(&record, log);
            if record.attaching.as_ref().is_some_and(|boot| boot != self.state.boot()) {
                let why = "the machine was restarted shortly after it was attached; resume it to try again";
                problems.push(format!("task {} ({}): {why}", task.id, task.spec.name));
                task.current().status = Status::Failed(why.into());
            }
            self.locked().insert(task.id, Arc::new(task));
        }
        Ok(problems)
    }

    /// Makes the loader run the tasks of the state. Returns a line for each problem. An error means that the connection
    /// to the loader was lost.
    pub fn reconcile(&self) -> Result<Vec<String>> {
        self.reconcile_with(&mut self.numbers())
    }

    /// Connects to another loader after the last one has ended, and makes it run the tasks of the state. Changes wait until that is done,
    /// because the new loader does not know the tasks before. The outer error is the reason why there is no loader any more.
    pub fn reconnect(&self) -> std::result::Result<Result<Vec<String>>, String> {
        let mut numbers = self.numbers();
        self.loader.reconnect().and_then(|()| self.loader.reload())?;
        say!("server: there is another loader, which runs the tasks again");
        Ok(self.reconcile_with(&mut numbers))
    }

    fn reconcile_with(&self, numbers: &mut Numbers) -> Result<Vec<String>> {
        let listed = self.loader.list()?.into_iter();
        let mut listed: BTreeMap<u64, Listed> = listed.map(|listed| (listed.task, listed)).collect();
        let mut problems = Vec::new();
        for task in self.list() {
            if let Err(error) = self.begin_sink(&task) {
                let text = format!("its events are not written to its sink: {}", error.message);
                task.messages.add(Level::Warn, &text);
                problems.push(format!("task {} ({}): {text}", task.id, task.spec.name));
            }
            let result = self.make_run(&task, listed.remove(&task.id), numbers, &mut problems);
            if let Err(error) = result {
                let why = match error.is_loader_lost() {
                    true if task.with(|current| current.deaths) < DEATHS => return Err(error),
                    true => format!("the loader has ended {DEATHS} times while it loaded this task"),
                    false => error.message.clone(),
                };
                problems.push(format!("task {} ({}): {why}", task.id, task.spec.name));
                task.current().status = Status::Failed(why);
                self.failures.notify_one();
                if error.is_loader_lost() {
                    return Err(error);
                }
            }
        }
        for task in listed.into_keys() {
            problems.push(format!("task {task} is stopped, because it has no file"));
            self.loader.run(&Request::Unload { task })?;
        }
        let tasks = self.list();
        self.state.remove_packages(|name| tasks.iter().any(|task| task.current().digest == name));
        Ok(problems)
    }

    fn make_run(
        &self,
        task: &Arc<Task>,
        found: Option<Listed>,
        numbers: &mut Numbers,
        problems: &mut Vec<String>,
    ) -> Result<()> {
        if let Status::Failed(_) = task.with(|current| current.status.clone()) {
            return found.map_or(Ok(()), |_| self.loader.run(&Request::Unload { task: task.id }));
        }
        self.stop_reading(task);
        if let Some(found) = &found {
            let adopted = match found.wanted == task.spec.identity() {
                true if found.is_loaded || found.is_pinned => self.adopt(task, found, numbers),
                _ => Err(ApiError::invalid("it is not loaded, or it is loaded with other arguments")),
            };
            match adopted {
                Err(error) if !error.is_loader_lost() => {
                    let text = format!("task {} is loaded again: {}", task.id, error.message);
                    problems.push(text);
                }
                adopted => return adopted,
            }
            self.loader.run(&Request::Unload { task: task.id })?;
        }
        note_gap(task);
        self.start_again(task, numbers)
    }

    /// Reads the events of a task that the loader runs, or that an earlier loader has left attached.
    fn adopt(&self, task: &Task, found: &Listed, numbers: &mut Numbers) -> Result<()> {
        let failed = |why: String| ApiError::invalid(why);
        let package = self.state.package(&found.digest).map_err(failed)?;
        for (age, digest) in (1..).zip(&found.old) {
            let package = self.state.package(digest).map_err(failed)?;
            let exported = self.loader.load(&Request::Adopt { task: task.id, age })?;
            self.read_last(task, &package, exported, numbers)?;
        }
        if found.is_pinned {
            self.recover(task, &package, numbers)?;
        } else {
            let exported = self.loader.load(&Request::Adopt { task: task.id, age: 0 })?;
            self.read_events(task, &package, exported, numbers)?;
        }
        let was = task.with(|current| {
            current.replaced = found.replaced;
            std::mem::replace(&mut current.digest, found.digest.clone())
        });
        if was != found.digest {
            self.save_or_complain(task);
        }
        self.pause_as_wanted(task, found.is_paused)
    }

    fn pause_as_wanted(&self, task: &Task, is_paused: bool) -> Result<()> {
        let on = task.with(|current| current.status == Status::Paused);
        match on == is_paused {
            true => Ok(()),
            false => self.loader.run(&Request::Pause { task: task.id, on }),
        }
    }

    fn start_again(&self, task: &Task, numbers: &mut Numbers) -> Result<()> {
        let digest = task.with(|current| current.digest.clone());
        let package = self.state.package(&digest).map_err(ApiError::invalid)?;
        // The task is marked, as at its first start: if attaching it crashes the machine, it is not attached again.
        task.current().attaching = Some(self.state.boot().to_owned());
        let saved = self.state.save(&task.record());
        saved.map_err(|error| ApiError::invalid(format_args!("its state cannot be saved: {error}")))?;
        task.current().deaths += 1;
        self.attach(task, &package, numbers)?;
        task.current().deaths = 0;
        self.pause_as_wanted(task, false)
    }
}
