//! WASM packages: the guest runs while the host's call lasts.

use std::ffi::{c_char, c_int, c_void};

use super::args::{self, store};
use super::events::receiver;
use super::guard::guard;
use super::types::{eunomia_event_fn, eunomia_vm};

/// ---- WASM packages ----
///
/// Runs the guest of an open WASM package with these arguments, argv[0] included, until it ends; it loads and
/// attaches its own programs, which go with it. fn gets what it lets through in that format, and what it
/// prints as EUNOMIA_EVENT_OUTPUT. Returns 0 and stores the guest's exit code, if exit_code is not NULL; fn
/// returning above 0 ends the guest with code 0. STOPPED: eunomia_stop ended it, wherever it was. WASM: it
/// trapped, took too long over an event, or exceeded a limit; errdetail holds its functions. INVAL: RAW or
/// TEXT of a guest that gets JSON. Whatever ends it, the call returns when the guest's programs are detached,
/// which takes some 70 ms for each tracepoint. The guest may be run again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_wasm_run(
    vm: *mut eunomia_vm,
    argc: c_int,
    argv: *const *const c_char,
    exit_code: *mut c_int,
    format: u32,
    r#fn: eunomia_event_fn,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let (argv, format) = (args::texts(argc, argv)?, args::format(format)?);
            let code = vm.vm.wasm_run(&argv, format, &mut receiver(vm, r#fn, arg)?)?;
            store(exit_code, code);
            Ok(())
        })
    }
}
