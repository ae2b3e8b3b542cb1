//! The messages between server and loader, as bytes. A decoder accepts only what an encoder has written.
//!
//! Server and loader may be of different versions, because programs stay attached while the server is upgraded. So the first
//! request is [`Request::Hello`], and the loader replies with the protocol to use. `Hello`, `End` and `Failed` are the same in every
//! protocol.

use std::fmt::Display;

use eunomia::{Error, Status};

use super::wire::{Reader, Writer};
use crate::limits::Limits;

/// Maximum size of a message, in bytes.
pub const MAX_MESSAGE: usize = 32 << 20;
/// Maximum number of descriptors in a message.
pub const MAX_DESCRIPTORS: usize = 4096;
/// The protocol of this version.
pub const PROTOCOL: u64 = 2;

/// "eunomia", the beginning of the first message.
const MAGIC: u64 = 0x0061_696d_6f6e_7565;
/// Maximum length of the detail of a failure; the rest is cut off.
const MAX_DETAIL: usize = 1 << 20;

/// Who requests a change. The server reports this; the loader cannot check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root over the unix socket.
    Root,
    /// Another user over the unix socket.
    Local,
    /// Somebody over TCP.
    Network,
}

/// The status of a [`Failure`] that the policy has caused. No [`Status`] has this number.
pub const REFUSED: i32 = -1000;

/// A request of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Begins the connection. The reply is [`Reply::Hello`], or `Failed` if the loader speaks none of these protocols.
    Hello {
        /// The oldest protocol that the server supports.
        lowest: u64,
        /// The newest protocol that it supports.
        highest: u64,
    },
    /// Loads and attaches a package, or takes over the programs that a loader which was killed has pinned. The reply is
    /// [`Reply::Loaded`], with descriptors.
    Load {
        /// Whether to take over a task that is [`Listed::is_pinned`]. `package` is then the one that runs.
        recover: bool,
        /// The number of the task, chosen by the server.
        task: u64,
        /// The package.
        package: Vec<u8>,
        /// The arguments of the program, without its name.
        args: Vec<String>,
        /// Names and values (JSON) of variables.
        variables: Vec<(String, String)>,
        /// Identifies the arguments and other settings of the task. The loader stores it and returns it in [`Listed::wanted`].
        wanted: String,
        /// The treatment of the task without a server.
        alone: Alone,
        /// The limits on what it may use.
        limits: Limits,
        /// The origin of the package.
        origin: Origin,
    },
    /// Prepares a new package for a task. The reply is [`Reply::Loaded`], with descriptors; the next request is
    /// [`Request::Flip`] or [`Request::Abort`]. If the task runs this package already, the reply is [`Reply::Text`], the report.
    Replace {
        /// The task.
        task: u64,
        /// The new package.
        package: Vec<u8>,
        /// The origin of the package.
        origin: Origin,
        /// Whether the replaced version is kept until [`Request::Commit`] or [`Request::Rollback`]. Fails with
        /// [`Status::Unsupported`] if it cannot be kept.
        keeps_old: bool,
    },
    /// Closes the version that a replace has kept.
    Commit {
        /// The task.
        task: u64,
    },
    /// Prepares the return to the version that a replace has kept. The reply is [`Reply::Loaded`], with the descriptors of that
    /// version; the next request is [`Request::Flip`] or [`Request::Abort`].
    Rollback {
        /// The task.
        task: u64,
    },
    /// Switches to the prepared package. The reply is [`Reply::Text`], the report.
    Flip,
    /// Unloads the prepared package without a switch to it.
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
    /// Lists the tasks. The reply is [`Reply::Tasks`].
    List,
    /// Sends the descriptors for reading the events of a task again, to a server that was started after another one. The reply
    /// is [`Reply::Loaded`].
    Adopt {
        /// The task.
        task: u64,
        /// 0: the running package. A larger number: an element of [`Listed::old`], counted from 1.
        age: u64,
    },
    /// Stores the descriptor in this message, which is the log of a task, for the next server.
    KeepLog {
        /// The task.
        task: u64,
    },
    /// Requests the log of a task. The reply has a descriptor if the loader has the log.
    Log {
        /// The task.
        task: u64,
    },
    /// Reads the policy again and opens the audit log again, or leaves both as they are. The reply is [`Reply::Text`], the paths of
    /// both as JSON. It has a descriptor if there is a log, see [`crate::audit::add`].
    Settings,
    /// Requests what tasks with a budget use. The reply is [`Reply::Text`], JSON, with a descriptor: a socket that becomes readable
    /// when a task is throttled or stopped, or no longer throttled.
    Usage,
    /// Opens a file for the events of a task. The reply is [`Reply::Done`], with the descriptor.
    Sink {
        /// Its path.
        path: String,
        /// Set if the file is full: the number of earlier files that are kept.
        rotate: Option<u64>,
    },
    /// Detaches and unloads everything, and ends the loader.
    End,
    /// Reports what [`Request::Load`] or [`Request::Replace`] would do. The reply is [`Reply::Text`].
    Plan {
        /// The task whose package would be replaced, or 0.
        task: u64,
        /// The package.
        package: Vec<u8>,
        /// The arguments of the program, without its name.
        args: Vec<String>,
        /// Names and values (JSON) of variables.
        variables: Vec<(String, String)>,
        /// The origin of the package.
        origin: Origin,
    },
    /// Opens the file of the program and its signature again. Only the loader of `ecli run` does that, and only for the file of its
    /// command line. The reply is [`Reply::Done`], with one or two descriptors.
    Program,
}

/// The origin of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The caller that has sent it.
    pub caller: Caller,
    /// The caller and its request in words, for the audit log.
    pub who: String,
    /// Its signature.
    pub signature: Option<String>,
}

/// The treatment of the programs of a task while there is no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alone {
    /// Whether the programs are detached. `None`: only if one of them can drop, deny or rewrite something.
    pub detach: Option<bool>,
    /// The number of seconds without a server after which they are detached.
    pub after: u64,
}

/// A reply of the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The identity of the loader.
    Hello {
        /// The protocol that both speak.
        protocol: u64,
        /// The number of its process.
        process: u64,
        /// Its version.
        version: String,
    },
    /// The request has been carried out.
    Done,
    /// JSON.
    Text(String),
    /// A package is attached or prepared. The message contains its descriptors.
    Loaded {
        /// The object of each descriptor (a map, a program or a perf event), in the format of
        /// [`eunomia::vm::Exported`].
        description: String,
    },
    /// The tasks.
    Tasks(Vec<Listed>),
    /// The request failed.
    Failed(Failure),
}

/// A task of the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub task: u64,
    /// The SHA-256 of the package that runs, in hexadecimal digits.
    pub digest: String,
    /// The value that the server passed when the task was loaded.
    pub wanted: String,
    /// Packages that were replaced and whose events are not all read, the oldest first.
    pub old: Vec<String>,
    /// The number of times that its package was replaced.
    pub replaced: u64,
    /// Whether a request has detached its programs.
    pub is_paused: bool,
    /// Whether it is loaded. Otherwise it was unloaded because there was no server, or it is pinned.
    pub is_loaded: bool,
    /// Whether its programs run, and a loader that was killed has left them. [`Request::Load`] takes them over.
    pub is_pinned: bool,
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
    /// Advice about it.
    pub hint: String,
}

impl Failure {
    /// A failure of the loader itself.
    pub fn new(status: Status, message: impl Display) -> Failure {
        Failure { status: status as i32, message: message.to_string(), ..Failure::default() }
    }

    /// The policy refuses a package by `rule`.
    pub fn refused(rule: &str, why: impl Display, hint: impl Display) -> Failure {
        let (message, hint) = (format!("refused by rule {rule} of the policy: {why}"), hint.to_string());
        Failure { status: REFUSED, message, hint, ..Failure::default() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let detail = if error.status() == Status::Verifier { error.detail() } else { "" };
        let end = (0..=detail.len().min(MAX_DETAIL)).rev().find(|at| detail.is_char_boundary(*at));
        let detail = detail[..end.unwrap_or(0)].to_owned();
        let hint = error.hint().map(ToString::to_string).unwrap_or_default();
        Failure { detail, hint, ..Failure::new(error.status(), error.message()) }
    }
}

impl Request {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Request::Hello { lowest, highest } => {
                out.number(0).number(MAGIC).number(*lowest).number(*highest)
            }
            Request::Load { recover, task, package, args, variables, wanted, alone, limits, origin } => {
                out.number(if *recover { 21 } else { 1 }).number(*task).bytes(package);
                settings(&mut out, args, variables);
                out.text(wanted).number(alone.detach.map_or(2, u64::from)).number(alone.after);
                limits.encode(&mut out);
                origin.encode(&mut out)
            }
            Request::Replace { task, package, origin, keeps_old } => {
                let number = if *keeps_old { 17 } else { 2 };
                origin.encode(out.number(number).number(*task).bytes(package))
            }
            Request::Commit { task } => out.number(18).number(*task),
            Request::Rollback { task } => out.number(19).number(*task),
            Request::Pause { task, on } => out.number(3).number(*task).number((*on).into()),
            Request::Unload { task } => out.number(4).number(*task),
            Request::Describe { task } => out.number(5).number(*task),
            Request::Flip => out.number(6).number(0),
            Request::Abort => out.number(7).number(0),
            Request::List => out.number(8).number(0),
            Request::Adopt { task, age } => out.number(9).number(*task).number(*age),
            Request::KeepLog { task } => out.number(10).number(*task),
            Request::Log { task } => out.number(11).number(*task),
            Request::End => out.number(12).number(0),
            Request::Plan { task, package, args, variables, origin } => {
                out.number(13).number(*task).bytes(package);
                settings(&mut out, args, variables);
                origin.encode(&mut out)
            }
            Request::Settings => out.number(14).number(0),
            Request::Program => out.number(20).number(0),
            Request::Sink { path, rotate } => {
                out.number(16).number(0).text(path).number(rotate.map_or(0, |keep| keep.saturating_add(1)))
            }
            Request::Usage => out.number(15).number(0),
        };
        out.0
    }

    /// Decodes it; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Request> {
        let mut input = Reader(bytes);
        let request = match (input.number()?, input.number()?) {
            (0, MAGIC) => Request::Hello { lowest: input.number()?, highest: input.number()? },
            (number @ (1 | 21), task) => Request::Load {
                recover: number == 21,
                task,
                package: input.bytes()?.to_vec(),
                args: input.list(Reader::text)?,
                variables: input.list(|input| Some((input.text()?, input.text()?)))?,
                wanted: input.text()?,
                alone: Alone { detach: detach(input.number()?)?, after: input.number()? },
                limits: Limits::decode(&mut input)?,
                origin: Origin::decode(&mut input)?,
            },
            (number @ (2 | 17), task) => {
                let package = input.bytes()?.to_vec();
                let origin = Origin::decode(&mut input)?;
                Request::Replace { task, package, origin, keeps_old: number == 17 }
            }
            (18, task) => Request::Commit { task },
            (19, task) => Request::Rollback { task },
            (3, task) => Request::Pause { task, on: input.flag()? },
            (4, task) => Request::Unload { task },
            (5, task) => Request::Describe { task },
            (6, 0) => Request::Flip,
            (7, 0) => Request::Abort,
            (8, 0) => Request::List,
            (9, task) => Request::Adopt { task, age: input.number()? },
            (10, task) => Request::KeepLog { task },
            (11, task) => Request::Log { task },
            (12, 0) => Request::End,
            (13, task) => Request::Plan {
                task,
                package: input.bytes()?.to_vec(),
                args: input.list(Reader::text)?,
                variables: input.list(|input| Some((input.text()?, input.text()?)))?,
                origin: Origin::decode(&mut input)?,
            },
            (14, 0) => Request::Settings,
            (20, 0) => Request::Program,
            (16, 0) => Request::Sink { path: input.text()?, rotate: input.number()?.checked_sub(1) },
            (15, 0) => Request::Usage,
            _ => return None,
        };
        input.0.is_empty().then_some(request)
    }
}

/// The arguments and variables of a program.
fn settings(out: &mut Writer, args: &[String], variables: &[(String, String)]) {
    out.list(args, |out, arg| {
        out.text(arg);
    });
    out.list(variables, |out, (name, value)| {
        out.text(name).text(value);
    });
}

impl Caller {
    /// All, with the words for them in files.
    pub const ALL: [(Caller, &'static str); 3] =
        [(Caller::Root, "root"), (Caller::Local, "local"), (Caller::Network, "network")];
}

impl Origin {
    fn encode<'a>(&self, out: &'a mut Writer) -> &'a mut Writer {
        let number = Caller::ALL.iter().position(|(caller, _)| *caller == self.caller);
        let signature: &[String] = self.signature.as_slice();
        out.number(number.unwrap_or(0) as u64).text(&self.who).list(signature, |out, signature| {
            out.text(signature);
        })
    }

    fn decode(input: &mut Reader) -> Option<Origin> {
        let caller = Caller::ALL.get(usize::try_from(input.number()?).ok()?)?.0;
        let (who, mut signature) = (input.text()?, input.list(Reader::text)?);
        let origin = Origin { caller, who, signature: signature.pop() };
        signature.is_empty().then_some(origin)
    }
}

fn detach(number: u64) -> Option<Option<bool>> {
    match number {
        0 => Some(Some(false)),
        1 => Some(Some(true)),
        2 => Some(None),
        _ => None,
    }
}

impl Reply {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Reply::Hello { protocol, process, version } => {
                out.number(0).number(*protocol).number(*process).text(version)
            }
            Reply::Done => out.number(1),
            Reply::Text(text) => out.number(2).text(text),
            Reply::Loaded { description } => out.number(3).text(description),
            Reply::Failed(Failure { status, message, detail, hint }) => {
                out.number(4).number(i64::from(*status) as u64).text(message).text(detail).text(hint)
            }
            Reply::Tasks(tasks) => out.number(5).list(tasks, |out, listed| listed.encode(out)),
        };
        out.0
    }

    /// Decodes it; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Reply> {
        let mut input = Reader(bytes);
        let reply = match input.number()? {
            0 => Reply::Hello { protocol: input.number()?, process: input.number()?, version: input.text()? },
            1 => Reply::Done,
            2 => Reply::Text(input.text()?),
            3 => Reply::Loaded { description: input.text()? },
            4 => Reply::Failed(Failure {
                status: i32::try_from(input.number()? as i64).ok()?,
                message: input.text()?,
                detail: input.text()?,
                hint: input.text()?,
            }),
            5 => Reply::Tasks(input.list(Listed::decode)?),
            _ => return None,
        };
        input.0.is_empty().then_some(reply)
    }
}

impl Listed {
    fn encode(&self, out: &mut Writer) {
        out.number(self.task).text(&self.digest).text(&self.wanted);
        out.list(&self.old, |out, digest| {
            out.text(digest);
        })
        .number(self.replaced);
        out.number(self.is_paused.into()).number(self.is_loaded.into()).number(self.is_pinned.into());
    }

    fn decode(input: &mut Reader) -> Option<Listed> {
        Some(Listed {
            task: input.number()?,
            digest: input.text()?,
            wanted: input.text()?,
            old: input.list(Reader::text)?,
            replaced: input.number()?,
            is_paused: input.flag()?,
            is_loaded: input.flag()?,
            is_pinned: input.flag()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        let load = |detach| Request::Load {
            recover: detach == Some(true),
            task: u64::MAX,
            package: b"{}".to_vec(),
            args: vec![String::new(), "-p".into()],
            variables: vec![("a".into(), "1".into())],
            wanted: "w".into(),
            alone: Alone { detach, after: 30 },
            limits: Limits { memory_mib: Some(1), cpu_percent: None, events_per_second: Some(2) },
            origin: Origin { caller: Caller::Local, who: "w".into(), signature: None },
        };
        let signed = Origin { caller: Caller::Network, who: "w".into(), signature: Some("s".into()) };
        vec![
            Request::Hello { lowest: 1, highest: 2 },
            load(None),
            load(Some(true)),
            load(Some(false)),
            Request::Replace { task: 1, package: vec![0; 100], origin: signed.clone(), keeps_old: false },
            Request::Replace { task: 1, package: vec![0; 9], origin: signed, keeps_old: true },
            Request::Commit { task: 8 },
            Request::Rollback { task: 9 },
            Request::Settings,
            Request::Program,
            Request::Sink { path: "/a".into(), rotate: None },
            Request::Sink { path: "/a".into(), rotate: Some(0) },
            Request::Usage,
            Request::Pause { task: 2, on: true },
            Request::Unload { task: 3 },
            Request::Describe { task: 4 },
            Request::Flip,
            Request::Abort,
            Request::List,
            Request::Adopt { task: 5, age: 1 },
            Request::KeepLog { task: 6 },
            Request::Log { task: 7 },
            Request::End,
            Request::Plan {
                task: 0,
                package: b"{}".to_vec(),
                args: vec!["-p".into()],
                variables: vec![("a".into(), "1".into())],
                origin: Origin { caller: Caller::Root, who: "w".into(), signature: None },
            },
        ]
    }

    fn replies() -> Vec<Reply> {
        let text = || "ä".to_owned();
        let failure = Failure { status: -7, message: text(), detail: text(), hint: text() };
        let listed = Listed {
            task: 1,
            digest: text(),
            wanted: text(),
            old: vec![text(), text()],
            replaced: 2,
            is_paused: true,
            is_loaded: false,
            is_pinned: true,
        };
        vec![
            Reply::Hello { protocol: 1, process: 2, version: text() },
            Reply::Done,
            Reply::Text(text()),
            Reply::Loaded { description: text() },
            Reply::Tasks(vec![listed.clone(), listed]),
            Reply::Failed(failure),
        ]
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

    /// Checks that no shorter or longer message is accepted. A message with a changed bit is refused or decoded exactly.
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
