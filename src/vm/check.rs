//! What the kernel at hand says of each program of a package: loads, attaches nothing, lets go.

use std::fmt::{self, Display, Formatter};
use std::fs;

use serde_json::Value;

use super::Vm;
use crate::bpf::probe;
use crate::error::{Error, Result, Status};

/// Lines of the verifier's log that are shown: what it looked at last, and why it refused.
const LOG_LINES: usize = 20;

/// The outcome of [`check`].
pub struct Checked {
    /// One for each program, in the order of the object.
    pub verdicts: Vec<Verdict>,
    /// Why the package as a whole does not load; none if it does.
    pub refused: Option<Error>,
}

impl Checked {
    /// Whether the package does not load although each of its programs does.
    pub fn is_program_fine(&self) -> bool {
        self.verdicts
            .iter()
            .all(|verdict| !verdict.autoload || !matches!(verdict.outcome, Outcome::Refused(_)))
    }
}

/// What is said of one program. As text it is a line, and below it the end of the verifier's log.
pub struct Verdict {
    /// The program.
    pub name: String,
    /// Whether it is loaded unless told otherwise.
    pub autoload: bool,
    /// Whether the kernel takes it.
    pub outcome: Outcome,
    /// Why it will not attach although the kernel takes it: its hook is not there.
    pub missing: Option<String>,
}

/// Whether the kernel takes a program.
pub enum Outcome {
    /// It does.
    Taken,
    /// It does not, and another program is used instead.
    PassedOver(String),
    /// It does not.
    Refused(Error),
}

/// What looks at a program: the vm that has handed it to the kernel, and the number of the program.
pub type Judge<'a> = dyn FnMut(&Vm, usize) -> Result<()> + 'a;

/// Has the kernel make the maps and verify the programs of a package, which `open` opens in a new vm each time, for a vm
/// goes one way. To be left without pinned maps, have it set `Options::pin_path` and remove what is there afterwards.
///
/// `judge` is shown each program that the verifier has looked at: the vm that has handed it to the kernel, and its number.
///
/// # Errors
///
/// What `open` says, and why the maps cannot be made: there no program is at fault.
pub fn check(open: &dyn Fn() -> Result<Vm>, judge: &mut Judge<'_>) -> Result<Checked> {
    let whole = open()?;
    let refused = whole.load().err();
    match refused {
        Some(_) => load(open, "", judge)?,
        None => judge_loaded(&whole, judge)?,
    }
    let text = |e: serde_json::Error| Error::new(Status::Internal, format_args!("the description: {e}"));
    let description: Value = serde_json::from_str(&whole.describe()?).map_err(text)?;
    drop(whole);
    let mut verdicts = Vec::new();
    for program in description["programs"].as_array().into_iter().flatten() {
        let name = program["name"].as_str().unwrap_or_default().to_owned();
        let autoload = program["autoload"] == true;
        let outcome = match (refused.is_none() && autoload, &program["passed_over"]) {
            (true, Value::String(reason)) => Outcome::PassedOver(reason.clone()),
            (true, _) => Outcome::Taken,
            (false, _) => load(open, &name, judge).map_or_else(Outcome::Refused, |()| Outcome::Taken),
        };
        let is_taken = matches!(outcome, Outcome::Taken);
        let missing = if is_taken { missing_hook(&place(program, &description["meta"])) } else { None };
        verdicts.push(Verdict { name, autoload, outcome, missing });
    }
    Ok(Checked { verdicts, refused })
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

/// Loads the maps and the program of that name, and releases them.
fn load(open: &dyn Fn() -> Result<Vm>, name: &str, judge: &mut Judge<'_>) -> Result<()> {
    let vm = open()?;
    let mut wanted = None;
    for index in 0..vm.prog_count()? {
        let other = vm.prog_at(index)?.name;
        let other = other.to_string_lossy();
        vm.prog_set_autoload(&other, other == name)?;
        wanted = wanted.or((other == name).then_some(index));
    }
    let loaded = vm.load();
    // What the verifier refuses it has seen; what fails before is not as the kernel would get it.
    let is_seen = loaded.as_ref().map_or_else(|e| e.status == Status::Verifier, |()| true);
    if let Some(index) = wanted.filter(|_| is_seen) {
        judge(&vm, index)?;
    }
    loaded
}

/// Where a program attaches, written like a section: what the package says, else its section.
fn place(program: &Value, meta: &Value) -> String {
    let told = meta["bpf_skel"]["progs"].as_array().into_iter().flatten();
    let told = told.into_iter().find(|told| told["name"] == program["name"]).unwrap_or(&Value::Null);
    let place = told["attach"].as_str().or(program["section"].as_str()).unwrap_or_default();
    let place = place.trim_start_matches('?');
    match (place.split('/').next(), told["func"].as_str()) {
        (Some(hook @ ("kprobe" | "kretprobe")), Some(func)) => format!("{hook}/{func}"),
        _ => place.to_owned(),
    }
}

/// Why nothing can be attached to a place: what the kernel, as it says itself, does not have.
fn missing_hook(place: &str) -> Option<String> {
    let (hook, rest) = place.split_once('/')?;
    let kind = hook.trim_end_matches(".multi");
    let is_kprobe = ["kprobe", "kretprobe", "ksyscall", "kretsyscall"].contains(&kind);
    match hook {
        _ if is_kprobe && !probe::has_kprobes() => Some("this kernel is built without kprobes".into()),
        "kprobe" | "kretprobe" => {
            let function = rest.split('+').next().unwrap_or_default();
            let symbols = fs::read_to_string("/proc/kallsyms").ok().filter(|symbols| !symbols.is_empty())?;
            let mut names = symbols.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
            names.all(|name| name != function).then(|| format!("this kernel has no function {function:?}"))
        }
        "tp" | "tracepoint" => {
            let folder = probe::tracepoints().map(|all| all.join(rest))?;
            (!folder.exists()).then(|| format!("this kernel has no tracepoint {rest:?}"))
        }
        _ => None,
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let only = if self.autoload { "" } else { " (loaded only if asked for)" };
        let name = &self.name;
        match (&self.outcome, &self.missing) {
            (Outcome::Taken, None) => writeln!(f, "{name}: ok{only}"),
            (Outcome::Taken, Some(why)) => writeln!(f, "{name}: ok{only}, but will not attach: {why}"),
            (Outcome::PassedOver(why), _) => writeln!(f, "{name}: passed over{only}: {why}"),
            // The message names the program already.
            (Outcome::Refused(error), _) => {
                writeln!(f, "{name}: refused{only}: {}", error.message)?;
                if error.status != Status::Verifier {
                    return Ok(());
                }
                let lines: Vec<&str> = error.detail.lines().filter(|line| !line.trim().is_empty()).collect();
                let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
                last.iter().try_for_each(|line| writeln!(f, "    {line}"))
            }
        }
    }
}
