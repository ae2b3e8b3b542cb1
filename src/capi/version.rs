//! Version and capabilities of the library; no vm is involved.

use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::OnceLock;

use super::args::c_string;
use super::types::eunomia_kind;
use crate::vm;

const fn number(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version part is not a number"),
    }
}

const VERSION_NUM: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 10000
    + number(env!("CARGO_PKG_VERSION_MINOR")) * 100
    + number(env!("CARGO_PKG_VERSION_PATCH"));

/// Names of the statuses, by negated value.
const STATUS_NAMES: [&CStr; 18] = [
    c"EUNOMIA_OK",
    c"EUNOMIA_ERR_INVAL",
    c"EUNOMIA_ERR_STATE",
    c"EUNOMIA_ERR_BUSY",
    c"EUNOMIA_ERR_NOMEM",
    c"EUNOMIA_ERR_NOT_FOUND",
    c"EUNOMIA_ERR_TOO_SMALL",
    c"EUNOMIA_ERR_PACKAGE",
    c"EUNOMIA_ERR_TYPE",
    c"EUNOMIA_ERR_PERM",
    c"EUNOMIA_ERR_UNSUPPORTED",
    c"EUNOMIA_ERR_VERIFIER",
    c"EUNOMIA_ERR_ATTACH",
    c"EUNOMIA_ERR_SYSTEM",
    c"EUNOMIA_ERR_WASM",
    c"EUNOMIA_ERR_STOPPED",
    c"EUNOMIA_ERR_CALLBACK",
    c"EUNOMIA_ERR_INTERNAL",
];

/// ---- Version: any thread, any time ----
///
/// Returns the EUNOMIA_VERSION_NUM of the library in use, which may be newer than this header.
#[unsafe(no_mangle)]
pub extern "C" fn eunomia_version() -> u32 {
    VERSION_NUM
}

/// Returns a human-readable line with the versions of the library, of libbpf and of WAMR, and the
/// kind of build. The string is static.
#[unsafe(no_mangle)]
pub extern "C" fn eunomia_version_string() -> *const c_char {
    static LINE: OnceLock<CString> = OnceLock::new();
    LINE.get_or_init(|| c_string(version_line())).as_ptr()
}

fn version_line() -> String {
    format!(
        "libeunomia {} (libbpf {}, WAMR {}, {}, {})",
        env!("CARGO_PKG_VERSION"),
        vm::libbpf_version(),
        vm::wamr_version(),
        env!("EUNOMIA_TARGET"),
        env!("EUNOMIA_PROFILE"),
    )
}

/// Returns a bitmask of the eunomia_kind values that this build can open.
#[unsafe(no_mangle)]
pub extern "C" fn eunomia_kinds() -> u32 {
    let wasm = if cfg!(feature = "wasm") { eunomia_kind::EUNOMIA_KIND_WASM as u32 } else { 0 };
    eunomia_kind::EUNOMIA_KIND_JSON as u32 | wasm
}

/// Returns the name of a status, such as "EUNOMIA_ERR_TYPE". The string is static and never NULL.
///
///   status  a value returned by a function; every value >= 0 is "EUNOMIA_OK"
#[unsafe(no_mangle)]
pub extern "C" fn eunomia_status_name(status: c_int) -> *const c_char {
    let index = status.min(0).unsigned_abs() as usize;
    STATUS_NAMES.get(index).copied().unwrap_or(c"unknown status").as_ptr()
}
