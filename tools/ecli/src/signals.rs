//! What ends or pauses a run from outside: signals and the clock.
//!
//! One thread sleeps in a read until a signal comes, another until the time is over. Neither wakes up in between, and
//! neither keeps a privilege.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use eunomia::Vm;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::capabilities;
use crate::error::{Code, Failure, Result};

/// What a shell makes of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Has the vm stopped by Ctrl-C and its like, and paused by Ctrl-Z. The second Ctrl-C ends the process at once; the
/// kernel lets go of everything then.
pub fn watch(vm: &Arc<Vm>) -> Result<()> {
    let failed = |e: std::io::Error| Failure::io(Code::Failed, "signals", &e);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGTSTP]).map_err(failed)?;
    if !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP).map_err(failed)?;
    }
    let vm = Arc::clone(vm);
    let asked = AtomicBool::new(false);
    let watch = move || {
        capabilities::give_up_all();
        for signal in signals.forever() {
            match signal {
                SIGTSTP => suspend(&vm),
                _ if asked.swap(true, Relaxed) => std::process::exit(INTERRUPTED),
                _ => vm.stop(),
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map_err(failed)?;
    Ok(())
}

/// Whether a signal was ignored before ecli began: nohup(1) wants SIGHUP to stay so.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Stops the process as the terminal wants it; `fg` goes on from here. Events stay in the kernel meanwhile, and those
/// that find no room there are counted as lost.
fn suspend(vm: &Vm) {
    let _ = vm.pause(true);
    let _ = emulate_default_handler(SIGTSTP);
    let _ = vm.pause(false);
}

/// Has the vm stopped after that time.
pub fn stop_after(vm: &Arc<Vm>, time: Duration) -> Result<()> {
    let vm = Arc::clone(vm);
    let wait = move || {
        capabilities::give_up_all();
        thread::sleep(time);
        vm.stop();
    };
    let failed = |e: std::io::Error| Failure::io(Code::Failed, "clock", &e);
    thread::Builder::new().name("clock".into()).spawn(wait).map_err(failed)?;
    Ok(())
}
