//! The end of the process without privileges: starts the loader and sends it requests, one at a time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eunomia::Vm;
use eunomia::vm::Exported;
use eunomia_agent::limits::Limits;
use eunomia_agent::loader::exchange::{is_closed, request};
use eunomia_agent::loader::protocol::{Alone, Caller, MAX_MESSAGE, Origin, Reply, Request};
use eunomia_fetch::Download;
use rustix::event::{PollFd, PollFlags, poll};

use super::{ARGUMENT, TASK, from_message};
use crate::error::{Code, Failure, Result};
use crate::files::{read_opened, read_opened_text};
use crate::statistics::Runs;

/// Maximum size of a package: a message minus its other members.
const MAX_PACKAGE: usize = MAX_MESSAGE - (64 << 10);

/// A loader, which ends when this is dropped.
pub struct Loader {
    socket: UnixStream,
    process: Mutex<Child>,
    /// Held during a request, and during all requests of a replace.
    turn: Mutex<()>,
    /// Whether it has ended although it should not.
    is_lost: AtomicBool,
    /// Whether it should end.
    is_ending: AtomicBool,
}

impl Loader {
    /// Starts a loader with the command line and the privileges of this process.
    pub fn start() -> Result<Loader> {
        let failed = |error: io::Error| Failure::io(Code::Failed, "starting the loader", &error);
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(ARGUMENT).args(std::env::args_os().skip(1));
        let spawned = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn();
        let process = Mutex::new(spawned.map_err(failed)?);
        let [is_lost, is_ending] = [false; 2].map(AtomicBool::new);
        Ok(Loader { socket, process, turn: Mutex::default(), is_lost, is_ending })
    }

    /// Loads a package, and returns the descriptors for reading its events. It is not attached yet.
    pub fn load(&self, package: &[u8]) -> Result<Exported> {
        let _turn = self.turn();
        exported(self.request(&Request::Load {
            recover: false,
            task: TASK,
            package: sendable(package)?,
            args: Vec::new(),
            variables: Vec::new(),
            wanted: String::new(),
            alone: Alone { detach: Some(true), after: 0 },
            limits: Limits::default(),
            origin: origin(),
        })?)
    }

    /// Attaches the package.
    pub fn attach(&self) -> Result<()> {
        let _turn = self.turn();
        self.request(&Request::Pause { task: TASK, on: false }).map(drop)
    }

    /// Reads the file of the program, which this process may be unable to open.
    pub fn read_program(&self, name: &str) -> Result<Download> {
        let _turn = self.turn();
        let (_, files) = self.request(&Request::Program)?;
        let mut files = files.into_iter().map(File::from);
        let bytes = read_opened(files.next().ok_or_else(unexpected)?, name)?;
        let signature = files.next().map(|file| read_opened_text(file, format_args!("{name}.minisig")));
        Ok(Download { bytes, signature: signature.transpose()? })
    }

    /// Replaces the package that `vm` reads. Before that, `check` gets the descriptors of the new version. `is_ordered`: whether
    /// all events of the old version are delivered before those of the new one. Returns the report as JSON.
    pub fn replace(
        &self,
        vm: &Vm,
        package: &[u8],
        is_ordered: bool,
        check: impl FnOnce(&Exported) -> Result<()>,
    ) -> Result<String> {
        let _turn = self.turn();
        let prepare =
            Request::Replace { task: TASK, package: sendable(package)?, origin: origin(), keeps_old: false };
        let exported = match self.request(&prepare)? {
            (Reply::Text(report), _) => return Ok(report),
            reply => exported(reply)?,
        };
        let checked = check(&exported);
        if is_ordered {
            vm.pause(true)?;
        }
        let report = match checked.and_then(|()| Ok(vm.adopt(package, exported)?)) {
            Ok(()) => self.flip(vm),
            Err(failure) => self.request(&Request::Abort).and(Err(failure)),
        };
        if is_ordered {
            vm.pause(false)?;
        }
        report
    }

    /// Switches to the version that `vm` reads already.
    fn flip(&self, vm: &Vm) -> Result<String> {
        match self.request(&Request::Flip) {
            Ok((Reply::Text(report), _)) => vm.commit().map(|()| report).map_err(Failure::from),
            failed => {
                vm.rollback()?;
                failed.and_then(|_| Err(unexpected()))
            }
        }
    }

    /// The numbers of runs of the programs.
    pub fn runs(&self) -> Result<Runs> {
        let _turn = self.turn();
        match self.request(&Request::Describe { task: TASK })? {
            (Reply::Text(runs), _) => Runs::from_json(&runs).ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// Waits until it has ended. Returns whether it should not have ended.
    pub fn wait_for_end(&self) -> bool {
        // No event is requested: poll always reports the end of a connection.
        let wait = || poll(&mut [PollFd::new(&self.socket, PollFlags::empty())], None);
        while let Err(rustix::io::Errno::INTR) = wait() {}
        self.note_end();
        self.is_lost()
    }

    /// Notes that the connection has ended.
    fn note_end(&self) {
        if !self.is_ending.load(SeqCst) {
            self.is_lost.store(true, SeqCst);
        }
    }

    /// Whether it has ended although it should not.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(SeqCst)
    }

    /// Ends it, which detaches the package, and waits for that. Fails if it had ended before.
    pub fn end(&self) -> Result<()> {
        self.is_ending.store(true, SeqCst);
        // A request in another thread fails now.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let ended = self.ended();
        if self.is_lost() { Err(ended) } else { Ok(()) }
    }

    /// Waits for the process that has closed the connection, or will do so. Returns how it has ended.
    fn ended(&self) -> Failure {
        let ended = self.process.lock().unwrap_or_else(PoisonError::into_inner).wait();
        let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        let text =
            format!("the process that loads the package has ended ({how}), so all programs are detached");
        Failure::new(Code::Failed, text)
    }

    fn request(&self, message: &Request) -> Result<(Reply, Vec<OwnedFd>)> {
        match request(&self.socket, message, &[]) {
            Ok((Reply::Failed(failure), _)) => Err(from_message(&failure)),
            Ok(reply) => Ok(reply),
            Err(error) if is_closed(&error) => {
                self.note_end();
                Err(self.ended())
            }
            Err(error) => Err(Failure::io(Code::Failed, "the process that loads the package", &error)),
        }
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // The failure was reported where the run has ended.
        let _ = self.end();
    }
}

fn sendable(package: &[u8]) -> Result<Vec<u8>> {
    if package.len() <= MAX_PACKAGE {
        return Ok(package.to_vec());
    }
    let text = format!(
        "the package has {} bytes; with --reload and --watch-package the limit is {MAX_PACKAGE} bytes",
        package.len()
    );
    Err(Failure::new(Code::Source, text))
}

fn exported(reply: (Reply, Vec<OwnedFd>)) -> Result<Exported> {
    match reply {
        (Reply::Loaded { description }, descriptors) => Ok(Exported::from_parts(&description, descriptors)?),
        _ => Err(unexpected()),
    }
}

fn origin() -> Origin {
    Origin { caller: Caller::Root, who: String::new(), signature: None }
}

fn unexpected() -> Failure {
    Failure::new(Code::Failed, "the process that loads the package has sent a reply to another request")
}
