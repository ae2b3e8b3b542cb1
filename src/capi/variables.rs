//! Global variables and the command line of a package.

use std::ffi::{c_char, c_int, c_void};

use super::args::{bytes, bytes_mut, non_null, store, string, strings};
use super::guard::guard;
use super::handle::eunomia_vm;
use crate::error::{Error, Result, Status};

/// ---- Global variables, by name (eunomia_describe lists them) ----
///
/// Sets a variable from JSON.
///
///   name  name of the variable
///   json  the value: a number, a string for char[], an object for a struct, and so on
///
/// Constants (.rodata) can be set before load only, other variables at any time. Members that a JSON
/// object leaves out keep their values. The library reads these members and writes them
/// back, so a change that a program makes to them in between may be lost.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such variable
///   EUNOMIA_ERR_INVAL      the JSON is malformed
///   EUNOMIA_ERR_TYPE       the value does not fit, or the type is too large or nested for JSON
///   EUNOMIA_ERR_STATE      no package is open, or it is loaded and the variable is a constant
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_set_json(
    vm: *mut eunomia_vm,
    name: *const c_char,
    json: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.var_set_json(string(name, "name")?, string(json, "json")?)) }
}

/// Sets a variable from bytes.
///
///   name  name of the variable
///   data  the value
///   len   bytes of data; must be the size of the variable
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such variable
///   EUNOMIA_ERR_TYPE       len is not the size of the variable
///   EUNOMIA_ERR_STATE      no package is open, or it is loaded and the variable is a constant
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_set(
    vm: *mut eunomia_vm,
    name: *const c_char,
    data: *const c_void,
    len: usize,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.var_set(string(name, "name")?, bytes(data, len, "data")?)) }
}

/// Returns the current value of a variable as JSON.
///
///   name  name of the variable
///   out   receives the JSON, valid until the next call on the vm
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such variable
///   EUNOMIA_ERR_TYPE       the type is too large or nested for JSON
///   EUNOMIA_ERR_STATE      no package is open
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_var_get_json(
    vm: *mut eunomia_vm,
    name: *const c_char,
    out: *mut *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let out = non_null(out, "out")?;
            store(out, vm.keep_string(vm.vm.var_get_json(string(name, "name")?)?));
            Ok(())
        })
    }
}

/// Copies the current value of a variable into a buffer.
///
///   name  name of the variable
///   buf   the buffer; may be NULL if *len is 0
///   len   in: bytes of buf; out: size of the value
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_NOT_FOUND  no such variable
///   EUNOMIA_ERR_TOO_SMALL  buf is too small; *len is set, so a call with *len == 0 queries the size
///   EUNOMIA_ERR_STATE      no package is open
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
            let buffer = bytes_mut(buf, *non_null(len, "len")?, "buf")?;
            let value = vm.vm.var_get(string(name, "name")?)?;
            store(len, value.len());
            fill(buffer, &value)
        })
    }
}

fn fill(buffer: &mut [u8], value: &[u8]) -> Result<()> {
    let (need, have) = (value.len(), buffer.len());
    let too_small =
        || Error::new(Status::TooSmall, format_args!("the value has {need} bytes, the buffer has {have}"));
    buffer.get_mut(..need).ok_or_else(too_small)?.copy_from_slice(value);
    Ok(())
}

/// ---- The command line that a package describes ----
///
/// Parses a command line and sets the variables that belong to its options.
///
///   argc  number of arguments
///   argv  the arguments, beginning with the program's name
///
/// If the command line asks for help or the version, no variable is set, and eunomia_args_help
/// returns the requested text.
///
/// Returns: EUNOMIA_OK, 1 if help or the version was requested, or
///   EUNOMIA_ERR_INVAL  the command line is malformed
///   EUNOMIA_ERR_TYPE   a value does not fit its variable
///   EUNOMIA_ERR_STATE  no package is open, or it is loaded and an option sets a constant
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_args_set(
    vm: *mut eunomia_vm,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.args_set(&strings(argc, argv)?)) }
}

/// Returns the help text of the package's command line. After eunomia_args_set returned 1, returns
/// the requested text.
///
///   out  receives the text, valid until the next call on the vm
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  no package is open
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_args_help(vm: *mut eunomia_vm, out: *mut *const c_char) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let out = non_null(out, "out")?;
            store(out, vm.keep_string(vm.vm.args_help()?));
            Ok(())
        })
    }
}
