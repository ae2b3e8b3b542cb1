//! From an empty vm to a running package and back.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::args::{self, CStruct, invalid};
use super::guard::{CallState, guard};
use super::panic;
use super::types::{eunomia_option_flag, eunomia_options, eunomia_vm};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log, LogFn};
use crate::vm::{Options, Vm, WasmOptions};

/// ---- Life of a vm ----
///
/// Makes an empty vm. NULL options: all defaults. Fails with INVAL, NOMEM, SYSTEM (no descriptors) or
/// UNSUPPORTED (linked with another libbpf than it was built with); there is no vm to ask then, so the
/// text goes to options->log and an error number to errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_new(out: *mut *mut eunomia_vm, options: *const eunomia_options) -> c_int {
    let mut given = eunomia_options::zero();
    // SAFETY: the caller keeps the contract of the header.
    let read = unsafe { read_options(options, &mut given) };
    let made = panic::catch(|| read.and(args::some(out, "out")).and_then(|_| make(&given)));
    match made.unwrap_or_else(|text| Err(Error::new(Status::Internal, text))) {
        // SAFETY: not null, else as above.
        Ok(vm) => unsafe { out.write(Box::into_raw(Box::new(vm))) },
        Err(error) => return refuse(&given, &error),
    }
    0
}

unsafe fn read_options(from: *const eunomia_options, into: &mut eunomia_options) -> Result<()> {
    if from.is_null() {
        return Ok(());
    }
    // SAFETY: the caller of `eunomia_new` keeps the contract of the header.
    unsafe { args::read_struct(from, into, "options") }
}

fn make(given: &eunomia_options) -> Result<eunomia_vm> {
    const KNOWN: u32 = eunomia_option_flag::EUNOMIA_WASM_RAW_EVENTS as u32
        | eunomia_option_flag::EUNOMIA_WASM_STDIO as u32
        | eunomia_option_flag::EUNOMIA_SKIP_MISSING_HOOKS as u32;
    if given.flags & !KNOWN != 0 {
        return Err(invalid(format_args!(
            "options.flags is {:#x}, not a set of eunomia_option_flag",
            given.flags
        )));
    }
    let (vm, log) = (Vm::new(vm_options(given)?)?, log(given)?);
    let (user, poisoned) = (AtomicUsize::new(0), AtomicBool::new(false));
    Ok(eunomia_vm { vm, log, user, poisoned, state: Mutex::new(CallState::default()) })
}

fn vm_options(given: &eunomia_options) -> Result<Options> {
    let (log, log_level) = (sink(given), Some(level(given.log_level)?));
    // SAFETY: the caller of `eunomia_new` vouches for the strings.
    let [btf_path, pin_path] =
        unsafe { [given.btf_path, given.pin_path].map(|path| args::optional_path(path)) };
    let &eunomia_options { perf_pages, poll_budget, max_kernel_memory, .. } = given;
    let (wasm, skip_missing_hooks) =
        (wasm_options(given), has(given, eunomia_option_flag::EUNOMIA_SKIP_MISSING_HOOKS));
    let given = Options {
        log,
        log_level,
        btf_path,
        pin_path,
        perf_pages,
        poll_budget,
        max_kernel_memory,
        skip_missing_hooks,
        wasm,
    };
    Ok(given)
}

fn has(given: &eunomia_options, flag: eunomia_option_flag) -> bool {
    given.flags & flag as u32 != 0
}

fn wasm_options(given: &eunomia_options) -> WasmOptions {
    WasmOptions {
        stack: given.wasm_stack,
        heap: given.wasm_heap,
        memory: given.wasm_memory,
        budget_ms: given.wasm_budget_ms,
        raw_events: has(given, eunomia_option_flag::EUNOMIA_WASM_RAW_EVENTS),
        stdio: has(given, eunomia_option_flag::EUNOMIA_WASM_STDIO),
        // SAFETY: the caller of `eunomia_new` vouches for the list.
        dirs: unsafe { args::paths(given.wasm_dirs) },
    }
}

fn log(given: &eunomia_options) -> Result<Log> {
    Ok(Log::new(sink(given), level(given.log_level)?))
}

fn level(number: u32) -> Result<Level> {
    match number {
        1 => Ok(Level::Error),
        0 | 2 => Ok(Level::Warn),
        3 => Ok(Level::Info),
        4 => Ok(Level::Debug),
        _ => Err(invalid(format_args!("options.log_level is {number}, not 0 to 4"))),
    }
}

/// The host's log function and its argument.
struct Sink(unsafe extern "C" fn(*mut c_void, u32, *const c_char), *mut c_void);

// SAFETY: the header demands a function that any thread inside a call may call; the argument is only
// passed through.
unsafe impl Send for Sink {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Sink {}

impl Sink {
    fn write(&self, level: Level, text: &str) {
        // SAFETY: the host gave function and argument for this.
        unsafe { (self.0)(self.1, level as u32, args::c_string(text).as_ptr()) }
    }
}

fn sink(given: &eunomia_options) -> Option<LogFn> {
    let sink = Sink(given.log?, given.log_arg);
    Some(Box::new(move |level, text| sink.write(level, text)))
}

/// Tells why there is no vm: to the log, as errno, as a status.
fn refuse(given: &eunomia_options, error: &Error) -> c_int {
    Log::new(sink(given), Level::Error).write(Level::Error, &error.to_string());
    let errno = match error.status {
        _ if error.errno != 0 => error.errno,
        Status::Inval => libc::EINVAL,
        Status::Unsupported => libc::ENOTSUP,
        _ => libc::ENOMEM,
    };
    // SAFETY: always points to this thread's errno.
    unsafe { *libc::__errno_location() = errno };
    error.status as c_int
}

/// Detaches, unloads and frees; maps pinned by name stay pinned. NULL is fine. A host that ends without it, even
/// killed, leaves no link behind, but a classic tc filter stays until the same program attaches in its place, or
/// someone removes it (tc filter del). While a call on the vm is in progress, as in a callback, it refuses: a
/// line in the log, and the vm goes on. After fork the one call a child may make; what the parent has in the
/// kernel stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_destroy(vm: *mut eunomia_vm) {
    // SAFETY: the caller keeps the contract of the header.
    let Some(shell) = (unsafe { vm.as_ref() }) else { return };
    if shell.user.load(Ordering::Acquire) != 0 {
        return shell.log.write(Level::Error, "destroy: refused, a call on this vm is in progress");
    }
    // SAFETY: made by `Box::into_raw` in `eunomia_new`, and nobody is inside.
    let eunomia_vm { vm, log, .. } = *unsafe { Box::from_raw(vm) };
    if let Err(text) = panic::catch(|| drop(vm)) {
        log.write(Level::Error, &text);
    }
}

/// Opens a package from memory, which is copied. kinds: a set of eunomia_kind that is welcome. Returns the
/// eunomia_kind it was. On failure the vm stays empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_open(
    vm: *mut eunomia_vm,
    data: *const c_void,
    len: usize,
    kinds: u32,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.open(args::bytes(data, len, "data")?, known(kinds)?)) }
}

/// Opens a package from a file, as eunomia_open does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_open_file(vm: *mut eunomia_vm, path: *const c_char, kinds: u32) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.open_file(args::text(path, "path")?, known(kinds)?)) }
}

fn known(kinds: u32) -> Result<u32> {
    match kinds {
        1..=3 => Ok(kinds),
        _ => Err(invalid(format_args!("kinds is {kinds:#x}, not a set of eunomia_kind"))),
    }
}

/// Opens a BPF object (ELF) with its metadata apart: a skeleton JSON, or NULL to take everything from the
/// object's BTF. Both are copied. Returns EUNOMIA_KIND_JSON. On failure the vm stays empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_open_object(
    vm: *mut eunomia_vm,
    elf: *const c_void,
    len: usize,
    meta_json: *const c_char,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe {
        guard(vm, |vm| {
            let meta = args::optional_text(meta_json, "meta_json")?;
            vm.vm.open_object(args::bytes(elf, len, "elf")?, meta)
        })
    }
}

/// Creates the maps and loads the programs through the kernel's verifier. All or nothing. Needs privileges:
/// CAP_BPF and CAP_PERFMON, for network programs CAP_NET_ADMIN, or root. NOMEM: the package would take more kernel memory
/// than options.max_kernel_memory; nothing was made. STOPPED: eunomia_stop was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_load(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.load()) }
}

/// Attaches all programs, after loading them if that has not been done. All or nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_attach(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.attach()) }
}

/// Detaches all programs. Maps, variables and counters stay, and eunomia_attach may follow. The next poll or read delivers
/// a last round of each sampled map, unless the queue reads them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_detach(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.detach()) }
}
