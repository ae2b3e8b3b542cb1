//! The structs and constants of the C interface, as cbindgen prints them into the header.
//!
//! Layout only: fields are appended, never moved, and nothing is converted here.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::guard::CallState;
use crate::log::Log;
use crate::vm::Vm;

/// What a function answers: 0 or more is success, below 0 a failure. Later releases may add failures,
/// so treat every negative number as one.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_status {
    /// Done.
    EUNOMIA_OK = 0,
    /// An argument is null, out of range or malformed.
    EUNOMIA_ERR_INVAL = -1,
    /// The call does not fit the state of the vm, such as load on an empty one.
    EUNOMIA_ERR_STATE = -2,
    /// Another thread is inside a call on this vm, or the function is not for use in a callback.
    EUNOMIA_ERR_BUSY = -3,
    /// Out of memory.
    EUNOMIA_ERR_NOMEM = -4,
    /// No such variable, map, program, key, index or file; no such file, function of it, interface or cgroup that the
    /// package attaches to (the host's own word is EUNOMIA_ERR_INVAL).
    EUNOMIA_ERR_NOT_FOUND = -5,
    /// The buffer is too small; the needed length has been stored.
    EUNOMIA_ERR_TOO_SMALL = -6,
    /// The package is malformed; errmsg tells where.
    EUNOMIA_ERR_PACKAGE = -7,
    /// The value does not fit the type.
    EUNOMIA_ERR_TYPE = -8,
    /// A privilege is missing; errmsg names it.
    EUNOMIA_ERR_PERM = -9,
    /// This kernel, or this build of the library, cannot do it; errmsg names what is missing.
    EUNOMIA_ERR_UNSUPPORTED = -10,
    /// The kernel's verifier rejected a program; errdetail holds its log.
    EUNOMIA_ERR_VERIFIER = -11,
    /// A program could not be attached; errmsg names it. Nothing is left attached.
    EUNOMIA_ERR_ATTACH = -12,
    /// A system call failed; errsys holds its errno.
    EUNOMIA_ERR_SYSTEM = -13,
    /// The WASM guest trapped, took too long or exceeded a limit; errdetail holds its functions.
    EUNOMIA_ERR_WASM = -14,
    /// eunomia_stop was called. Reported once.
    EUNOMIA_ERR_STOPPED = -15,
    /// The callback returned a negative number.
    EUNOMIA_ERR_CALLBACK = -16,
    /// A bug of the library, caught; errmsg says where. The vm is dead: only eunomia_destroy, errmsg,
    /// errdetail, errsys, stop, stats_get and epoll_fd still work on it.
    EUNOMIA_ERR_INTERNAL = -17,
}

/// The kind of thing that a failed call was about; see eunomia_errsubject. Later releases may add kinds.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub enum eunomia_subject {
    /// None of the others.
    #[default]
    EUNOMIA_SUBJECT_NONE = 0,
    /// A global variable.
    EUNOMIA_SUBJECT_VARIABLE = 1,
    /// A map.
    EUNOMIA_SUBJECT_MAP = 2,
    /// A program.
    EUNOMIA_SUBJECT_PROGRAM = 3,
    /// A value in the package's metadata; its name is the path, such as meta.bpf_skel.maps[1].sample.
    EUNOMIA_SUBJECT_METADATA = 4,
    /// A file or folder; its name is the path.
    EUNOMIA_SUBJECT_FILE = 5,
}

/// Kinds of packages. eunomia_open takes a set of them and answers the one it found.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_kind {
    /// A JSON package, or an object opened with eunomia_open_object.
    EUNOMIA_KIND_JSON = 1,
    /// A WASM module.
    EUNOMIA_KIND_WASM = 2,
    /// Whatever the bytes turn out to be.
    EUNOMIA_KIND_ANY = 3,
}

/// Form in which events are handed out.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_format {
    /// The record as the kernel wrote it, 8-aligned; eunomia_event.type describes it. It may be shorter than
    /// its type; in JSON and TEXT the missing bytes read as zero.
    EUNOMIA_FORMAT_RAW = 0,
    /// One JSON object in UTF-8, members in the order of the C declaration.
    EUNOMIA_FORMAT_JSON = 1,
    /// One line of a table for people (a histogram has several); a header comes first, but for maps.
    EUNOMIA_FORMAT_TEXT = 2,
}

/// What an event is.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_event_kind {
    /// A record that a BPF program sent.
    EUNOMIA_EVENT_SAMPLE = 0,
    /// The kernel dropped eunomia_event.lost records of a perf buffer. Not counted as an event.
    EUNOMIA_EVENT_LOST = 1,
    /// An entry of a map. In JSON, data is {"key":..,"value":..}.
    EUNOMIA_EVENT_MAP_ENTRY = 2,
    /// Head of the table, in TEXT; the row it is for follows even if the head ends the poll. Not counted as an event.
    EUNOMIA_EVENT_HEADER = 3,
    /// A line that a guest wrote to its standard output, without the line feed; always TEXT. Not counted as an
    /// event.
    EUNOMIA_EVENT_OUTPUT = 4,
    /// A round over a sampled map is complete. Not counted as an event.
    EUNOMIA_EVENT_ROUND = 5,
}

/// Importance of a log line; eunomia_options.log_level lets through this and what is graver.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_log_level {
    /// A failure.
    EUNOMIA_LOG_ERROR = 1,
    /// Something is not as the package expects, and the vm goes on. The default.
    EUNOMIA_LOG_WARN = 2,
    /// What the library does.
    EUNOMIA_LOG_INFO = 3,
    /// What libbpf does.
    EUNOMIA_LOG_DEBUG = 4,
}

/// Bits of eunomia_options.flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_option_flag {
    /// Guests that do not say how they want events get their bytes, not JSON: guests made for eunomia-bpf 0.3.2 to
    /// 0.3.23 need that.
    EUNOMIA_WASM_RAW_EVENTS = 1,
    /// Guests read and write the host's stdin, stdout and stderr; there are no EUNOMIA_EVENT_OUTPUT events then.
    EUNOMIA_WASM_STDIO = 2,
    /// A program whose hook (function, tracepoint) is not there is skipped, with a line in the log for each cause, where
    /// programs attach that can do the package's work. For code whose host picks programs by kernel; else it is an error.
    EUNOMIA_SKIP_MISSING_HOOKS = 4,
}

/// What a type is, once typedefs and qualifiers are removed.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_type_kind {
    /// Signed integer.
    EUNOMIA_TYPE_INT = 1,
    /// Unsigned integer.
    EUNOMIA_TYPE_UINT = 2,
    /// Boolean.
    EUNOMIA_TYPE_BOOL = 3,
    /// Character; an array of them is a string.
    EUNOMIA_TYPE_CHAR = 4,
    /// Floating point number of 4, 8 or 16 bytes.
    EUNOMIA_TYPE_FLOAT = 5,
    /// Enumeration; its fields are the constants.
    EUNOMIA_TYPE_ENUM = 6,
    /// Pointer.
    EUNOMIA_TYPE_POINTER = 7,
    /// Array; its fields are the elements.
    EUNOMIA_TYPE_ARRAY = 8,
    /// Structure.
    EUNOMIA_TYPE_STRUCT = 9,
    /// Union.
    EUNOMIA_TYPE_UNION = 10,
}

/// Where eunomia_poll takes events from.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_source_kind {
    /// A ring buffer.
    EUNOMIA_SOURCE_RING = 1,
    /// A perf buffer.
    EUNOMIA_SOURCE_PERF = 2,
    /// A map that is sampled at an interval.
    EUNOMIA_SOURCE_MAP = 3,
}

/// How far it is known what the kernel dropped.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_lost_known {
    /// Nobody counts it.
    EUNOMIA_LOST_NOT_COUNTED = 0,
    /// Up to the last record of each CPU: before Linux 6.0 the kernel reports what a perf buffer lost only with
    /// the next record on that CPU.
    EUNOMIA_LOST_REPORTED = 1,
    /// All of it.
    EUNOMIA_LOST_ALL = 2,
}

/// Bits of eunomia_prog_info.flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_prog_flag {
    /// eunomia_load loads it.
    EUNOMIA_PROG_AUTOLOAD = 1,
    /// It is in the kernel.
    EUNOMIA_PROG_LOADED = 2,
    /// It is attached.
    EUNOMIA_PROG_ATTACHED = 4,
}

/// A running BPF package, or an empty place for one. Owned by the caller: eunomia_new, eunomia_destroy.
pub struct eunomia_vm {
    pub(super) vm: Vm,
    /// For what the vm itself can no longer tell.
    pub(super) log: Log,
    /// Thread that is inside a call, 0 for none.
    pub(super) user: AtomicUsize,
    pub(super) poisoned: AtomicBool,
    /// Touched by the thread in `user` only and never across a callback, so the lock is always free.
    pub(super) state: Mutex<CallState>,
}

/// Type of raw bytes. Borrowed from a vm until eunomia_destroy.
pub struct eunomia_type {
    _opaque: [u8; 0],
}

/// Receives one line of log without a line feed, valid during the call; level is an eunomia_log_level. May be
/// called by any thread that is inside a call on the vm, and must not call back into the vm.
pub type eunomia_log_fn = Option<unsafe extern "C" fn(arg: *mut c_void, level: u32, text: *const c_char)>;

/// Receives one event, valid during the call. Returns 0 to go on, above 0 to end this poll, below 0 to end
/// it with EUNOMIA_ERR_CALLBACK. Must return normally: no longjmp, no C++ exception, no thread exit.
pub type eunomia_event_fn =
    Option<unsafe extern "C" fn(arg: *mut c_void, event: *const eunomia_event) -> c_int>;

/// Settings of a new vm. All zero but size is the default; see EUNOMIA_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_options {
    /// sizeof(eunomia_options) as the caller was compiled.
    pub size: usize,
    /// An eunomia_log_level; 0: EUNOMIA_LOG_WARN.
    pub log_level: u32,
    /// A set of eunomia_option_flag.
    pub flags: u32,
    /// Receives the log; NULL: there is none.
    pub log: eunomia_log_fn,
    /// First argument of log.
    pub log_arg: *mut c_void,
    /// Kernel BTF to use: a file, or a BTFHub-style folder for kernels without BTF of their own; NULL: the
    /// running kernel's.
    pub btf_path: *const c_char,
    /// Folder for pinned maps; NULL: /sys/fs/bpf.
    pub pin_path: *const c_char,
    /// Pages of each perf buffer per CPU, a power of two; 0: what the package says, else 64.
    pub perf_pages: u32,
    /// Most events that one poll delivers; 0: 65536.
    pub poll_budget: u32,
    /// Bytes of a guest's stack of calls and locals; 0: 128 KiB.
    pub wasm_stack: u32,
    /// Bytes of the heap behind malloc of a guest that has no malloc of its own; 0: 2 MiB. More than 1 GiB counts as 1 GiB.
    pub wasm_heap: u32,
    /// Bytes a guest's memory may grow to, that heap not counted; 0: 16 MiB.
    pub wasm_memory: u32,
    /// Milliseconds a guest may take over one event before it is ended; 0: 1000.
    pub wasm_budget_ms: u32,
    /// Folders that guests may read, NULL at the end; NULL: none.
    pub wasm_dirs: *const *const c_char,
    /// Bytes of kernel memory that a package may take, all packages of a guest together: maps when they are full, programs
    /// and types. eunomia_load refuses more with NOMEM. 0: a quarter of the memory that is available, at most 1 GiB or
    /// 16 MiB for each possible CPU; UINT64_MAX: no limit. With a limit, packages whose programs allocate objects
    /// (bpf_obj_new) are refused too: nothing counts these. Pinned maps count until eunomia_destroy.
    pub max_kernel_memory: u64,
}

/// One event, borrowed for the call of the callback. Before touching a field that is newer than the library
/// in use, compare size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_event {
    /// sizeof(eunomia_event) as the library was compiled.
    pub size: usize,
    /// An eunomia_event_kind.
    pub kind: u32,
    /// The eunomia_format of data and key.
    pub format: u32,
    /// Name of the map, or iterator program, it came through.
    pub source: *const c_char,
    /// Raw bytes, or text with a NUL behind it.
    pub data: *const c_void,
    /// Bytes of data, the NUL not counted. Look at it before casting raw data: there may be fewer than the
    /// type has.
    pub len: usize,
    /// Key of a map entry, in the same format; else empty.
    pub key: *const c_void,
    /// Bytes of key.
    pub key_len: usize,
    /// Type of raw data; NULL if the package does not tell.
    pub r#type: *const eunomia_type,
    /// Records lost, for EUNOMIA_EVENT_LOST.
    pub lost: u64,
    /// CPU of a perf record; -1: not known.
    pub cpu: i32,
    /// 0.
    pub reserved: u32,
    /// Time when the event was read, in nanoseconds of CLOCK_MONOTONIC. The clock is read once per batch of at most
    /// 1024 records, and once per round of a sampled map.
    pub time_ns: u64,
}

/// The ledger: every record is delivered, or dropped and counted under its cause.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_stats {
    /// sizeof(eunomia_stats) as the caller was compiled.
    pub size: usize,
    /// Events delivered.
    pub events: u64,
    /// Raw bytes of these.
    pub bytes: u64,
    /// Dropped by the kernel: by perf buffers, and by ring buffers where the package counts the records that
    /// found no space. lost_known says how far that is known.
    pub lost_kernel: u64,
    /// Dropped because the queue was full.
    pub lost_queue: u64,
    /// Dropped by a guest.
    pub guest_dropped: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Calls of eunomia_poll, eunomia_read, and rounds of eunomia_run.
    pub polls: u64,
    /// Versions replaced.
    pub replaces: u64,
    /// Runs of all programs; 0 unless the kernel counts (sysctl kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// Nanoseconds of these.
    pub run_ns: u64,
    /// An eunomia_lost_known about lost_kernel: that of the source of which least is known.
    pub lost_known: u32,
    /// 0.
    pub reserved: u32,
}

/// A map of the package.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_map_info {
    /// sizeof(eunomia_map_info) as the caller was compiled.
    pub size: usize,
    /// Its name, borrowed until the next call on the vm.
    pub name: *const c_char,
    /// Its BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, on one CPU.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// Type of a key; NULL if the package does not tell.
    pub key_type: *const eunomia_type,
    /// Type of a value; NULL if the package does not tell.
    pub value_type: *const eunomia_type,
    /// Its descriptor, -1 before load. Borrowed: dup it to keep it.
    pub fd: c_int,
    /// CPUs a value exists for: 1, or for a per-CPU map all possible CPUs. The value buffers of such a map
    /// hold cpus * round_up(value_size, 8) bytes.
    pub cpus: u32,
    /// Bytes of kernel memory when it is full, as eunomia_options.max_kernel_memory counts them; 0 if load does not make it.
    pub bytes: u64,
}

/// A member of a struct or union, an element of an array, or a constant of an enum.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_field {
    /// sizeof(eunomia_field) as the caller was compiled.
    pub size: usize,
    /// Its name, borrowed like the type; "" for an anonymous member or an element.
    pub name: *const c_char,
    /// Its type; for a constant the integer type that holds it.
    pub r#type: *const eunomia_type,
    /// Distance from the start of the outer type.
    pub bit_offset: u32,
    /// Width; not a multiple of 8 only for bit-fields.
    pub bit_size: u32,
    /// Value of a constant, to be read as unsigned where its type is; else 0.
    pub value: i64,
}

/// A source of events.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_source_info {
    /// sizeof(eunomia_source_info) as the caller was compiled.
    pub size: usize,
    /// Name of its map, borrowed until the next call on the vm.
    pub name: *const c_char,
    /// An eunomia_source_kind.
    pub kind: u32,
    /// Milliseconds between two rounds over a sampled map; else 0.
    pub interval_ms: u32,
    /// Bytes of a record; 0 if the package does not tell.
    pub record_size: u32,
    /// 0.
    pub reserved: u32,
    /// Type of a record, or of a sampled map's value; NULL if the package does not tell.
    pub r#type: *const eunomia_type,
    /// Type of a sampled map's key; else NULL.
    pub key_type: *const eunomia_type,
    /// Events delivered from it.
    pub events: u64,
    /// Records that the kernel dropped, as far as lost_known says.
    pub lost: u64,
    /// An eunomia_lost_known about lost. What ring buffers drop is counted for all of them together at most: see
    /// eunomia_stats.
    pub lost_known: u32,
    /// 0.
    pub reserved1: u32,
}

/// A program of the package.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_prog_info {
    /// sizeof(eunomia_prog_info) as the caller was compiled.
    pub size: usize,
    /// Its name; this and the next two are borrowed until the next call on the vm.
    pub name: *const c_char,
    /// Its ELF section, which names the hook.
    pub section: *const c_char,
    /// Where it attaches, as given to eunomia_prog_set_target_json; "" if nothing was.
    pub target: *const c_char,
    /// Its BPF_PROG_TYPE_*.
    pub r#type: u32,
    /// A set of eunomia_prog_flag.
    pub flags: u32,
    /// The kernel's id for it, 0 before load.
    pub id: u32,
    /// 0.
    pub reserved: u32,
    /// Runs; 0 unless the kernel counts (sysctl kernel.bpf_stats_enabled).
    pub run_count: u64,
    /// Nanoseconds of these.
    pub run_ns: u64,
}

/// What eunomia_read or eunomia_map_dump stored in the buffer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_batch {
    /// sizeof(eunomia_batch) as the caller was compiled.
    pub size: usize,
    /// Bytes stored.
    pub len: usize,
    /// With EUNOMIA_ERR_TOO_SMALL the bytes that are needed; nothing else is written then.
    pub need: usize,
    /// Index of the source (eunomia_source_at) the records came from.
    pub source: u32,
    /// Records stored.
    pub count: u32,
    /// Time when the first record was read, as eunomia_event.time_ns. 0 without records.
    pub time_ns: u64,
}

/// Stands before each record of a RAW batch. Behind it the record, then its key; each begins 8-aligned.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_record {
    /// Bytes from this head to the next.
    pub size: u32,
    /// Bytes of the record.
    pub len: u32,
    /// Bytes of its key; 0 unless it is a map entry.
    pub key_len: u32,
    /// CPU of a perf record; -1: not known.
    pub cpu: i32,
}
