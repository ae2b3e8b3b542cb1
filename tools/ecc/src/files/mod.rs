//! Reads files up to a limit, and writes files that appear whole or not at all.

pub mod temporary;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::files::temporary::Temporary;

/// A file to be written.
pub struct Output {
    path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl Output {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file with this content.
    pub fn new(path: PathBuf, bytes: impl Into<Vec<u8>>) -> Output {
        Output { path, bytes: bytes.into(), mode: 0o666 }
    }

    /// An executable file.
    pub fn program(path: PathBuf, bytes: Vec<u8>) -> Output {
        Output { path, bytes, mode: 0o777 }
    }
}

/// The directory of a file; `.` if the path is only a name.
pub fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Reads a file. Fails if it has more than `max` bytes: a device or a pipe may be endless.
pub fn read(path: &Path, max: usize) -> Result<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > max { Err(io::Error::other(format!("more than {max} bytes"))) } else { Ok(bytes) }
    };
    read().map_err(|error| Error::io(path.display(), &error))
}

/// Writes one file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = Draft::write(path, bytes, 0o666)?;
    publish(vec![draft])
}

/// Writes files to `dir`, all of them or none. With `verbose`, prints their sizes.
pub fn write_all(dir: &Path, files: &[Output], verbose: bool) -> Result<()> {
    create_dir(dir)?;
    let drafts = files.iter().map(|file| Draft::write(&file.path, &file.bytes, file.mode));
    publish(drafts.collect::<Result<_>>()?)?;
    if verbose {
        let print = |file: &Output| eprintln!("ecc: {}: {} bytes", file.path.display(), file.bytes.len());
        files.iter().for_each(print);
    }
    Ok(())
}

/// Creates a directory and its parents.
pub fn create_dir(dir: &Path) -> Result<()> {
    let failed = |error| Error::io(format_args!("cannot create the directory {}", dir.display()), &error);
    fs::create_dir_all(dir).map_err(failed)
}

/// A file that is written but does not have its final name yet. It is removed when dropped.
struct Draft<'a> {
    file: Temporary,
    path: &'a Path,
    /// Holds the lock that shows that the writer is alive.
    open: File,
}

impl Draft<'_> {
    /// Writes `bytes` to a file next to `path`, on the same file system.
    fn write<'a>(path: &'a Path, bytes: &[u8], mode: u32) -> Result<Draft<'a>> {
        let failed = |error: io::Error| Error::io(format_args!("cannot write {}", path.display()), &error);
        // Otherwise the rename would fail, after other files have been renamed.
        if path.is_dir() {
            return Err(failed(Errno::ISDIR.into()));
        }
        remove_stale(path);
        let (file, mut open) = create(path, mode).map_err(failed)?;
        open.write_all(bytes).map_err(failed)?;
        Ok(Draft { file, path, open })
    }
}

fn publish(drafts: Vec<Draft>) -> Result<()> {
    let (files, _locks): (Vec<_>, Vec<_>) =
        drafts.into_iter().map(|draft| ((draft.file, draft.path), draft.open)).unzip();
    Temporary::publish(&files)
}

/// Creates and locks a new file next to `path`: `.NAME.PID.COUNT`.
fn create(path: &Path, mode: u32) -> io::Result<(Temporary, File)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut name = draft_prefix(path);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        name.extend(format!("{}.{count}", std::process::id()).bytes());
        match Temporary::file(path.with_file_name(OsStr::from_bytes(&name)), mode) {
            // Another run may have removed the file as a stale draft before it is locked here.
            Ok((file, open)) => {
                let _ = flock(&open, FlockOperation::LockExclusive);
                if open.metadata()?.nlink() > 0 {
                    return Ok((file, open));
                }
            }
            // A process with the same id, such as one in another container, may have left this file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The prefix of the names of all drafts of `path`.
fn draft_prefix(path: &Path) -> Vec<u8> {
    [b".", path.file_name().unwrap_or_default().as_bytes(), b"."].concat()
}

/// Removes the drafts of `path` that killed runs left behind: nobody holds their locks.
fn remove_stale(path: &Path) {
    let prefix = draft_prefix(path);
    let is_draft = |name: &OsStr| {
        let rest = name.as_bytes().strip_prefix(prefix.as_slice());
        rest.is_some_and(|rest| rest.iter().all(|&byte| byte == b'.' || byte.is_ascii_digit()))
    };
    for entry in fs::read_dir(directory_of(path)).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_draft(&entry.file_name()) {
            let lock = |file: File| flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file);
            // Hold the lock until the file is removed, so that a run that just created it notices.
            if let Ok(_lock) = File::open(entry.path()).and_then(|file| Ok(lock(file)?)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
