//! The interface ewasm: packages as JSON, numbered from 0, and events passed to the export `process_event`. Its main
//! function is `bpf_main`.

mod feed;
pub mod programs;

use crate::bpf::source::{Sink, Sources};
use crate::error::{Error, Result, Status};
use crate::package::{MAX_DOCUMENT, Package};
use crate::wasm::call::{Args, Call, Table, table};
use crate::wasm::outlet::Wake;
use crate::wasm::state::{End, State};
use crate::wasm::sys::guest::Guest;
use feed::Feed;

pub const IMPORTS: Table = table![
    ("create_bpf(ii)i", create_bpf),
    ("run_bpf(i)i", run_bpf),
    ("wait_and_poll_bpf(i)i", wait_and_poll_bpf)
];

/// Maximum number of records that one program delivers before the next one has its turn and `stop` is checked.
const MAX_TURN: usize = 4096;

/// Returns an i32 to the guest.
fn number(value: i32) -> Option<u64> {
    Some(value as u32 as u64)
}

/// Logs an error and returns its errno to the guest.
fn reject(state: &State<'_>, error: &Error) -> Option<u64> {
    Some(state.reject(error) & u64::from(u32::MAX))
}

/// `int create_bpf(char *json, int len)`: returns the number of the package, or -1. The JSON ends at its NUL; `len` is used
/// only if there is none.
fn create_bpf(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    match create(state, guest, args[0] as u32, args[1] as u32) {
        Ok(id) => number(id),
        Err(error) => {
            state.reject(&error.at("create_bpf"));
            number(-1)
        }
    }
}

fn create(state: &State<'_>, guest: Guest<'_>, at: u32, len: u32) -> Result<i32> {
    let json = guest.read_string(at, MAX_DOCUMENT).or_else(|| guest.read(at, len));
    let no_json = || Error::new(Status::Inval, format_args!("no string of {len} bytes at address {at:#x}"));
    let package = Package::parse(&json.ok_or_else(no_json)?)?;
    state.programs.borrow_mut().create(package, state.vm)
}

/// `int run_bpf(int id)`: loads and attaches; returns 0, or a negative number on failure.
fn run_bpf(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    let started = state.programs.borrow_mut().start(args[0] as i32, *state.outlet.borrow_mut());
    match started {
        Ok(()) => number(0),
        Err(error) if error.status() == Status::Stopped => state.end(End::Stopped),
        Err(error) => reject(state, &error.at("run_bpf")),
    }
}

/// `int wait_and_poll_bpf(int id)`: passes events to the guest until the run ends; returns a negative number if it cannot
/// begin.
fn wait_and_poll_bpf(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    if state.is_polling() {
        let text = "wait_and_poll_bpf: events are already being passed to the guest";
        return reject(state, &Error::new(Status::Busy, text));
    }
    let taken = state.programs.borrow_mut().take_sources(args[0] as i32);
    let mut polled = match taken {
        Ok(polled) => polled,
        Err(error) => return reject(state, &error.at("wait_and_poll_bpf")),
    };
    let result = state.polling(|| poll_until_end(state, guest, &mut polled));
    state.programs.borrow_mut().put_back(polled);
    match result {
        Err(error) => state.end(End::Failed(error)),
        Ok(()) => None,
    }
}

/// Returns when the guest has to end, with an error if no other reason has been stored.
fn poll_until_end(state: &State<'_>, guest: Guest<'_>, polled: &mut [(usize, Sources)]) -> Result<()> {
    let watched: Vec<_> = polled.iter().map(|(_, sources)| sources).collect();
    state.outlet.borrow_mut().watch(&watched)?;
    let mut feeds: Vec<Feed> =
        polled.iter().map(|(_, sources)| Feed::new(state, guest, sources.shapes())).collect();
    loop {
        let wake = state.watch.pause(|| state.outlet.borrow_mut().wait(None))?;
        if wake == Wake::Stop {
            state.end::<()>(End::Stopped);
            return Ok(());
        }
        for ((_, sources), feed) in polled.iter_mut().zip(&mut feeds) {
            state.watch.armed(|| {
                let drained = sources.drain(MAX_TURN, &mut *feed as &mut dyn Sink);
                feed.flush();
                drained
            })?;
            if feed.is_over() {
                return Ok(());
            }
        }
    }
}
