//! Keeps programs within their budgets: those of the policy, and the limits of the request that has started a task.
//!
//! Once per second the loader compares what each task has used with what it may use. Programs that use too much run only for a part of
//! the next second: their dispatchers call nothing for the rest of it. Programs that drop, deny or rewrite, and those without a
//! dispatcher, are stopped instead. Nothing here runs without a budget.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::limits::Limits;
use crate::policy::Budget;

/// The time between two comparisons.
const PERIOD: Duration = Duration::from_secs(1);
/// The smallest part of a second in which programs run. It is not 0, because their use can only be measured while they run.
const LEAST: f64 = 0.01;
/// Programs that cannot be throttled are stopped after this many seconds with too much use.
const STRIKES: u32 = 3;
/// One percent of the time of a CPU in a second, in nanoseconds.
const PERCENT: f64 = 1e7;

/// The amounts that a task has used since it was started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// The time of all runs of its programs.
    pub run_ns: u64,
    /// The number of its events.
    pub events: u64,
}

/// The limit on what a task may use in a second, and the name of the rule that sets it. `None` means no limit.
type Allowed = Option<(f64, &'static str)>;

/// Measures what one task uses.
#[derive(Debug, Default)]
pub struct Meter {
    before: Used,
    begun: Option<Instant>,
    /// The end of the part of this period in which its programs run.
    off_at: Option<Instant>,
    suspended_at: Option<Instant>,
    /// The time in which its programs were suspended: in this period, and in all earlier ones.
    skipped: Duration,
    skipped_before: Duration,
    /// The amounts that its programs would use in a second without throttling: percent of one CPU, and events.
    demand: [f64; 2],
    share: f64,
    strikes: u32,
    /// The rule that throttles the task, and what the task uses, as a message.
    why: Option<String>,
    stopped: bool,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The task keeps running.
    Fine,
    /// Its programs run for a part of the next second.
    Throttle,
    /// The task must be stopped if it cannot be throttled.
    TooMuch,
}

/// Returns the lower limit: that of the policy or that of the request.
fn lower(policy: Option<u64>, own: Option<u64>, rules: [&'static str; 2]) -> Allowed {
    let all = [policy, own].into_iter().zip(rules);
    let all = all.filter_map(|(limit, rule)| Some((limit? as f64, rule)));
    all.min_by(|one, other| one.0.total_cmp(&other.0))
}

/// The limits of a task on CPU time and events.
fn allowed(budget: &Budget, limits: &Limits) -> [Allowed; 2] {
    [
        lower(budget.cpu_percent, limits.cpu_percent, ["cpu_percent of the policy", "limits.cpu_percent"]),
        lower(
            budget.events_per_second,
            limits.events_per_second,
            ["events_per_second of the policy", "limits.events_per_second"],
        ),
    ]
}

/// Whether a task must be compared with its budget.
pub fn is_metered(each: &Budget, total: &Budget, limits: &Limits) -> bool {
    *total != Budget::default() || allowed(each, limits).iter().any(Option::is_some)
}

impl Meter {
    /// Begins the first period, or begins this period again.
    pub fn begin(&mut self, now: Instant, used: Used) {
        if self.begun.is_none() {
            self.share = 1.0;
        }
        (self.before, self.begun) = (used, Some(now));
    }

    /// Whether the task is compared with a budget.
    pub fn is_metered(&self) -> bool {
        self.begun.is_some()
    }

    /// Ends a period: records what the task has used in it.
    pub fn measure(&mut self, now: Instant, used: Used) {
        self.resume(now);
        let period = self.begun.map_or(Duration::ZERO, |begun| now.duration_since(begun));
        let on = period.saturating_sub(self.skipped).as_secs_f64();
        if on > 0.0 {
            let part = |now: u64, before: u64| now.saturating_sub(before) as f64 / on;
            self.demand =
                [part(used.run_ns, self.before.run_ns) / PERCENT, part(used.events, self.before.events)];
        }
        self.skipped_before += self.skipped;
        (self.before, self.begun, self.skipped, self.off_at) = (used, Some(now), Duration::ZERO, None);
    }

    /// Begins a period: compares the use in the previous period with the limits, and sets how long programs run in this one.
    fn decide(&mut self, now: Instant, allowed: [Allowed; 2]) -> Verdict {
        let units = ["% of one CPU", "events per second"];
        let mut share = 1.0;
        self.why = None;
        for ((demand, allowed), unit) in self.demand.into_iter().zip(allowed).zip(units) {
            let Some((most, rule)) = allowed.filter(|(most, _)| demand > *most) else { continue };
            let part = (most / demand).max(LEAST);
            if part < share {
                share = part;
                self.why = Some(format!("its programs use {demand:.0} {unit}; {rule} allows {most:.0}"));
            }
        }
        self.share = share;
        self.strikes = if share < 1.0 { self.strikes + 1 } else { 0 };
        self.off_at = (share < 1.0).then(|| now + PERIOD.mul_f64(share));
        match self.strikes {
            0 => Verdict::Fine,
            STRIKES.. => Verdict::TooMuch,
            _ => Verdict::Throttle,
        }
    }

    /// Records that its programs run all the time, because they cannot be throttled.
    pub fn keep_running(&mut self) {
        (self.share, self.off_at) = (1.0, None);
    }

    /// The time at which its programs must be suspended.
    pub fn off_at(&self) -> Option<Instant> {
        self.off_at
    }

    /// Whether its programs are suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspended_at.is_some()
    }

    /// Records that its programs are suspended.
    pub fn suspend(&mut self, now: Instant) {
        (self.suspended_at, self.off_at) = (Some(now), None);
    }

    /// Records that its programs run again.
    pub fn resume(&mut self, now: Instant) {
        if let Some(since) = self.suspended_at.take() {
            self.skipped += now.duration_since(since);
        }
    }

    /// Records that the task was stopped. Returns the reason.
    pub fn stop(&mut self) -> &str {
        (self.stopped, self.share, self.off_at) = (true, 0.0, None);
        self.why.as_deref().unwrap_or_default()
    }

    /// What the server reports to users when it changes: whether the task is throttled, and whether it was stopped.
    pub fn verdict(&self) -> (bool, bool) {
        (self.why.is_some(), self.stopped)
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Describes the last period.
    pub fn to_json(&self) -> Value {
        let [cpu, events] = self.demand;
        let skipped = self.skipped_before + self.skipped;
        json!({
            "cpu_percent": (cpu * 10.0).round() / 10.0, "events_per_second": events.round() as u64,
            "share_percent": (self.share * 100.0).round() as u64, "skipped_ms": skipped.as_millis() as u64,
            "throttled_by": self.why, "stopped": self.stopped,
        })
    }
}

/// Decides about all tasks that were measured. If they exceed the limit on their total, each gets a part of it in proportion to what
/// it uses, but at most its own limit.
pub fn decide(
    meters: &mut [(&mut Meter, Limits)],
    each: &Budget,
    total: &Budget,
    now: Instant,
) -> Vec<Verdict> {
    let mut all: Vec<[Allowed; 2]> = meters.iter().map(|(_, limits)| allowed(each, limits)).collect();
    let totals = [
        total.cpu_percent.map(|most| (most, "total_cpu_percent of the policy")),
        total.events_per_second.map(|most| (most, "total_events_per_second of the policy")),
    ];
    for (at, total) in totals.into_iter().enumerate() {
        let Some((most, rule)) = total else { continue };
        let used =
            |meter: &Meter, own: &Allowed| own.map_or(meter.demand[at], |(own, _)| own.min(meter.demand[at]));
        let sum: f64 = meters.iter().zip(&all).map(|((meter, _), own)| used(meter, &own[at])).sum();
        if sum <= most as f64 {
            continue;
        }
        for ((meter, _), own) in meters.iter().zip(&mut all) {
            own[at] = Some((used(meter, &own[at]) * most as f64 / sum, rule));
        }
    }
    meters.iter_mut().zip(all).map(|((meter, _), allowed)| meter.decide(now, allowed)).collect()
}

/// Returns the earliest time at which something is due: a comparison or, unless `is_end` is set, the suspension of programs.
pub fn deadline<'a>(meters: impl Iterator<Item = &'a Meter>, is_end: bool) -> Option<Instant> {
    let due = |meter: &Meter| {
        let end = meter.begun.filter(|_| !meter.stopped).map(|begun| begun + PERIOD);
        [meter.off_at.filter(|_| !is_end), end].into_iter().flatten().min()
    };
    meters.filter_map(due).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(cpu: Option<u64>, events: Option<u64>) -> Budget {
        Budget { cpu_percent: cpu, events_per_second: events }
    }

    /// The meter of a task that has used these amounts in its first second.
    fn meter(begin: Instant, run_ns: u64, events: u64) -> Meter {
        let mut meter = Meter::default();
        meter.measure(begin, Used::default());
        meter.measure(begin + PERIOD, Used { run_ns, events });
        meter
    }

    #[test]
    fn a_task_runs_for_the_part_of_a_second_that_its_budget_allows() {
        let begin = Instant::now();
        let mut heavy = meter(begin, 400_000_000, 10);
        let each = budget(Some(10), None);
        let mut now = begin + PERIOD;
        let verdicts = decide(&mut [(&mut heavy, Limits::default())], &each, &Budget::default(), now);
        assert_eq!((verdicts, heavy.off_at()), (vec![Verdict::Throttle], Some(now + PERIOD / 4)));
        assert_eq!(
            heavy.why.as_deref(),
            Some("its programs use 40 % of one CPU; cpu_percent of the policy allows 10")
        );
        heavy.suspend(now + PERIOD / 4);
        now += PERIOD;
        // It has used as much as before while it ran.
        heavy.measure(now, Used { run_ns: 500_000_000, events: 20 });
        decide(&mut [(&mut heavy, Limits::default())], &each, &Budget::default(), now);
        assert_eq!((heavy.share, heavy.to_json()["skipped_ms"].as_u64()), (0.25, Some(750)));
        // The task uses little now.
        heavy.suspend(now + PERIOD / 4);
        now += PERIOD;
        heavy.measure(now, Used { run_ns: 510_000_000, events: 20 });
        let verdicts = decide(&mut [(&mut heavy, Limits::default())], &each, &Budget::default(), now);
        assert_eq!((verdicts, heavy.off_at(), heavy.why), (vec![Verdict::Fine], None, None));
    }

    #[test]
    fn the_lower_one_of_policy_and_request_counts_and_the_total_is_shared() {
        let begin = Instant::now();
        let (mut one, mut two) = (meter(begin, 0, 300), meter(begin, 0, 100));
        let own = Limits { events_per_second: Some(200), ..Limits::default() };
        let each = budget(None, Some(1000));
        assert!(is_metered(&each, &Budget::default(), &Limits::default()));
        assert!(is_metered(&Budget::default(), &Budget::default(), &own));
        assert!(!is_metered(&Budget::default(), &Budget::default(), &Limits::default()));
        let total = budget(None, Some(150));
        let mut both = [(&mut one, own), (&mut two, Limits::default())];
        decide(&mut both, &each, &total, begin + PERIOD);
        // The tasks use 200 and 100 events, and 150 are allowed in total: 100 and 50.
        assert_eq!(((one.share * 300.0).round(), (two.share * 100.0).round()), (100.0, 50.0));
        assert!(two.why.unwrap().ends_with("total_events_per_second of the policy allows 50"));
    }

    #[test]
    fn too_much_is_too_much_after_three_seconds() {
        let begin = Instant::now();
        let mut meter = meter(begin, 900_000_000, 0);
        let verdicts = (1..=3).map(|second| {
            let now = begin + PERIOD * (second + 1);
            meter.measure(now, Used { run_ns: 900_000_000 * u64::from(second + 1), events: 0 });
            let verdict = decide(
                &mut [(&mut meter, Limits::default())],
                &budget(Some(1), None),
                &Budget::default(),
                now,
            );
            meter.keep_running();
            verdict[0].clone()
        });
        let verdicts: Vec<Verdict> = verdicts.collect();
        assert_eq!(verdicts, [Verdict::Throttle, Verdict::Throttle, Verdict::TooMuch]);
    }
}
