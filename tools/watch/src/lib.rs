//! Waits until files change.
//!
//! Directories are watched rather than files, because editors replace files with new ones with the same name.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// A file was written or created, or the directory itself was removed. Removed files are ignored: they will be replaced.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Changes within this time are one change.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Maximum number of changes to wait for, if something writes continuously.
const MAX_SETTLE: usize = 100;

/// The size of the buffer for one read. An event may contain a name of 255 bytes.
const BUFFER: usize = 4096;

/// The directories that are watched, and the file names in them.
pub struct Watched {
    inotify: OwnedFd,
    names: HashMap<i32, HashSet<OsString>>,
}

impl Watched {
    /// Creates an instance that watches no files yet.
    ///
    /// # Errors
    ///
    /// Those of the kernel, such as too many instances of inotify.
    pub fn new() -> io::Result<Watched> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Watched { inotify, names: HashMap::new() })
    }

    /// Watches these files from now on. Directories that are no longer needed stay watched, but their events are ignored.
    /// A missing file is noticed when it is created at its path, or at the same path relative to the directory of another file.
    ///
    /// # Errors
    ///
    /// Those of the kernel, such as a directory that may not be read. After a failure, the files of the last call are still watched.
    pub fn set(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let names = std::mem::take(&mut self.names);
        let added = self.add_all(files);
        if added.is_err() {
            self.names = names;
        }
        added
    }

    fn add_all(&mut self, files: &[PathBuf]) -> io::Result<()> {
        let (existing, missing): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.exists());
        let dirs: HashSet<_> = existing.iter().filter_map(|file| file.parent()).collect();
        for file in &missing {
            self.add(file)?;
            dirs.iter().try_for_each(|dir| self.add(&dir.join(file)))?;
        }
        for file in existing {
            self.add(file)?;
            // A change of a link's target does not change the link.
            if let Some(target) = file.canonicalize().ok().filter(|target| target != file) {
                self.add(&target)?;
            }
        }
        Ok(())
    }

    /// Watches the directory of a file. If that is missing, watches the parent until the directory is created.
    fn add(&mut self, file: &Path) -> io::Result<()> {
        let mut path = std::path::absolute(file)?;
        while let (Some(name), Some(dir)) = (path.file_name(), path.parent()) {
            match inotify::add_watch(&self.inotify, dir, CHANGES) {
                Ok(watch) => {
                    self.names.entry(watch).or_default().insert(name.into());
                    break;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => path = dir.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a change, then until nothing changes for 50 ms, because an editor may write several files.
    ///
    /// # Errors
    ///
    /// Those of the kernel.
    pub fn wait(&self) -> io::Result<()> {
        while !self.wait_for_event(None)? {}
        for _ in 0..MAX_SETTLE {
            if !self.wait_for_event(Some(&QUIET))? {
                break;
            }
        }
        Ok(())
    }

    /// Waits for events and reads all of them. Returns whether one of them concerns a watched file.
    fn wait_for_event(&self, timeout: Option<&Timespec>) -> io::Result<bool> {
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut changed = false;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => changed |= self.is_relevant(&event),
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_relevant(&self, event: &Event) -> bool {
        // After an overflow, events of any file may have been lost.
        let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        overflow
            || self.names.get(&event.wd()).is_some_and(|names| match event.file_name() {
                Some(name) => names.contains(OsStr::from_bytes(name.to_bytes())),
                // The directory itself was removed.
                None => true,
            })
    }
}
