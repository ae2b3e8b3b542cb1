//! What is there for this run only: drafts, private folders, a compiler at work. None of it outlives the run, also if a
//! signal ends that at any moment.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::error::{Error, Result};

/// What a signal has to clear away.
struct Present {
    paths: Vec<PathBuf>,
    child: Option<OwnedFd>,
}

static PRESENT: Mutex<Present> = Mutex::new(Present { paths: Vec::new(), child: None });

fn present() -> MutexGuard<'static, Present> {
    PRESENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// From here on SIGINT and SIGTERM clear away what is there for this run before they end it.
pub fn end_with_signals() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::io("handlers of signals", &error))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Held to the end: whoever gives files their names has given all of them or none.
            let present = present();
            if let Some(child) = &present.child {
                let _ = pidfd_send_signal(child, Signal::TERM);
            }
            present.paths.iter().for_each(|path| remove(path));
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Runs a command to its end, and ends it if a signal ends this run.
pub fn output(command: &mut Command) -> io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = {
        let mut present = present();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // A descriptor, unlike a number, cannot come to mean another process.
        present.child = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        child
    };
    let output = child.wait_with_output();
    present().child = None;
    output
}

/// A file or folder that is gone once this is dropped.
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// A new file, for its owner to write to.
    pub fn file(path: PathBuf, mode: u32) -> io::Result<(Temporary, File)> {
        Temporary::create(path, |path| {
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
        })
    }

    /// Whatever others put at a path that is this run's.
    pub fn claim(path: PathBuf) -> Temporary {
        present().paths.push(path.clone());
        Temporary { path }
    }

    /// A new folder under the system's temporary one, which nobody else can have put files in.
    pub fn folder() -> Result<Temporary> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("libeunomia-{}-{count}", std::process::id()));
            let made = Temporary::create(path.clone(), |path| fs::DirBuilder::new().mode(0o700).create(path));
            match made {
                Ok((folder, ())) => return Ok(folder),
                // What a run of the same number, in a container say, was killed over.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(Error::io(format_args!("cannot make the folder {}", path.display()), &error));
                }
            }
        }
    }

    fn create<T>(path: PathBuf, make: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<(Temporary, T)> {
        let mut present = present();
        let made = make(&path)?;
        present.paths.push(path.clone());
        Ok((Temporary { path }, made))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives files the names that they are to keep, uninterrupted.
    pub fn publish(files: &[(Temporary, &Path)]) -> Result<()> {
        let _present = present();
        files.iter().try_for_each(|(file, path)| {
            let failed = |error| Error::io(format_args!("cannot write {}", path.display()), &error);
            fs::rename(&file.path, path).map_err(failed)
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut present = present();
        present.paths.retain(|path| *path != self.path);
        // After publish there is nothing left under this name.
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}
