//! The messages between server and loader, as bytes. A decoder accepts only what an encoder has written, and allocates no
//! more than it was sent.

use std::fmt::Display;

use eunomia::{Error, Status};

/// The largest message.
pub const MAX_MESSAGE: usize = 32 << 20;
/// The most descriptors of one message.
pub const MAX_DESCRIPTORS: usize = 4096;
/// The most elements of a list.
const MAX_LIST: usize = 1024;

/// What the server requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Loads and attaches a package. The reply is [`Reply::Loaded`], with descriptors.
    Load {
        /// The number of the task, chosen by the server.
        task: u64,
        /// The package.
        package: Vec<u8>,
        /// The arguments of the program, without its name.
        args: Vec<String>,
        /// Names and values (JSON) of variables.
        variables: Vec<(String, String)>,
    },
    /// Prepares a new package for a task. The reply is [`Reply::Loaded`], with descriptors; the next request is
    /// [`Request::Flip`] or [`Request::Abort`].
    Replace {
        /// The task.
        task: u64,
        /// The new package.
        package: Vec<u8>,
    },
    /// Switches to the prepared package. The reply is [`Reply::Text`], the report.
    Flip,
    /// Gives up the prepared package.
    Abort,
    /// Detaches the programs of a task, or attaches them again. The maps stay.
    Pause {
        /// The task.
        task: u64,
        /// Whether to detach them.
        on: bool,
    },
    /// Detaches and unloads a task.
    Unload {
        /// The task.
        task: u64,
    },
    /// Describes a task: its maps and programs, with their run times. The reply is [`Reply::Text`].
    Describe {
        /// The task.
        task: u64,
    },
}

/// What the loader replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// JSON.
    Text(String),
    /// A package is attached or prepared. The message has its descriptors.
    Loaded {
        /// What the descriptors are.
        description: String,
    },
    /// It failed.
    Failed(Failure),
}

/// An error of the library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The number of the [`eunomia::Status`].
    pub status: i32,
    /// One line.
    pub message: String,
    /// The log of the verifier.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

impl Failure {
    /// A failure of the loader itself.
    pub fn new(status: Status, message: impl Display) -> Failure {
        Failure { status: status as i32, message: message.to_string(), ..Failure::default() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let detail = if error.status() == Status::Verifier { error.detail() } else { "" };
        let hint = error.hint().map(ToString::to_string).unwrap_or_default();
        Failure { detail: detail.to_owned(), hint, ..Failure::new(error.status(), error.message()) }
    }
}

impl Request {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Request::Load { task, package, args, variables } => {
                out.number(1).number(*task).bytes(package).number(args.len() as u64);
                for arg in args {
                    out.bytes(arg.as_bytes());
                }
                out.number(variables.len() as u64);
                for (name, value) in variables {
                    out.bytes(name.as_bytes()).bytes(value.as_bytes());
                }
            }
            Request::Replace { task, package } => {
                out.number(2).number(*task).bytes(package);
            }
            Request::Pause { task, on } => {
                out.number(3).number(*task).number((*on).into());
            }
            Request::Unload { task } => {
                out.number(4).number(*task);
            }
            Request::Describe { task } => {
                out.number(5).number(*task);
            }
            Request::Flip => {
                out.number(6).number(0);
            }
            Request::Abort => {
                out.number(7).number(0);
            }
        }
        out.0
    }

    /// Decodes it; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Request> {
        let mut input = Reader(bytes);
        let request = match (input.number()?, input.number()?) {
            (1, task) => Request::Load {
                task,
                package: input.bytes()?.to_vec(),
                args: input.list(Reader::text)?,
                variables: input.list(|input| Some((input.text()?, input.text()?)))?,
            },
            (2, task) => Request::Replace { task, package: input.bytes()?.to_vec() },
            (3, task) => Request::Pause { task, on: input.flag()? },
            (4, task) => Request::Unload { task },
            (5, task) => Request::Describe { task },
            (6, 0) => Request::Flip,
            (7, 0) => Request::Abort,
            _ => return None,
        };
        input.0.is_empty().then_some(request)
    }
}

impl Reply {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Reply::Done => {
                out.number(1);
            }
            Reply::Text(text) => {
                out.number(2).bytes(text.as_bytes());
            }
            Reply::Loaded { description } => {
                out.number(3).bytes(description.as_bytes());
            }
            Reply::Failed(Failure { status, message, detail, hint }) => {
                out.number(4).number(i64::from(*status) as u64);
                out.bytes(message.as_bytes()).bytes(detail.as_bytes()).bytes(hint.as_bytes());
            }
        }
        out.0
    }

    /// Decodes it; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Reply> {
        let mut input = Reader(bytes);
        let reply = match input.number()? {
            1 => Reply::Done,
            2 => Reply::Text(input.text()?),
            3 => Reply::Loaded { description: input.text()? },
            4 => Reply::Failed(Failure {
                status: i32::try_from(input.number()? as i64).ok()?,
                message: input.text()?,
                detail: input.text()?,
                hint: input.text()?,
            }),
            _ => return None,
        };
        input.0.is_empty().then_some(reply)
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) -> &mut Writer {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.number(bytes.len() as u64).0.extend_from_slice(bytes);
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn list<T>(&mut self, element: impl Fn(&mut Reader<'a>) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.number()?).ok().filter(|count| *count <= MAX_LIST)?;
        // Grows with what was sent, not with what was promised.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(element(self)?);
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        vec![
            Request::Load {
                task: u64::MAX,
                package: b"{}".to_vec(),
                args: vec![String::new(), "-p".into()],
                variables: vec![("a".into(), "1".into())],
            },
            Request::Replace { task: 1, package: vec![0; 100] },
            Request::Pause { task: 2, on: true },
            Request::Unload { task: 3 },
            Request::Describe { task: 4 },
            Request::Flip,
            Request::Abort,
        ]
    }

    fn replies() -> Vec<Reply> {
        let text = || "ä".to_owned();
        let failure = Failure { status: -7, message: text(), detail: text(), hint: text() };
        vec![Reply::Done, Reply::Text(text()), Reply::Loaded { description: text() }, Reply::Failed(failure)]
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        for request in requests() {
            assert_eq!(Request::decode(&request.encode()).as_ref(), Some(&request));
        }
        for reply in replies() {
            assert_eq!(Reply::decode(&reply.encode()).as_ref(), Some(&reply));
        }
    }

    /// No shorter or longer text is accepted; one with a changed bit is refused or means what it says, without a panic.
    fn check<T>(all: &[T], encode: fn(&T) -> Vec<u8>, decode: fn(&[u8]) -> Option<T>) {
        for bytes in all.iter().map(encode) {
            assert!((0..bytes.len()).all(|len| decode(&bytes[..len]).is_none()));
            assert!(decode(&[bytes.as_slice(), &[0]].concat()).is_none());
            for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(decode(&changed).is_none_or(|message| encode(&message) == changed));
            }
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        check(&requests(), Request::encode, Request::decode);
        check(&replies(), Reply::encode, Reply::decode);
    }
}
