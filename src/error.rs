//! The one error of the library: a status to decide by, a one-line message, its subject, a hint, a detail, an errno.
//!
//! Lower errors are turned into it where they happen, by the code that knows the name and the value. Tools read the
//! subject and the hint; nobody parses the message.

use std::borrow::Cow;
use std::fmt;

/// What went wrong, as the C interface numbers it.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// An argument is null, out of range or malformed.
    Inval = -1,
    /// The call does not fit the state of the vm.
    State = -2,
    /// The vm is in use: by another thread, or by the poll this callback runs in.
    Busy = -3,
    /// Out of memory.
    NoMem = -4,
    /// No such variable, map, program, key, file; no such file, function of it, interface or cgroup to attach to.
    NotFound = -5,
    /// The given buffer is too small; the needed length has been stored.
    TooSmall = -6,
    /// The package is malformed.
    Package = -7,
    /// A value does not fit the type.
    Type = -8,
    /// A privilege is missing.
    Perm = -9,
    /// This kernel or this build cannot do it.
    Unsupported = -10,
    /// The kernel's verifier rejected a program; the detail holds its log.
    Verifier = -11,
    /// A program could not be attached.
    Attach = -12,
    /// A system call failed; see the errno.
    System = -13,
    /// The WASM guest failed.
    Wasm = -14,
    /// `stop` was called.
    Stopped = -15,
    /// The callback asked to end with a failure.
    Callback = -16,
    /// A bug of the library; the vm is dead.
    Internal = -17,
}

/// The thing that a failure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// A global variable of a package.
    Variable(String),
    /// A map of a package.
    Map(String),
    /// A program of a package.
    Program {
        /// Its function's name.
        name: String,
        /// Its section or the place it attaches to; may be empty.
        place: String,
    },
    /// A value in a package's metadata, by its path: `meta.bpf_skel.maps[1].sample.interval`.
    Metadata(String),
    /// A file or folder, by its path.
    File(String),
}

impl Subject {
    /// The program `name` at `place`, which may be empty.
    pub fn program(name: impl fmt::Display, place: &str) -> Subject {
        Subject::Program { name: name.to_string(), place: place.to_owned() }
    }

    /// The name alone: of the variable, map or program, or the path.
    pub fn name(&self) -> &str {
        match self {
            Subject::Program { name, .. } => name,
            Subject::Variable(name) | Subject::Map(name) | Subject::Metadata(name) | Subject::File(name) => {
                name
            }
        }
    }
}

/// As messages name it: `variable "pid"`, `program "p" (kprobe/f)`; paths as they are.
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

/// What to do about a failure. Displayed in words that fit every language; a tool may name its own option instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Set the target of the program that is the subject; holds the keys that it needs, as in `"path" and "func"`.
    Target(&'static str),
    /// Allow more kernel memory.
    KernelMemory,
    /// Allow kernel memory without a limit.
    NoKernelMemoryLimit,
    /// Open the metadata together with its object.
    OpenObject,
    /// Anything else, in words.
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

/// A failure: the status to decide by, the texts to read.
///
/// One pointer wide: results are passed by nearly every function, and failures are rare.
#[derive(Clone)]
pub struct Error(Box<Failure>);

/// What an [`Error`] holds. Its Display is the message, then the hint after a semicolon.
#[derive(Clone)]
pub struct Failure {
    /// Class of the failure.
    pub status: Status,
    /// One line: which thing, which value; begins with the subject, or with context before it.
    pub message: String,
    /// The thing that it is about, where it is one of these.
    pub subject: Option<Subject>,
    /// What to do, where that is known.
    pub hint: Option<Hint>,
    /// Long text such as a verifier log; empty if there is none.
    pub detail: String,
    /// The errno of the call that failed, or 0.
    pub errno: i32,
    /// Where in `message` the text after subject and context begins.
    reason_at: usize,
}

impl Failure {
    /// The message without the subject and the context before it.
    pub fn reason(&self) -> &str {
        self.message.get(self.reason_at..).unwrap_or_default()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// `Result` with the library's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Each constructor hands its text on as a `dyn Display`: what makes an error of it exists once, not at each of the
/// hundreds of places that can fail.
impl Error {
    /// An error with a one-line message.
    pub fn new(status: Status, message: impl fmt::Display) -> Error {
        Error::build(status, 0, &message)
    }

    /// An error for a name that is none of those there are.
    #[cold]
    #[inline(never)]
    pub fn unknown(kind: &str, name: &str, known: &mut dyn Iterator<Item = String>) -> Error {
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
    pub fn sys(status: Status, errno: i32, message: impl fmt::Display) -> Error {
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
            errno,
            reason_at: 0,
        }))
    }

    /// The same about `subject`, which the message then begins with. An earlier subject remains as text.
    #[cold]
    #[inline(never)]
    pub fn about(mut self, subject: Subject) -> Error {
        self.reason_at = 0;
        let mut error = self.within(&subject);
        error.subject = Some(subject);
        error
    }

    /// The same about the variable `name`.
    #[cold]
    #[inline(never)]
    pub fn about_variable(self, name: &str) -> Error {
        self.about(Subject::Variable(name.into()))
    }

    /// The same about the map `name`.
    #[cold]
    #[inline(never)]
    pub fn about_map(self, name: &str) -> Error {
        self.about(Subject::Map(name.into()))
    }

    /// The same about the program `name` at `place`, which may be empty.
    #[cold]
    #[inline(never)]
    pub fn about_program(self, name: &str, place: &str) -> Error {
        self.about(Subject::program(name, place))
    }

    /// The same about the file or folder `path`.
    #[cold]
    #[inline(never)]
    pub fn about_file(self, path: &str) -> Error {
        self.about(Subject::File(path.into()))
    }

    /// The same with words on what to do.
    pub fn hint(mut self, hint: Hint) -> Error {
        self.hint = Some(hint);
        self
    }

    /// The same with a long text.
    #[cold]
    #[inline(never)]
    pub fn with_detail(mut self, detail: &str) -> Error {
        self.detail = detail.to_owned();
        self
    }

    /// The same with `context` and a colon before the message.
    pub fn at(self, context: impl fmt::Display) -> Error {
        self.within(&context)
    }

    #[cold]
    #[inline(never)]
    fn within(mut self, context: &dyn fmt::Display) -> Error {
        let message = one_line(format!("{context}: {}", self.message));
        self.reason_at += message.len() - self.message.len();
        self.message = message;
        self
    }

    /// The same with other words after its subject and what stands before it.
    pub fn with_reason(mut self, reason: impl fmt::Display) -> Error {
        let at = self.reason_at;
        self.message.truncate(at);
        self.message += &one_line(reason.to_string());
        self
    }

    /// The same as a failure of another class.
    pub fn as_status(mut self, status: Status) -> Error {
        self.status = status;
        self
    }

    /// What it holds, to keep.
    pub fn into_failure(self) -> Failure {
        *self.0
    }
}

impl std::ops::Deref for Error {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl std::ops::DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Failure {
        &mut self.0
    }
}

/// The detail can be megabytes; only its length is shown.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { status, message, detail, errno, .. } = &**self;
        write!(f, "{status:?} {message:?} (errno {errno}, {} bytes of detail)", detail.len())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {}

/// Characters that nobody sees, or that change how others are seen, beside the control characters: Unicode's "default
/// ignorable" ones without variation selectors, which belong to what they follow; line separators; and annotations.
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

/// The text as a terminal, an editor and a reader may have it: control characters, those that turn the direction of
/// writing, and invisible ones are escaped as in JSON (`\u202e`), unless they are among `kept`.
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
            // Two halves, as JSON has it.
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

/// A message as one line: names from packages may hold anything.
fn one_line(text: String) -> String {
    match visible(&text, b"") {
        Cow::Borrowed(_) => text,
        Cow::Owned(shown) => shown,
    }
}

/// Names as a message lists them.
pub fn listed(names: Vec<String>) -> String {
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
    fn what_is_not_seen_or_turns_what_is_seen_becomes_an_escape() {
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
        // A text that means itself is not copied.
        assert!(matches!(visible("eunomia", b""), Cow::Borrowed(_)));
        assert!(matches!(visible("\u{4e2d}", b""), Cow::Borrowed(_)));
    }

    #[test]
    fn the_ranges_do_not_overlap_and_grow() {
        assert!(INVISIBLE.iter().all(|range| range.0 <= range.1));
        assert!(INVISIBLE.windows(2).all(|two| two[0].1 < two[1].0));
    }
}
