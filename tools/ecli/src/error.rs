//! What ends a command: a line for people and an exit code for scripts.

use std::fmt::Display;
use std::io::Write;

use eunomia::{Hint, Status};

use crate::terminal::plain;

/// Exit codes; docs/ecli.md and `--help` list them. A WASM module that ran has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Something failed while it ran, or `check` or `doctor` found a fault.
    Failed = 1,
    /// The command line, ecli's or the program's, is wrong.
    Usage = 2,
    /// The program could not be had, or is none.
    Source = 3,
    /// A privilege is missing.
    Privilege = 4,
    /// This kernel does not take the program.
    Kernel = 5,
    /// The output could not be written.
    Output = 6,
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    /// What the process ends with.
    pub code: Code,
    /// One line.
    text: String,
    /// What the verifier or a guest's stack says; many lines, or none.
    detail: String,
}

/// `Result` with ecli's error.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Lines of a verifier's log that are shown; the reason stands at its end.
const DETAIL_LINES: usize = 20;

impl Failure {
    /// A failure with a one-line message.
    pub fn new(code: Code, text: impl Display) -> Failure {
        Failure { code, text: text.to_string(), detail: String::new() }
    }

    /// A failed file operation: the thing, then the reason without its number.
    pub fn io(code: Code, what: impl Display, error: &std::io::Error) -> Failure {
        let reason = error.to_string();
        Failure::new(code, format_args!("{what}: {}", reason.split(" (os error").next().unwrap_or(&reason)))
    }

    /// Another code for the same message.
    pub fn with_code(self, code: Code) -> Failure {
        Failure { code, ..self }
    }

    /// The same with `what` and a colon in front.
    pub fn at(self, what: impl Display) -> Failure {
        Failure { text: format!("{what}: {}", self.text), ..self }
    }

    /// The same with `hint` behind it.
    pub fn at_end(self, hint: impl Display) -> Failure {
        Failure { text: format!("{}{hint}", self.text), ..self }
    }

    /// Writes it to stderr.
    pub fn report(&self) {
        let lines: Vec<&str> = self.detail.lines().collect();
        for line in &lines[lines.len().saturating_sub(DETAIL_LINES)..] {
            let _ = writeln!(std::io::stderr(), "  {}", plain(line));
        }
        say(&self.text);
    }

    /// The line for people.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Writes a line to stderr. That nobody may be there to read it is no failure.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "ecli: {}", plain(&line.to_string()));
}

/// What to do about a failure, where ecli has an option for it.
fn hint(failure: &eunomia::Failure) -> Option<String> {
    match (failure.hint.as_ref()?, failure.subject.as_ref()) {
        (Hint::Target(keys), Some(program)) => {
            Some(format!("give {keys}: --attach {}=KEY:VALUE,...", program.name()))
        }
        (Hint::KernelMemory, _) => Some("give more: --max-kernel-memory SIZE".into()),
        (Hint::NoKernelMemoryLimit, _) => Some("take the limit away: --max-kernel-memory none".into()),
        _ => None,
    }
}

impl From<eunomia::Error> for Failure {
    fn from(error: eunomia::Error) -> Failure {
        let code = match error.status {
            // What has to be told is told on the command line.
            _ if matches!(error.hint, Some(Hint::Target(_))) => Code::Usage,
            Status::Inval | Status::Type => Code::Usage,
            Status::NotFound | Status::Package => Code::Source,
            Status::Perm => Code::Privilege,
            Status::Unsupported | Status::Verifier | Status::Attach => Code::Kernel,
            _ => Code::Failed,
        };
        let failure = error.into_failure();
        let text = match hint(&failure) {
            Some(hint) => format!("{}; {hint}", failure.message),
            // Of several programs.
            None if failure.status == Status::Unsupported && failure.subject.is_none() => {
                format!("{failure}; see ecli doctor")
            }
            None => failure.to_string(),
        };
        // What libbpf says of other failures is in the log, and in the message what it means.
        let has_log = matches!(failure.status, Status::Verifier | Status::Wasm);
        Failure { code, text, detail: if has_log { failure.detail } else { String::new() } }
    }
}
