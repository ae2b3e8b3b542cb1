//! The interface wasm-bpf: objects by handle, maps by number, programs by name, and events passed to a function of the
//! guest's table. Its main function is `_start`. Failures are negative errno values.

mod errno;
pub mod objects;
mod poll;

use std::sync::Arc;

use crate::bpf::MapFd;
use crate::bpf::map::{Map, holds_descriptors};
use crate::bpf::session::Session;
use crate::error::{Error, Result, Status};
use crate::os;
use crate::package::{MAX_OBJECT, Package, compact, members};
use crate::wasm::call::{Args, Call, Table, table};
use crate::wasm::state::{End, State};
use crate::wasm::sys::guest::Guest;
use errno::{Result as GuestResult, log_errno, to_guest};

pub const IMPORTS: Table = table![
    ("wasm_load_bpf_object(ii)I", load_object),
    ("wasm_close_bpf_object(I)i", close_object),
    ("wasm_attach_bpf_program(Iii)i", attach_program),
    ("wasm_bpf_buffer_poll(Iiiiiii)i", poll::buffer_poll),
    ("wasm_bpf_map_fd_by_name(Ii)i", map_fd_by_name),
    ("wasm_bpf_map_operate(iiiiiI)i", map_operate),
];

/// The function for Go, where the guest's table does not hold the functions of the program, so that the callback is an
/// export.
pub const GO_IMPORTS: Table = table![("wasm_bpf_buffer_poll(Iiiiii)i", poll::go_buffer_poll)];

/// Maximum length of the name of a program or map, and of a target.
const MAX_NAME: usize = 4096;

/// `i64 wasm_load_bpf_object(void *elf, int len)`: returns a handle, which is 1 or more, or 0 on failure.
fn load_object(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let (at, len) = (args[0] as u32, args[1] as u32);
    let elf = if len as usize > MAX_OBJECT { None } else { guest.read(at, len) };
    let none = || Error::new(Status::Inval, format_args!("no object of {len} bytes at address {at:#x}"));
    match elf.ok_or_else(none).and_then(|elf| load(state, &elf)) {
        Ok(handle) => Some(handle),
        Err(error) if error.status() == Status::Stopped => state.end(End::Stopped),
        Err(error) => {
            state.reject(&error.at("wasm_load_bpf_object"));
            Some(0)
        }
    }
}

fn load(state: &State<'_>, elf: &[u8]) -> Result<u64> {
    state.objects.borrow().check_count()?;
    let package = Package::from_object(elf, None)?;
    let mut session = Session::open(package, state.vm.session.clone(), Arc::clone(state.vm.log))?;
    session.load_without_sources()?;
    state.outlet.borrow_mut().after_load(&session);
    Ok(state.objects.borrow_mut().add(session))
}

/// `int wasm_close_bpf_object(i64 object)`. An object whose buffer is being polled stays open.
fn close_object(state: &State<'_>, _guest: Guest<'_>, args: &Args) -> Option<u64> {
    let removed = state.objects.borrow_mut().remove(args[0]);
    if let Ok(Some(object)) = &removed {
        state.outlet.borrow_mut().before_unload(&object.session);
    }
    if let Err(error) = state.outlet.borrow_mut().watch(&[]) {
        return state.end(End::Failed(error));
    }
    to_guest(removed.map(|_| 0))
}

/// `int wasm_attach_bpf_program(i64 object, char *name, char *target)`. The target, if there is one, is the cgroup of a
/// sockops program or the interface of an xdp program.
fn attach_program(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let string =
        |at: u64| guest.read_string(at as u32, MAX_NAME).and_then(|bytes| String::from_utf8(bytes).ok());
    let attached = string(args[1]).ok_or(libc::EFAULT).and_then(|name| {
        let target = if args[2] as u32 == 0 { String::new() } else { string(args[2]).ok_or(libc::EFAULT)? };
        let mut objects = state.objects.borrow_mut();
        let session = &mut objects.object(args[0])?.session;
        attach(session, &name, &target).map_err(|error| log_errno(state, error.at("wasm_attach_bpf_program")))
    });
    to_guest(attached.map(|()| 0))
}

fn attach(session: &mut Session, name: &str, target: &str) -> Result<()> {
    let section = session.prog_info(session.prog_index(name)?).section;
    let json = match section.to_bytes() {
        _ if target.is_empty() => None,
        b"sockops" => Some(members([("cgroup", target.into())])),
        b"xdp" => Some(members([("interface", target.into())])),
        _ => None,
    };
    if let Some(json) = json {
        session.set_target(name, &compact(&json))?;
    }
    session.attach_prog(name)
}

/// `int wasm_bpf_map_fd_by_name(i64 object, char *name)`: returns the number of a map.
fn map_fd_by_name(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let name = guest.read_string(args[1] as u32, MAX_NAME).ok_or(libc::EFAULT);
    to_guest(name.and_then(|name| state.objects.borrow_mut().map_number(args[0], &name)))
}

/// Operations as bpf(2) numbers them.
mod command {
    pub const LOOKUP: i32 = 1;
    pub const UPDATE: i32 = 2;
    pub const DELETE: i32 = 3;
    pub const NEXT_KEY: i32 = 4;
}

/// `int wasm_bpf_map_operate(int map, int cmd, void *key, void *value, void *next_key, u64 flags)`.
fn map_operate(state: &State<'_>, guest: Guest<'_>, args: &Args) -> Option<u64> {
    let objects = state.objects.borrow();
    let done = objects.map(args[0] as u32).and_then(|map| {
        let fd = map.fd().map_err(|_| libc::EBADF)?;
        operate(map, fd, guest, args)
    });
    to_guest(done.map(|()| 0))
}

fn operate(map: &Map, fd: &MapFd, guest: Guest<'_>, args: &Args) -> GuestResult<()> {
    let [key_at, value_at, next_at] = [args[2], args[3], args[4]].map(|at| at as u32);
    let read = |at: u32, len: usize| guest.read(at, len as u32).ok_or(libc::EFAULT);
    let key = || read(key_at, map.key.size);
    let kernel = |result: os::Result<()>| result.map_err(|e| e.0);
    match args[1] as i32 {
        command::LOOKUP..=command::NEXT_KEY if holds_descriptors(map.kind) => Err(libc::EPERM),
        command::LOOKUP => {
            let (key, mut value) = (key()?, read(value_at, fd.value_len())?);
            kernel(fd.lookup(&key, &mut value))?;
            guest.write(value_at, &value).ok_or(libc::EFAULT)
        }
        command::UPDATE => {
            let (key, value) = (key()?, read(value_at, fd.value_len())?);
            kernel(fd.update(&key, &value, args[5]))
        }
        command::DELETE => kernel(fd.delete(&key()?)),
        command::NEXT_KEY => {
            let key = if key_at == 0 { None } else { Some(key()?) };
            let mut next = read(next_at, map.key.size)?;
            kernel(fd.next_key(key.as_deref(), &mut next))?;
            guest.write(next_at, &next).ok_or(libc::EFAULT)
        }
        _ => Err(libc::EINVAL),
    }
}
