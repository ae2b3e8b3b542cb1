//! Measures what tasks use, and suspends or stops the programs of those that use too much.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::budget::{Meter, Used, Verdict, deadline, decide, is_metered};
use super::guard::Guard;
use super::running::{Loaded, Running, Tasks};
use super::say;

impl Tasks {
    /// Compares all tasks with their budgets. `events` contains the number of each task and of its events, as the server has counted
    /// them. Returns what the tasks use, as JSON.
    pub fn measure(&mut self, guard: &Guard, events: &[(u64, u64)]) -> String {
        let now = Instant::now();
        let (each, total) = guard.policy().budgets();
        let mut metered = Vec::new();
        let mut stopped = Map::new();
        for (task, Running { loaded, limits, is_paused, .. }) in &mut self.0 {
            let Some(loaded) = loaded.as_mut() else { continue };
            if loaded.meter.is_stopped() {
                stopped.insert(task.to_string(), loaded.meter.to_json());
                continue;
            }
            loaded.resume();
            if *is_paused || !is_metered(&each, &total, limits) {
                loaded.meter = Meter::default();
                continue;
            }
            if let Some((_, count)) = events.iter().find(|(known, _)| known == task) {
                loaded.events = *count;
            }
            let used = Used { run_ns: loaded.vm.stats().run_ns, events: loaded.events };
            loaded.meter.measure(now, used);
            metered.push((*task, loaded, *limits));
        }
        let mut meters: Vec<_> =
            metered.iter_mut().map(|(_, loaded, limits)| (&mut loaded.meter, *limits)).collect();
        let verdicts = decide(&mut meters, &each, &total, now);
        let mut all = stopped;
        for ((task, loaded, _), verdict) in metered.into_iter().zip(verdicts) {
            loaded.enforce(guard, task, &verdict);
            all.insert(task.to_string(), loaded.meter.to_json());
        }
        json!({"tasks": Value::Object(all)}).to_string()
    }

    /// Suspends the programs whose part of a second has ended. Returns the time until something else is due, if a task has a budget.
    pub fn regulate(&mut self, guard: &Guard) -> Option<Duration> {
        let is_late = |tasks: &Tasks| deadline(tasks.meters(), true).is_some_and(|at| at <= Instant::now());
        if is_late(self) {
            self.measure(guard, &[]);
        }
        let now = Instant::now();
        for (task, running) in &mut self.0 {
            let Some(loaded) = running.loaded.as_mut() else { continue };
            if loaded.meter.off_at().is_some_and(|at| at <= now) {
                match loaded.vm.suspend(true) {
                    Ok(()) => loaded.meter.suspend(now),
                    Err(error) => {
                        say(format_args!("task {task} cannot be throttled: {error}"));
                        loaded.meter.keep_running();
                    }
                }
            }
        }
        deadline(self.meters(), false).map(|at| at.saturating_duration_since(now))
    }

    fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.0.values().filter_map(|running| Some(&running.loaded.as_ref()?.meter))
    }
}

impl Loaded {
    /// Begins to compare the task with its budget, if it has one.
    pub fn begin_metering(&mut self, guard: &Guard, limits: &crate::limits::Limits) {
        let (each, total) = guard.policy().budgets();
        if is_metered(&each, &total, limits) {
            self.meter.measure(Instant::now(), Used::default());
        }
    }

    /// Makes its programs run, if they are suspended.
    pub fn resume(&mut self) {
        if self.meter.is_suspended() {
            if let Err(error) = self.vm.suspend(false) {
                say(format_args!("programs stay suspended: {error}"));
            }
            self.meter.resume(Instant::now());
        }
    }

    fn enforce(&mut self, guard: &Guard, task: u64, verdict: &Verdict) {
        if *verdict == Verdict::Fine {
            return;
        }
        // This call changes nothing; it fails if the programs cannot be suspended.
        if !self.interferes && self.vm.suspend(false).is_ok() {
            return;
        }
        if *verdict == Verdict::Throttle {
            return self.meter.keep_running();
        }
        if let Err(error) = self.vm.detach() {
            say(format_args!("task {task} cannot be detached: {error}"));
        }
        let why = self.meter.stop();
        say(format_args!("task {task} is stopped: {why}"));
        // The programs are detached even if the log cannot be written.
        let _ = guard.note(&format!("stop: {why}"), task);
    }
}
