//! The directories that a guest can read, and the files that it has open there. Nothing can be written or created.

use std::fs::{File, FileType, Metadata};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Status, Subject};
use crate::os::{self, Errno};

/// Maximum number of files that a guest can have open.
const MAX_FILES: usize = 256;
/// The number of the first file. Lower numbers are stdin, stdout and stderr.
const FIRST: usize = 3;

/// The open files. File number `FIRST` is at index 0.
#[derive(Default)]
pub struct Files(Vec<Option<Open>>);

struct Open {
    file: File,
    /// The name by which the guest knows this directory, if the host has given it.
    preopened: Option<String>,
}

impl Files {
    /// Opens the directories that the host gives.
    pub fn new(dirs: &[PathBuf]) -> Result<Files> {
        let open = |path: &PathBuf| {
            let file = open_dir(path);
            let name = path.to_string_lossy().into_owned();
            let file = file.map_err(|e| {
                Error::sys(Status::NotFound, e.0, e).about(Subject::File(name.clone())).at("wasm_dirs")
            })?;
            Ok(Some(Open { file, preopened: Some(name) }))
        };
        dirs.iter().map(open).collect::<Result<_>>().map(Files)
    }

    fn get(&self, fd: u32) -> os::Result<&Open> {
        let entry = (fd as usize).checked_sub(FIRST).and_then(|index| self.0.get(index));
        entry.and_then(Option::as_ref).ok_or(Errno(libc::EBADF))
    }

    /// Returns the name by which the guest knows a directory that the host has given.
    pub fn preopened(&self, fd: u32) -> os::Result<&str> {
        let name = self.get(fd)?.preopened.as_deref();
        name.ok_or(Errno(libc::EBADF))
    }

    /// Opens a file below a directory, with additional flags of open(2).
    pub fn open(&mut self, dir: u32, path: &Path, flags: i32) -> os::Result<u32> {
        // Opening a device or a pipe can have an effect, so the type is checked first.
        let is_allowed = |kind: FileType| kind.is_file() || kind.is_dir();
        let found = self.metadata_of(dir, path, flags & libc::O_NOFOLLOW == 0)?.file_type();
        if !is_allowed(found) && !found.is_symlink() {
            return Err(Errno(libc::EACCES));
        }
        let file = self.open_beneath(dir, path, flags | libc::O_RDONLY | libc::O_NONBLOCK)?;
        if !is_allowed(file.metadata()?.file_type()) {
            return Err(Errno(libc::EACCES));
        }
        let open = Some(Open { file, preopened: None });
        let index = match self.0.iter().position(Option::is_none) {
            Some(gap) => {
                self.0[gap] = open;
                gap
            }
            None if self.0.len() >= MAX_FILES => return Err(Errno(libc::EMFILE)),
            None => {
                self.0.push(open);
                self.0.len() - 1
            }
        };
        Ok((index + FIRST) as u32)
    }

    /// Closes a file.
    pub fn close(&mut self, fd: u32) -> os::Result<()> {
        self.get(fd)?;
        self.0[fd as usize - FIRST] = None;
        Ok(())
    }

    /// Reads from the current position.
    pub fn read(&self, fd: u32, into: &mut [u8]) -> os::Result<usize> {
        os::read(self.get(fd)?.file.as_raw_fd(), into)
    }

    /// Reads from a position.
    pub fn read_at(&self, fd: u32, at: u64, into: &mut [u8]) -> os::Result<usize> {
        Ok(self.get(fd)?.file.read_at(into, at)?)
    }

    /// Calls `entry` with each entry of a directory from the position `from` on, until it returns false.
    pub fn read_dir(
        &self,
        fd: u32,
        mut from: u64,
        mut entry: impl FnMut(&Entry<'_>) -> bool,
    ) -> os::Result<()> {
        // An entry has at most 280 bytes.
        let (mut bytes, dir) = ([0; 2048], self.get(fd)?.file.as_raw_fd());
        loop {
            let len = os::read_directory(dir, from, &mut bytes)?;
            let mut rest = &bytes[..len];
            if rest.is_empty() {
                return Ok(());
            }
            while let Some((found, after)) = Entry::read(rest) {
                if !entry(&found) {
                    return Ok(());
                }
                (from, rest) = (found.next, after);
            }
        }
    }

    /// Sets the current position and returns it.
    pub fn seek(&self, fd: u32, to: SeekFrom) -> os::Result<u64> {
        Ok((&self.get(fd)?.file).seek(to)?)
    }

    /// Returns the metadata of an open file.
    pub fn metadata(&self, fd: u32) -> os::Result<Metadata> {
        Ok(self.get(fd)?.file.metadata()?)
    }

    /// Returns the metadata of a file below a directory, or of the symbolic link with that name.
    pub fn metadata_of(&self, dir: u32, path: &Path, is_followed: bool) -> os::Result<Metadata> {
        let flags = if is_followed { libc::O_PATH } else { libc::O_PATH | libc::O_NOFOLLOW };
        Ok(self.open_beneath(dir, path, flags)?.metadata()?)
    }

    fn open_beneath(&self, dir: u32, path: &Path, flags: i32) -> os::Result<File> {
        os::open_beneath(self.get(dir)?.file.as_raw_fd(), path, flags).map(File::from)
    }
}

/// An entry of a directory.
pub struct Entry<'a> {
    pub inode: u64,
    /// The position of the next entry.
    pub next: u64,
    /// The file type, one of libc's `DT_` constants.
    pub kind: u8,
    pub name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a `struct { u64 inode, next; u16 len; u8 kind; char name[]; }`. Returns it and the bytes after it.
    fn read(bytes: &'a [u8]) -> Option<(Entry<'a>, &'a [u8])> {
        let number = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let len = u16::from_ne_bytes([*bytes.get(16)?, *bytes.get(17)?]);
        let (whole, after) = bytes.split_at_checked(len.into())?;
        let name = whole.get(19..)?.split(|&byte| byte == 0).next()?;
        Some((Entry { inode: number(0)?, next: number(8)?, kind: whole[18], name }, after))
    }
}

fn open_dir(path: &Path) -> os::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() { Ok(file) } else { Err(Errno(libc::ENOTDIR)) }
}
