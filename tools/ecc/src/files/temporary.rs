//! Things that exist for this run only: drafts, private directories, a child process. None of them outlives the run, even
//! if a signal ends it.

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

/// The things that have to be removed when a signal arrives.
struct Active {
    paths: Vec<PathBuf>,
    child: Option<OwnedFd>,
}

static ACTIVE: Mutex<Active> = Mutex::new(Active { paths: Vec::new(), child: None });

fn active() -> MutexGuard<'static, Active> {
    ACTIVE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Installs handlers for SIGINT and SIGTERM that remove everything temporary before the process ends.
pub fn clean_up_on_signals() -> Result<()> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).map_err(|error| Error::io("cannot handle signals", &error))?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Hold the lock until the process ends, so that `publish` renames all files or none.
            let active = active();
            if let Some(child) = &active.child {
                let _ = pidfd_send_signal(child, Signal::TERM);
            }
            active.paths.iter().for_each(|path| remove(path));
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

/// Runs a command and waits for it. If a signal ends this process, the command is ended too.
pub fn output(command: &mut Command) -> io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = {
        let mut active = active();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // Unlike a process id, a descriptor cannot be reused for another process.
        active.child = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        child
    };
    let output = child.wait_with_output();
    active().child = None;
    output
}

/// A file or directory that is removed when this is dropped.
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Creates a new file.
    pub fn file(path: PathBuf, mode: u32) -> io::Result<(Temporary, File)> {
        Temporary::create(path, |path| {
            fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
        })
    }

    /// Takes ownership of a path at which others create something.
    pub fn claim(path: PathBuf) -> Temporary {
        active().paths.push(path.clone());
        Temporary { path }
    }

    /// Creates a private directory under the system's temporary directory.
    pub fn directory() -> Result<Temporary> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("libeunomia-{}-{count}", std::process::id()));
            let create = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
            match Temporary::create(path.clone(), create) {
                Ok((dir, ())) => return Ok(dir),
                // A process with the same id, such as one in a container, was killed and left this directory.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let path = path.display();
                    return Err(Error::io(format_args!("cannot create the directory {path}"), &error));
                }
            }
        }
    }

    fn create<T>(path: PathBuf, create: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<(Temporary, T)> {
        let mut active = active();
        let created = create(&path)?;
        active.paths.push(path.clone());
        Ok((Temporary { path }, created))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Renames files to their final names. A signal does not interrupt this.
    pub fn publish(files: &[(Temporary, &Path)]) -> Result<()> {
        let _active = active();
        files.iter().try_for_each(|(file, path)| {
            let failed = |error| Error::io(format_args!("cannot write {}", path.display()), &error);
            fs::rename(&file.path, path).map_err(failed)
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let mut active = active();
        active.paths.retain(|path| *path != self.path);
        // After `publish` there is no file with this name.
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}
