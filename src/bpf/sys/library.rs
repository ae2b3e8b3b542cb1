//! libbpf as a whole: its version and its messages.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

use super::{object, section_handlers};
use crate::error::{Error, Result, Status};
use crate::log::{self, Level};

/// The version of libbpf that the bindings describe. Cargo.toml pins `libbpf-sys` to it.
const BUILT_FOR: (u32, u32) = (1, 7);

unsafe extern "C" {
    fn vasprintf(out: *mut *mut c_char, format: *const c_char, args: *mut libbpf_sys::__va_list_tag)
    -> c_int;
}

/// Initializes libbpf, once per process: routes its messages to the log of the current vm, and registers the section handlers
/// of the library unless `libbpf_sections` is set.
///
/// Fails with `Unsupported` if another version of libbpf was linked than the bindings describe.
pub fn init(libbpf_sections: bool) -> Result<()> {
    static PRINT: Once = Once::new();
    // SAFETY: getters without arguments.
    let linked = unsafe { (libbpf_sys::libbpf_major_version(), libbpf_sys::libbpf_minor_version()) };
    if linked != BUILT_FOR {
        let ((major, minor), (want_major, want_minor)) = (linked, BUILT_FOR);
        let text = format!("libbpf {major}.{minor} was linked instead of {want_major}.{want_minor}");
        return Err(Error::new(Status::Unsupported, text));
    }
    // SAFETY: `print` has the required type and lives as long as the process (-z nodelete).
    PRINT.call_once(|| unsafe {
        libbpf_sys::libbpf_set_print(Some(print));
    });
    if !libbpf_sections {
        section_handlers::register();
    }
    Ok(())
}

/// Returns the version of the linked libbpf, such as `v1.7`.
pub fn version() -> String {
    // SAFETY: a static string.
    unsafe { CStr::from_ptr(libbpf_sys::libbpf_version_string()) }.to_string_lossy().into_owned()
}

/// The print function for libbpf.
unsafe extern "C" fn print(
    level: libbpf_sys::libbpf_print_level,
    format: *const c_char,
    args: *mut libbpf_sys::__va_list_tag,
) -> c_int {
    let level = match level {
        libbpf_sys::LIBBPF_WARN => Level::Warn,
        libbpf_sys::LIBBPF_INFO => Level::Info,
        _ => Level::Debug,
    };
    let mut text: *mut c_char = std::ptr::null_mut();
    // SAFETY: libbpf passes a format with its arguments. On success `text` is a C string that this function frees.
    unsafe {
        if vasprintf(&mut text, format, args) >= 0 {
            let message = CStr::from_ptr(text).to_string_lossy();
            // This calls the host's log function. A panic of it must not unwind through libbpf.
            let _ = std::panic::catch_unwind(|| log::from_libbpf(level, &message));
            libc::free(text.cast::<c_void>());
        }
    }
    object::end_load_if_requested();
    0
}
