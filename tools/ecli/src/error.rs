//! Errors of ecli: a one-line message and an exit code.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use eunomia::{Hint, Status};

use crate::terminal::plain;

/// Exit codes; docs/ecli.md and `--help` list them. A WASM module that ran sets its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An error at run time, or a problem that `check` or `doctor` found.
    Failed = 1,
    /// A usage error, in the options of ecli or of the program.
    Usage = 2,
    /// The program was not found or is invalid.
    Source = 3,
    /// A privilege is missing.
    Privilege = 4,
    /// This kernel rejects the program.
    Kernel = 5,
    /// The output cannot be written.
    Output = 6,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> ExitCode {
        ExitCode::from(code as u8)
    }
}

/// The reason why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code of the process.
    pub code: Code,
    /// One line.
    text: String,
    /// The log of the verifier or the stack of a guest: many lines, or none.
    detail: String,
}

/// `Result` with ecli's error.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Lines of a verifier's log that are shown. The reason is at its end.
const DETAIL_LINES: usize = 20;

impl Failure {
    /// A failure with a one-line message.
    pub fn new(code: Code, text: impl Display) -> Failure {
        Failure { code, text: text.to_string(), detail: String::new() }
    }

    /// A failed file operation: the name, then the reason without its number.
    pub fn io(code: Code, what: impl Display, error: &std::io::Error) -> Failure {
        Failure::new(code, format_args!("{what}: {}", without_errno(error)))
    }

    /// Replaces the exit code.
    pub fn with_code(self, code: Code) -> Failure {
        Failure { code, ..self }
    }

    /// Prepends `context` and a colon.
    pub fn at(self, context: impl Display) -> Failure {
        Failure { text: format!("{context}: {}", self.text), ..self }
    }

    /// Appends `hint`.
    pub fn at_end(self, hint: impl Display) -> Failure {
        Failure { text: format!("{}{hint}", self.text), ..self }
    }

    /// Sets the lines that precede the message.
    pub fn with_detail(self, detail: &str) -> Failure {
        Failure { detail: detail.to_owned(), ..self }
    }

    /// Prints it to stderr.
    pub fn report(&self) {
        for line in self.shown_detail() {
            let _ = writeln!(std::io::stderr(), "  {}", plain(line));
        }
        say(&self.text);
    }

    /// The lines of the detail that are shown.
    pub fn shown_detail(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.detail.lines().collect();
        lines[lines.len().saturating_sub(DETAIL_LINES)..].to_vec()
    }

    /// The one-line message.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The text of an error without the number that std appends.
pub fn without_errno(error: &std::io::Error) -> String {
    eunomia::internal::without_number(&error.to_string()).to_owned()
}

/// Prints a line to stderr. It is not an error if nobody reads it.
pub fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "ecli: {}", plain(&line.to_string()));
}

/// The hint of a library error, in terms of ecli's options where ecli has one.
pub fn hint(error: &eunomia::Error) -> Option<String> {
    Some(match (error.hint()?, error.subject()) {
        (Hint::Target(keys), Some(program)) => {
            format!("set the target: --attach {}=KEY:VALUE,... with {keys}", program.name())
        }
        (Hint::KernelMemory, _) => "raise the limit: --max-kernel-memory SIZE".into(),
        (Hint::NoKernelMemoryLimit, _) => "remove the limit: --max-kernel-memory none".into(),
        (Hint::OpenObject, _) => "run the package.json that ecc writes, which contains both".into(),
        (hint, _) => hint.to_string(),
    })
}

impl From<eunomia_fetch::Failure> for Failure {
    fn from(failure: eunomia_fetch::Failure) -> Failure {
        let code = match failure.code {
            eunomia_fetch::Code::Failed => Code::Failed,
            eunomia_fetch::Code::Usage => Code::Usage,
            eunomia_fetch::Code::Source => Code::Source,
            eunomia_fetch::Code::Output => Code::Output,
        };
        Failure::new(code, failure.text())
    }
}

impl From<eunomia_records::Error> for Failure {
    fn from(error: eunomia_records::Error) -> Failure {
        Failure::new(Code::Usage, error)
    }
}

impl From<eunomia::Error> for Failure {
    fn from(error: eunomia::Error) -> Failure {
        let code = match error.status() {
            // A target is set on the command line.
            _ if matches!(error.hint(), Some(Hint::Target(_))) => Code::Usage,
            Status::Inval | Status::Type => Code::Usage,
            Status::NotFound | Status::Package => Code::Source,
            Status::Perm => Code::Privilege,
            Status::Unsupported | Status::Verifier | Status::Attach => Code::Kernel,
            _ => Code::Failed,
        };
        let text = match hint(&error) {
            Some(hint) => format!("{}; {hint}", error.message()),
            // No program of several can run: something general may be missing.
            None if error.status() == Status::Unsupported && error.subject().is_none() => {
                format!("{}; see ecli doctor", error.message())
            }
            None => error.message().to_owned(),
        };
        // The detail of other failures is libbpf's output, which the message explains.
        let has_log = matches!(error.status(), Status::Verifier | Status::Wasm);
        Failure { code, text, detail: if has_log { error.detail().to_owned() } else { String::new() } }
    }
}
