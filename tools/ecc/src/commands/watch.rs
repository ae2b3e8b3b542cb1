//! `--watch`: compiles again whenever the source or a header that it includes has changed.
//!
//! What is watched are folders, for editors replace files by others of the same name.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A file has content, or the folder itself is gone. Files that vanish are on their way to be replaced.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// As long as changes follow each other within this time, an editor is at work.
const QUIET: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Most changes that are awaited so: something writes all the time.
const MAX_SETTLE: usize = 100;

/// Room for the events of one read; one may have a name of 255 bytes.
const BUFFER: usize = 4096;

/// Runs `build` now and after each change of the files that `files` lists; ends with a signal only.
pub fn watch(files: impl Fn() -> Vec<PathBuf>, build: impl Fn() -> Result<()>) -> Result<()> {
    let failed = |error: io::Error| Error::io("--watch", &error);
    let mut watched = Watched::new().map_err(failed)?;
    loop {
        // Before the build, so that what changes meanwhile is noticed.
        let files = files();
        watched.set(&files).map_err(failed)?;
        let outcome = match build() {
            Ok(()) => "compiled".to_string(),
            Err(Error::Text(line)) => line,
            Err(Error::Diagnosed) => "not compiled".to_string(),
        };
        // Nobody is left to tell if stderr is gone.
        let waiting = format!("waiting for changes of {} files", files.len());
        let _ = writeln!(io::stderr(), "ecc: {outcome}\necc: {waiting}");
        watched.wait().map_err(failed)?;
    }
}

/// The folders that are watched, and for which names.
struct Watched {
    inotify: OwnedFd,
    names: HashMap<i32, HashSet<OsString>>,
}

impl Watched {
    fn new() -> io::Result<Watched> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Watched { inotify, names: HashMap::new() })
    }

    /// Watches for these files from now on. Folders that were watched before stay so, and are not listened to.
    fn set(&mut self, files: &[PathBuf]) -> io::Result<()> {
        self.names.clear();
        let (there, missing): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.exists());
        let folders: HashSet<_> = there.iter().filter_map(|file| file.parent()).collect();
        for file in &missing {
            self.add(file)?;
            // clang does not tell where it has looked: where the others are.
            folders.iter().try_for_each(|folder| self.add(&folder.join(file)))?;
        }
        for file in there {
            self.add(file)?;
            // A link stays as it is when what it leads to changes.
            if let Some(target) = file.canonicalize().ok().filter(|target| target != file) {
                self.add(&target)?;
            }
        }
        Ok(())
    }

    /// Watches the folder of a file for its name; where that folder is missing, the one above it for the folder.
    fn add(&mut self, file: &Path) -> io::Result<()> {
        let mut path = std::path::absolute(file)?;
        while let (Some(name), Some(folder)) = (path.file_name(), path.parent()) {
            match inotify::add_watch(&self.inotify, folder, CHANGES) {
                Ok(watch) => {
                    self.names.entry(watch).or_default().insert(name.into());
                    break;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => path = folder.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits for a change, and until nothing has changed for a while.
    fn wait(&self) -> io::Result<()> {
        while !self.changed(None)? {}
        for _ in 0..MAX_SETTLE {
            if !self.changed(Some(&QUIET))? {
                break;
            }
        }
        Ok(())
    }

    /// Waits for events and takes all that are there; whether one of them is about a file that is watched for.
    fn changed(&self, timeout: Option<&Timespec>) -> io::Result<bool> {
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut changed = false;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => changed |= self.concerns(&event),
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        // Some events did not fit the queue; any may have been among them.
        let overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
        overflow
            || self.names.get(&event.wd()).is_some_and(|names| match event.file_name() {
                Some(name) => names.contains(OsStr::from_bytes(name.to_bytes())),
                // The folder itself has gone.
                None => true,
            })
    }
}
