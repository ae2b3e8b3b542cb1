//! The error type of the library.
//!
//! Every call that can fail returns [`Error`]. An error has a [`Status`] to decide by and a one-line message to print. It
//! may also have a [`Subject`] (which thing failed), a [`Hint`] (what to do), a detail (such as the verifier's log) and
//! an errno. A tool reads these and never parses the message.
//!
//! Failures of the layers below become an `Error` where they happen, in the code that knows the name and the value.

use std::borrow::Cow;
use std::{fmt, io};

/// The class of a failure. The numbers are those of the C interface.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// An argument is null, out of range or malformed.
    Inval = -1,
    /// The call is not allowed in the current state of the vm, such as `attach` before `open`.
    State = -2,
    /// The vm is in use: by another thread, or by the poll that called this callback.
    Busy = -3,
    /// Out of memory.
    NoMem = -4,
    /// A variable, map, program, key or file does not exist, or the target of a program does not exist.
    NotFound = -5,
    /// The buffer is too small. The call has stored the length that it needs.
    TooSmall = -6,
    /// The package is malformed.
    Package = -7,
    /// A value does not fit its type.
    Type = -8,
    /// A privilege is missing.
    Perm = -9,
    /// This kernel or this build does not support it.
    Unsupported = -10,
    /// The kernel's verifier rejected a program. The detail is its log.
    Verifier = -11,
    /// A program could not be attached.
    Attach = -12,
    /// A system call failed. See the errno.
    System = -13,
    /// The WASM guest failed.
    Wasm = -14,
    /// [`Vm::stop`](crate::Vm::stop) was called.
    Stopped = -15,
    /// The callback returned [`Flow::Fail`](crate::Flow::Fail).
    Callback = -16,
    /// Internal error: a bug in the library. The vm can only be dropped.
    Internal = -17,
}

/// The thing that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// A global variable of a package.
    Variable(String),
    /// A map of a package.
    Map(String),
    /// A program of a package.
    Program {
        /// The name of its function.
        name: String,
        /// Its section or its target. May be empty.
        place: String,
    },
    /// A value in a package's metadata, by its path: `meta.bpf_skel.maps[1].sample.interval`.
    Metadata(String),
    /// A file or directory, by its path.
    File(String),
}

impl Subject {
    /// The program `name` at `place`, which may be empty.
    pub(crate) fn program(name: impl fmt::Display, place: &str) -> Subject {
        Subject::Program { name: name.to_string(), place: place.to_owned() }
    }

    /// Returns the name of the variable, map or program, or the path.
    pub fn name(&self) -> &str {
        match self {
            Subject::Program { name, .. } => name,
            Subject::Variable(name) | Subject::Map(name) | Subject::Metadata(name) | Subject::File(name) => {
                name
            }
        }
    }
}

/// Writes the subject as messages name it: `variable "pid"`, `program "p" (kprobe/f)`. Paths are written unchanged.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Variable(name) => write!(f, "variable {name:?}"),
            Subject::Map(name) => write!(f, "map {name:?}"),
            Subject::Program { name, place } if place.is_empty() => write!(f, "program {name:?}"),
            Subject::Program { name, place } => write!(f, "program {name:?} ({place})"),
            Subject::Metadata(path) | Subject::File(path) => f.write_str(path),
        }
    }
}

/// Advice about a failure.
///
/// `Display` names the options of the library. A tool can match on the hint and name an option of its own instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Set the target of the program that is the subject. Holds the keys that it needs, as in `"path" and "func"`.
    Target(&'static str),
    /// Allow more kernel memory.
    KernelMemory,
    /// Allow unlimited kernel memory.
    NoKernelMemoryLimit,
    /// Open the metadata together with its object.
    OpenObject,
    /// Any other advice, as a sentence fragment.
    Text(String),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hint::Target(keys) => write!(f, "set the program's target: {keys}"),
            Hint::KernelMemory => f.write_str("raise max_kernel_memory"),
            Hint::NoKernelMemoryLimit => f.write_str("set max_kernel_memory to all ones (no limit)"),
            Hint::OpenObject => f.write_str("open it together with its object (open_object)"),
            Hint::Text(text) => f.write_str(text),
        }
    }
}

/// The reason why a call failed.
///
/// Its `Display` is one line: the message, then the hint after a semicolon. The line names the thing and the value.
/// An error is one pointer wide, because nearly every function returns a `Result` and few of them fail.
///
/// ```
/// use eunomia::{Kind, Options, Status, Vm};
///
/// # fn main() -> eunomia::Result<()> {
/// let vm = Vm::new(Options::new())?;
/// let error = vm.open_file("/nothing/package.json", Kind::Json).unwrap_err();
/// assert_eq!(error.status(), Status::NotFound);
/// assert_eq!(error.subject().map(|subject| subject.name()), Some("/nothing/package.json"));
/// assert_eq!(error.to_string(), "/nothing/package.json: No such file or directory");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Failure>);

/// The fields of an [`Error`].
pub(crate) struct Failure {
    pub(crate) status: Status,
    /// One line. Begins with the subject, or with context before it.
    message: String,
    pub(crate) subject: Option<Subject>,
    hint: Option<Hint>,
    /// Empty if there is none.
    pub(crate) detail: String,
    /// The failed system call.
    source: Option<io::Error>,
    /// The offset in `message` of the text after subject and context.
    reason_at: usize,
}

impl Clone for Failure {
    fn clone(&self) -> Failure {
        let Failure { status, message, subject, hint, detail, source, reason_at } = self;
        Failure {
            status: *status,
            message: message.clone(),
            subject: subject.clone(),
            hint: hint.clone(),
            detail: detail.clone(),
            source: source.as_ref().and_then(io::Error::raw_os_error).map(io::Error::from_raw_os_error),
            reason_at: *reason_at,
        }
    }
}

/// `Result` with the library's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns the class of the failure.
    pub fn status(&self) -> Status {
        self.0.status
    }

    /// Returns the message: one line that names the thing and the value. It begins with the subject, or with context
    /// before it. The hint is not part of it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the message without the subject and the context before it.
    pub fn reason(&self) -> &str {
        self.0.message.get(self.0.reason_at..).unwrap_or_default()
    }

    /// Returns the thing that failed, if it is one that [`Subject`] lists.
    pub fn subject(&self) -> Option<&Subject> {
        self.0.subject.as_ref()
    }

    /// Returns what to do, if that is known.
    pub fn hint(&self) -> Option<&Hint> {
        self.0.hint.as_ref()
    }

    /// Returns a long text such as the verifier's log, which may be megabytes. Empty if there is none.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// Returns the errno of the system call that failed, as a positive number. `None` if no system call failed.
    pub fn errno(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }
}

/// The constructors of errors. Each of them passes its text on as a `dyn Display`. So the code that builds an error
/// exists once, and not at each of the hundreds of places that can fail.
impl Error {
    /// An error with a one-line message.
    pub(crate) fn new(status: Status, message: impl fmt::Display) -> Error {
        Error::build(status, 0, &message)
    }

    /// An error for a name that does not exist; `known` lists those that do.
    #[cold]
    #[inline(never)]
    pub(crate) fn unknown(kind: &str, name: &str, known: &mut dyn Iterator<Item = String>) -> Error {
        let known = listed(known.collect());
        let error = Error::new(Status::NotFound, format_args!("no such {kind}; there are: {known}"));
        match kind {
            "variable" => error.about_variable(name),
            "map" => error.about_map(name),
            "program" => error.about_program(name, ""),
            _ => error.at(format_args!("{kind} {name:?}")),
        }
    }

    /// An error for a failed system call or libbpf call; `errno` is positive.
    pub(crate) fn sys(status: Status, errno: i32, message: impl fmt::Display) -> Error {
        Error::build(status, errno, &message)
    }

    #[cold]
    #[inline(never)]
    fn build(status: Status, errno: i32, message: &dyn fmt::Display) -> Error {
        Error(Box::new(Failure {
            status,
            message: one_line(message.to_string()),
            subject: None,
            hint: None,
            detail: String::new(),
            source: (errno > 0).then(|| io::Error::from_raw_os_error(errno)),
            reason_at: 0,
        }))
    }

    /// Sets the subject and puts it before the message. An earlier subject remains as text.
    #[cold]
    #[inline(never)]
    pub(crate) fn about(mut self, subject: Subject) -> Error {
        self.0.reason_at = 0;
        let mut error = self.within(&subject);
        error.0.subject = Some(subject);
        error
    }

    /// Sets the variable `name` as the subject.
    #[cold]
    #[inline(never)]
    pub(crate) fn about_variable(self, name: &str) -> Error {
        self.about(Subject::Variable(name.into()))
    }

    /// Sets the map `name` as the subject.
    #[cold]
    #[inline(never)]
    pub(crate) fn about_map(self, name: &str) -> Error {
        self.about(Subject::Map(name.into()))
    }

    /// Sets the program `name` at `place` as the subject. `place` may be empty.
    #[cold]
    #[inline(never)]
    pub(crate) fn about_program(self, name: &str, place: &str) -> Error {
        self.about(Subject::program(name, place))
    }

    /// Sets the file or directory `path` as the subject.
    #[cold]
    #[inline(never)]
    pub(crate) fn about_file(self, path: &str) -> Error {
        self.about(Subject::File(path.into()))
    }

    /// Sets the hint. A tool can name its own options in the hint.
    pub fn with_hint(mut self, hint: Hint) -> Error {
        self.0.hint = Some(hint);
        self
    }

    /// Sets the detail.
    #[cold]
    #[inline(never)]
    pub(crate) fn with_detail(mut self, detail: &str) -> Error {
        self.0.detail = detail.to_owned();
        self
    }

    /// Puts `context` and a colon before the message.
    pub(crate) fn at(self, context: impl fmt::Display) -> Error {
        self.within(&context)
    }

    #[cold]
    #[inline(never)]
    fn within(mut self, context: &dyn fmt::Display) -> Error {
        let message = one_line(format!("{context}: {}", self.0.message));
        self.0.reason_at += message.len() - self.0.message.len();
        self.0.message = message;
        self
    }

    /// Replaces the reason: the message after subject and context.
    pub(crate) fn with_reason(mut self, reason: impl fmt::Display) -> Error {
        let at = self.0.reason_at;
        self.0.message.truncate(at);
        self.0.message += &one_line(reason.to_string());
        self
    }

    /// Replaces the status.
    pub(crate) fn with_status(mut self, status: Status) -> Error {
        self.0.status = status;
        self
    }

    /// Returns the fields, to keep them.
    #[cfg(feature = "capi")]
    pub(crate) fn into_failure(self) -> Failure {
        *self.0
    }
}

/// Shows only the length of the detail, which can be megabytes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { status, message, detail, .. } = &*self.0;
        let errno = self.errno().unwrap_or(0);
        write!(f, "{status:?} {message:?} (errno {errno}, {} bytes of detail)", detail.len())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        self.hint().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// `source` is the [`std::io::Error`] of the system call that failed, if one did. The message of the error already
/// contains its text.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

/// Characters that are invisible or change how others are displayed, apart from control characters: Unicode's "default
/// ignorable" characters except variation selectors, which belong to the character before them; line separators; and
/// annotations.
const INVISIBLE: [(u32, u32); 16] = [
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x061c, 0x061c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

/// Makes a text from outside safe to print: control characters, invisible characters and those that change the direction
/// of writing are escaped as in JSON (`\u202e`). The control characters in `kept` stay.
#[cold]
#[inline(never)]
pub fn visible<'a>(text: &'a str, kept: &[u8]) -> Cow<'a, str> {
    let (mut shown, mut done) = (Vec::new(), 0);
    for (at, c) in text.char_indices() {
        let code = c as u32;
        let is_rare =
            code >= 0x7f && (code < 0xa0 || INVISIBLE.iter().any(|it| it.0 <= code && code <= it.1));
        if code < 0x20 && !kept.iter().any(|byte| u32::from(*byte) == code) || is_rare {
            shown.extend_from_slice(&text.as_bytes()[done..at]);
            done = at + c.len_utf8();
            // A surrogate pair, as in JSON.
            if let Some(above) = code.checked_sub(0x1_0000) {
                escape(0xd800 + (above >> 10), &mut shown);
                escape(0xdc00 + (above & 0x3ff), &mut shown);
            } else {
                escape(code, &mut shown);
            }
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    shown.extend_from_slice(&text.as_bytes()[done..]);
    Cow::Owned(String::from_utf8(shown).unwrap_or_default())
}

#[inline(never)]
fn escape(code: u32, out: &mut Vec<u8>) {
    let digit = |shift: u32| b"0123456789abcdef"[(code >> shift & 15) as usize];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// Makes a message one line: names from packages may hold any character.
fn one_line(text: String) -> String {
    match visible(&text, b"") {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}

/// Names as a message lists them.
pub(crate) fn listed(names: Vec<String>) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Removes the number that std appends to the text of a system error, as in "No such file or directory (os error 2)".
#[doc(hidden)]
pub fn without_number(text: &str) -> &str {
    text.split(" (os error").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_and_direction_changing_characters_are_escaped() {
        for (text, shown) in [
            ("plain \u{e4}\u{4e2d}\u{1f600}\u{fe0f}", "plain \u{e4}\u{4e2d}\u{1f600}\u{fe0f}"),
            ("a\n\t\0\x1b\x7f", "a\\u000a\\u0009\\u0000\\u001b\\u007f"),
            ("\u{80}\u{9b}\u{9f}\u{a0}", "\\u0080\\u009b\\u009f\u{a0}"),
            ("x\u{202a}\u{202e}\u{2066}\u{2069}y", "x\\u202a\\u202e\\u2066\\u2069y"),
            ("\u{200b}\u{200f}\u{feff}\u{ad}\u{2028}\u{61c}", "\\u200b\\u200f\\ufeff\\u00ad\\u2028\\u061c"),
            ("\u{e0041}\u{e007f}", "\\udb40\\udc41\\udb40\\udc7f"),
        ] {
            assert_eq!(visible(text, b""), shown, "{text:?}");
            assert_eq!(Error::new(Status::Inval, text).to_string(), shown);
        }
        assert_eq!(visible("a\nb\u{202e}", b"\n"), "a\nb\\u202e");
        // A text without such characters is not copied.
        assert!(matches!(visible("eunomia", b""), Cow::Borrowed(_)));
        assert!(matches!(visible("\u{4e2d}", b""), Cow::Borrowed(_)));
    }

    #[test]
    fn the_ranges_are_sorted_and_do_not_overlap() {
        assert!(INVISIBLE.iter().all(|range| range.0 <= range.1));
        assert!(INVISIBLE.windows(2).all(|two| two[0].1 < two[1].0));
    }
}
