//! The main loop of the loader: accepts one server after the other, and handles its requests one at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use eunomia::Status;
use eunomia::vm::Exported;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::exchange::{receive, reply as send};
use super::files::open_beneath;
use super::guard::{Config, Guard};
use super::protocol::{Failure, PROTOCOL, Reply, Request};
use super::running::{Ask, Load, Report, Tasks};
use super::survival::folder_of;
use super::{channel, privileges, say};

/// The time limit for a message that has begun to arrive, and for the decision about a prepared package.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time limit for the first message of another server.
const NEWCOMER: Duration = Duration::from_secs(1);
/// The interval at which the loader checks whether the events of earlier versions have been read.
const LOOK: Duration = Duration::from_millis(100);

/// Serves servers, one at a time, that connect to `listener`, a listening unix socket. Tasks keep running while no server is
/// connected. Returns when a server requests it, on SIGTERM, or when no server is connected and no package is loaded.
///
/// It drops the privileges of the calling thread only, so call it before another thread starts.
pub fn serve(listener: OwnedFd, config: Config) -> io::Result<()> {
    let statistics = Guard::statistics(&config);
    privileges::confine_loader().map_err(io::Error::other)?;
    let guard = Guard::open(config, statistics).map_err(io::Error::other)?;
    let listener = UnixListener::from(listener);
    // Without a handler SIGTERM would leave pinned programs attached.
    let (end, handler) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, handler)?;
    let own = listener.local_addr()?;
    let tasks = Tasks::found_in(own.as_pathname().and_then(folder_of));
    let mut loader = Loader { tasks, end, guard, server: None, alone_since: Instant::now() };
    loop {
        let timeout = loader.timeout();
        let [is_end, is_newcomer, is_request] = loader.wait(&listener, timeout)?;
        if is_end {
            return Ok(());
        }
        if is_request && loader.answer() == Next::End {
            return Ok(());
        }
        // Requests are handled first, so that the end of the previous server is noticed before the next one is accepted.
        if is_newcomer {
            loader.accept(&listener);
        }
    }
}

struct Loader {
    tasks: Tasks,
    /// Readable after SIGTERM.
    end: UnixStream,
    guard: Guard,
    server: Option<Server>,
    /// The time when the last server ended. It is not used while there is a server.
    alone_since: Instant,
}

struct Server {
    socket: UnixStream,
    /// Whether both have agreed on a protocol.
    is_known: bool,
}

#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Loader {
    /// Does the work that is due. Returns the time of the next work.
    fn timeout(&mut self) -> Option<Duration> {
        let budgets = self.tasks.regulate(&self.guard);
        if self.server.is_some() {
            self.guard.prepare();
        }
        let other = match self.server {
            Some(_) => self.tasks.forget_read().then_some(LOOK),
            None => {
                let alone = self.alone_since.elapsed();
                self.tasks.detach_after(alone).map(|at| at.saturating_sub(alone))
            }
        };
        [budgets, other].into_iter().flatten().min()
    }

    /// Waits for SIGTERM, another server, or a request of the server.
    fn wait(&self, listener: &UnixListener, timeout: Option<Duration>) -> io::Result<[bool; 3]> {
        let mut waiting = vec![PollFd::new(&self.end, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        waiting.extend(self.server.as_ref().map(|server| PollFd::new(&server.socket, PollFlags::IN)));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut waiting, timeout.as_ref()) {
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ => {}
        }
        let is_ready = |index: usize| waiting.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok([0, 1, 2].map(is_ready))
    }

    /// Accepts a server, unless there is one already.
    fn accept(&mut self, listener: &UnixListener) {
        let accepted = listener.accept().and_then(|(socket, _)| {
            let patience = if self.server.is_some() { NEWCOMER } else { PATIENCE };
            socket.set_read_timeout(Some(patience))?;
            socket.set_write_timeout(Some(patience))?;
            Ok(socket)
        });
        match accepted {
            Ok(socket) if self.server.is_none() => self.server = Some(Server { socket, is_known: false }),
            Ok(socket) => {
                // The content of its request does not matter.
                let _ = channel::receive(&socket);
                let failure = Failure::new(Status::Busy, "another server uses this loader");
                let _ = send(&socket, &Reply::Failed(failure), &[]);
            }
            Err(error) => say(format_args!("a server cannot be accepted: {error}")),
        }
    }

    /// Handles one request, and closes the connection if it has failed.
    fn answer(&mut self) -> Next {
        let Some(server) = &mut self.server else { return Next::GoOn };
        match server.answer(&mut self.tasks, &mut self.guard) {
            Ok(Some(next)) => return next,
            Ok(None) => {}
            Err(error) => say(format_args!("the connection to the server is closed: {error}")),
        }
        (self.server, self.alone_since) = (None, Instant::now());
        if self.tasks.is_idle() { Next::End } else { Next::GoOn }
    }
}

impl Server {
    /// Handles one request; `None` if the server has closed the connection.
    fn answer(&mut self, tasks: &mut Tasks, guard: &mut Guard) -> io::Result<Option<Next>> {
        let Some((request, descriptors)) = receive(&self.socket)? else { return Ok(None) };
        match request {
            Request::Hello { lowest, highest } => self.greet(lowest, highest)?,
            Request::End => {
                // Everything is detached even if the log cannot be written.
                let _ = guard.note("end", 0);
                *tasks = Tasks::default();
                send(&self.socket, &Reply::Done, &[])?;
                return Ok(Some(Next::End));
            }
            _ if !self.is_known => {
                let failure = Failure::new(Status::State, "the first request must be hello");
                send(&self.socket, &Reply::Failed(failure), &[])?;
            }
            Request::Replace { task, package, origin, keeps_old } => {
                let new = (task, &*package, &origin);
                self.switch(|ask| tasks.replace(guard, new, keeps_old, ask))?;
            }
            Request::Rollback { task } => {
                // The earlier version returns even if the log cannot be written.
                let _ = guard.note("rollback", task);
                self.switch(|ask| tasks.rollback(task, ask))?;
            }
            Request::Settings => {
                self.settings(guard)?;
                tasks.begin_metering(guard);
            }
            Request::Usage => send(&self.socket, &Reply::Text(tasks.usage()), &[guard.changes()])?,
            Request::Adopt { task, age } => self.loaded(tasks.adopt(task, age))?,
            Request::Load { recover, task, package, args, variables, wanted, alone, limits, origin } => {
                let (package, args, variables, origin) = (&package, &args, &variables, &origin);
                let load = Load { task, package, args, variables, wanted, alone, limits, origin };
                self.loaded(if recover { tasks.recover(guard, load) } else { tasks.load(guard, load) })?;
            }
            Request::Sink { path, rotate } => {
                let file = open_beneath(Path::new(&path), guard.policy().sink_folders(), rotate);
                match file {
                    Ok(file) => send(&self.socket, &Reply::Done, &[file.as_fd()])?,
                    Err(failure) => send(&self.socket, &Reply::Failed(failure), &[])?,
                }
            }
            Request::Log { task } => {
                let (reply, log) = match tasks.log(task) {
                    Ok(log) => (Reply::Done, log),
                    Err(failure) => (Reply::Failed(failure), None),
                };
                send(&self.socket, &reply, log.as_slice())?;
            }
            request => {
                let reply = handle(tasks, guard, request, descriptors).unwrap_or_else(Reply::Failed);
                send(&self.socket, &reply, &[])?;
            }
        }
        Ok(Some(Next::GoOn))
    }

    fn greet(&mut self, lowest: u64, highest: u64) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        self.is_known = (lowest..=highest).contains(&PROTOCOL);
        let reply = match self.is_known {
            true => Reply::Hello {
                protocol: PROTOCOL,
                process: std::process::id().into(),
                version: version.into(),
            },
            false => {
                let text = format!(
                    "the loader, of version {version}, speaks protocol {PROTOCOL}, and the server {lowest} to {highest}"
                );
                Reply::Failed(Failure::new(Status::Unsupported, text))
            }
        };
        send(&self.socket, &reply, &[])
    }

    /// Makes a task run another version. The server requests the switch when it is ready to read that version. If the server has
    /// gone, nothing changes. If the task runs this version already, the report is the only reply.
    fn switch(&self, prepare: impl FnOnce(&mut Ask) -> io::Result<Option<Report>>) -> io::Result<()> {
        let mut is_refused = false;
        let report = prepare(&mut |prepared| {
            is_refused = prepared.is_err();
            self.loaded(prepared)?;
            if is_refused {
                return Ok(false);
            }
            match receive(&self.socket)? {
                Some((Request::Flip, _)) => Ok(true),
                Some((Request::Abort, _)) => Ok(false),
                _ => Err(io::Error::other("the server sent neither flip nor abort")),
            }
        })?;
        match report {
            Some(report) => send(&self.socket, &report.map_or_else(Reply::Failed, Reply::Text), &[]),
            None if is_refused => Ok(()),
            None => send(&self.socket, &Reply::Done, &[]),
        }
    }

    /// Reads the settings again.
    fn settings(&self, guard: &mut Guard) -> io::Result<()> {
        let socket = guard.reload().and_then(|()| guard.audit().receive().map_err(|error| error.to_string()));
        match socket {
            Ok(socket) => {
                let descriptors: Vec<BorrowedFd> = socket.iter().map(AsFd::as_fd).collect();
                send(&self.socket, &Reply::Text(guard.files()), &descriptors)
            }
            Err(why) => send(&self.socket, &Reply::Failed(Failure::new(Status::Inval, why)), &[]),
        }
    }

    /// Sends descriptors, or the reason why there are none.
    fn loaded(&self, exported: Result<&Exported, Failure>) -> io::Result<()> {
        match exported {
            Ok(exported) => {
                send(&self.socket, &Reply::Loaded { description: exported.description() }, &exported.fds())
            }
            Err(failure) => send(&self.socket, &Reply::Failed(failure), &[]),
        }
    }
}

/// Handles a request whose reply has no descriptors.
fn handle(
    tasks: &mut Tasks,
    guard: &Guard,
    request: Request,
    descriptors: Vec<OwnedFd>,
) -> Result<Reply, Failure> {
    match request {
        Request::Pause { task, on } => {
            guard.note(if on { "pause" } else { "resume" }, task)?;
            tasks.pause(task, on)?;
            tasks.begin_metering(guard);
        }
        Request::Commit { task } => tasks.commit(task)?,
        Request::Unload { task } => {
            // The task is detached even if the log cannot be written.
            let _ = guard.note("unload", task);
            tasks.unload(task);
        }
        Request::Describe { task } => return tasks.describe(task).map(Reply::Text),
        Request::Plan { task, package, args, variables, origin } => {
            return tasks.plan(guard, (task, &package, &origin), &args, &variables).map(Reply::Text);
        }
        Request::List => return Ok(Reply::Tasks(tasks.list())),
        Request::KeepLog { task } => {
            let missing = || Failure::new(Status::Inval, "the descriptor of the log is missing");
            tasks.keep_log(task, descriptors.into_iter().next().ok_or_else(missing)?)?;
        }
        Request::Program => {
            return Err(Failure::new(Status::Unsupported, "a server sends its programs to the loader"));
        }
        _ => return Err(Failure::new(Status::State, "nothing is prepared")),
    }
    Ok(Reply::Done)
}
