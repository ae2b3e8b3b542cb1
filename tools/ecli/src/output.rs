//! Where events go: stdout or a file, through one buffer.
//!
//! A reader that has enough (`| head`) is no failure; a full disk is. A file is appended to, and not touched before the run
//! begins.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::retry_on_intr;

use crate::error::{Code, Failure, Result, say};
use crate::terminal::{make_visible, plain};

/// The buffer is written out when it holds this much, or when no more events wait.
const FULL: usize = 256 << 10;

/// A buffered output.
pub struct Output {
    sink: Arc<Sink>,
    /// What is to be written; anybody may append.
    pub buffer: Vec<u8>,
    head: Vec<u8>,
    is_terminal: bool,
    failed: Option<io::Error>,
    /// The terminal's size, asked for once a batch.
    size: Option<Option<(usize, usize)>>,
}

impl Output {
    /// An output to stdout, which is also `-`, or to a file, which `begin` opens.
    pub fn open(path: Option<&Path>) -> Result<Output> {
        let path = path.filter(|path| *path != Path::new("-"));
        let name = path.map_or_else(|| "standard output".into(), |path| path.display().to_string());
        let file = match path {
            Some(_) => None,
            None => Some(stdout().map_err(|e| Failure::io(Code::Output, &name, &e))?),
        };
        let is_terminal = file.as_ref().is_some_and(File::is_terminal);
        let path = path.map(Path::to_owned);
        let sink = Sink { name, path, file: Mutex::new(file), is_gone: AtomicBool::new(false) };
        Ok(Output {
            sink: Arc::new(sink),
            buffer: Vec::with_capacity(2 * FULL),
            head: Vec::new(),
            is_terminal,
            failed: None,
            size: None,
        })
    }

    /// Opens the file, now that nothing else can keep the run from its first event. Does nothing for stdout.
    pub fn begin(&mut self) -> Result<()> {
        let Some(path) = &self.sink.path else { return Ok(()) };
        let file =
            append(path, OFlags::empty()).map_err(|e| Failure::io(Code::Output, &self.sink.name, &e))?;
        self.is_terminal = file.is_terminal();
        *self.sink.file() = Some(file);
        Ok(())
    }

    /// The file, for the threads that watch over it.
    pub fn sink(&self) -> Arc<Sink> {
        Arc::clone(&self.sink)
    }

    /// Has a line written where the output begins, and at the start of each empty file that it goes on in.
    pub fn set_head(&mut self, line: Vec<u8>) {
        self.head = line;
    }

    /// Whether people are looking.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Columns and rows of the terminal.
    pub fn size(&mut self) -> Option<(usize, usize)> {
        let (sink, is_terminal) = (&self.sink, self.is_terminal);
        *self.size.get_or_insert_with(|| {
            let file = sink.file();
            let file = file.as_ref().filter(|_| is_terminal)?;
            let size = rustix::termios::tcgetwinsize(file).ok()?;
            (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
        })
    }

    /// Appends a line that somebody else wrote.
    pub fn line(&mut self, line: &[u8]) {
        if self.is_terminal {
            self.buffer.extend_from_slice(plain(&String::from_utf8_lossy(line)).as_bytes());
        } else {
            self.buffer.extend_from_slice(line);
        }
        self.buffer.push(b'\n');
    }

    /// Writes the buffer out if it is full. `false`: nothing more can be written.
    #[inline]
    pub fn go_on(&mut self) -> bool {
        self.buffer.len() < FULL || self.flush()
    }

    /// Writes the buffer out. `false`: nothing more can be written.
    pub fn flush(&mut self) -> bool {
        if self.is_terminal {
            make_visible(&mut self.buffer);
        }
        if self.failed.is_none() && !self.buffer.is_empty() {
            self.failed = self.sink.write(&mut self.head, &self.buffer).err();
        }
        self.buffer.clear();
        self.size = None;
        self.failed.is_none()
    }

    /// Whether something could not be written, or nobody would read it.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some() || self.is_closed()
    }

    /// Whether the reader has gone.
    pub fn is_closed(&self) -> bool {
        self.sink.is_gone.load(Relaxed)
            || self.failed.as_ref().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    }

    /// Writes out what is left and says whether everything has been written that was wanted.
    pub fn finish(mut self) -> Result<()> {
        self.flush();
        match &self.failed {
            Some(e) if !self.is_closed() => Err(Failure::io(Code::Output, &self.sink.name, e)),
            _ => Ok(()),
        }
    }
}

/// The file that an output writes to. Another one takes its place when log files are rotated.
pub struct Sink {
    name: String,
    /// `None`: stdout.
    path: Option<PathBuf>,
    /// `None`: the run has not begun.
    file: Mutex<Option<File>>,
    is_gone: AtomicBool,
}

impl Sink {
    fn file(&self) -> MutexGuard<'_, Option<File>> {
        // Whoever panicked with it has left a file all the same.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `text`, and `head` first where it is due: once to stdout, in each file that is empty.
    fn write(&self, head: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
        let mut file = self.file();
        let Some(file) = file.as_mut() else { return Ok(()) };
        let is_named = self.path.is_some();
        if !head.is_empty() && (!is_named || file.metadata().is_ok_and(|metadata| metadata.len() == 0)) {
            file.write_all(head)?;
            if !is_named {
                head.clear();
            }
        }
        file.write_all(text)
    }

    /// Whether it is a file that was named, which SIGHUP has reopened.
    pub fn is_named(&self) -> bool {
        self.path.is_some()
    }

    /// Opens the file of that name anew, which after a rotation is another one; if that fails, events go on into the old.
    pub fn reopen(&self) {
        let Some(path) = &self.path else { return };
        // A pipe that has come in its place would have the thread that handles signals wait for a reader.
        let opened = append(path, OFlags::NONBLOCK).and_then(|file| match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        });
        match opened {
            Ok(file) => *self.file() = Some(file),
            Err(e) => say(Failure::io(Code::Output, &self.name, &e).at("SIGHUP").text()),
        }
    }

    /// What sleeps until the reader of a pipe or socket has gone, and says whether it has; `None` for other files.
    pub fn reader(self: &Arc<Sink>) -> Option<impl FnOnce() -> bool + Send + use<>> {
        let file = self.file().as_ref()?.try_clone().ok()?;
        let kind = file.metadata().ok()?.file_type();
        let sink = Arc::clone(self);
        (kind.is_fifo() || kind.is_socket()).then_some(move || {
            // No event is asked for: what is left is that the other end is closed.
            let closed = || poll(&mut [PollFd::new(&file, PollFlags::empty())], None);
            let has_gone = retry_on_intr(closed).is_ok();
            sink.is_gone.store(has_gone, Relaxed);
            has_gone
        })
    }
}

fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Opens a file whose end is written to, whoever else truncates it.
fn append(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (flags | OFlags::NOCTTY).bits() as i32;
    OpenOptions::new().append(true).create(true).custom_flags(flags).open(path)
}

/// Prints a text of whole lines and ends well.
pub fn print(text: impl Display) -> Result<ExitCode> {
    let mut output = Output::open(None)?;
    output.buffer.extend_from_slice(plain(&text.to_string()).as_bytes());
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}
