//! WASI preview 1: arguments, clocks, random numbers, printing, sleeping, and reading files below the directories that the
//! host has given.
//!
//! Functions that would change anything outside, and sockets, return "not implemented". The environment is empty.

mod error;
mod fd;
pub mod files;
mod time;

use std::time::Duration;

use crate::os;
use crate::wasm::call::{Args, Call, Table, table};
use crate::wasm::state::{End, State};
use crate::wasm::sys::guest::Guest;
use error::{number, read, to_guest, write, write_u32};
pub use time::clock;
use time::wait;

pub const IMPORTS: Table = table![
    ("args_get(ii)i", args_get),
    ("args_sizes_get(ii)i", args_sizes_get),
    ("clock_res_get(ii)i", time::clock_res_get),
    ("clock_time_get(iIi)i", time::clock_time_get),
    ("environ_get(ii)i", succeed),
    ("environ_sizes_get(ii)i", environ_sizes_get),
    ("fd_advise(iIIi)i", succeed),
    ("fd_close(i)i", fd::fd_close),
    ("fd_datasync(i)i", succeed),
    ("fd_fdstat_get(ii)i", fd::fd_fdstat_get),
    ("fd_filestat_get(ii)i", fd::fd_filestat_get),
    ("fd_pread(iiiIi)i", fd::fd_pread),
    ("fd_prestat_dir_name(iii)i", fd::fd_prestat_dir_name),
    ("fd_prestat_get(ii)i", fd::fd_prestat_get),
    ("fd_read(iiii)i", fd::fd_read),
    ("fd_readdir(iiiIi)i", fd::fd_readdir),
    ("fd_seek(iIii)i", fd::fd_seek),
    ("fd_sync(i)i", succeed),
    ("fd_tell(ii)i", fd::fd_tell),
    ("fd_write(iiii)i", fd::fd_write),
    ("path_filestat_get(iiiii)i", fd::path_filestat_get),
    ("path_open(iiiiiIIii)i", fd::path_open),
    ("poll_oneoff(iiii)i", time::poll_oneoff),
    ("proc_exit(i)", proc_exit),
    ("random_get(ii)i", random_get),
    ("sched_yield()i", succeed),
];

/// Functions that are not implemented, separated by spaces.
pub const UNSUPPORTED: &str = "\
    fd_allocate(iII)i fd_fdstat_set_flags(ii)i fd_fdstat_set_rights(iII)i fd_filestat_set_size(iI)i \
    fd_filestat_set_times(iIIi)i fd_pwrite(iiiIi)i fd_renumber(ii)i path_create_directory(iii)i \
    path_filestat_set_times(iiiiIIi)i path_link(iiiiiii)i path_readlink(iiiiii)i \
    path_remove_directory(iii)i path_rename(iiiiii)i path_symlink(iiiii)i path_unlink_file(iii)i \
    proc_raise(i)i sock_accept(iii)i sock_recv(iiiiii)i sock_send(iiiii)i sock_shutdown(ii)i";

/// Does nothing: there is nothing to do.
fn succeed(_state: &State<'_>, _guest: Guest<'_>, _args: &Args) -> Option<u64> {
    Some(0)
}

/// Returns "not implemented".
pub fn unsupported(_state: &State<'_>, _guest: Guest<'_>, _args: &Args) -> Option<u64> {
    Some(number::NOSYS.into())
}

fn args_sizes_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let bytes = state.args.iter().map(Vec::len).sum();
    to_guest(write_u32(guest, args[0], state.args.len()).and_then(|()| write_u32(guest, args[1], bytes)))
}

fn args_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let mut at = args[1] as u32;
    let mut pointers = Vec::new();
    for arg in &state.args {
        pointers.extend_from_slice(&at.to_le_bytes());
        at = at.wrapping_add(arg.len() as u32);
    }
    let strings = state.args.concat();
    to_guest(write(guest, args[0], &pointers).and_then(|()| write(guest, args[1], &strings)))
}

fn environ_sizes_get(_state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    to_guest(write_u32(guest, args[0], 0).and_then(|()| write_u32(guest, args[1], 0)))
}

fn random_get(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    to_guest(read(guest, args[0] as u32, args[1] as u32).and_then(|mut bytes| {
        // Generating many bytes takes long, so `stop` is checked in between.
        for part in bytes.chunks_mut(fd::MAX_TRANSFER as usize) {
            os::random(part)?;
            wait(state, &[], Some(Duration::ZERO))?;
        }
        write(guest, args[0], &bytes)
    }))
}

fn proc_exit(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    state.end(End::Exit(args[0] as i32))
}
