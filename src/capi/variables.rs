//! What the host sets before a package runs: global variables and the command line.

use std::ffi::{c_char, c_int, c_void};

use super::args::{bytes, bytes_mut, some, store, text, texts};
use super::guard::guard;
use super::types::eunomia_vm;
use crate::error::{Error, Result, Status};

/// ---- Global variables, by name ----
///
/// Sets a variable from JSON text: a number, a string for char[], an object for a struct, and so on, checked
/// against its type. Members that an object leaves out keep their values; they are read and written back, so a
/// program that changes them at that moment may lose its change. Constants (.rodata) only before load, others
/// any time. A type that is too large or nested too deep for JSON returns TYPE, here and in
/// eunomia_var_get_json; the bytes are accessible.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_set_json(
    vm: *mut eunomia_vm,
    name: *const c_char,
    json: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.var_set_json(text(name, "name")?, text(json, "json")?)) }
}

/// Sets a variable from len bytes, which must be exactly its size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_set(
    vm: *mut eunomia_vm,
    name: *const c_char,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.var_set(text(name, "name")?, bytes(data, len, "data")?)) }
}

/// Gives out the present value as JSON, borrowed until the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_get_json(
    vm: *mut eunomia_vm,
    name: *const c_char,
    out: *mut *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let out = some(out, "out")?;
            store(out, vm.lend_text(vm.vm.var_get_json(text(name, "name")?)?));
            Ok(())
        })
    }
}

/// Copies the present value to buf. *len: its room before, the value's size after; with TOO_SMALL only *len
/// is written, so a room of 0 asks for the size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_get(
    vm: *mut eunomia_vm,
    name: *const c_char,
    buf: *mut c_void,
    len: *mut usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let room = bytes_mut(buf, *some(len, "len")?, "buf")?;
            let value = vm.vm.var_get(text(name, "name")?)?;
            store(len, value.len());
            fill(room, &value)
        })
    }
}

fn fill(room: &mut [u8], value: &[u8]) -> Result<()> {
    let (need, have) = (value.len(), room.len());
    let too_small =
        || Error::new(Status::TooSmall, format_args!("the value has {need} bytes, the buffer {have}"));
    room.get_mut(..need).ok_or_else(too_small)?.copy_from_slice(value);
    Ok(())
}

/// ---- The command line that a package describes ----
///
/// Sets variables from the arguments of a command line, argv[0] included. Returns 1 if it asks for help or
/// the version: nothing is set then, and eunomia_args_help has the text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_args_set(
    vm: *mut eunomia_vm,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.args_set(&texts(argc, argv)?)) }
}

/// Gives out the help text, or after eunomia_args_set returned 1 what was asked for. Borrowed until the
/// next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_args_help(vm: *mut eunomia_vm, out: *mut *const c_char) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let out = some(out, "out")?;
            store(out, vm.lend_text(vm.vm.args_help()?));
            Ok(())
        })
    }
}
