//! The statuses that functions return, and their names.

use std::ffi::{CStr, c_int};

/// Return codes. A value >= 0 is success, a negative value is an error. Later releases may add
/// errors, so treat every negative value as one.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_status {
    /// Success.
    EUNOMIA_OK = 0,
    /// An argument is NULL, out of range or malformed.
    EUNOMIA_ERR_INVAL = -1,
    /// The call is not allowed in the current state of the vm, such as load before open.
    EUNOMIA_ERR_STATE = -2,
    /// Another thread is using the vm, or the function cannot be called from a callback.
    EUNOMIA_ERR_BUSY = -3,
    /// Out of memory, or over eunomia_options.max_kernel_memory.
    EUNOMIA_ERR_NOMEM = -4,
    /// No such variable, map, program, key, index or file, or the package attaches to a file,
    /// function, network interface or cgroup that does not exist.
    EUNOMIA_ERR_NOT_FOUND = -5,
    /// The buffer is too small. The required size was stored.
    EUNOMIA_ERR_TOO_SMALL = -6,
    /// The package is malformed. eunomia_errmsg reports where.
    EUNOMIA_ERR_PACKAGE = -7,
    /// The value does not fit the type.
    EUNOMIA_ERR_TYPE = -8,
    /// A privilege is missing. eunomia_errmsg names it.
    EUNOMIA_ERR_PERM = -9,
    /// The kernel, or this build of the library, lacks a feature. eunomia_errmsg names it.
    EUNOMIA_ERR_UNSUPPORTED = -10,
    /// The kernel's verifier rejected a program. eunomia_errdetail returns its log.
    EUNOMIA_ERR_VERIFIER = -11,
    /// A program could not be attached. eunomia_errmsg names it. No program stays attached.
    EUNOMIA_ERR_ATTACH = -12,
    /// A system call failed. eunomia_errsys returns its errno.
    EUNOMIA_ERR_SYSTEM = -13,
    /// The WASM guest trapped or exceeded a limit. eunomia_errdetail returns its call stack.
    EUNOMIA_ERR_WASM = -14,
    /// eunomia_stop was called. Each stop is reported once.
    EUNOMIA_ERR_STOPPED = -15,
    /// The callback returned a negative value.
    EUNOMIA_ERR_CALLBACK = -16,
    /// Internal error: a bug in the library. eunomia_errmsg reports the location. The vm is unusable:
    /// only eunomia_destroy, errmsg, errdetail, errsys, errsubject, stop, stats_get and epoll_fd work.
    EUNOMIA_ERR_INTERNAL = -17,
}

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

/// Returns the name of a status. Every value >= 0 is EUNOMIA_OK.
pub(super) fn status_name(status: c_int) -> &'static CStr {
    let index = status.min(0).unsigned_abs() as usize;
    STATUS_NAMES.get(index).copied().unwrap_or(c"unknown status")
}
