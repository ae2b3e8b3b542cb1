//! Starts failed tasks again according to their restart policies.
//!
//! A task is not started again if it may have crashed the machine, or if the loader has ended several times while it loaded the task.

use std::sync::Arc;
use std::time::Instant;

use eunomia::Level;

use super::reading::note_gap;
use super::reconcile::DEATHS;
use super::{Numbers, Tasks, not_saved};
use crate::error::{ApiError, Result};
use crate::loader::protocol::Request;
use crate::restart::Restart;
use crate::task::{Status, Task};

impl Tasks {
    /// Starts the failed tasks that are due. Returns the time of the next one. Call it on a thread of the runtime.
    pub fn retry(self: &Arc<Self>) -> Option<Instant> {
        for task in self.list() {
            if self.next_attempt(&task).is_some_and(|at| at <= Instant::now()) {
                self.attempt(&task);
            }
        }
        self.list().iter().filter_map(|task| self.next_attempt(task)).min()
    }

    /// The time at which a task is started again; `None`: it runs, or it is not started again.
    fn next_attempt(&self, task: &Task) -> Option<Instant> {
        let mut current = task.current();
        let has_failed = matches!(current.status, Status::Failed(_));
        let has_crashed = current.attaching.as_ref().is_some_and(|boot| boot != self.state.boot());
        let may_start = match task.spec.restart {
            Restart::Never => false,
            Restart::OnFailure => !current.is_over_budget,
            Restart::Always => true,
        };
        if !has_failed || has_crashed || current.deaths >= DEATHS || !may_start {
            current.failed_at = None;
            return None;
        }
        let now = Instant::now();
        if current.failed_at.is_none() {
            current.attempts.forget_old(now);
        }
        let since = *current.failed_at.get_or_insert(now);
        Some(current.attempts.next(since))
    }

    fn attempt(self: &Arc<Self>, task: &Arc<Task>) {
        let count = task.with(|current| {
            current.attempts.note(Instant::now());
            current.attempts.count()
        });
        let started = self.begin(task.id).and_then(|(task, _change, mut numbers)| {
            match task.with(|current| matches!(current.status, Status::Failed(_))) {
                true => self.start_failed(&task, &mut numbers),
                false => Ok(()),
            }
        });
        let (level, result) = match &started {
            Ok(()) => (Level::Info, "it runs"),
            Err(error) => (Level::Warn, &*error.message),
        };
        let text = format!("attempt {count} to start it again: {result}");
        say!("task {} ({}): {text}", task.id, task.spec.name);
        task.messages.add(level, &text);
        match started {
            Ok(()) => self.note_healthy_later(task),
            Err(error) if error.is_loader_lost() => {}
            Err(error) => task.current().status = Status::Failed(error.message),
        }
    }

    /// Starts a failed task again.
    pub(super) fn start_failed(&self, task: &Task, numbers: &mut Numbers) -> Result<()> {
        // Removes what the failed start may have left in the loader.
        self.loader.run(&Request::Unload { task: task.id })?;
        self.stop_reading(task);
        let digest = task.current().digest.clone();
        let package = self.state.package(&digest);
        let package =
            package.map_err(|why| ApiError::new(http::StatusCode::INTERNAL_SERVER_ERROR, "state", why))?;
        task.current().attaching = Some(self.state.boot().to_owned());
        self.state.save(&task.record()).map_err(|error| not_saved(&error))?;
        note_gap(task);
        self.attach(task, &package, numbers)?;
        task.with(|current| (current.status, current.deaths) = (Status::Running, 0));
        Ok(())
    }
}
