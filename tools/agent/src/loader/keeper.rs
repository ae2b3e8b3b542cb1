//! The process that starts the loader, and starts it again if it fails. The server cannot do that, because it has no privileges.
//!
//! It reads nothing, so it has nothing to be attacked by. It ends when the loader ends as it should.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::{Duration, Instant};

use super::say;

/// A loader that fails within this time is started again later and later.
const SOON: Duration = Duration::from_secs(10);
/// The longest time until a loader is started again.
const LONGEST: Duration = Duration::from_secs(1);

/// Runs loaders that accept servers on `listener`, a unix socket that listens, until one ends without a failure. `command` starts a
/// process that calls [`serve`](super::serve) with its standard input.
pub fn keep(listener: &OwnedFd, command: impl Fn() -> Command) -> io::Result<()> {
    // Ctrl-C and the end of the terminal are for the server. It fails only in a session of its own.
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
