//! The runtime, and the functions that guests can import from it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::{mem, ptr};

use wamr_sys as w;

use super::allocator;
use super::guest::{enter, growth_refused};
use crate::error::{Error, Result, Status};

/// A function that guests may import.
pub struct Import {
    /// The module it is imported from.
    pub module: &'static CStr,
    /// Its name.
    pub name: CString,
    /// Parameters and result: `i` is an i32, `I` an i64, as in `(Ii)i`.
    pub signature: CString,
}

/// A use of the runtime. The first one starts the runtime; dropping the last one ends it.
pub struct Runtime(());

/// Number of uses.
static USES: Mutex<usize> = Mutex::new(0);

unsafe extern "C" {
    fn os_set_signal_number_for_blocking_op(signal: c_int);
}

impl Runtime {
    /// Starts the runtime if it is not in use. Guests can import `imports`, which must be the same in every call. A call of a
    /// guest is identified by the index in this list.
    pub fn new(imports: &'static [Import]) -> Result<Runtime> {
        let mut uses = USES.lock().unwrap_or_else(PoisonError::into_inner);
        if *uses == 0 {
            start(imports)?;
        }
        *uses += 1;
        Ok(Runtime(()))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let mut uses = USES.lock().unwrap_or_else(PoisonError::into_inner);
        *uses -= 1;
        if *uses == 0 {
            // SAFETY: modules and instances hold a `Runtime`, so none exists any more.
            unsafe { w::wasm_runtime_destroy() };
        }
    }
}

fn start(imports: &'static [Import]) -> Result<()> {
    let failed = || Error::new(Status::NoMem, "the WASM runtime cannot be started");
    // SAFETY: all zero except the allocator are WAMR's defaults. WAMR does not keep the struct.
    let started = without_its_signal_handler(|| unsafe {
        let mut args: w::RuntimeInitArgs = mem::zeroed();
        allocator::set(&mut args);
        w::wasm_runtime_full_init(&mut args)
    });
    if !started {
        return Err(failed());
    }
    // SAFETY: the runtime has been started; the tables live as long as the process.
    let registered = unsafe {
        w::wasm_runtime_set_log_level(w::WASM_LOG_LEVEL_FATAL);
        w::wasm_runtime_set_enlarge_mem_error_callback(Some(growth_refused), ptr::null_mut());
        let register = |table: &Table| {
            w::wasm_runtime_register_natives_raw(table.module.as_ptr(), table.symbols, table.len)
        };
        tables(imports).iter().all(register)
    };
    if !registered {
        // SAFETY: as in `drop`.
        unsafe { w::wasm_runtime_destroy() };
        return Err(failed());
    }
    Ok(())
}

/// Runs `start`, which installs a handler for a signal and blocks that signal, and undoes both: the signal, which this
/// function chooses, is never sent.
fn without_its_signal_handler(start: impl FnOnce() -> bool) -> bool {
    // valgrind uses the last real-time signal.
    let signal = libc::SIGRTMAX() - 1;
    // SAFETY: the structs live for the calls. Until it is removed the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        let mut mask: libc::sigset_t = mem::zeroed();
        libc::sigaction(signal, ptr::null(), &mut action);
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut mask);
        os_set_signal_number_for_blocking_op(signal);
        let started = start();
        libc::sigaction(signal, &action, ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_SETMASK, &mask, ptr::null_mut());
        started
    }
}

/// The imports from one module, in WAMR's form.
struct Table {
    module: &'static CStr,
    symbols: *mut w::NativeSymbol,
    len: u32,
}

// SAFETY: only `start` uses the pointer, under the lock of `USES`. WAMR sorts the table there and later only reads it.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

/// Returns the tables of all modules. They are created once, because WAMR keeps pointers to them.
fn tables(imports: &'static [Import]) -> &'static [Table] {
    static TABLES: OnceLock<Vec<Table>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let all: Vec<(usize, &'static Import)> = imports.iter().enumerate().collect();
        let modules = all.chunk_by(|(_, a), (_, b)| a.module == b.module);
        modules
            .map(|imports| {
                let symbols: Vec<_> = imports.iter().map(|&(index, import)| symbol(index, import)).collect();
                let len = symbols.len() as u32;
                Table { module: imports[0].1.module, symbols: symbols.leak().as_mut_ptr(), len }
            })
            .collect()
    })
}

fn symbol(index: usize, import: &'static Import) -> w::NativeSymbol {
    w::NativeSymbol {
        symbol: import.name.as_ptr(),
        func_ptr: enter as *mut c_void,
        signature: import.signature.as_ptr(),
        attachment: ptr::without_provenance_mut(index),
    }
}

/// Returns the version of WAMR in this library.
pub fn version() -> String {
    let (mut major, mut minor, mut patch) = (0, 0, 0);
    // SAFETY: the three numbers live for the call.
    unsafe { w::wasm_runtime_get_version(&mut major, &mut minor, &mut patch) };
    format!("{major}.{minor}.{patch}")
}

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    () => {
        "jmp {print}"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    () => {
        "b {print}"
    };
}

// WAMR is compiled to call this function instead of vprintf, which would print to the host's stdout; see
// .cargo/config.toml. Assembly gives the function a C name that the shared library does not export.
std::arch::global_asm!(
    ".pushsection .text.eunomia_wamr_print,\"ax\",@progbits",
    ".globl eunomia_wamr_print",
    ".hidden eunomia_wamr_print",
    "eunomia_wamr_print:",
    jump!(),
    ".popsection",
    print = sym print,
);

/// Prints nothing: every message of WAMR is also returned as an error.
extern "C" fn print(_format: *const c_char, _args: *mut c_void) -> c_int {
    0
}
