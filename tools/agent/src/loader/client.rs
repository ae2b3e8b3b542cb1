//! The server's end: connects to the loader, starts it if none runs, and sends it requests, one at a time.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use eunomia::Status;
use eunomia::vm::Exported;
use http::StatusCode;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use serde_json::{Value, json};

use super::exchange::{is_closed, request as exchange};
use super::inherited::keep_from_children;
use super::protocol::{Listed, Origin, PROTOCOL, Reply, Request};
use super::survival::{folder_of, remove_all};
use crate::error::{ApiError, Result};

/// The time limit for the reply of the loader to a new server. The loader may still be loading something for the previous one.
const GREETING: Duration = Duration::from_secs(60);
/// The maximum time to wait until another server has ended, or until a loader is started again.
const WAIT: Duration = Duration::from_secs(10);
/// The time between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);

/// The files that the loader reads itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The policy file. `None`: the default one, if it exists.
    pub policy: Option<PathBuf>,
    /// The file of the audit log, if there is to be one.
    pub audit: Option<PathBuf>,
}

/// Sends requests to the loader. Calls block.
pub struct Client {
    path: PathBuf,
    settings: Settings,
    connection: Mutex<Option<Connection>>,
    /// Held during a replace: it has several requests, and no other may come between them.
    replace: Mutex<()>,
    /// The socket for lines of the audit log.
    audit: Mutex<Option<UnixStream>>,
}

struct Connection {
    socket: UnixStream,
    process: u64,
    version: String,
}

/// The reason why there is no connection.
enum Refused {
    /// No loader listens on the socket.
    Nobody(io::Error),
    /// A connection may be possible later.
    Later(String),
    /// The loader is of another version.
    Never(String),
}

impl Client {
    /// Connects to the loader that listens on the unix socket `path`. If there is none, it is started: `command` calls
    /// [`keep`](super::keep) with its standard input. Call it before other threads run: it changes the umask for a moment.
    pub fn connect(path: &Path, settings: Settings, command: Command) -> std::result::Result<Client, String> {
        let (connection, audit) = (Mutex::new(None), Mutex::new(None));
        let client = Client { path: path.to_owned(), settings, connection, replace: Mutex::default(), audit };
        let mut command = Some(command);
        let since = Instant::now();
        loop {
            let failed = |error: &dyn std::fmt::Display| format!("the loader, {}: {error}", path.display());
            match client.greet() {
                Ok(()) => return Ok(client),
                Err(Refused::Nobody(_)) if command.is_some() => {
                    command.take().map(|command| start(path, command)).transpose().map_err(|e| failed(&e))?;
                }
                Err(Refused::Never(why)) => {
                    let what = "stop it with ecli server --uninstall, which detaches all programs";
                    return Err(failed(&format_args!("{why}; {what}")));
                }
                Err(Refused::Nobody(error)) if since.elapsed() > WAIT => return Err(failed(&error)),
                Err(Refused::Later(why)) if since.elapsed() > WAIT => return Err(failed(&why)),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Connects again, to a loader that another process starts.
    pub fn reconnect(&self) -> std::result::Result<(), String> {
        let since = Instant::now();
        loop {
            let why = match self.greet() {
                Ok(()) => return Ok(()),
                Err(Refused::Nobody(error)) => error.to_string(),
                Err(Refused::Later(why) | Refused::Never(why)) => why,
            };
            if since.elapsed() > WAIT {
                return Err(format!("the loader has ended, and {}: {why}", self.path.display()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn greet(&self) -> std::result::Result<(), Refused> {
        let later = |error: io::Error| Refused::Later(error.to_string());
        let socket = UnixStream::connect(&self.path).map_err(Refused::Nobody)?;
        socket.set_read_timeout(Some(GREETING)).map_err(later)?;
        let hello = Request::Hello { lowest: PROTOCOL, highest: PROTOCOL };
        match exchange(&socket, &hello, &[]).map_err(later)? {
            (Reply::Hello { protocol: PROTOCOL, process, version }, _) => {
                socket.set_read_timeout(None).map_err(later)?;
                *self.lock() = Some(Connection { socket, process, version });
                Ok(())
            }
            (Reply::Failed(failure), _) if failure.status == Status::Busy as i32 => {
                Err(Refused::Later(failure.message))
            }
            (Reply::Failed(failure), _) => Err(Refused::Never(failure.message)),
            _ => Err(Refused::Never("it speaks another protocol".into())),
        }
    }

    /// Waits until the connection has ended.
    pub fn wait_for_end(&self) {
        let socket = self.lock().as_ref().and_then(|connection| connection.socket.try_clone().ok());
        let Some(socket) = socket else { return };
        // No event is requested: poll always reports the end of a connection.
        while let Err(rustix::io::Errno::INTR) = poll(&mut [PollFd::new(&socket, PollFlags::empty())], None) {
        }
        *self.lock() = None;
    }

    /// Makes the loader read the policy again and open the audit log again. If one fails, both stay as they were. The error is
    /// one line.
    pub fn reload(&self) -> std::result::Result<(), String> {
        let _between = self.replace();
        let replied = self.call(&Request::Settings, &[]).map_err(|error| error.message)?;
        let (Reply::Text(files), mut descriptors) = replied else {
            return Err("the loader has sent a reply to another request".into());
        };
        let Settings { policy, audit } = &self.settings;
        let wanted = json!([policy, audit]).to_string();
        if files != wanted {
            return Err(format!(
                "the loader that runs has other files for --policy and --audit: {files}; stop it with ecli server --uninstall, which detaches all programs"
            ));
        }
        *self.audit.lock().unwrap_or_else(PoisonError::into_inner) = descriptors.pop().map(UnixStream::from);
        Ok(())
    }

    /// Adds a line to the audit log, if there is one. It is written when this returns.
    pub fn note(&self, line: &Value) -> io::Result<()> {
        let audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        audit.as_ref().map_or(Ok(()), |socket| crate::audit::add(socket, line))
    }

    /// The process id and the version of the loader. `None` while there is no loader.
    pub fn about(&self) -> Option<(u64, String)> {
        self.lock().as_ref().map(|connection| (connection.process, connection.version.clone()))
    }

    /// Prepares a new version of the package of a task, and returns the descriptors for reading its events. `None` if the task
    /// runs this version already.
    pub fn prepare(&self, task: u64, package: &[u8], origin: &Origin) -> Result<Option<Exported>> {
        let (package, origin) = (package.to_vec(), origin.clone());
        let request = Request::Replace { task, package, origin, keeps_old: false };
        match self.call(&request, &[])? {
            (Reply::Text(_), _) => Ok(None),
            loaded => exported(loaded).map(Some),
        }
    }

    /// Sends a request that loads a package, or that adopts it, and returns the descriptors for reading its events.
    pub fn load(&self, request: &Request) -> Result<Exported> {
        exported(self.call(request, &[])?)
    }

    /// Sends a request that has no result.
    pub fn run(&self, request: &Request) -> Result<()> {
        match self.call(request, &[])? {
            (Reply::Done, _) => Ok(()),
            _ => Err(unexpected(&"a reply to another request")),
        }
    }

    /// Sends a request whose reply is a string.
    pub fn text(&self, request: &Request) -> Result<String> {
        match self.call(request, &[])? {
            (Reply::Text(text), _) => Ok(text),
            _ => Err(unexpected(&"a reply to another request")),
        }
    }

    /// The tasks of the loader.
    pub fn list(&self) -> Result<Vec<Listed>> {
        match self.call(&Request::List, &[])? {
            (Reply::Tasks(tasks), _) => Ok(tasks),
            _ => Err(unexpected(&"a reply to another request")),
        }
    }

    /// The log of a task, if the loader has it.
    pub fn log(&self, task: u64) -> Result<Option<OwnedFd>> {
        Ok(self.call(&Request::Log { task }, &[])?.1.pop())
    }

    /// Gives the loader the log of a task, for the next server.
    pub fn keep_log(&self, task: u64, log: BorrowedFd) -> Result<()> {
        self.call(&Request::KeepLog { task }, &[log]).map(drop)
    }

    /// What tasks with a budget use, as JSON, and a descriptor that becomes readable when one is throttled or stopped.
    pub fn usage(&self) -> Result<(String, OwnedFd)> {
        let _between = self.replace();
        let (Reply::Text(text), mut descriptors) = self.call(&Request::Usage, &[])? else {
            return Err(unexpected(&"a reply to another request"));
        };
        Ok((text, descriptors.pop().ok_or_else(|| unexpected(&"no descriptor"))?))
    }

    /// Opens a file for events, or a new one instead of a full one.
    pub fn open_sink(&self, path: &str, rotate: Option<u64>) -> Result<OwnedFd> {
        let _between = self.replace();
        let (_, mut descriptors) = self.call(&Request::Sink { path: path.to_owned(), rotate }, &[])?;
        descriptors.pop().ok_or_else(|| unexpected(&"a reply to another request"))
    }

    /// Keeps other requests from coming between those of a replace, until the result is dropped.
    pub fn replace(&self) -> MutexGuard<'_, ()> {
        self.replace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, request: &Request, descriptors: &[BorrowedFd]) -> Result<(Reply, Vec<OwnedFd>)> {
        let mut connection = self.lock();
        let socket = connection.as_ref().map(|connection| &connection.socket);
        let socket = socket.ok_or_else(ApiError::loader_lost)?;
        match exchange(socket, request, descriptors) {
            Ok((Reply::Failed(failure), _)) => Err(failure.into()),
            Ok(reply) => Ok(reply),
            Err(error) => {
                say!("server: the connection to the loader is closed: {error}");
                // The bytes that follow on the socket cannot be interpreted. The thread that waits for the end of the
                // connection notices the shutdown.
                let _ = socket.shutdown(std::net::Shutdown::Both);
                *connection = None;
                Err(ApiError::loader_lost())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the loader that listens on `path`, which detaches everything. Returns whether there was a loader, or something that one has
/// pinned before it was killed. Works with every version of the loader.
pub fn end(path: &Path) -> io::Result<bool> {
    let since = Instant::now();
    loop {
        let socket = match UnixStream::connect(path) {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(folder_of(path).is_some_and(|folder| remove_all(&folder)));
            }
            socket => socket?,
        };
        match exchange(&socket, &Request::End, &[]) {
            Ok((Reply::Failed(failure), _)) => return Err(io::Error::other(failure.message)),
            Ok(_) => return std::fs::remove_file(path).map(|()| true),
            // The loader has just ended. Its keeper either ends too, or starts another one.
            Err(error) if is_closed(&error) && since.elapsed() < WAIT => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

/// Starts the process that keeps a loader running, with a socket that only this user can connect to.
fn start(path: &Path, mut command: Command) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(umask);
    keep_from_children();
    command.stdin(OwnedFd::from(listener?)).stdout(Stdio::null()).spawn().map(drop)
}

fn exported(reply: (Reply, Vec<OwnedFd>)) -> Result<Exported> {
    match reply {
        (Reply::Loaded { description }, descriptors) => {
            Exported::from_parts(&description, descriptors).map_err(|error| unexpected(&error))
        }
        _ => Err(unexpected(&"a reply to another request")),
    }
}

fn unexpected(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format_args!("the loader failed: {error}"))
}
