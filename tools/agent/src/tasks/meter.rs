//! Records what tasks use, as the loader compares it with their budgets.

use std::os::fd::OwnedFd;

use eunomia::Level;
use serde_json::Value;

use super::Tasks;
use crate::error::Result;
use crate::task::{Status, Task};

impl Tasks {
    /// Records what all tasks use. Returns a descriptor that becomes readable when this must be repeated, if a task has a budget.
    pub fn meter(&self) -> Result<Option<OwnedFd>> {
        let (text, changes) = self.loader.usage()?;
        let mut used: Value = serde_json::from_str(&text).unwrap_or_default();
        let used = &mut used["tasks"];
        let tasks = self.list();
        for task in &tasks {
            self.note_usage(task, used[task.id.to_string()].take());
        }
        let is_metered = tasks.iter().any(|task| task.with(|current| current.usage["stopped"] == false));
        Ok(is_metered.then_some(changes))
    }

    /// Records what a task uses: an object as the loader sends it, or null without a budget.
    fn note_usage(&self, task: &Task, usage: Value) {
        let mut current = task.current();
        let before = std::mem::replace(&mut current.usage, usage);
        let Some(why) = current.usage["throttled_by"].as_str().map(str::to_owned) else { return };
        if current.usage["stopped"] == true && current.status == Status::Running {
            say!("task {} ({}): stopped: {why}", task.id, task.spec.name);
            task.messages.add(Level::Error, &format!("stopped: {why}"));
            (current.status, current.is_over_budget) = (Status::Failed(why), true);
            self.failures.notify_one();
        } else if before["throttled_by"].is_null() {
            task.messages.add(Level::Warn, &format!("throttled: {why}"));
        }
    }
}
