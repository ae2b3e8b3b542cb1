//! Measures what tasks use, and suspends or stops the programs of those that use too much.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use eunomia::Vm;
use serde_json::{Value, json};

use super::budget::{Meter, Used, Verdict, deadline, decide, is_metered};
use super::guard::Guard;
use super::running::{Loaded, Running, Tasks};
use super::say;
use crate::log::count;

impl Tasks {
    /// Begins to compare tasks with their budgets, if they have one and this has not begun. Call it after a change of tasks or policy.
    pub fn begin_metering(&mut self, guard: &Guard) {
        let (each, total) = guard.policy().budgets();
        for Running { loaded, log, limits, is_paused, .. } in self.0.values_mut() {
            let Some(loaded) = loaded.as_mut().filter(|loaded| !loaded.meter.is_metered()) else { continue };
            if !*is_paused && is_metered(&each, &total, limits) {
                loaded.meter.begin(Instant::now(), used(&loaded.vm, log.as_ref()));
            }
        }
    }

    /// Compares all tasks with their budgets. Notifies the server if a task is throttled or stopped, or no longer throttled.
    fn measure(&mut self, guard: &Guard) {
        let now = Instant::now();
        let (each, total) = guard.policy().budgets();
        let mut metered = Vec::new();
        for (task, Running { loaded, log, limits, is_paused, .. }) in &mut self.0 {
            let Some(loaded) = loaded.as_mut().filter(|loaded| !loaded.meter.is_stopped()) else { continue };
            loaded.resume();
            if *is_paused || !is_metered(&each, &total, limits) {
                loaded.meter = Meter::default();
                continue;
            }
            loaded.meter.measure(now, used(&loaded.vm, log.as_ref()));
            metered.push((*task, loaded, *limits));
        }
        let before: Vec<_> = metered.iter().map(|(_, loaded, _)| loaded.meter.verdict()).collect();
        let mut meters: Vec<_> =
            metered.iter_mut().map(|(_, loaded, limits)| (&mut loaded.meter, *limits)).collect();
        let verdicts = decide(&mut meters, &each, &total, now);
        for (((task, loaded, _), verdict), before) in metered.into_iter().zip(verdicts).zip(before) {
            loaded.enforce(guard, task, &verdict);
            if loaded.meter.verdict() != before {
                guard.notify();
            }
        }
    }

    /// Returns what the tasks with a budget use, as JSON.
    pub fn usage(&self) -> String {
        let metered = self.0.iter().filter_map(|(task, running)| {
            let meter = &running.loaded.as_ref()?.meter;
            meter.is_metered().then(|| (task.to_string(), meter.to_json()))
        });
        json!({"tasks": Value::Object(metered.collect())}).to_string()
    }

    /// Suspends the programs whose part of a second has ended. Returns the time until something else is due, if a task has a budget.
    pub fn regulate(&mut self, guard: &Guard) -> Option<Duration> {
        let is_late = |tasks: &Tasks| deadline(tasks.meters(), true).is_some_and(|at| at <= Instant::now());
        if is_late(self) {
            self.measure(guard);
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

/// What a task has used: the time of its programs, and the events that the server has added to its log.
fn used(vm: &Vm, log: Option<&OwnedFd>) -> Used {
    Used { run_ns: vm.stats().run_ns, events: log.map_or(0, |log| count(log.as_fd())) }
}

impl Loaded {
    /// Begins the period again, because the log already has events.
    pub fn begin_with_log(&mut self, log: &OwnedFd) {
        if self.meter.is_metered() && !self.meter.is_stopped() {
            self.meter.begin(Instant::now(), used(&self.vm, Some(log)));
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
