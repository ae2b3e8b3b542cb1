//! Stops, pauses and changes a run: on signals, after the duration, and when the reader closes the pipe.
//!
//! One thread waits for signals, one for the end of the duration, one for the reader. None of them polls, and none keeps a
//! privilege.

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
use crate::reload::Requests;
use crate::{capabilities, cgroup, symbols};

/// The exit code that shells report for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Signals within this time are one request: `timeout`, shells and terminals signal both the process and its group.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// Starts the thread that handles signals: SIGINT and SIGTERM stop the vm, SIGTSTP pauses it, SIGHUP reopens the file of
/// `sink` and requests a reload. A second SIGINT ends the process at once; the kernel then detaches everything.
pub fn watch(vm: &Arc<Vm>, sink: Arc<Sink>, reload: Option<Requests>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGTSTP]).map_err(|e| failed("signals", &e))?;
    let has_use = sink.is_named() || reload.is_some();
    // Under nohup(1), SIGHUP does not end the run, but it still reopens the file and reloads the package.
    if has_use || !is_ignored(SIGHUP) {
        signals.add_signal(SIGHUP).map_err(|e| failed("signals", &e))?;
    }
    let vm = Arc::clone(vm);
    let watch = move || {
        capabilities::drop_all();
        let mut requested: Option<Instant> = None;
        for signal in signals.forever() {
            match (signal, requested) {
                (SIGTSTP, _) => suspend(&vm),
                (SIGHUP, _) if has_use => {
                    sink.reopen();
                    reload.iter().for_each(Requests::signal);
                }
                (_, None) => {
                    requested = Some(Instant::now());
                    stop(&vm);
                }
                (_, Some(first)) if first.elapsed() < SAME_REQUEST => {}
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

/// Starts a thread.
pub fn start(name: &str, thread: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.into()).spawn(thread).map_err(|e| failed(name, &e))?;
    Ok(())
}

/// Whether a signal was ignored when ecli started: nohup(1) ignores SIGHUP.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Suspends the process until `fg`. Until then, events remain in the kernel; those that do not fit are counted as lost.
fn suspend(vm: &Vm) {
    let _ = vm.pause(true);
    let _ = emulate_default_handler(SIGTSTP);
    let _ = vm.pause(false);
}

/// Stops the vm, and the lookup of function names.
fn stop(vm: &Vm) {
    symbols::stop();
    vm.stop();
}

/// Starts a thread that stops the vm after a time.
pub fn stop_after(vm: &Arc<Vm>, time: Duration) -> Result<()> {
    let vm = Arc::clone(vm);
    start("clock", move || {
        capabilities::drop_all();
        thread::sleep(time);
        stop(&vm);
    })
}

/// Starts a thread that stops the vm when the reader closes the pipe, even if there are no events to write.
pub fn stop_without_reader(vm: &Arc<Vm>, sink: &Arc<Sink>) -> Result<()> {
    let Some(wait) = sink.reader() else { return Ok(()) };
    let vm = Arc::clone(vm);
    start("reader", move || {
        capabilities::drop_all();
        if wait() {
            stop(&vm);
        }
    })
}
