//! The one error of the library: a status that decides, a line for people, a detail, an errno.
//!
//! Lower errors are turned into it where they happen, by the code that knows the name and the value.

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
    /// No such variable, map, program, key, file.
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

/// A failure: the status decides, the texts are for people.
///
/// One pointer wide: results are passed by nearly every function, and failures are rare.
#[derive(Clone)]
pub struct Error(Box<Failure>);

/// What an [`Error`] tells.
#[derive(Clone)]
pub struct Failure {
    /// Class of the failure.
    pub status: Status,
    /// One line: which thing, which value, what to do.
    pub message: String,
    /// Long text such as a verifier log; empty if there is none.
    pub detail: String,
    /// The errno behind it, or 0.
    pub errno: i32,
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
    pub fn unknown(kind: &str, name: &str, known: impl Iterator<Item = String>) -> Error {
        let known = listed(known.collect());
        Error::new(Status::NotFound, format_args!("{kind} {name:?}: no such {kind}; there are: {known}"))
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
            detail: String::new(),
            errno,
        }))
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
        self.message = one_line(format!("{context}: {}", self.message));
        self
    }

    /// The same as a failure of another class.
    pub fn as_status(mut self, status: Status) -> Error {
        self.status = status;
        self
    }

    /// What it tells, to keep.
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
        let Failure { status, message, detail, errno } = &**self;
        write!(f, "{status:?} {message:?} (errno {errno}, {} bytes of detail)", detail.len())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The text with a question mark, as ls(1) has it, for each control character, which names from packages may bring.
fn one_line(text: String) -> String {
    let mut bytes = text.into_bytes();
    bytes.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b'?');
    String::from_utf8(bytes).unwrap_or_default()
}

/// Names as a message lists them.
pub fn listed(names: Vec<String>) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
