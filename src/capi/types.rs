//! The structs and constants of the C interface, as cbindgen prints them into the header.
//!
//! Layout only: fields are appended and never moved. No conversion happens here.

use std::ffi::{c_char, c_int, c_void};

/// The thing that a failed call was about; see eunomia_errsubject. Later releases may add kinds.
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
    /// A value in the package's metadata. Its name is the path, such as meta.bpf_skel.maps[1].sample.
    EUNOMIA_SUBJECT_METADATA = 4,
    /// A file or directory. Its name is the path.
    EUNOMIA_SUBJECT_FILE = 5,
}

/// Kinds of packages. eunomia_open takes a bitmask of the accepted kinds and returns the kind found.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_kind {
    /// A JSON package, or an object opened with eunomia_open_object.
    EUNOMIA_KIND_JSON = 1,
    /// A WASM module.
    EUNOMIA_KIND_WASM = 2,
    /// Either of them.
    EUNOMIA_KIND_ANY = 3,
}

/// Formats of events.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_format {
    /// The record as the kernel wrote it, 8-byte aligned. eunomia_event.type describes it. A record
    /// may be shorter than its type; JSON and TEXT show the missing bytes as zero.
    EUNOMIA_FORMAT_RAW = 0,
    /// One JSON object in UTF-8, with the members in the order of the C declaration.
    EUNOMIA_FORMAT_JSON = 1,
    /// One human-readable table row (several lines for a histogram). Except for maps, a header comes
    /// first.
    EUNOMIA_FORMAT_TEXT = 2,
}

/// Kinds of events. Only SAMPLE and MAP_ENTRY are counted in eunomia_stats.events.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_event_kind {
    /// A record sent by a BPF program.
    EUNOMIA_EVENT_SAMPLE = 0,
    /// The kernel dropped eunomia_event.lost records of a perf buffer. In JSON, data is
    /// {"lost":N,"cpu":N}. In TEXT, it is "lost N events on CPU N". In RAW, it is empty: len is 0.
    EUNOMIA_EVENT_LOST = 1,
    /// An entry of a map. In JSON, data is {"key":..,"value":..}.
    EUNOMIA_EVENT_MAP_ENTRY = 2,
    /// The table header (TEXT only). If the callback ends the poll on this event, the first row still
    /// follows.
    EUNOMIA_EVENT_HEADER = 3,
    /// A line that a guest wrote to its standard output, without the newline. Always TEXT.
    EUNOMIA_EVENT_OUTPUT = 4,
    /// A round of a sampled map is complete: all its entries have been delivered. data is empty.
    EUNOMIA_EVENT_ROUND = 5,
}

/// Log severities. The vm logs messages at eunomia_options.log_level and more severe ones.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_log_level {
    /// Failures.
    EUNOMIA_LOG_ERROR = 1,
    /// Problems that the vm works around. The default.
    EUNOMIA_LOG_WARN = 2,
    /// Actions of the library.
    EUNOMIA_LOG_INFO = 3,
    /// Messages of libbpf.
    EUNOMIA_LOG_DEBUG = 4,
}

/// Bits of eunomia_options.flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_option_flag {
    /// Pass events as bytes, not JSON, to guests that do not declare a format. Guests built for
    /// eunomia-bpf 0.3.2 to 0.3.23 need this.
    EUNOMIA_WASM_RAW_EVENTS = 1,
    /// Connect guests to the host's stdin, stdout and stderr. There are no EUNOMIA_EVENT_OUTPUT
    /// events.
    EUNOMIA_WASM_STDIO = 2,
    /// Skip a program whose hook (function or tracepoint) does not exist, with a warning in the log,
    /// if the remaining programs can do the package's work. Without this flag, attach fails.
    EUNOMIA_SKIP_MISSING_HOOKS = 4,
    /// Keep libbpf's own handlers for the sections fentry, fexit, fmod_ret, fsession, tp_btf and
    /// iter. Without this flag the library replaces them with its own, which load faster. Handlers
    /// belong to the whole process, so set this flag either for all vms of the process or for none.
    EUNOMIA_LIBBPF_SECTIONS = 8,
    /// Attach each tracing program that supports it through a dispatcher, a small program that
    /// calls the program of the current version. eunomia_replace can then replace packages of
    /// tracing programs. A dispatcher costs 1 to 3 ns per event. Run counts and run times include
    /// those of dispatchers.
    EUNOMIA_REPLACEABLE = 16,
}

/// Bits of eunomia_replace_options.flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_replace_flag {
    /// Start with empty maps. By default a map keeps its content if the new version has a map of the
    /// same name, type, flags and sizes, whose key and value have the same members.
    EUNOMIA_REPLACE_FRESH_MAPS = 1,
    /// Fail if a map of both versions cannot keep its content.
    EUNOMIA_REPLACE_STRICT_MAPS = 2,
    /// Use the values of the new version for variables, instead of those that the host has set, including by
    /// eunomia_args_set.
    EUNOMIA_REPLACE_FRESH_VARS = 4,
    /// Deliver all events of the old version before the first of the new one. No call delivers events
    /// during the kernel's grace period, some 10 to 60 ms.
    EUNOMIA_REPLACE_ORDERED = 8,
    /// Keep the old version loaded until eunomia_commit, so that eunomia_rollback can return to it.
    EUNOMIA_REPLACE_KEEP_OLD = 16,
    /// Copy the entries of hashes and arrays, including per-CPU ones, that have more entries in the new
    /// version, or whose values have new members after the old ones. New members are 0. Updates by programs
    /// of the old version between the copy and the switch are lost; the report has their number.
    EUNOMIA_REPLACE_MIGRATE_MAPS = 32,
    /// Keep the values of variables in .data and .bss, if the section has the same variables in both
    /// versions.
    EUNOMIA_REPLACE_CARRY_DATA = 64,
    /// Where programs cannot be swapped exactly, attach the new ones before the old ones are detached,
    /// so that both handle some events. If there are such programs, EUNOMIA_REPLACE_KEEP_OLD is refused.
    /// Several programs on XDP, tcx and cgroups are swapped one by one.
    EUNOMIA_REPLACE_ALLOW_OVERLAP = 128,
    /// Like EUNOMIA_REPLACE_ALLOW_OVERLAP, which takes precedence, but detach the old programs before
    /// the new ones are attached, so that some events are lost.
    EUNOMIA_REPLACE_ALLOW_GAP = 256,
}

/// Bits of the flags of eunomia_export.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_export_flag {
    /// Export the version that eunomia_prepare has loaded, not the running one.
    EUNOMIA_EXPORT_PREPARED = 1,
    /// Export every descriptor: also programs, links and what eunomia_replace uses. Without this flag only
    /// maps and perf events are exported, which is all that a reader needs. As long as a copy of the descriptor
    /// of a link is open, some kinds of programs stay attached.
    EUNOMIA_EXPORT_ALL = 2,
}

/// Kinds of types, without typedefs and qualifiers.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_type_kind {
    /// Signed integer.
    EUNOMIA_TYPE_INT = 1,
    /// Unsigned integer.
    EUNOMIA_TYPE_UINT = 2,
    /// Boolean.
    EUNOMIA_TYPE_BOOL = 3,
    /// Character. An array of them is a string.
    EUNOMIA_TYPE_CHAR = 4,
    /// Floating-point number of 4, 8 or 16 bytes.
    EUNOMIA_TYPE_FLOAT = 5,
    /// Enumeration. Its fields are the constants.
    EUNOMIA_TYPE_ENUM = 6,
    /// Pointer.
    EUNOMIA_TYPE_POINTER = 7,
    /// Array. Its fields are the elements.
    EUNOMIA_TYPE_ARRAY = 8,
    /// Structure.
    EUNOMIA_TYPE_STRUCT = 9,
    /// Union.
    EUNOMIA_TYPE_UNION = 10,
}

/// Kinds of event sources.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_source_kind {
    /// A ring buffer.
    EUNOMIA_SOURCE_RING = 1,
    /// A perf buffer.
    EUNOMIA_SOURCE_PERF = 2,
    /// A map that is read at an interval (a sampled map).
    EUNOMIA_SOURCE_MAP = 3,
}

/// The completeness of a count of records that the kernel dropped.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_lost_known {
    /// Drops are not counted.
    EUNOMIA_LOST_NOT_COUNTED = 0,
    /// Drops after the last record of a CPU are missing: before Linux 6.0 the kernel reports the drops
    /// of a perf buffer with the next record on that CPU.
    EUNOMIA_LOST_REPORTED = 1,
    /// All drops are counted.
    EUNOMIA_LOST_ALL = 2,
}

/// Bits of eunomia_prog_info.flags.
#[repr(C)]
#[derive(Clone, Copy)]
pub enum eunomia_prog_flag {
    /// eunomia_load loads the program.
    EUNOMIA_PROG_AUTOLOAD = 1,
    /// The program is loaded into the kernel.
    EUNOMIA_PROG_LOADED = 2,
    /// The program is attached.
    EUNOMIA_PROG_ATTACHED = 4,
}

/// The type of raw bytes. Belongs to a vm and is valid until eunomia_destroy.
pub struct eunomia_type {
    _opaque: [u8; 0],
}

/// Receives one line of the log.
///
/// Any thread that is inside a call on the vm may call the function. The function must not use the vm.
///
///   arg    eunomia_options.log_arg
///   level  an eunomia_log_level
///   text   the line without a newline, valid during the call
pub type eunomia_log_fn = Option<unsafe extern "C" fn(arg: *mut c_void, level: u32, text: *const c_char)>;

/// Receives one event.
///
/// The function must return normally: no longjmp, no C++ exception, no thread exit.
///
///   arg    the argument given together with the callback
///   event  the event, valid during the call
///
/// Returns: 0 to continue, > 0 to end the delivering call with success, < 0 to end it with
/// EUNOMIA_ERR_CALLBACK.
pub type eunomia_event_fn =
    Option<unsafe extern "C" fn(arg: *mut c_void, event: *const eunomia_event) -> c_int>;

/// Receives a batch of events of one source.
///
/// The function must return normally: no longjmp, no C++ exception, no thread exit. All events of the
/// batch are counted as delivered, whatever the function returns.
///
///   arg      the argument given together with the callback
///   records  the batch, valid during the call
///
/// Returns: 0 to continue, > 0 to end the delivering call with success, < 0 to end it with
/// EUNOMIA_ERR_CALLBACK.
pub type eunomia_batch_fn =
    Option<unsafe extern "C" fn(arg: *mut c_void, records: *const eunomia_records) -> c_int>;

/// Settings of a new vm. Fields that are 0 or NULL have their defaults; see EUNOMIA_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_options {
    /// Set by the caller to sizeof(eunomia_options).
    pub size: usize,
    /// An eunomia_log_level. 0: EUNOMIA_LOG_WARN.
    pub log_level: u32,
    /// Bitmask of eunomia_option_flag.
    pub flags: u32,
    /// Called for each line of the log until eunomia_destroy returns. NULL: no log.
    pub log: eunomia_log_fn,
    /// First argument of log.
    pub log_arg: *mut c_void,
    /// Kernel BTF: a file, or for kernels without BTF a directory laid out like BTFHub. NULL: the
    /// running kernel's.
    pub btf_path: *const c_char,
    /// Directory for pinned maps. NULL: /sys/fs/bpf.
    pub pin_path: *const c_char,
    /// Pages of each perf buffer per CPU, a power of two. 0: the package's setting, or 64.
    pub perf_pages: u32,
    /// Maximum number of events that one poll delivers. 0: 65536.
    pub poll_budget: u32,
    /// Bytes of a guest's call stack. 0: 128 KiB.
    pub wasm_stack: u32,
    /// Bytes of heap for a guest without a malloc of its own, at most 1 GiB. 0: 2 MiB.
    pub wasm_heap: u32,
    /// Maximum bytes of a guest's memory, not counting wasm_heap. 0: 16 MiB.
    pub wasm_memory: u32,
    /// Time limit for a guest to handle one event, in milliseconds. 0: 1000.
    pub wasm_budget_ms: u32,
    /// NULL-terminated array of directories that guests may read. NULL: none.
    pub wasm_dirs: *const *const c_char,
    /// Limit in bytes for the kernel memory of a package, or of all packages that a guest loads.
    /// It includes programs, types and maps; a map is counted as if it were full. Above the limit,
    /// eunomia_load fails with EUNOMIA_ERR_NOMEM. Pinned maps are counted until eunomia_destroy. With
    /// a limit, a package whose programs allocate objects (bpf_obj_new) is rejected, because these
    /// cannot be counted. UINT64_MAX: no limit. 0: a quarter of the available memory, but at most 1
    /// GiB, or 16 MiB per possible CPU if that is more.
    pub max_kernel_memory: u64,
}

/// An event. It and everything that it points to are valid until the callback returns. Before you read a
/// field that was added after the first release, check that size includes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_event {
    /// Set by the library to its sizeof(eunomia_event).
    pub size: usize,
    /// An eunomia_event_kind.
    pub kind: u32,
    /// The eunomia_format of data and key.
    pub format: u32,
    /// Name of the map, or of the iterator program, that the event came from.
    pub source: *const c_char,
    /// Raw bytes, or a NUL-terminated string. JSON does not end with a newline.
    pub data: *const c_void,
    /// Length of data in bytes, without the terminating NUL. Check it before you cast raw data to a struct.
    pub len: usize,
    /// Key of a map entry, in the same format as data. Otherwise empty.
    pub key: *const c_void,
    /// Bytes of key, without the NUL.
    pub key_len: usize,
    /// Type of raw data. NULL if the package does not specify it.
    pub r#type: *const eunomia_type,
    /// Number of dropped records (EUNOMIA_EVENT_LOST only).
    pub lost: u64,
    /// CPU of a perf buffer's record. -1: unknown.
    pub cpu: i32,
    /// Reserved, always 0.
    pub reserved: u32,
    /// Time when the event was read, in nanoseconds of CLOCK_MONOTONIC. The clock is read once per
    /// batch of at most 1024 records, and once per round of a sampled map.
    pub time_ns: u64,
    /// The pointer given to eunomia_group_add. NULL unless eunomia_group_poll delivers the event.
    pub member: *mut c_void,
}

/// The bytes of one record in a batch.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_span {
    /// Raw bytes. Those of a record are 8-byte aligned.
    pub data: *const c_void,
    /// Bytes of data. Check it before you cast data to a struct.
    pub len: usize,
}

/// A batch of events of one source. It and everything that it points to are valid until the callback
/// returns. Before you read a field that was added after the first release, check that size includes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_records {
    /// Set by the library to its sizeof(eunomia_records).
    pub size: usize,
    /// An eunomia_event_kind: SAMPLE, MAP_ENTRY, LOST or ROUND.
    pub kind: u32,
    /// Index of the source; see eunomia_source_at.
    pub source_index: u32,
    /// Name of the source's map.
    pub source: *const c_char,
    /// The records, or the value of a map entry.
    pub spans: *const eunomia_span,
    /// Number of spans. 1 for MAP_ENTRY; 0 for LOST and ROUND, which have no data.
    pub count: usize,
    /// Key of a map entry. Otherwise empty.
    pub key: *const c_void,
    /// Bytes of key.
    pub key_len: usize,
    /// Type of the data. NULL if the package does not specify it.
    pub r#type: *const eunomia_type,
    /// Number of dropped records (EUNOMIA_EVENT_LOST only).
    pub lost: u64,
    /// CPU of a perf buffer's records. -1: unknown.
    pub cpu: i32,
    /// Reserved, always 0.
    pub reserved: u32,
    /// Time when the records were read, as eunomia_event.time_ns.
    pub time_ns: u64,
}

/// Event counters. Every record that entered a buffer of the kernel is delivered, or counted in
/// lost_queue, guest_dropped or malformed. Records that did not fit are counted in lost_kernel;
/// lost_known specifies how complete that count is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_stats {
    /// Set by the caller to sizeof(eunomia_stats).
    pub size: usize,
    /// Events delivered.
    pub events: u64,
    /// Bytes of the delivered records, as the kernel wrote them.
    pub bytes: u64,
    /// Records that did not fit into a buffer of the kernel. The kernel counts them for perf
    /// buffers, but not for ring buffers. For ring buffers, the package's programs count them in
    /// the map __eunomia_lost, which ecc adds unless --no-count-lost is given. Without that map,
    /// they are missing here.
    pub lost_kernel: u64,
    /// Records dropped because the queue was full.
    pub lost_queue: u64,
    /// Events dropped by a guest.
    pub guest_dropped: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Calls of eunomia_poll, eunomia_poll_batch and eunomia_read, and iterations of eunomia_run.
    pub polls: u64,
    /// Number of times that the package was replaced.
    pub replaces: u64,
    /// Runs of all programs. 0 unless sysctl kernel.bpf_stats_enabled is on.
    pub run_count: u64,
    /// Total run time of all programs in nanoseconds. 0 unless that sysctl is on.
    pub run_ns: u64,
    /// How complete lost_kernel is: an eunomia_lost_known. The source whose count is the least complete
    /// decides.
    pub lost_known: u32,
    /// Reserved, always 0.
    pub reserved: u32,
}

/// A map of the package.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_map_info {
    /// Set by the caller to sizeof(eunomia_map_info).
    pub size: usize,
    /// Name of the map, valid until the next call on the vm.
    pub name: *const c_char,
    /// A BPF_MAP_TYPE_* constant.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, on one CPU.
    pub value_size: u32,
    /// Maximum number of entries.
    pub max_entries: u32,
    /// Type of a key. NULL if the package does not specify it.
    pub key_type: *const eunomia_type,
    /// Type of a value. NULL if the package does not specify it.
    pub value_type: *const eunomia_type,
    /// File descriptor of the map, which the vm closes. -1 before load.
    pub fd: c_int,
    /// Number of values per key: for a per-CPU map the number of possible CPUs, otherwise 1. A buffer
    /// for the value of a per-CPU map has cpus * round_up(value_size, 8) bytes.
    pub cpus: u32,
    /// Bytes of kernel memory when the map is full, as eunomia_options.max_kernel_memory counts them.
    /// 0 if eunomia_load does not create the map.
    pub bytes: u64,
}

/// A member of a struct or union, an element of an array, or a constant of an enum.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_field {
    /// Set by the caller to sizeof(eunomia_field).
    pub size: usize,
    /// Name, valid as long as the type. "" for an anonymous member or an element.
    pub name: *const c_char,
    /// Type of the member or element. For a constant the integer type of the enum.
    pub r#type: *const eunomia_type,
    /// Offset from the start of the outer type, in bits.
    pub bit_offset: u32,
    /// Width in bits. A multiple of 8 except for bit-fields.
    pub bit_size: u32,
    /// Value of a constant, otherwise 0. Cast it to uint64_t if type is unsigned.
    pub value: i64,
}

/// A source of events.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_source_info {
    /// Set by the caller to sizeof(eunomia_source_info).
    pub size: usize,
    /// Name of the source's map, valid until the next call on the vm.
    pub name: *const c_char,
    /// An eunomia_source_kind.
    pub kind: u32,
    /// Milliseconds between two rounds of a sampled map. Otherwise 0.
    pub interval_ms: u32,
    /// Bytes of a record. 0 if the package does not specify them.
    pub record_size: u32,
    /// Reserved, always 0.
    pub reserved: u32,
    /// Type of a record, or of a sampled map's value. NULL if the package does not specify it.
    pub r#type: *const eunomia_type,
    /// Type of a sampled map's key. Otherwise NULL.
    pub key_type: *const eunomia_type,
    /// Events delivered from this source.
    pub events: u64,
    /// Records of this source dropped by the kernel.
    pub lost: u64,
    /// How complete lost is: an eunomia_lost_known. Always EUNOMIA_LOST_NOT_COUNTED for ring buffers,
    /// whose drops are counted only in total; see eunomia_stats.lost_kernel.
    pub lost_known: u32,
    /// Reserved, always 0.
    pub reserved1: u32,
}

/// A program of the package. The strings are valid until the next call on the vm.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_prog_info {
    /// Set by the caller to sizeof(eunomia_prog_info).
    pub size: usize,
    /// Name of the program.
    pub name: *const c_char,
    /// ELF section, which specifies the hook.
    pub section: *const c_char,
    /// Target as given to eunomia_prog_set_target_json. "" if none was given.
    pub target: *const c_char,
    /// A BPF_PROG_TYPE_* constant.
    pub r#type: u32,
    /// Bitmask of eunomia_prog_flag.
    pub flags: u32,
    /// The kernel's ID of the program. 0 before load.
    pub id: u32,
    /// Reserved, always 0.
    pub reserved: u32,
    /// Number of runs. 0 unless sysctl kernel.bpf_stats_enabled is on.
    pub run_count: u64,
    /// Total run time in nanoseconds. 0 unless that sysctl is on.
    pub run_ns: u64,
}

/// Input of eunomia_prog_run, and the buffers for its output.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_prog_input {
    /// Set by the caller to sizeof(eunomia_prog_input).
    pub size: usize,
    /// Packet for the program. NULL: none.
    pub data: *const c_void,
    /// Bytes of data.
    pub data_len: usize,
    /// Context for the program, a struct that depends on its type. NULL: the default context.
    pub ctx: *const c_void,
    /// Bytes of ctx.
    pub ctx_len: usize,
    /// Receives the packet after the last run. NULL: not wanted.
    pub data_out: *mut c_void,
    /// Capacity of data_out in bytes.
    pub data_out_cap: usize,
    /// Receives the context after the last run. NULL: not wanted.
    pub ctx_out: *mut c_void,
    /// Capacity of ctx_out in bytes.
    pub ctx_out_cap: usize,
    /// Number of runs. 0 is one run. Must be 0 for raw tracepoint programs.
    pub repeat: u32,
    /// Reserved, must be 0.
    pub reserved: u32,
}

/// Result of eunomia_prog_run.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_prog_result {
    /// Set by the caller to sizeof(eunomia_prog_result).
    pub size: usize,
    /// Return value of the last run.
    pub return_value: u32,
    /// Mean time of one run in nanoseconds. 0 for types of programs that the kernel does not time.
    pub duration_ns: u32,
    /// Bytes of the packet after the last run. After EUNOMIA_ERR_TOO_SMALL, the required capacity.
    pub data_len: usize,
    /// Bytes of the context after the last run. After EUNOMIA_ERR_TOO_SMALL, the required capacity.
    pub ctx_len: usize,
}

/// Options of eunomia_replace. All zero is the default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_replace_options {
    /// Set by the caller to sizeof(eunomia_replace_options).
    pub size: usize,
    /// Bitmask of eunomia_replace_flag.
    pub flags: u32,
    /// Reserved, must be 0.
    pub reserved: u32,
}

/// File descriptors with which another process reads the events of this package, and a text that lists them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_exported {
    /// Set by the caller to sizeof(eunomia_exported).
    pub size: usize,
    /// Text. The first line identifies the object of the package. Then follows one line per descriptor, in
    /// their order: "map NAME", "perf_event CPU PAGES MAP", "program NAME", "generation", and "link",
    /// "dispatcher" or "slots" with the name of the program.
    pub description: *const c_char,
    /// The descriptors.
    pub fds: *const c_int,
    /// Number of descriptors.
    pub count: usize,
}

/// The content of a buffer that eunomia_read or eunomia_map_dump has filled.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_batch {
    /// Set by the caller to sizeof(eunomia_batch).
    pub size: usize,
    /// Bytes stored.
    pub len: usize,
    /// Bytes required. After EUNOMIA_ERR_TOO_SMALL only this field is valid.
    pub need: usize,
    /// Index of the source that the records came from; see eunomia_source_at. After
    /// eunomia_replace, records of the old version have the index that their source had in the old
    /// version.
    pub source: u32,
    /// Number of records stored.
    pub count: u32,
    /// Time when the first record was read, as eunomia_event.time_ns. 0 without records.
    pub time_ns: u64,
    /// RAW: bytes from each record to the next if that is the same for all. Otherwise 0.
    pub stride: u32,
    /// EUNOMIA_EVENT_SAMPLE, or EUNOMIA_EVENT_MAP_ENTRY for entries of a map.
    pub kind: u32,
    /// Name of that source. NULL without records.
    pub name: *const c_char,
    /// Type of the records. NULL if the package does not specify it.
    pub r#type: *const eunomia_type,
}

/// Header of each record in a RAW batch. The record follows, then its key, each 8-byte aligned.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct eunomia_record {
    /// Bytes from this header to the next.
    pub size: u32,
    /// Bytes of the record.
    pub len: u32,
    /// Bytes of the key. 0 unless the record is a map entry.
    pub key_len: u32,
    /// CPU of a perf buffer's record. -1: unknown.
    pub cpu: i32,
}
