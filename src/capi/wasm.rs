//! WASM packages: a guest runs during one call of its host.

use std::ffi::{c_char, c_int, c_void};

use super::args::{self, store};
use super::events::receiver;
use super::guard::guard;
use super::handle::eunomia_vm;
use super::types::eunomia_event_fn;

/// ---- WASM packages ----
///
/// Runs the guest of an open WASM package until it ends. The guest loads and attaches its own
/// programs, which are detached before the call returns (about 70 ms per tracepoint). The guest may
/// be run again.
///
///   argc       number of arguments
///   argv       the guest's arguments, beginning with the program's name
///   exit_code  receives the guest's exit code; may be NULL
///   format     an eunomia_format; must be JSON if the guest handles events as JSON
///   callback   called for each event that the guest passes on, and for each line that it prints
///              (EUNOMIA_EVENT_OUTPUT); a return value > 0 ends the guest with exit code 0
///   arg        first argument of callback; may be NULL
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_WASM         the guest trapped, took too long over an event or exceeded a limit
///   EUNOMIA_ERR_STOPPED      eunomia_stop was called
///   EUNOMIA_ERR_CALLBACK     callback returned a value < 0
///   EUNOMIA_ERR_INVAL        the guest handles events as JSON, and format is another one
///   EUNOMIA_ERR_STATE        no WASM package is open
///   EUNOMIA_ERR_UNSUPPORTED  the library was built without WASM
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_wasm_run(
    vm: *mut eunomia_vm,
    argc: c_int,
    argv: *const *const c_char,
    exit_code: *mut c_int,
    format: u32,
    callback: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (argv, format) = (args::strings(argc, argv)?, args::format(format)?);
            let code = vm.vm.wasm_run(&argv, format, receiver(vm, callback, arg)?)?;
            store(exit_code, code);
            Ok(())
        })
    }
}
