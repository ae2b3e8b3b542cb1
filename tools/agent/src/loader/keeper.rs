//! The process that starts the loader, and starts it again if it fails. The server cannot do that, because it has no privileges.
//!
//! It reads no input that could be an attack. It ends when the loader ends without a failure.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use super::say;

/// If a loader fails within this time, the delay before the next start grows.
const SOON: Duration = Duration::from_secs(10);
/// The maximum delay before a loader is started again.
const LONGEST: Duration = Duration::from_secs(1);

/// Runs loaders that accept servers on `listener`, a unix socket that listens, until one ends without a failure. `command` starts a
/// process that calls [`serve`](super::serve) with its standard input.
pub fn keep(listener: &OwnedFd, command: impl Fn() -> Command) -> io::Result<()> {
    // Ctrl-C and the hangup of the terminal are for the server only. The call fails only if this process leads a
    // session already.
    let _ = rustix::process::setsid();
    let mut delay = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let status = command().stdin(listener.try_clone()?).status()?;
        if status.success() {
            return Ok(());
        }
        delay = match begun.elapsed() < SOON {
            true => (delay * 2).clamp(Duration::from_millis(10), LONGEST),
            false => Duration::ZERO,
        };
        say(format_args!("it has ended ({status}) and is started again"));
        std::thread::sleep(delay);
    }
}
