//! Version and capabilities of the library; no vm is involved.

use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;

use super::args::c_string;
use super::status::status_name;
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
    status_name(status).as_ptr()
}
