//! The folders that a guest may read, and the files it has opened in them. Nothing can be written or made.

use std::fs::{File, FileType, Metadata};
use std::io::{Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, Status, Subject};
use crate::os::{self, Errno};

/// Files that a guest may have open.
const FILES: usize = 256;
/// WASI counts files behind stdin, stdout and stderr.
const FIRST: usize = 3;

/// What is open, by number - `FIRST`.
#[derive(Default)]
pub(super) struct Files(Vec<Option<Open>>);

struct Open {
    file: File,
    /// What the guest calls it, for a folder that the host gave.
    preopened: Option<String>,
}

impl Files {
    /// Opens the folders that the host gives.
    pub fn new(folders: &[PathBuf]) -> Result<Files> {
        let open = |path: &PathBuf| {
            let file = folder(path);
            let name = path.to_string_lossy().into_owned();
            let file = file.map_err(|e| {
                Error::sys(Status::NotFound, e.0, e).about(Subject::File(name.clone())).at("wasm_dirs")
            })?;
            Ok(Some(Open { file, preopened: Some(name) }))
        };
        folders.iter().map(open).collect::<Result<_>>().map(Files)
    }

    fn get(&self, fd: u32) -> os::Result<&Open> {
        let place = (fd as usize).checked_sub(FIRST).and_then(|place| self.0.get(place));
        place.and_then(Option::as_ref).ok_or(Errno(libc::EBADF))
    }

    /// What the guest calls a folder that the host gave.
    pub fn preopened(&self, fd: u32) -> os::Result<&str> {
        let name = self.get(fd)?.preopened.as_deref();
        name.ok_or(Errno(libc::EBADF))
    }

    /// Opens a file below a folder, with further flags of open(2).
    pub fn open(&mut self, folder: u32, path: &Path, flags: i32) -> os::Result<u32> {
        // Opening a device or a pipe does something to whoever is behind it, so that comes after a look.
        let is_fit = |kind: FileType| kind.is_file() || kind.is_dir();
        let found = self.metadata_of(folder, path, flags & libc::O_NOFOLLOW == 0)?.file_type();
        if !is_fit(found) && !found.is_symlink() {
            return Err(Errno(libc::EACCES));
        }
        let file = self.beneath(folder, path, flags | libc::O_RDONLY | libc::O_NONBLOCK)?;
        if !is_fit(file.metadata()?.file_type()) {
            return Err(Errno(libc::EACCES));
        }
        let open = Some(Open { file, preopened: None });
        let place = match self.0.iter().position(Option::is_none) {
            Some(gap) => {
                self.0[gap] = open;
                gap
            }
            None if self.0.len() >= FILES => return Err(Errno(libc::EMFILE)),
            None => {
                self.0.push(open);
                self.0.len() - 1
            }
        };
        Ok((place + FIRST) as u32)
    }

    /// Closes a file.
    pub fn close(&mut self, fd: u32) -> os::Result<()> {
        self.get(fd)?;
        self.0[fd as usize - FIRST] = None;
        Ok(())
    }

    /// Reads from where the file is at.
    pub fn read(&self, fd: u32, into: &mut [u8]) -> os::Result<usize> {
        os::read(self.get(fd)?.file.as_raw_fd(), into)
    }

    /// Reads from a place.
    pub fn read_at(&self, fd: u32, at: u64, into: &mut [u8]) -> os::Result<usize> {
        Ok(self.get(fd)?.file.read_at(into, at)?)
    }

    /// Calls `entry` with the entries of a folder from the place `from` on, until it has enough.
    pub fn read_folder(
        &self,
        fd: u32,
        mut from: u64,
        mut entry: impl FnMut(&Entry<'_>) -> bool,
    ) -> os::Result<()> {
        // An entry has at most 280 bytes.
        let (mut bytes, folder) = ([0; 2048], self.get(fd)?.file.as_raw_fd());
        loop {
            let len = os::read_folder(folder, from, &mut bytes)?;
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

    /// Moves where the file is at, and says where that is.
    pub fn seek(&self, fd: u32, to: SeekFrom) -> os::Result<u64> {
        Ok((&self.get(fd)?.file).seek(to)?)
    }

    /// What is known about an open file.
    pub fn metadata(&self, fd: u32) -> os::Result<Metadata> {
        Ok(self.get(fd)?.file.metadata()?)
    }

    /// What is known about a file below a folder, or about the link that leads to it.
    pub fn metadata_of(&self, folder: u32, path: &Path, is_followed: bool) -> os::Result<Metadata> {
        let flags = if is_followed { libc::O_PATH } else { libc::O_PATH | libc::O_NOFOLLOW };
        Ok(self.beneath(folder, path, flags)?.metadata()?)
    }

    fn beneath(&self, folder: u32, path: &Path, flags: i32) -> os::Result<File> {
        os::open_beneath(self.get(folder)?.file.as_raw_fd(), path, flags).map(File::from)
    }
}

/// An entry of a folder.
pub(super) struct Entry<'a> {
    pub inode: u64,
    /// Where the next one is.
    pub next: u64,
    /// One of libc's `DT_`.
    pub kind: u8,
    pub name: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Of `struct { u64 inode, next; u16 len; u8 kind; char name[]; }`, and what stands behind it.
    fn read(bytes: &'a [u8]) -> Option<(Entry<'a>, &'a [u8])> {
        let number = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let len = u16::from_ne_bytes([*bytes.get(16)?, *bytes.get(17)?]);
        let (whole, after) = bytes.split_at_checked(len.into())?;
        let name = whole.get(19..)?.split(|&byte| byte == 0).next()?;
        Some((Entry { inode: number(0)?, next: number(8)?, kind: whole[18], name }, after))
    }
}

fn folder(path: &Path) -> os::Result<File> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() { Ok(file) } else { Err(Errno(libc::ENOTDIR)) }
}
