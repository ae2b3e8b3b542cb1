//! The pins of tasks: if the loader is killed, their programs stay attached, and the next loader takes them over.
//!
//! A task has a directory, and each version of its package has one in it. The name of a version contains what the next loader must
//! know about it.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use eunomia::vm::{remove_pins, running_pins};

use super::say;
use crate::spec::digest;

/// The directory of all loaders. Each has a directory in it, named after its socket.
const ALL: &str = "/sys/fs/bpf/eunomia";

/// The pins of a task. They are removed on drop.
pub struct TaskPins {
    folder: PathBuf,
}

/// A pinned version of a package.
pub struct Version {
    /// Its directory.
    pub path: PathBuf,
    /// The digest of the package.
    pub digest: String,
    /// Identifies the arguments of the task.
    pub wanted: String,
    /// The number of times that the package was replaced.
    pub replaced: u64,
}

/// Returns the directory with the pins of the loader that listens on `socket`.
pub fn folder_of(socket: &Path) -> Option<PathBuf> {
    let path = fs::canonicalize(socket).or_else(|_| std::path::absolute(socket)).ok()?;
    Some(Path::new(ALL).join(&digest(path.as_os_str().as_encoded_bytes())[..16]))
}

/// Removes the pins of a loader that has ended. Returns whether there were any.
pub fn remove_all(folder: &Path) -> bool {
    let tasks = numbers(folder);
    tasks.iter().for_each(|task| drop(TaskPins::new(folder, *task)));
    !tasks.is_empty()
}

/// Finds what an earlier loader has left in its directory: for each task the version that runs. Removes everything else.
pub fn find(folder: &Path) -> Vec<(u64, TaskPins, Version)> {
    let found = |task: u64| {
        let pins = TaskPins::new(folder, task);
        let path = running_pins(&pins.folder).unwrap_or_else(|error| {
            say(format_args!("task {task} cannot be taken over: {error}"));
            None
        })?;
        Some((task, pins, Version::of(path)?))
    };
    numbers(folder).into_iter().filter_map(found).collect()
}

impl TaskPins {
    /// The pins of a task, of which there are none yet.
    pub fn new(folder: &Path, task: u64) -> TaskPins {
        TaskPins { folder: folder.join(task.to_string()) }
    }

    /// Pins a version with `pin`, which gets its directory. A version that cannot be pinned runs without pins.
    pub fn add(
        &self,
        (digest, wanted, replaced): (&str, &str, u64),
        pin: impl FnOnce(&Path) -> eunomia::Result<()>,
    ) {
        if !is_digest(wanted) {
            return;
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        let path = self.folder.join(format!("{digest}-{wanted}-{replaced}"));
        let pinned = made
            .map_err(|error| format!("{}: {error}", self.folder.display()))
            .and_then(|()| pin(&path).map_err(|error| error.to_string()));
        if let Err(why) = pinned {
            say(format_args!("if the loader is killed, this task is detached and loaded again: {why}"));
        }
    }
}

impl Drop for TaskPins {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if let Err(error) = remove_pins(entry.path()) {
                say(format_args!("programs may stay attached: {error}"));
            }
        }
        // After the last task, the directories of the loader and of all loaders are empty, too.
        for folder in self.folder.ancestors().take(3) {
            let _ = fs::remove_dir(folder);
        }
    }
}

impl Version {
    fn of(path: PathBuf) -> Option<Version> {
        let mut parts = path.file_name()?.to_str()?.splitn(3, '-').map(str::to_owned);
        let (digest, wanted, replaced) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        (is_digest(&digest) && is_digest(&wanted)).then_some(Version { path, digest, wanted, replaced })
    }
}

/// Whether this is a SHA-256 in hexadecimal digits.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The tasks with directories.
fn numbers(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
