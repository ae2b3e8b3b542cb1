//! Life cycle of a vm: new, open, load, attach, detach, destroy.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::args::{self, CStruct, invalid};
use super::guard::guard;
use super::handle::{Handle, eunomia_vm};
use super::panic;
use super::types::{eunomia_option_flag, eunomia_options};
use crate::error::{Error, Result, Status};
use crate::log::{Level, Log, LogFn};
use crate::vm::{Kinds, Options, Vm, WasmOptions};

/// ---- Life cycle ----
///
/// Creates an empty vm.
///
///   out      receives the vm; free it with eunomia_destroy
///   options  settings, copied; NULL for the defaults
///
/// On failure there is no vm to call eunomia_errmsg with. The message goes to options->log, and
/// errno is set: with EUNOMIA_ERR_SYSTEM to the error of the system call, with EUNOMIA_ERR_INVAL,
/// NOMEM and UNSUPPORTED to EINVAL, ENOMEM and ENOTSUP. strerror(errno) is meaningful only with
/// these statuses.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_INVAL        out is NULL, or an option is out of range or unknown
///   EUNOMIA_ERR_NOMEM        out of memory
///   EUNOMIA_ERR_SYSTEM       no file descriptor is left
///   EUNOMIA_ERR_UNSUPPORTED  the libbpf in use is not the one that the library was built with
///   EUNOMIA_ERR_INTERNAL     a bug in the library
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_new(out: *mut *mut eunomia_vm, options: *const eunomia_options) -> c_int {
    let mut given = eunomia_options::zero();
    // SAFETY: the caller keeps the contract of the header.
    let read = unsafe { read_options(options, &mut given) };
    let made = panic::catch(|| read.and(args::non_null(out, "out")).and_then(|_| make(&given)));
    match made.unwrap_or_else(|text| Err(Error::new(Status::Internal, text))) {
        // SAFETY: not null, else as above.
        Ok(vm) => unsafe { out.write(Arc::into_raw(Arc::new(vm)).cast_mut()) },
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
        | eunomia_option_flag::EUNOMIA_SKIP_MISSING_HOOKS as u32
        | eunomia_option_flag::EUNOMIA_LIBBPF_SECTIONS as u32
        | eunomia_option_flag::EUNOMIA_REPLACEABLE as u32;
    if given.flags & !KNOWN != 0 {
        return Err(invalid(format_args!(
            "options.flags is {:#x}, expected a bitmask of eunomia_option_flag",
            given.flags
        )));
    }
    Ok(eunomia_vm::new(Vm::new(vm_options(given)?)?, log(given)?))
}

fn vm_options(given: &eunomia_options) -> Result<Options> {
    let (log, log_level) = (sink(given), Some(level(given.log_level)?));
    // SAFETY: the caller of `eunomia_new` passes C strings.
    let [btf_path, pin_path] =
        unsafe { [given.btf_path, given.pin_path].map(|path| args::optional_path(path)) };
    let &eunomia_options { perf_pages, poll_budget, max_kernel_memory, .. } = given;
    let wasm = wasm_options(given);
    let skip_missing_hooks = has_flag(given, eunomia_option_flag::EUNOMIA_SKIP_MISSING_HOOKS);
    let libbpf_sections = has_flag(given, eunomia_option_flag::EUNOMIA_LIBBPF_SECTIONS);
    let replaceable = has_flag(given, eunomia_option_flag::EUNOMIA_REPLACEABLE);
    let given = Options {
        log,
        log_level,
        btf_path,
        pin_path,
        perf_pages,
        poll_budget,
        max_kernel_memory,
        skip_missing_hooks,
        libbpf_sections,
        replaceable,
        wasm,
    };
    Ok(given)
}

fn has_flag(given: &eunomia_options, flag: eunomia_option_flag) -> bool {
    given.flags & flag as u32 != 0
}

fn wasm_options(given: &eunomia_options) -> WasmOptions {
    WasmOptions {
        stack: given.wasm_stack,
        heap: given.wasm_heap,
        memory: given.wasm_memory,
        budget_ms: given.wasm_budget_ms,
        raw_events: has_flag(given, eunomia_option_flag::EUNOMIA_WASM_RAW_EVENTS),
        stdio: has_flag(given, eunomia_option_flag::EUNOMIA_WASM_STDIO),
        // SAFETY: the caller of `eunomia_new` passes a list that ends with a null pointer.
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
        _ => Err(invalid(format_args!("options.log_level is {number}, expected 0 to 4"))),
    }
}

/// The host's log function and its argument.
struct Sink(unsafe extern "C" fn(*mut c_void, u32, *const c_char), *mut c_void);

// SAFETY: the header requires a function that any thread inside a call may call. The argument is only passed on.
unsafe impl Send for Sink {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Sink {}

impl Sink {
    fn write(&self, level: Level, text: &str) {
        // SAFETY: the host passed function and argument for this.
        unsafe { (self.0)(self.1, level as u32, args::c_string(text).as_ptr()) }
    }
}

fn sink(given: &eunomia_options) -> Option<LogFn> {
    let sink = Sink(given.log?, given.log_arg);
    Some(Box::new(move |level, text| sink.write(level, text)))
}

/// Reports why there is no vm: in the log, as errno and as a status.
pub(super) fn refuse(given: &eunomia_options, error: &Error) -> c_int {
    Log::new(sink(given), Level::Error).write(Level::Error, &error.to_string());
    let errno = error.errno().unwrap_or(match error.status() {
        Status::Inval => libc::EINVAL,
        Status::Unsupported => libc::ENOTSUP,
        _ => libc::ENOMEM,
    });
    // SAFETY: always points to this thread's errno.
    unsafe { *libc::__errno_location() = errno };
    error.status() as c_int
}

/// Detaches and unloads the package and frees the vm.
///
///   vm  may be NULL
///
/// Pinned maps stay pinned. A vm that is in a group leaves it, as by eunomia_group_remove. While a
/// call on the vm is in progress, and in a callback for an event of the vm, the function logs an
/// error and does nothing. After fork, the child may call this function; it does not affect the
/// parent's programs.
///
/// A process that exits or is killed without eunomia_destroy leaves nothing attached except classic
/// tc filters. Such a filter stays until the same program is attached again, or until "tc filter
/// del".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_destroy(vm: *mut eunomia_vm) {
    // SAFETY: the caller keeps the contract of the header.
    let Some(handle) = (unsafe { vm.as_ref() }) else { return };
    if handle.entrance().is_in_use() || handle.vm.is_delivering() {
        return handle.log_error("destroy: refused, a call on this vm is in progress");
    }
    handle.vm.leave_group();
    // SAFETY: made by `Arc::into_raw` in `eunomia_new`, and no call is in progress.
    free(unsafe { Arc::from_raw(vm) });
}

/// Frees a vm. Only a group has other references, and the vm is in none.
fn free(vm: Arc<eunomia_vm>) {
    // The prepared version refers to the vm, which moves below.
    let given_up = panic::catch(|| vm.give_up());
    let Some((vm, log)) = Arc::into_inner(vm).map(eunomia_vm::into_parts) else { return };
    if let Err(panic) = given_up.and_then(|()| panic::catch(|| drop(vm))) {
        log.write(Level::Error, &panic);
    }
}

/// Opens a package from memory. On failure the vm stays empty.
///
///   data   the package, copied
///   len    bytes of data
///   kinds  bitmask of the accepted eunomia_kind values
///
/// Returns: the eunomia_kind of the package or
///   EUNOMIA_ERR_PACKAGE      the package is malformed, or of a kind that kinds does not accept
///   EUNOMIA_ERR_UNSUPPORTED  the package is for another machine, or this build cannot run its kind
///   EUNOMIA_ERR_STATE        the vm has a package already
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_open(
    vm: *mut eunomia_vm,
    data: *const c_void,
    len: usize,
    kinds: u32,
) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.open(args::bytes(data, len, "data")?, check_kinds(kinds)?)) }
}

/// Opens a package from a file. On failure the vm stays empty, and eunomia_errmsg begins with path.
///
///   path   path of the file
///   kinds  bitmask of the accepted eunomia_kind values
///
/// Returns: as eunomia_open or
///   EUNOMIA_ERR_NOT_FOUND  the file does not exist
///   EUNOMIA_ERR_PERM       the file may not be read
///   EUNOMIA_ERR_SYSTEM     reading the file failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_open_file(vm: *mut eunomia_vm, path: *const c_char, kinds: u32) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.open_file(args::string(path, "path")?, check_kinds(kinds)?)) }
}

fn check_kinds(kinds: u32) -> Result<Kinds> {
    let unknown = || invalid(format_args!("kinds is {kinds:#x}, expected a bitmask of eunomia_kind"));
    Kinds::from_bits(kinds).ok_or_else(unknown)
}

/// Opens a BPF object and its metadata from memory. On failure the vm stays empty.
///
///   elf        the object (ELF), copied
///   len        bytes of elf
///   meta_json  the skeleton JSON, copied; NULL to derive the metadata from the object's BTF
///
/// Returns: EUNOMIA_KIND_JSON, or an error as for eunomia_open.
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
            let meta = args::optional_string(meta_json, "meta_json")?;
            vm.vm.open_object(args::bytes(elf, len, "elf")?, meta)
        })
    }
}

/// Creates the maps and loads the programs, which the kernel verifies.
///
/// On failure the package is unloaded and stays open. The process must be root or have CAP_BPF and
/// CAP_PERFMON, and CAP_NET_ADMIN for network programs.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_VERIFIER     the verifier rejected a program; eunomia_errdetail returns its log
///   EUNOMIA_ERR_PERM         a privilege is missing
///   EUNOMIA_ERR_UNSUPPORTED  the kernel lacks a feature
///   EUNOMIA_ERR_NOMEM        out of memory, or above options.max_kernel_memory
///   EUNOMIA_ERR_PACKAGE      the kernel or libbpf rejected the object or one of its maps
///   EUNOMIA_ERR_STATE        no package is open, or it is loaded already
///   EUNOMIA_ERR_STOPPED      eunomia_stop was called
///   EUNOMIA_ERR_SYSTEM       a system call failed
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_load(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.load()) }
}

/// Attaches all programs. Loads the package first if it is not loaded.
///
/// On failure no program stays attached, and a package that this call loaded is unloaded.
///
/// Returns: EUNOMIA_OK, an error as for eunomia_load, or
///   EUNOMIA_ERR_ATTACH     a program could not be attached
///   EUNOMIA_ERR_NOT_FOUND  the package attaches to something that does not exist
///   EUNOMIA_ERR_INVAL      a target set with eunomia_prog_set_target_json does not exist, or has a
///                          key that does not apply to the program
///   EUNOMIA_ERR_STATE      no package is open, or it is attached already
///   EUNOMIA_ERR_STOPPED    eunomia_stop was called
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_attach(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.attach()) }
}

/// Detaches all programs. Maps, variables and counters stay, and eunomia_attach may be called again.
///
/// The next eunomia_poll or eunomia_read delivers a last round of each sampled map, unless a queue
/// is running.
///
/// Returns: EUNOMIA_OK or
///   EUNOMIA_ERR_STATE  the package is not loaded
#[unsafe(no_mangle)]
pub unsafe extern "C" fn eunomia_detach(vm: *mut eunomia_vm) -> c_int {
    // SAFETY: the caller keeps the contract of the header.
    unsafe { guard(vm, |vm| vm.vm.detach()) }
}
