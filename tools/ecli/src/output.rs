//! The output of events: stdout or a file, through one buffer.
//!
//! A closed pipe (`| head`) is not an error; a full disk is. Files are appended to and not touched before the run begins.

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

/// The buffer is written when it holds this many bytes, and after each batch.
const FULL: usize = 256 << 10;

/// A buffered output.
pub struct Output {
    sink: Arc<Sink>,
    /// The bytes to write.
    pub buffer: Vec<u8>,
    /// The header that is written before the next text; empty on stdout once it has been written.
    header: Vec<u8>,
    /// The last header.
    last_header: Vec<u8>,
    is_terminal: bool,
    failed: Option<io::Error>,
    /// The size of the terminal, queried once per batch.
    size: Option<Option<(usize, usize)>>,
}

impl Output {
    /// An output to stdout (`None` or `-`), or to a file that `begin` opens.
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
            header: Vec::new(),
            last_header: Vec::new(),
            is_terminal,
            failed: None,
            size: None,
        })
    }

    /// Opens the file, after everything else that may fail before the first event. Does nothing for stdout.
    pub fn begin(&mut self) -> Result<()> {
        let Some(path) = &self.sink.path else { return Ok(()) };
        let file =
            append(path, OFlags::empty()).map_err(|e| Failure::io(Code::Output, &self.sink.name, &e))?;
        self.is_terminal = file.is_terminal();
        *self.sink.file() = Some(file);
        Ok(())
    }

    /// The file, shared with the threads that watch it.
    pub fn sink(&self) -> Arc<Sink> {
        Arc::clone(&self.sink)
    }

    /// Sets the line to write at the beginning of the output and of each empty file.
    pub fn set_header(&mut self, line: Vec<u8>) {
        self.last_header.clone_from(&line);
        self.header = line;
    }

    /// Writes another header before what follows, unless it is the same.
    pub fn change_header(&mut self, line: Vec<u8>) {
        if line != self.last_header {
            self.flush();
            // A file that is not empty gets it here, an empty one with its first records.
            if self.failed.is_none() && self.sink.has_text() {
                self.failed = self.sink.write(&mut Vec::new(), &line).err();
            }
            self.set_header(line);
        }
    }

    /// Whether the output is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The columns and rows of the terminal.
    pub fn size(&mut self) -> Option<(usize, usize)> {
        let (sink, is_terminal) = (&self.sink, self.is_terminal);
        *self.size.get_or_insert_with(|| {
            let file = sink.file();
            let file = file.as_ref().filter(|_| is_terminal)?;
            let size = rustix::termios::tcgetwinsize(file).ok()?;
            (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
        })
    }

    /// Appends a line of a program.
    pub fn line(&mut self, line: &[u8]) {
        if self.is_terminal {
            self.buffer.extend_from_slice(plain(&String::from_utf8_lossy(line)).as_bytes());
        } else {
            self.buffer.extend_from_slice(line);
        }
        self.buffer.push(b'\n');
    }

    /// Writes the buffer if it is full. Returns `false` if nothing more can be written.
    #[inline]
    pub fn flush_if_full(&mut self) -> bool {
        self.buffer.len() < FULL || self.flush()
    }

    /// Writes the buffer. Returns `false` if nothing more can be written.
    pub fn flush(&mut self) -> bool {
        if self.is_terminal {
            make_visible(&mut self.buffer);
        }
        if self.failed.is_none() && !self.buffer.is_empty() {
            self.failed = self.sink.write(&mut self.header, &self.buffer).err();
        }
        self.buffer.clear();
        self.size = None;
        self.failed.is_none()
    }

    /// Whether writing has failed or the reader has closed the pipe.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some() || self.is_closed()
    }

    /// Whether the reader has closed the pipe.
    pub fn is_closed(&self) -> bool {
        self.sink.is_gone.load(Relaxed)
            || self.failed.as_ref().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    }

    /// Writes the rest of the buffer and returns the first error.
    pub fn finish(mut self) -> Result<()> {
        self.flush();
        match &self.failed {
            Some(e) if !self.is_closed() => Err(Failure::io(Code::Output, &self.sink.name, e)),
            _ => Ok(()),
        }
    }
}

/// The file that an output writes to. SIGHUP reopens it after a log rotation.
pub struct Sink {
    name: String,
    /// `None`: stdout.
    path: Option<PathBuf>,
    /// `None`: before the run begins.
    file: Mutex<Option<File>>,
    is_gone: AtomicBool,
}

impl Sink {
    fn file(&self) -> MutexGuard<'_, Option<File>> {
        // A panic while it was locked leaves a valid file.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `text`, after `header` at the beginning of stdout and of each empty file.
    fn write(&self, header: &mut Vec<u8>, text: &[u8]) -> io::Result<()> {
        let mut file = self.file();
        let Some(file) = file.as_mut() else { return Ok(()) };
        let is_named = self.path.is_some();
        if !header.is_empty() && (!is_named || file.metadata().is_ok_and(|metadata| metadata.len() == 0)) {
            file.write_all(header)?;
            if !is_named {
                header.clear();
            }
        }
        file.write_all(text)
    }

    /// Whether it is a file that contains something.
    fn has_text(&self) -> bool {
        let file = self.file();
        let metadata = file.as_ref().map(File::metadata);
        self.is_named() && metadata.is_some_and(|metadata| metadata.is_ok_and(|metadata| metadata.len() > 0))
    }

    /// Whether it is a file, which SIGHUP reopens.
    pub fn is_named(&self) -> bool {
        self.path.is_some()
    }

    /// Reopens the file by its name. If that fails, events continue in the old file.
    pub fn reopen(&self) {
        let Some(path) = &self.path else { return };
        // Opening a FIFO would block the thread that handles signals, until there is a reader.
        let opened = append(path, OFlags::NONBLOCK).and_then(|file| match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        });
        match opened {
            Ok(file) => *self.file() = Some(file),
            Err(e) => say(Failure::io(Code::Output, &self.name, &e).at("SIGHUP").text()),
        }
    }

    /// A function that waits until the reader of a pipe or socket closes it; `None` for other files.
    pub fn reader(self: &Arc<Sink>) -> Option<impl FnOnce() -> bool + Send + use<>> {
        let file = self.file().as_ref()?.try_clone().ok()?;
        let kind = file.metadata().ok()?.file_type();
        let sink = Arc::clone(self);
        (kind.is_fifo() || kind.is_socket()).then_some(move || {
            // Without requested events, poll reports only that the other end is closed.
            let closed = || poll(&mut [PollFd::new(&file, PollFlags::empty())], None);
            let is_closed = retry_on_intr(closed).is_ok();
            sink.is_gone.store(is_closed, Relaxed);
            is_closed
        })
    }
}

fn stdout() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Opens a file for appending, so that it can be truncated at any time.
fn append(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = (flags | OFlags::NOCTTY).bits() as i32;
    OpenOptions::new().append(true).create(true).custom_flags(flags).open(path)
}

/// Prints whole lines to stdout.
pub fn print(text: impl Display) -> Result<ExitCode> {
    let mut output = Output::open(None)?;
    output.buffer.extend_from_slice(plain(&text.to_string()).as_bytes());
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}
