//! What ends, pauses or changes a run from outside: signals, the clock, and a reader that goes.
//!
//! One thread sleeps in a read until a signal comes, another until the time is over, a third until nobody reads any more.
//! None wakes up in between, and none keeps a privilege.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use eunomia::Vm;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::error::{Code, Failure, Result};
use crate::output::Sink;
use crate::{capabilities, cgroup, symbols};

/// What a shell makes of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Signals that come so soon after the first are the same Ctrl-C: `timeout` sends its signal to the process and to the
/// group, shells and terminals do so too.
const SAME: Duration = Duration::from_millis(300);

/// Has the vm stopped by Ctrl-C and its like, and paused by Ctrl-Z; the file of `sink` is reopened by SIGHUP. A later
/// Ctrl-C ends the process at once; the kernel releases everything then.
pub fn watch(vm: &Arc<Vm>, sink: Arc<Sink>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGTSTP]).map_err(|e| failed("signals", &e))?;
    // Under nohup(1) SIGHUP does not end the run; where it does not end it anyway, it has its meaning.
    if sink.is_named() || !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP).map_err(|e| failed("signals", &e))?;
    }
    let vm = Arc::clone(vm);
    let watch = move || {
        capabilities::give_up_all();
        let mut asked: Option<Instant> = None;
        for signal in signals.forever() {
            match (signal, asked) {
                (SIGTSTP, _) => suspend(&vm),
                (SIGHUP, _) if sink.is_named() => sink.reopen(),
                (_, None) => {
                    asked = Some(Instant::now());
                    stop(&vm);
                }
                (_, Some(first)) if first.elapsed() < SAME => {}
                (_, Some(_)) => {
                    cgroup::leave();
                    std::process::exit(INTERRUPTED)
                }
            }
        }
    };
    start("signals", watch)
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::io(Code::Failed, what, error)
}

fn start(name: &str, thread: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.into()).spawn(thread).map_err(|e| failed(name, &e))?;
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

/// Names of functions are not waited for then.
fn stop(vm: &Vm) {
    symbols::hurry();
    vm.stop();
}

/// Has the vm stopped after that time.
pub fn stop_after(vm: &Arc<Vm>, time: Duration) -> Result<()> {
    let vm = Arc::clone(vm);
    start("clock", move || {
        capabilities::give_up_all();
        thread::sleep(time);
        stop(&vm);
    })
}

/// Has the vm stopped when the reader of its events has gone, whether or not there is an event to notice it by.
pub fn stop_without_reader(vm: &Arc<Vm>, sink: &Arc<Sink>) -> Result<()> {
    let Some(wait) = sink.reader() else { return Ok(()) };
    let vm = Arc::clone(vm);
    start("reader", move || {
        capabilities::give_up_all();
        if wait() {
            stop(&vm);
        }
    })
}
