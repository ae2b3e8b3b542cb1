//! What the kernel at hand says of each program of a package: loads, attaches nothing, and closes it again.

use std::fmt::{self, Display, Formatter};

use super::state::Vm;
use crate::bpf::session::Session;
use crate::error::{Error, Result, Status, Subject};

/// Lines of the verifier's log that are shown: what it looked at last, and why it refused.
const LOG_LINES: usize = 20;

/// The outcome of [`check`].
pub struct Checked {
    /// One for each program, in the order of the object.
    pub verdicts: Vec<Verdict>,
    /// Why the package cannot be run; none if it can.
    pub refused: Option<Error>,
}

impl Checked {
    /// Whether the verdicts say already why the package cannot be run.
    pub fn is_told(&self) -> bool {
        let name = |e: &Error| e.subject.as_ref().map(|subject| subject.name().to_owned());
        let subject = self.refused.as_ref().and_then(name);
        self.verdicts.iter().any(|verdict| match &verdict.outcome {
            Outcome::Refused(e) | Outcome::Unattachable(e) => verdict.autoload && name(e) == subject,
            _ => false,
        })
    }
}

/// What is said of one program. As text it is a line, and below it the end of the verifier's log.
pub struct Verdict {
    /// The program.
    pub name: String,
    /// Whether it is loaded unless told otherwise.
    pub autoload: bool,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// What becomes of a program.
pub enum Outcome {
    /// The kernel takes it.
    Taken,
    /// The package runs without it: another one is used in its place, or its hook is not there.
    Skipped(Error),
    /// The kernel takes it, and cannot attach it.
    Unattachable(Error),
    /// The kernel does not take it.
    Refused(Error),
}

/// What looks at a program: the vm that has handed it to the kernel, and the number of the program.
pub type Judge<'a> = dyn FnMut(&Vm, usize) -> Result<()> + 'a;

/// Has the kernel make the maps and verify the programs of a package, which `open` opens in a new vm each time, for a vm
/// goes one way, and says what a run would do. To be left without pinned maps, have it set `Options::pin_path` and remove
/// what is there afterwards.
///
/// `judge` is shown each program that the verifier has looked at: the vm that has handed it to the kernel, and its number.
///
/// # Errors
///
/// What `open` says, and why nothing can be loaded at all: a privilege is missing, or memory.
pub fn check(open: &dyn Fn() -> Result<Vm>, judge: &mut Judge<'_>) -> Result<Checked> {
    let (vm, fresh) = (open()?, open()?);
    let loaded = vm.load();
    let is_loaded = loaded.is_ok();
    if is_loaded {
        judge_loaded(&vm, judge)?;
    }
    let (mut inner, fresh) = (vm.inner()?, fresh.inner()?);
    let (session, fresh) = (inner.session_mut()?, fresh.session()?);
    let refused = loaded.and_then(|()| session.rehearse(&|index| fresh.expect(index))).err();
    if let Some(e) = refused.as_ref().filter(|e| is_hindered(e)) {
        return Err(e.clone());
    }
    let (mut verdicts, mut left) = (Vec::new(), Vec::new());
    for index in 0..session.prog_count() {
        let info = session.prog_info(index);
        let cause = session.cause(index);
        // Programs of operations that are not wanted are not, either.
        let autoload = info.autoload && (info.loaded || cause.is_some() || !is_loaded);
        let outcome = match cause {
            Some(cause) if refused.is_none() => Outcome::Skipped(cause.clone()),
            Some(cause) if info.loaded => Outcome::Unattachable(cause.clone()),
            Some(cause) => Outcome::Refused(cause.clone()),
            None if refused.is_some() && info.loaded => unattachable(fresh, index),
            None => Outcome::Taken,
        };
        left.push(!is_loaded || !info.loaded && cause.is_none());
        verdicts.push(Verdict { name: info.name.to_string_lossy().into_owned(), autoload, outcome });
    }
    drop(inner);
    drop(vm);
    for (verdict, outcome) in
        verdicts.iter_mut().zip(each(open, left, &|index| unattachable(fresh, index), judge)?)
    {
        if let Some(outcome) = outcome {
            verdict.outcome = outcome;
        }
    }
    Ok(Checked { verdicts, refused })
}

/// Whether it is no verdict on the package that it could not be loaded.
fn is_hindered(e: &Error) -> bool {
    let is_judged =
        matches!(e.status, Status::Unsupported | Status::Package | Status::Verifier | Status::Attach);
    e.subject.is_none() && !is_judged
}

/// What becomes of a program that the kernel takes. Where programs call others, those need no place of their own.
fn unattachable(fresh: &Session, index: usize) -> Outcome {
    match fresh.expect(index) {
        Err(e) if e.hint.is_some() && fresh.has_tail_calls() => Outcome::Taken,
        expected => expected.err().map_or(Outcome::Taken, Outcome::Unattachable),
    }
}

/// Shows the programs that are in the kernel.
fn judge_loaded(vm: &Vm, judge: &mut Judge<'_>) -> Result<()> {
    for index in 0..vm.prog_count()? {
        if vm.prog_at(index)?.loaded {
            judge(vm, index)?;
        }
    }
    Ok(())
}

/// What the kernel says of each program that is `left`: as many at a time as it takes.
fn each(
    open: &dyn Fn() -> Result<Vm>,
    mut left: Vec<bool>,
    taken: &dyn Fn(usize) -> Outcome,
    judge: &mut Judge<'_>,
) -> Result<Vec<Option<Outcome>>> {
    let mut outcomes: Vec<Option<Outcome>> = left.iter().map(|_| None).collect();
    // Why there are maps that cannot be made.
    let mut without: Vec<Error> = Vec::new();
    while left.contains(&true) {
        let vm = open()?;
        let names: Vec<&str> = without.iter().filter_map(map_of).collect();
        let loaded = vm.inner()?.session_mut()?.load_alone(&left, &names);
        let refused = |e: &Error| Outcome::Refused(e.clone());
        // What there is to say of some of them.
        let mut said: Vec<(usize, Outcome)> = Vec::new();
        let mut all = (0..left.len()).filter(|index| left[*index]);
        match loaded {
            Ok(stays) => {
                for index in all {
                    // Of operations whose type the kernel lacks nothing is loaded.
                    let lacking = without.last().filter(|_| stays);
                    let lacking = lacking.filter(|_| vm.prog_at(index).is_ok_and(|prog| !prog.loaded));
                    said.push((index, lacking.map_or_else(|| taken(index), refused)));
                }
            }
            Err(failure) => {
                let e = failure.error;
                let known = map_of(&e).and_then(|name| without.iter().find(|e| map_of(e) == Some(name)));
                match (failure.prog.filter(|index| left[*index]), known) {
                    (Some(failed), known) => {
                        if e.status == Status::Verifier {
                            // Programs are verified in their order.
                            said.extend(
                                all.take_while(|index| *index < failed).map(|index| (index, taken(index))),
                            );
                        }
                        said.push((failed, refused(known.unwrap_or(&e))));
                    }
                    (None, None) if map_of(&e).is_some() => without.push(e),
                    (None, _) => said.extend(all.by_ref().map(|index| (index, refused(&e)))),
                }
            }
        }
        for (index, outcome) in said {
            // What fails before the verifier is not as the kernel would get it.
            if !matches!(&outcome, Outcome::Refused(e) if e.status != Status::Verifier) {
                judge(&vm, index)?;
            }
            left[index] = false;
            outcomes[index] = Some(outcome);
        }
    }
    Ok(outcomes)
}

/// The map that an error is about.
fn map_of(e: &Error) -> Option<&str> {
    match &e.subject {
        Some(Subject::Map(name)) => Some(name),
        _ => None,
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, only) = (&self.name, if self.autoload { "" } else { " (loaded only if asked for)" });
        // The line names the program already, but a map is another thing.
        let why = |e: &Error| match &e.subject {
            Some(Subject::Map(_)) | None => e.to_string(),
            _ => e.hint.as_ref().map_or(e.reason().to_owned(), |hint| format!("{}; {hint}", e.reason())),
        };
        match &self.outcome {
            Outcome::Taken => writeln!(f, "{name}: ok{only}"),
            Outcome::Skipped(e) => writeln!(f, "{name}: skipped{only}: {}", why(e)),
            Outcome::Unattachable(e) => writeln!(f, "{name}: cannot attach{only}: {}", why(e)),
            Outcome::Refused(e) => {
                writeln!(f, "{name}: refused{only}: {}", why(e))?;
                if e.status != Status::Verifier {
                    return Ok(());
                }
                let lines: Vec<&str> = e.detail.lines().filter(|line| !line.trim().is_empty()).collect();
                let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
                last.iter().try_for_each(|line| writeln!(f, "    {line}"))
            }
        }
    }
}
