//! The verdict of the running kernel on each program of a package: loads them, attaches nothing, and unloads them again.

use std::fmt::{self, Display, Formatter};

use super::state::Vm;
use crate::bpf::session::Session;
use crate::error::{Error, Result, Status, Subject};

/// Number of lines of the verifier's log that are shown: the last ones, which have the instructions and the reason.
const LOG_LINES: usize = 20;

/// The result of [`check`].
#[derive(Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// One verdict per program, in the order of the object.
    pub verdicts: Vec<Verdict>,
    /// The reason why the package cannot be run. `None` if it can.
    pub refused: Option<Error>,
}

impl CheckReport {
    /// Returns whether a verdict already has the reason why the package cannot be run.
    pub fn is_explained(&self) -> bool {
        let name = |e: &Error| e.subject().map(|subject| subject.name().to_owned());
        let subject = self.refused.as_ref().and_then(name);
        self.verdicts.iter().any(|verdict| match &verdict.outcome {
            Outcome::Rejected(e) | Outcome::Unattachable(e) => verdict.autoload && name(e) == subject,
            _ => false,
        })
    }
}

/// The verdict on one program. `Display` writes one line, and below it the end of the verifier's log.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// The name of the program.
    pub name: String,
    /// Whether load loads it by default.
    pub autoload: bool,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome for one program.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The kernel accepts it.
    Accepted,
    /// The package runs without it: another program replaces it, or its hook does not exist.
    Skipped(Error),
    /// The kernel accepts it but cannot attach it.
    Unattachable(Error),
    /// The kernel rejects it.
    Rejected(Error),
}

/// Inspects a program that the verifier has checked: the vm that loaded it, and its index.
pub type Inspector<'a> = dyn FnMut(&Vm, usize) -> Result<()> + 'a;

/// Loads a package into the kernel without attaching it, and returns what a run would do: a verdict on each program.
///
/// `open` opens the package in a new vm. It is called several times. Maps that the package pins remain pinned: to avoid that,
/// set [`Options::pin_path`](crate::Options::pin_path) to a temporary directory.
///
/// `inspect` is called for each program that the verifier has checked.
///
/// # Errors
///
/// The errors of `open` and `inspect`, and the reason why nothing can be loaded at all, such as a missing privilege.
///
/// ```no_run
/// use eunomia::{Kind, Options, Vm, vm};
///
/// # fn main() -> eunomia::Result<()> {
/// let open = || {
///     let vm = Vm::new(Options::new())?;
///     vm.open_file("package.json", Kind::Json)?;
///     Ok(vm)
/// };
/// for verdict in vm::check(&open, &mut |_, _| Ok(()))?.verdicts {
///     print!("{verdict}");
/// }
/// # Ok(())
/// # }
/// ```
pub fn check(open: &dyn Fn() -> Result<Vm>, inspect: &mut Inspector<'_>) -> Result<CheckReport> {
    let (vm, fresh) = (open()?, open()?);
    let loaded = vm.load();
    let is_loaded = loaded.is_ok();
    if is_loaded {
        inspect_loaded(&vm, inspect)?;
    }
    let (mut inner, fresh) = (vm.inner()?, fresh.inner()?);
    let (session, fresh) = (inner.session_mut()?, fresh.session()?);
    let refused = loaded.and_then(|()| session.rehearse(&|index| fresh.expect(index))).err();
    if let Some(e) = refused.as_ref().filter(|e| is_unrelated(e)) {
        return Err(e.clone());
    }
    let (mut verdicts, mut remaining) = (Vec::new(), Vec::new());
    for index in 0..session.prog_count() {
        let info = session.prog_info(index);
        let cause = session.cause(index);
        // The programs of a struct_ops map that is not loaded are not loaded, either.
        let autoload = info.autoload && (info.loaded || cause.is_some() || !is_loaded);
        let outcome = match cause {
            Some(cause) if refused.is_none() => Outcome::Skipped(cause.clone()),
            Some(cause) if info.loaded => Outcome::Unattachable(cause.clone()),
            Some(cause) => Outcome::Rejected(cause.clone()),
            None if refused.is_some() && info.loaded => expected_outcome(fresh, index),
            None => Outcome::Accepted,
        };
        remaining.push(!is_loaded || !info.loaded && cause.is_none());
        verdicts.push(Verdict { name: info.name.to_string_lossy().into_owned(), autoload, outcome });
    }
    drop(inner);
    drop(vm);
    for (verdict, outcome) in verdicts.iter_mut().zip(load_remaining(
        open,
        remaining,
        &|index| expected_outcome(fresh, index),
        inspect,
    )?) {
        if let Some(outcome) = outcome {
            verdict.outcome = outcome;
        }
    }
    Ok(CheckReport { verdicts, refused })
}

/// Returns whether the failure has another cause than the package.
fn is_unrelated(e: &Error) -> bool {
    let is_about_package =
        matches!(e.status(), Status::Unsupported | Status::Package | Status::Verifier | Status::Attach);
    e.subject().is_none() && !is_about_package
}

/// Returns the outcome of a program that the kernel accepts. In a package with tail calls, a program without a target
/// is accepted, because another program may call it.
fn expected_outcome(fresh: &Session, index: usize) -> Outcome {
    match fresh.expect(index) {
        Err(e) if e.hint().is_some() && fresh.has_tail_calls() => Outcome::Accepted,
        expected => expected.err().map_or(Outcome::Accepted, Outcome::Unattachable),
    }
}

/// Inspects the programs that are loaded.
fn inspect_loaded(vm: &Vm, inspect: &mut Inspector<'_>) -> Result<()> {
    for index in 0..vm.prog_count()? {
        if vm.prog_at(index)?.loaded {
            inspect(vm, index)?;
        }
    }
    Ok(())
}

/// Loads the programs in `remaining`, as many at a time as the kernel accepts, and returns their outcomes.
fn load_remaining(
    open: &dyn Fn() -> Result<Vm>,
    mut remaining: Vec<bool>,
    accepted: &dyn Fn(usize) -> Outcome,
    inspect: &mut Inspector<'_>,
) -> Result<Vec<Option<Outcome>>> {
    let mut outcomes: Vec<Option<Outcome>> = remaining.iter().map(|_| None).collect();
    // The failures of maps that cannot be created.
    let mut failed_maps: Vec<Error> = Vec::new();
    while remaining.contains(&true) {
        let vm = open()?;
        let names: Vec<&str> = failed_maps.iter().filter_map(map_of).collect();
        let loaded = vm.inner()?.session_mut()?.load_alone(&remaining, &names);
        let refused = |e: &Error| Outcome::Rejected(e.clone());
        // The outcomes of some of the remaining programs.
        let mut found: Vec<(usize, Outcome)> = Vec::new();
        let mut all = (0..remaining.len()).filter(|index| remaining[*index]);
        match loaded {
            Ok(stays) => {
                for index in all {
                    // The programs of a struct_ops map whose type the kernel lacks are not loaded.
                    let lacking = failed_maps.last().filter(|_| stays);
                    let lacking = lacking.filter(|_| vm.prog_at(index).is_ok_and(|prog| !prog.loaded));
                    found.push((index, lacking.map_or_else(|| accepted(index), refused)));
                }
            }
            Err(failure) => {
                let e = failure.error;
                let known = map_of(&e).and_then(|name| failed_maps.iter().find(|e| map_of(e) == Some(name)));
                match (failure.prog.filter(|index| remaining[*index]), known) {
                    (Some(failed), known) => {
                        if e.status() == Status::Verifier {
                            // Programs are verified in their order.
                            found.extend(
                                all.take_while(|index| *index < failed).map(|index| (index, accepted(index))),
                            );
                        }
                        found.push((failed, refused(known.unwrap_or(&e))));
                    }
                    (None, None) if map_of(&e).is_some() => failed_maps.push(e),
                    (None, _) => found.extend(all.by_ref().map(|index| (index, refused(&e)))),
                }
            }
        }
        for (index, outcome) in found {
            // A program that failed before the verifier is not in its final form.
            if !matches!(&outcome, Outcome::Rejected(e) if e.status() != Status::Verifier) {
                inspect(&vm, index)?;
            }
            remaining[index] = false;
            outcomes[index] = Some(outcome);
        }
    }
    Ok(outcomes)
}

/// Returns the map that is the subject of an error.
fn map_of(e: &Error) -> Option<&str> {
    match &e.subject() {
        Some(Subject::Map(name)) => Some(name),
        _ => None,
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, only) = (&self.name, if self.autoload { "" } else { " (loaded only on request)" });
        // The line already names the program, but not a map.
        let why = |e: &Error| match &e.subject() {
            Some(Subject::Map(_)) | None => e.to_string(),
            _ => e.hint().map_or(e.reason().to_owned(), |hint| format!("{}; {hint}", e.reason())),
        };
        match &self.outcome {
            Outcome::Accepted => writeln!(f, "{name}: ok{only}"),
            Outcome::Skipped(e) => writeln!(f, "{name}: skipped{only}: {}", why(e)),
            Outcome::Unattachable(e) => writeln!(f, "{name}: cannot attach{only}: {}", why(e)),
            Outcome::Rejected(e) => {
                writeln!(f, "{name}: refused{only}: {}", why(e))?;
                if e.status() != Status::Verifier {
                    return Ok(());
                }
                let lines: Vec<&str> = e.detail().lines().filter(|line| !line.trim().is_empty()).collect();
                let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
                last.iter().try_for_each(|line| writeln!(f, "    {line}"))
            }
        }
    }
}
