//! The folders that a guest may read, and the files it has opened in them. Nothing can be written or made.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::bpf::map::errno;
use crate::error::{Error, Result, Status};
use crate::os;

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
            let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
                true => Ok(file),
                false => Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            });
            let name = path.to_string_lossy().into_owned();
            let file = file.map_err(|e| {
                Error::sys(Status::NotFound, errno(&e), format_args!("options.wasm_dirs: {name}: {e}"))
            })?;
            Ok(Some(Open { file, preopened: Some(name) }))
        };
        folders.iter().map(open).collect::<Result<_>>().map(Files)
    }

    fn get(&self, fd: u32) -> io::Result<&Open> {
        let place = (fd as usize).checked_sub(FIRST).and_then(|place| self.0.get(place));
        place.and_then(Option::as_ref).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// What the guest calls a folder that the host gave.
    pub fn preopened(&self, fd: u32) -> io::Result<&str> {
        let name = self.get(fd)?.preopened.as_deref();
        name.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Opens a file below a folder.
    pub fn open(&mut self, folder: u32, path: &Path) -> io::Result<u32> {
        let fd: OwnedFd = os::open_beneath(self.get(folder)?.file.as_raw_fd(), path)?;
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let open = Some(Open { file, preopened: None });
        let place = match self.0.iter().position(Option::is_none) {
            Some(gap) => {
                self.0[gap] = open;
                gap
            }
            None if self.0.len() >= FILES => return Err(io::Error::from_raw_os_error(libc::EMFILE)),
            None => {
                self.0.push(open);
                self.0.len() - 1
            }
        };
        Ok((place + FIRST) as u32)
    }

    /// Closes a file.
    pub fn close(&mut self, fd: u32) -> io::Result<()> {
        self.get(fd)?;
        self.0[fd as usize - FIRST] = None;
        Ok(())
    }

    /// Reads from where the file is at.
    pub fn read(&self, fd: u32, into: &mut [u8]) -> io::Result<usize> {
        (&self.get(fd)?.file).read(into)
    }

    /// Moves where the file is at, and says where that is.
    pub fn seek(&self, fd: u32, to: SeekFrom) -> io::Result<u64> {
        (&self.get(fd)?.file).seek(to)
    }

    /// What is known about an open file.
    pub fn metadata(&self, fd: u32) -> io::Result<Metadata> {
        self.get(fd)?.file.metadata()
    }

    /// What is known about a file below a folder.
    pub fn metadata_of(&self, folder: u32, path: &Path) -> io::Result<Metadata> {
        let fd = os::open_beneath(self.get(folder)?.file.as_raw_fd(), path)?;
        File::from(fd).metadata()
    }
}
