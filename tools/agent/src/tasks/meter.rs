//! Requests that the loader compares what tasks use with their budgets, and records the result.

use std::sync::Arc;

use eunomia::Level;
use serde_json::Value;

use super::Tasks;
use crate::loader::protocol::Request;
use crate::task::{Status, Task};

impl Tasks {
    /// Compares all tasks with their budgets. Returns whether one has a budget, so that this must be repeated.
    pub fn meter(&self) -> bool {
        // No other request may come between those of a replace.
        let _numbers = self.numbers();
        let tasks = self.list();
        let events = tasks.iter().map(|task| (task.id, task.totals().events)).collect();
        let Ok(text) = self.loader.text(&Request::Usage { events }) else { return false };
        let mut used: Value = serde_json::from_str(&text).unwrap_or_default();
        let used = &mut used["tasks"];
        for task in &tasks {
            self.note_usage(task, used[task.id.to_string()].take());
        }
        let is_metered = |task: &Arc<Task>| task.with(|current| current.usage["stopped"] == false);
        tasks.iter().any(is_metered)
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
