//! The administrator's rules for what may be started. The loader reads the rules, and no request changes them.
//!
//! Each function checks one thing. An error names the rule and what to do.

mod file;
mod targets;

use std::path::{Path, PathBuf};

use eunomia::vm::LoadedCode;
use eunomia_effects::{Judged, class, names};
use eunomia_signature::Trust;

use crate::loader::protocol::{Caller, Failure};
use crate::spec::digest;
use file::{Callers, Condition, Rules};

pub use file::DEFAULT as DEFAULT_FILE;

/// Limits on what programs may use in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Processor time in percent of one CPU.
    pub cpu_percent: Option<u64>,
    /// Number of events.
    pub events_per_second: Option<u64>,
}

/// The rules in force.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file; `None`: there is none, and the defaults apply.
    path: Option<PathBuf>,
    rules: Rules,
    trust: Trust,
}

type Result<T> = std::result::Result<T, Failure>;

impl Policy {
    /// Reads a file and the keys that it names. Without a path, it reads [`DEFAULT_FILE`] if that exists. The error is one line.
    pub fn load(path: Option<&Path>) -> std::result::Result<Policy, String> {
        let default = Path::new(DEFAULT_FILE);
        let path = path.or_else(|| default.exists().then_some(default));
        let rules = path.map_or_else(|| Ok(Rules::default()), file::read)?;
        let trust = Trust::open(vec![rules.keys.clone()])?;
        Ok(Policy { path: path.map(Path::to_owned), rules, trust })
    }

    /// Checks that this caller may start this package. Returns the signer, if it is known.
    pub fn check_source(
        &self,
        caller: Caller,
        package: &[u8],
        signature: Option<&str>,
    ) -> Result<Option<String>> {
        let (name, condition) = self.rules.callers.of(caller);
        let signed = self.trust.check(package, signature);
        match condition {
            Condition::Any => Ok(signed.ok()),
            Condition::Signed if self.rules.digests.iter().any(|known| *known == digest(package)) => {
                Ok(Some("its digest is in the policy".into()))
            }
            Condition::Signed => signed.map(Some).map_err(|why| {
                let keys = self.rules.keys.display();
                let hint = format!(
                    "sign the package with a key in {keys}, add its digest to digests in {0}, or set callers.{name} = \"any\" there",
                    self.file()
                );
                let text = format!("{name} callers may start signed packages only, and this one is {why}");
                Failure::refused("callers", text, hint)
            }),
            Condition::None => {
                let text = format!("{name} callers may not start packages");
                let hint = format!("start it as root over the unix socket, or set callers.{name} in {}", self.file());
                Err(Failure::refused("callers", text, hint))
            }
        }
    }

    /// Checks that one more task may run.
    pub fn check_count(&self, running: usize) -> Result<()> {
        match self.rules.tasks {
            Some(most) if running >= most => {
                let text = format!("{running} tasks run already");
                Err(Failure::refused("tasks", text, format!("stop one, or raise tasks in {}", self.file())))
            }
            _ => Ok(()),
        }
    }

    /// Returns the maximum kernel memory of a task, in bytes, while other tasks use `others`. 0: the library's own limit applies.
    pub fn memory(&self, others: u64) -> Result<u64> {
        let rest = match self.rules.total_memory_mib.map(bytes) {
            Some(total) if others >= total => {
                return Err(self.no_memory("total_memory_mib", "no kernel memory is left"));
            }
            total => total.map(|total| total - others),
        };
        let each = self.rules.memory_mib.map(bytes);
        Ok([rest, each].into_iter().flatten().min().unwrap_or(0))
    }

    /// Checks that a task may use `own` bytes of kernel memory while other tasks use `others`.
    pub fn check_memory(&self, own: u64, others: u64) -> Result<()> {
        let limits = [
            ("memory_mib", self.rules.memory_mib, own),
            ("total_memory_mib", self.rules.total_memory_mib, own.saturating_add(others)),
        ];
        for (rule, limit, used) in limits {
            if limit.is_some_and(|limit| used > bytes(limit)) {
                return Err(self.no_memory(rule, &format!("{used} bytes of kernel memory would be in use")));
            }
        }
        Ok(())
    }

    /// The error for a package that the limits of kernel memory refuse.
    pub fn no_memory(&self, rule: &'static str, why: &str) -> Failure {
        Failure::refused(rule, why, format!("stop a task, or raise {rule} in {}", self.file()))
    }

    /// Returns the rule that sets the limit of [`memory`](Policy::memory), if the policy limits memory.
    pub fn memory_rule(&self) -> Option<&'static str> {
        match (self.rules.memory_mib, self.rules.total_memory_mib) {
            (Some(each), Some(total)) if total < each => Some("total_memory_mib"),
            (Some(_), _) => Some("memory_mib"),
            (None, Some(_)) => Some("total_memory_mib"),
            (None, None) => None,
        }
    }

    /// Whether the policy names a place from which the server may download packages.
    pub fn has_sources(&self) -> bool {
        !self.rules.sources.is_empty()
    }

    /// Checks that the server may download a package from there: a URL or an image. Nothing in it may lead to another place.
    pub fn check_location(&self, source: &str) -> Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'\\';
        let is_below = self.rules.sources.iter().any(|place| source.starts_with(place));
        match is_below && !source.contains("..") && source.bytes().all(is_plain) {
            true => Ok(()),
            false => {
                let text = format!("{source:?} is below none of the places {:?}", self.rules.sources);
                let hint = format!("send the package itself, or add the place to sources in {}", self.file());
                Err(Failure::refused("sources", text, hint))
            }
        }
    }

    /// The directories beneath which events may be written.
    pub fn sink_folders(&self) -> &[PathBuf] {
        &self.rules.sink_folders
    }

    /// The limits of each task, and those of all tasks together.
    pub fn budgets(&self) -> (Budget, Budget) {
        let Rules { cpu_percent, total_cpu_percent, events_per_second, total_events_per_second, .. } =
            self.rules;
        let total = Budget { cpu_percent: total_cpu_percent, events_per_second: total_events_per_second };
        (Budget { cpu_percent, events_per_second }, total)
    }

    /// Whether the processor time of programs is limited.
    pub fn limits_time(&self) -> bool {
        let (each, total) = self.budgets();
        each.cpu_percent.or(total.cpu_percent).is_some()
    }

    /// Checks the types, calls and effects of programs.
    pub fn check_programs(&self, programs: &[Judged]) -> Result<()> {
        for Judged { name, kind, findings } in programs {
            let kind = names::program(*kind);
            let calls = findings.helpers.iter().map(|helper| format!("bpf_{}", names::helper(*helper)));
            let calls: Vec<String> = calls.chain(findings.kfuncs.iter().cloned()).collect();
            self.check_list(
                "program_types",
                &self.rules.program_types,
                name,
                "is of the type",
                &[kind],
                |it| it,
            )?;
            self.check_list("calls", &self.rules.calls, name, "calls", &calls, |it| it)?;
            let effects: Vec<String> = findings.effects.iter().cloned().collect();
            self.check_list("effects", &self.rules.effects, name, "has the effect", &effects, class)?;
        }
        Ok(())
    }

    /// Checks that everything in `found` is in the list of a rule. `word` converts it to the word that the list uses.
    fn check_list(
        &self,
        rule: &'static str,
        allowed: &Option<Vec<String>>,
        program: &str,
        verb: &str,
        found: &[String],
        word: fn(&str) -> &str,
    ) -> Result<()> {
        let Some(allowed) = allowed else { return Ok(()) };
        match found.iter().find(|found| !allowed.iter().any(|it| it == word(found))) {
            None => Ok(()),
            Some(found) => {
                let text = format!("the program {program:?} {verb} {found:?}");
                let hint = format!("if that is intended, add {:?} to {rule} in {}", word(found), self.file());
                Err(Failure::refused(rule, text, hint))
            }
        }
    }

    /// Checks that programs may attach to the files and control groups that the package names.
    pub fn check_targets(&self, meta: &eunomia::package::Meta, loaded: &LoadedCode) -> Result<()> {
        let file = self.file();
        for (program, _) in &loaded.programs {
            targets::check(&self.rules, &file, meta, program)?;
        }
        Ok(())
    }

    /// The path of the policy file, for hints.
    fn file(&self) -> String {
        self.path.as_deref().unwrap_or(Path::new(DEFAULT_FILE)).display().to_string()
    }
}

fn bytes(mib: u64) -> u64 {
    mib.saturating_mul(1 << 20)
}

impl Callers {
    /// Returns the word for a caller, and the condition on what it may start.
    fn of(&self, caller: Caller) -> (&'static str, Condition) {
        match caller {
            Caller::Root => ("root", self.root),
            Caller::Local => ("local", self.local),
            Caller::Network => ("network", self.network),
        }
    }
}

#[cfg(test)]
mod tests;
