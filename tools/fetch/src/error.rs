//! Errors of downloads: a one-line message and its class. Also warnings, which go to stderr.

use std::fmt::Display;
use std::io::Write;
use std::sync::OnceLock;

use eunomia::error::visible;

/// The class of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// An error at run time.
    Failed,
    /// A usage error.
    Usage,
    /// The program was not found or is invalid.
    Source,
    /// A file cannot be written.
    Output,
}

/// The reason why a download failed.
#[derive(Debug)]
pub struct Failure {
    /// Its class.
    pub code: Code,
    /// One line.
    text: String,
}

/// `Result` with the error of this crate.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with a one-line message.
    pub fn new(code: Code, text: impl Display) -> Failure {
        Failure { code, text: text.to_string() }
    }

    /// A failed file operation: the name, then the reason without its number.
    pub fn io(code: Code, what: impl Display, error: &std::io::Error) -> Failure {
        Failure::new(code, format_args!("{what}: {}", without_errno(error)))
    }

    /// Replaces the class.
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

    /// The one-line message.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The text of an error without the number that std appends.
pub fn without_errno(error: &std::io::Error) -> String {
    eunomia::internal::without_number(&error.to_string()).to_owned()
}

/// The program that downloads, in its warnings and in the User-Agent header of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// The option that sets the idle timeout, if there is one, for messages.
    pub timeout: Option<&'static str>,
}

static PROGRAM: OnceLock<Program> = OnceLock::new();

/// Sets the program. Only the first call has an effect.
pub fn set_program(program: Program) {
    let _ = PROGRAM.set(program);
}

/// The program, or a name for any.
pub fn program() -> Program {
    *PROGRAM.get_or_init(|| Program { name: "eunomia", timeout: None })
}

/// Prints a line to stderr. It is not an error if nobody reads it.
pub fn say(line: impl Display) {
    let line = line.to_string();
    let _ = writeln!(std::io::stderr(), "{}: {}", program().name, visible(&line, b"\n\t"));
}
