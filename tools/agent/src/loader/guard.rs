//! Judges each package by the policy before its programs are attached, and writes the verdict to the audit log.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use eunomia::internal::constants::prog_type;
use eunomia::internal::count_runs;
use eunomia::package::Package;
use eunomia::vm::{LoadedCode, ProgInfo};
use eunomia::{Error, Hint, Status};
use eunomia_effects::{Judged, KernelTypes, class, judge};
use serde_json::{Map, Value, json};

use super::protocol::{Failure, Origin};
use crate::audit::Audit;
use crate::limits::Limits;
use crate::parser::Parsers;
use crate::policy::Policy;
use crate::spec::digest;

/// The sysctl with which an administrator makes the kernel count the time of all programs.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Why a budget of processor time cannot be kept.
const NO_STATISTICS: &str = "the kernel does not count the time of programs; start the loader with a policy that has cpu_percent or total_cpu_percent, and with CAP_SYS_ADMIN, or set the sysctl kernel.bpf_stats_enabled to 1";

/// The settings of the loader.
pub struct Config {
    /// The policy file. `None`: the default one, if it exists.
    pub policy: Option<PathBuf>,
    /// The file of the audit log, if there is to be one.
    pub audit: Option<PathBuf>,
    /// Starts a process that calls [`parser::serve`](crate::parser::serve).
    pub parser: fn() -> Command,
}

/// The policy and the audit log in force.
pub struct Guard {
    config: Config,
    policy: Policy,
    audit: Audit,
    /// While this descriptor is open, the kernel counts the time of all programs.
    statistics: Option<OwnedFd>,
    /// The two ends of a connection that notifies the server of tasks that are throttled or stopped.
    changes: (UnixStream, UnixStream),
    parsers: Parsers,
}

/// A package that is being judged, for the audit log.
pub struct Case<'a> {
    guard: &'a Guard,
    line: Map<String, Value>,
}

type Result<T> = std::result::Result<T, Failure>;

impl Guard {
    /// Reads the policy and opens the log. The error is one line.
    pub fn open(config: Config, statistics: Option<OwnedFd>) -> std::result::Result<Guard, String> {
        let policy = Policy::load(config.policy.as_deref())?;
        let audit = Audit::open(config.audit.as_deref())?;
        let changes = UnixStream::pair().and_then(|(own, other)| {
            own.set_nonblocking(true)?;
            other.set_nonblocking(true).map(|()| (own, other))
        });
        let changes = changes.map_err(|error| format!("a socket: {error}"))?;
        let parsers = Parsers::new(config.parser);
        let guard = Guard { config, policy, audit, statistics, changes, parsers };
        guard.check_statistics(&guard.policy).map(|()| guard)
    }

    /// Makes the kernel count the time of programs, if the policy limits it. Call it before privileges are dropped. A failure is
    /// reported when the policy is read.
    pub fn statistics(config: &Config) -> Option<OwnedFd> {
        let policy = Policy::load(config.policy.as_deref()).ok()?;
        if policy.limits_time() { count_runs().ok() } else { None }
    }

    /// The descriptor that becomes readable when a task is throttled or stopped.
    pub fn changes(&self) -> BorrowedFd<'_> {
        self.changes.1.as_fd()
    }

    /// Notifies the server that a task is throttled or stopped.
    pub fn notify(&self) {
        // It is readable already if it cannot be written.
        let _ = (&self.changes.0).write(&[1]);
    }

    /// Whether the kernel counts the time of programs.
    fn has_statistics(&self) -> bool {
        let is_on = || std::fs::read_to_string(STATISTICS).is_ok_and(|text| text.trim() == "1");
        self.statistics.is_some() || is_on()
    }

    fn check_statistics(&self, policy: &Policy) -> std::result::Result<(), String> {
        match !policy.limits_time() || self.has_statistics() {
            true => Ok(()),
            false => Err(format!("cpu_percent: {NO_STATISTICS}")),
        }
    }

    /// Checks that the limits of a request can be enforced.
    pub fn check_limits(&self, limits: &Limits) -> Result<()> {
        match limits.cpu_percent.is_none() || self.has_statistics() {
            true => Ok(()),
            false => Err(Failure::new(Status::Inval, format_args!("limits.cpu_percent: {NO_STATISTICS}"))),
        }
    }

    /// Reads the policy and opens the log again. If one fails, both stay as they were.
    pub fn reload(&mut self) -> std::result::Result<(), String> {
        let policy = Policy::load(self.config.policy.as_deref())?;
        self.check_statistics(&policy)?;
        let audit = Audit::open(self.config.audit.as_deref())?;
        (self.policy, self.audit) = (policy, audit);
        Ok(())
    }

    /// The paths of both files as JSON. The server compares them with its own options.
    pub fn files(&self) -> String {
        json!([self.config.policy, self.config.audit]).to_string()
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Writes to the audit log what happens to a task. Fails only if the line cannot be written.
    pub fn note(&self, action: &str, task: u64) -> Result<()> {
        let line = Map::from_iter([("action".into(), json!(action)), ("task".into(), json!(task))]);
        self.audit.write("loader", line, false).map_err(|error| not_noted(&error))
    }

    /// Prepares for the next package, so that judging it takes less time.
    pub fn prepare(&self) {
        self.parsers.prepare();
    }

    /// Begins to judge a package.
    pub fn case(&self, action: &str, task: u64, package: &[u8], origin: &Origin) -> Case<'_> {
        let digest = format!("sha256:{}", digest(package));
        let line = json!({"action": action, "task": task, "who": origin.who, "digest": digest});
        let Value::Object(line) = line else { unreachable!("it is an object") };
        Case { guard: self, line }
    }
}

impl Case<'_> {
    /// Checks that the package may be loaded, by all rules that can be checked before the kernel has it.
    pub fn admit(&mut self, package: &[u8], origin: &Origin) -> Result<()> {
        let policy = &self.guard.policy;
        let signer = policy.check_source(origin.caller, package, origin.signature.as_deref())?;
        self.line.insert("allowed_by".into(), json!(signer));
        let programs = self.guard.parsers.read(package)?;
        self.note_effects(&programs);
        policy.check_programs(&programs)
    }

    /// Checks that the loaded programs may be attached, while other tasks use `others` bytes of kernel memory. `limits` are those of the
    /// request. Returns whether the programs can do more than observe.
    pub fn judge(
        &mut self,
        package: &[u8],
        loaded: &LoadedCode,
        (others, limits): (u64, &Limits),
    ) -> Result<bool> {
        let programs = judge(loaded, &KernelTypes::default());
        self.note_effects(&programs);
        let policy = &self.guard.policy;
        policy.check_programs(&programs)?;
        policy.check_targets(&Package::parse(package)?.meta, loaded)?;
        policy.check_memory(loaded.kernel_memory, others)?;
        limits.check_memory(loaded.kernel_memory)?;
        Ok(interferes(loaded, &programs))
    }

    /// Writes that a package which runs is taken over. Returns whether its programs can do more than observe.
    pub fn note_recovered(&mut self, loaded: &LoadedCode) -> bool {
        let programs = judge(loaded, &KernelTypes::default());
        self.note_effects(&programs);
        // It runs even if the line cannot be written.
        let _ = self.write("taken over", false);
        interferes(loaded, &programs)
    }

    /// Converts an error of the library. If the limit for kernel memory has caused it, the result names the rule that sets the limit.
    pub fn failed(&self, error: Error) -> Failure {
        let policy = &self.guard.policy;
        match policy.memory_rule() {
            Some(rule) if matches!(error.hint(), Some(Hint::KernelMemory)) => {
                policy.no_memory(rule, error.message())
            }
            _ => error.into(),
        }
    }

    /// Writes that the package is allowed. The line is on the disk before the programs are attached, because they may crash the
    /// machine.
    pub fn allow(&self) -> Result<()> {
        self.write("allowed", true)
    }

    /// Writes why the package is refused.
    pub fn refuse(&self, failure: Failure) -> Failure {
        match self.write(&failure.message, false) {
            Ok(()) => failure,
            Err(other) => other,
        }
    }

    fn write(&self, result: &str, is_safe: bool) -> Result<()> {
        let mut line = self.line.clone();
        line.insert("result".into(), json!(result));
        self.guard.audit.write("loader", line, is_safe).map_err(|error| not_noted(&error))
    }

    fn note_effects(&mut self, programs: &[Judged]) {
        let mut effects: Vec<&String> =
            programs.iter().flat_map(|program| &program.findings.effects).collect();
        effects.sort();
        effects.dedup();
        self.line.insert("effects".into(), json!(effects));
    }
}

/// The types of programs that only observe, unless they call helpers that do more. All others may drop, deny or rewrite something.
const OBSERVING: [u32; 5] = [
    prog_type::KPROBE,
    prog_type::TRACEPOINT,
    prog_type::PERF_EVENT,
    prog_type::RAW_TRACEPOINT,
    prog_type::TRACING,
];

/// The effects of programs that only observe.
const HARMLESS: [&str; 3] = ["reads memory of processes", "reads memory of the kernel", "shares pinned maps"];

/// Whether programs can do more than observe, by their types, and by what they call and return.
fn interferes(loaded: &LoadedCode, programs: &[Judged]) -> bool {
    loaded.programs.iter().any(|(program, _)| has_type_to_change(program)) || programs.iter().any(changes)
}

/// Whether programs of this type may change what others do.
fn has_type_to_change(program: &ProgInfo) -> bool {
    !OBSERVING.contains(&program.kind) || program.section.to_bytes().starts_with(b"fmod_ret")
}

/// Whether a program can change what others do, by what it calls and returns.
fn changes(program: &Judged) -> bool {
    program.findings.effects.iter().any(|effect| !HARMLESS.contains(&class(effect)))
}

fn not_noted(error: &std::io::Error) -> Failure {
    Failure::new(
        Status::System,
        format_args!("the audit log cannot be written, so nothing was changed: {error}"),
    )
}
