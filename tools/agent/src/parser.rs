//! Reads a package in a child process before the loader does. The child has no privileges and can only compute.
//!
//! The loader keeps the programs of all tasks attached, so it must survive every package. If a package makes the child crash, use
//! too much memory or take too long, only the child ends. Its reply is not trusted: it can cause a refusal, but it cannot permit
//! anything, because the loader judges the loaded instructions again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use eunomia::package::Package;
use eunomia::{Kind, Options, Status, Vm};
use eunomia_effects::{Findings, Judged, Object, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde_json::{Value, json};

use crate::archive;
use crate::loader::privileges::allow_only;
use crate::loader::protocol::{Failure, MAX_DESCRIPTORS, Reply};
use crate::loader::{channel, confine_parser};

/// The limits of the child: address space in bytes, processor time in seconds, descriptors (each map needs one), and bytes of a
/// file in memory.
const MEMORY: u64 = 1 << 30;
const SECONDS: u64 = 10;
const FILES: u64 = MAX_DESCRIPTORS as u64 + 64;
const FILE: u64 = 8 << 20;
/// The time limit for the reply of the child.
const WAIT: Duration = Duration::from_secs(30);
/// Maximum size of the reply, in bytes.
const MAX_REPLY: u64 = 4 << 20;

type Result<T> = std::result::Result<T, Failure>;

/// Starts children. Each reads one package. One of them waits for the next package, because starting a child takes longer than reading
/// most packages.
pub struct Parsers {
    /// Starts a process that calls [`serve`].
    command: fn() -> Command,
    waiting: RefCell<Option<Parser>>,
}

/// A child, and the socket for the package.
struct Parser {
    child: Child,
    socket: UnixStream,
}

impl Parsers {
    /// `command` starts a process that calls [`serve`].
    pub fn new(command: fn() -> Command) -> Parsers {
        Parsers { command, waiting: RefCell::new(None) }
    }

    /// Starts the child for the next package, unless it waits already. If that fails, it is started with the package.
    pub fn prepare(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_none() {
            *waiting = Parser::start((self.command)()).ok();
        }
    }

    /// Makes a child read the package. Returns what the programs could do, according to their instructions as compiled.
    pub fn read(&self, package: &[u8]) -> Result<Vec<Judged>> {
        let waiting = match self.waiting.take() {
            Some(mut ended) if !ended.waits() => {
                let _ = ended.child.wait();
                None
            }
            waiting => waiting,
        };
        waiting.map_or_else(|| Parser::start((self.command)()), Ok).map_err(failed)?.read(package)
    }
}

impl Drop for Parsers {
    fn drop(&mut self) {
        // The child ends when its socket is closed.
        if let Some(Parser { mut child, socket }) = self.waiting.take() {
            drop(socket);
            let _ = child.wait();
        }
    }
}

impl Parser {
    fn start(mut command: Command) -> io::Result<Parser> {
        let (socket, other) = UnixStream::pair()?;
        command.env_clear().stdin(OwnedFd::from(other)).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(Parser { child: command.spawn()?, socket })
    }

    /// Whether the child has not ended. Someone may have killed it while it waited.
    fn waits(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        // The child sends nothing, so the socket is readable only if the child has closed it.
        matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
    }

    fn read(self, package: &[u8]) -> Result<Vec<Judged>> {
        let Parser { child, socket } = self;
        let input = in_memory(package).map_err(failed)?;
        // If the child has ended, its status says why.
        let _ = channel::send(&socket, b"", &[input.as_fd()]);
        reply(child)
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::new(Status::System, format_args!("the package parser: {error}"))
}

/// Waits for the reply of a child, and for its end.
fn reply(mut child: Child) -> Result<Vec<Judged>> {
    let reply = receive(&mut child);
    if reply.is_err() {
        // The child may have ended already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(failed)?;
    match Reply::decode(&reply.map_err(failed)?) {
        Some(Reply::Text(text)) if status.success() => decode(&text).ok_or_else(|| ended(status)),
        Some(Reply::Failed(failure)) if status.success() => Err(failure),
        _ => Err(ended(status)),
    }
}

/// Returns the error for a child that has not replied.
fn ended(status: ExitStatus) -> Failure {
    /// The kernel sends SIGXCPU at the limit, and SIGKILL if the child is still running after that, or if memory runs out.
    const SIGXCPU: i32 = 24;
    const SIGKILL: i32 = 9;
    let why = match status.signal() {
        Some(SIGXCPU) => format!("took more than {SECONDS} s"),
        Some(SIGKILL) => format!("was killed: it took more than {SECONDS} s, or memory ran out"),
        Some(signal) => format!("ended by signal {signal}"),
        None => format!("used more than {} MiB, or failed ({status})", MEMORY >> 20),
    };
    let hint = "the package is damaged or hostile; ecli inspect may show more";
    Failure {
        hint: hint.into(),
        ..Failure::new(Status::Package, format_args!("the package cannot be read: its parser {why}"))
    }
}

/// A file in memory with these bytes, to be read from the start.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("package", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Reads the reply until the child closes the pipe.
fn receive(child: &mut Child) -> io::Result<Vec<u8>> {
    let (deadline, mut reply) = (Instant::now() + WAIT, Vec::new());
    let Some(mut output) = child.stdout.take() else { return Ok(reply) };
    let mut piece = [0; 1 << 14];
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()))
            .map_err(io::Error::other)?;
        let mut fds = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(0) => return Err(io::Error::other(format!("no reply within {} s", WAIT.as_secs()))),
            other => other?,
        };
        let count = output.read(&mut piece)?;
        reply.extend_from_slice(&piece[..count]);
        if count == 0 {
            return Ok(reply);
        }
        if reply.len() as u64 > MAX_REPLY {
            return Err(io::Error::other("the reply is too large"));
        }
    }
}

/// The child: receives the package, as a file in memory, over the socket on standard input, and writes the reply to standard output. It
/// ends if the other end is closed.
pub fn serve() -> std::result::Result<(), String> {
    restrict()?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let received = channel::receive(&UnixStream::from(socket)).map_err(|error| error.to_string())?;
    let Some(input) = received.and_then(|(_, mut descriptors)| descriptors.pop()) else { return Ok(()) };
    let mut package = Vec::new();
    File::from(input).read_to_end(&mut package).map_err(|error| error.to_string())?;
    let reply = match judge(&package) {
        Ok(programs) => Reply::Text(encode(&programs)),
        Err(failure) => Reply::Failed(failure),
    };
    io::stdout().lock().write_all(&reply.encode()).map_err(|error| error.to_string())
}

/// Opens a package as the loader will, and determines what its programs could do.
fn judge(bytes: &[u8]) -> Result<Vec<Judged>> {
    let bytes = &*archive::open(bytes)?;
    let package = Package::parse(bytes)?;
    let vm = Vm::new(Options::new())?;
    vm.open(bytes, Kind::Json)?;
    let mut pins = BTreeMap::new();
    for index in 0..vm.map_count()? {
        if let Some(path) = vm.map_pin_path_at(index)? {
            pins.insert(vm.map_at(index)?.name.to_string_lossy().into_owned(), path);
        }
    }
    let pinned = |map: &str| Some(pins.get(map)?.to_string_lossy().into_owned());
    let (mut object, mut programs) = (Object::new(&package.object), Vec::new());
    for index in 0..vm.prog_count()? {
        let (info, own) = (vm.prog_at(index)?, vm.prog_code_at(index)?);
        if !info.autoload {
            continue;
        }
        let name = info.name.to_string_lossy().into_owned();
        let code = object.code(&name, &own.instructions);
        let program = Program { kind: info.kind, attach_type: own.attach_type };
        let findings = Findings::of(&code, &program, &pinned);
        programs.push(Judged { name, kind: info.kind, findings });
    }
    Ok(programs)
}

fn encode(programs: &[Judged]) -> String {
    let one = |Judged { name, kind, findings }: &Judged| {
        json!({
            "name": name, "kind": kind, "helpers": findings.helpers, "kfuncs": findings.kfuncs,
            "effects": findings.effects,
        })
    };
    Value::from_iter(programs.iter().map(one)).to_string()
}

/// Reads what [`encode`] has written; `None` if it is something else.
fn decode(text: &str) -> Option<Vec<Judged>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let one = |program: &Value| {
        let list = |name: &str| program[name].as_array();
        let findings = Findings {
            helpers: list("helpers")?.iter().map(number).collect::<Option<_>>()?,
            kfuncs: list("kfuncs")?.iter().map(word).collect::<Option<_>>()?,
            effects: list("effects")?.iter().map(word).collect::<Option<_>>()?,
            ..Findings::default()
        };
        Some(Judged { name: word(&program["name"])?, kind: number(&program["kind"])?, findings })
    };
    value.as_array()?.iter().map(one).collect()
}

/// Drops permanently all privileges that reading a package does not need.
fn restrict() -> std::result::Result<(), String> {
    // A limit that is already lower is kept, because raising it would need a capability.
    let most = |resource, most: u64| {
        let most = getrlimit(resource).maximum.map_or(most, |already| already.min(most));
        Rlimit { current: Some(most), maximum: Some(most) }
    };
    let limits = [
        (Resource::As, MEMORY),
        (Resource::Cpu, SECONDS),
        (Resource::Nofile, FILES),
        (Resource::Fsize, FILE),
        (Resource::Core, 0),
    ];
    for (resource, limit) in limits {
        setrlimit(resource, most(resource, limit)).map_err(|error| error.to_string())?;
    }
    // If memory runs out, the kernel kills this process before the loader. Without /proc, it kills the larger process.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    confine_parser()?;
    allow_only(&CALLS)
}

/// More system calls, mostly for opening files; Landlock restricts which files.
const CALLS: [i64; 16] = [
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_openat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_newfstatat,
    libc::SYS_ioctl,
    libc::SYS_uname,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_memfd_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_eventfd2,
    libc::SYS_sched_getaffinity,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_replies_is_read_as_it_was_written() {
        let findings = Findings {
            helpers: [1, 5].into(),
            kfuncs: ["f".to_owned()].into(),
            effects: ["drops packets".to_owned()].into(),
            ..Findings::default()
        };
        let programs = [Judged { name: "p".into(), kind: 6, findings: findings.clone() }];
        let read = decode(&encode(&programs)).unwrap();
        assert_eq!((read[0].name.as_str(), read[0].kind, &read[0].findings), ("p", 6, &findings));
        for text in
            ["", "{}", "[1]", "[{}]", r#"[{"name":1,"kind":6,"helpers":[],"kfuncs":[],"effects":[]}]"#]
        {
            assert!(decode(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_child_that_fails_is_a_refused_package() {
        let read = |script: &str| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", script]);
            Parser::start(command).unwrap().read(b"{}").unwrap_err()
        };
        assert!(read("kill -SEGV $$").message.ends_with("its parser ended by signal 11"));
        assert!(read("kill -XCPU $$").message.ends_with("its parser took more than 10 s"));
        assert!(read("kill -KILL $$").message.ends_with("took more than 10 s, or memory ran out"));
        assert!(read("exit 1").message.contains("used more than 1024 MiB, or failed"));
        assert!(read("echo nonsense").message.contains("the package cannot be read"));
        assert!(read("head -c 5000000 /dev/zero").message.contains("the reply is too large"));
    }
}
