//! Where events go: stdout or a file, through one buffer.
//!
//! A reader that has enough (`| head`) is no failure; a full disk is.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use crate::Ended;
use crate::error::{Code, Failure, Result};
use crate::terminal::{plain, without_c1};

/// The buffer is written out when it holds this much, or when no more events wait.
const FULL: usize = 256 << 10;

/// A buffered output.
pub struct Output {
    file: File,
    name: String,
    /// What is to be written; anybody may append.
    pub buffer: Vec<u8>,
    is_terminal: bool,
    failed: Option<io::Error>,
    /// The terminal's size, asked for once a batch.
    size: Option<Option<(usize, usize)>>,
}

impl Output {
    /// Writes to `path`, which is emptied first, or to stdout, which is also `-`.
    pub fn open(path: Option<&Path>) -> Result<Output> {
        let (file, name) = match path.filter(|path| *path != Path::new("-")) {
            Some(path) => (File::create(path), path.display().to_string()),
            None => (io::stdout().as_fd().try_clone_to_owned().map(File::from), "standard output".into()),
        };
        let file = file.map_err(|e| Failure::io(Code::Output, &name, &e))?;
        let is_terminal = file.is_terminal();
        Ok(Output { file, name, buffer: Vec::with_capacity(2 * FULL), is_terminal, failed: None, size: None })
    }

    /// Whether people are looking.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Columns and rows of the terminal.
    pub fn size(&mut self) -> Option<(usize, usize)> {
        let (file, is_terminal) = (&self.file, self.is_terminal);
        *self.size.get_or_insert_with(|| {
            let size = rustix::termios::tcgetwinsize(file).ok().filter(|_| is_terminal)?;
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
            without_c1(&mut self.buffer);
        }
        if self.failed.is_none() && !self.buffer.is_empty() {
            self.failed = self.file.write_all(&self.buffer).err();
        }
        self.buffer.clear();
        self.size = None;
        self.failed.is_none()
    }

    /// Whether something could not be written.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Whether the reader has gone.
    pub fn is_closed(&self) -> bool {
        self.failed.as_ref().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe)
    }

    /// Writes out what is left and says whether everything has been written that was wanted.
    pub fn finish(mut self) -> Result<()> {
        self.flush();
        match &self.failed {
            Some(e) if !self.is_closed() => Err(Failure::io(Code::Output, &self.name, e)),
            _ => Ok(()),
        }
    }
}

/// Prints a text of whole lines and ends well.
pub fn print(text: impl Display) -> Ended {
    let mut output = Output::open(None)?;
    output.buffer.extend_from_slice(plain(&text.to_string()).as_bytes());
    output.finish()?;
    Ok(ExitCode::SUCCESS)
}
