//! Files that appear whole or not at all, and files that are read up to a limit.

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
    /// Where it goes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file with this content.
    pub fn new(path: PathBuf, bytes: impl Into<Vec<u8>>) -> Output {
        Output { path, bytes: bytes.into(), mode: 0o666 }
    }

    /// A program.
    pub fn program(path: PathBuf, bytes: Vec<u8>) -> Output {
        Output { path, bytes, mode: 0o777 }
    }
}

/// Reads a file, at most `most` bytes of it and otherwise none: a device or a pipe may have no end.
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(most as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > most { Err(io::Error::other(format!("more than {most} bytes"))) } else { Ok(bytes) }
    };
    read().map_err(|error| Error::io(path.display(), &error))
}

/// Writes one file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = Draft::write(path, bytes, 0o666)?;
    publish(vec![draft])
}

/// Writes files of `folder`, all of them or none, and says so if asked.
pub fn write_all(folder: &Path, files: &[Output], verbose: bool) -> Result<()> {
    fs::create_dir_all(folder)
        .map_err(|error| Error::io(format_args!("cannot make the folder {}", folder.display()), &error))?;
    let drafts = files.iter().map(|file| Draft::write(&file.path, &file.bytes, file.mode));
    publish(drafts.collect::<Result<_>>()?)?;
    if verbose {
        let say = |file: &Output| eprintln!("ecc: {}: {} bytes", file.path.display(), file.bytes.len());
        files.iter().for_each(say);
    }
    Ok(())
}

/// A file that is written but does not bear its name yet; dropped, it is gone.
struct Draft<'a> {
    file: Temporary,
    path: &'a Path,
    /// Keeps the lock that says that its writer is alive.
    open: File,
}

impl Draft<'_> {
    /// Writes `bytes` beside `path`, in the same file system.
    fn write<'a>(path: &'a Path, bytes: &[u8], mode: u32) -> Result<Draft<'a>> {
        let failed = |error: io::Error| Error::io(format_args!("cannot write {}", path.display()), &error);
        // A folder of that name would show only when others have got their names.
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

/// A new file, locked, `.NAME.PID.COUNT` beside `path`.
fn create(path: &Path, mode: u32) -> io::Result<(Temporary, File)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut name = beginning(path);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        name.extend(format!("{}.{count}", std::process::id()).bytes());
        match Temporary::file(path.with_file_name(OsStr::from_bytes(&name)), mode) {
            // Another run may have taken it for a stale one before it was locked.
            Ok((file, open)) => {
                let _ = flock(&open, FlockOperation::LockExclusive);
                if open.metadata()?.nlink() > 0 {
                    return Ok((file, open));
                }
            }
            // Of a run that had the same number, elsewhere.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the names of all drafts of `path` begin with.
fn beginning(path: &Path) -> Vec<u8> {
    [b".", path.file_name().unwrap_or_default().as_bytes(), b"."].concat()
}

/// Removes the drafts of `path` that runs have left which were killed: nobody holds their locks.
fn remove_stale(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beginning = beginning(path);
    let is_draft = |name: &OsStr| {
        let rest = name.as_bytes().strip_prefix(beginning.as_slice());
        rest.is_some_and(|rest| rest.iter().all(|&byte| byte == b'.' || byte.is_ascii_digit()))
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && is_draft(&entry.file_name()) {
            let lock = |file: File| flock(&file, FlockOperation::NonBlockingLockExclusive).map(|()| file);
            // Locked until it is gone, so that who has just made it sees that.
            if let Ok(_lock) = File::open(entry.path()).and_then(|file| Ok(lock(file)?)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
