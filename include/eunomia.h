// eunomia.h: load, configure and run eBPF packages inside any program.
//
// Reference manual of the library, generated from its source. SPDX-License-Identifier: MIT
//
// Life cycle
//   A vm (eunomia_vm) holds at most one package: a JSON file, or a BPF object with its metadata.
//   Its life cycle is linear:
//     new, open, (set variables, arguments, targets), load, attach, poll ..., destroy
//   - eunomia_attach loads the package if it is not loaded. detach and attach may be repeated.
//   - A call out of order fails with EUNOMIA_ERR_STATE.
//   - Maps, programs and variables are addressed by name in every call. They have no handles.
//   A package may also be a WASM module, called a guest. eunomia_wasm_run runs it; the guest itself
//   loads, attaches and polls:
//     new, open, wasm_run, destroy
//
// Ownership
//   The caller owns a vm and frees it with eunomia_destroy, and a group with eunomia_group_destroy. No
//   other object has to be freed.
//   - The library copies all arguments that it needs after the call.
//   - A returned string is valid until the next call on the vm. Calls of eunomia_errmsg, errdetail,
//     errsys and errsubject, and of the functions for any thread (see below), do not end this.
//   - An event, with all it points to, is valid until the callback returns.
//   - An eunomia_type and the file descriptor of a map are valid until eunomia_destroy. To keep a
//     descriptor longer, dup it.
//   - A function does not call its callback after it returns. eunomia_options.log may be called
//     until eunomia_destroy returns.
//
// Errors
//   A function that returns int returns a value >= 0 on success and a negative eunomia_status on
//   failure. eunomia_errmsg and eunomia_errdetail return human-readable messages.
//   - A function does all of its work or, if it fails, none of it.
//   - Output parameters are written on success only. The exception is the required size with
//     EUNOMIA_ERR_TOO_SMALL.
//   - NULL fails with EUNOMIA_ERR_INVAL where it is not allowed. A buffer of length 0 may be NULL.
//   - A string that is not UTF-8 fails with EUNOMIA_ERR_INVAL, except paths in eunomia_options.
//   - Any function can also fail with EUNOMIA_ERR_INVAL (bad argument), EUNOMIA_ERR_BUSY (see
//     below), EUNOMIA_ERR_NOMEM and EUNOMIA_ERR_INTERNAL. "Returns" lists these only where they
//     have a special cause.
//
// Structs with a size field
//   Set all bytes of such a struct to 0 and size to the struct's sizeof before you pass it. In C,
//   EUNOMIA_INIT does both. The size lets a program and a library of different releases work
//   together, because releases only append fields.
//   - Settings: the library treats fields that the caller's struct lacks as 0. A field that the
//     library does not know must be 0, or the call fails with EUNOMIA_ERR_INVAL.
//   - Results: the library writes the fields that both sides know, and stores their size in size.
//   - A size of 0 fails with EUNOMIA_ERR_INVAL.
//
// Threads, callbacks, signals
//   Where functions may be called:
//     any thread, any time    version functions, stop, pause, stats_get, epoll_fd, type functions,
//                             replace, prepare, flip, abort, commit, rollback, drained, group_add,
//                             group_remove, group_stop, group_epoll_fd
//     one thread at a time    all others; a second thread gets EUNOMIA_ERR_BUSY
//     in an event callback    all except poll, poll_batch, run, read, map_each, iter_each,
//                             wasm_run, open*, load, attach, detach, replace,
//                             prepare, flip, commit, rollback, drained, queue_start and
//                             queue_stop, which fail with EUNOMIA_ERR_BUSY, and destroy, which logs an
//                             error and does nothing. In a group, this applies to the vm that the
//                             event is from
//     in the log callback     none
//     in a signal handler     stop, group_stop
//   - Different vms are independent of each other.
//   - A vm may move between threads, if the calls of one thread have ended before the other's
//     begin.
//   - Once eunomia_destroy is called, no thread and no signal handler may use the vm or its types.
//     This includes the functions for any thread.
//   - The library installs no signal handlers, changes no signal mask, prints nothing, and starts
//     no threads except in eunomia_queue_start and eunomia_wasm_run.
//
// fork, dlclose
//   After fork the child may only call eunomia_destroy and eunomia_group_destroy. All file
//   descriptors are close-on-exec. The library stays mapped after dlclose.


#ifndef EUNOMIA_H
#define EUNOMIA_H

#include <stddef.h>
#include <stdint.h>

// Version of this header. eunomia_version returns the version of the library in use.
#define EUNOMIA_VERSION_MAJOR 0
#define EUNOMIA_VERSION_MINOR 1
#define EUNOMIA_VERSION_PATCH 0
#define EUNOMIA_VERSION_NUM 100 // MAJOR * 10000 + MINOR * 100 + PATCH

// Initializes a struct with a size field, in C: eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
#define EUNOMIA_INIT(type) { .size = sizeof(type) }

// Return codes. A value >= 0 is success, a negative value is an error. Later releases may add
// errors, so treat every negative value as one.
typedef enum eunomia_status {
  // Success.
  EUNOMIA_OK = 0,
  // An argument is NULL, out of range or malformed.
  EUNOMIA_ERR_INVAL = -1,
  // The call is not allowed in the current state of the vm, such as load before open.
  EUNOMIA_ERR_STATE = -2,
  // Another thread is using the vm, or the function cannot be called from a callback.
  EUNOMIA_ERR_BUSY = -3,
  // Out of memory, or over eunomia_options.max_kernel_memory.
  EUNOMIA_ERR_NOMEM = -4,
  // No such variable, map, program, key, index or file, or the package attaches to a file,
  // function, network interface or cgroup that does not exist.
  EUNOMIA_ERR_NOT_FOUND = -5,
  // The buffer is too small. The required size was stored.
  EUNOMIA_ERR_TOO_SMALL = -6,
  // The package is malformed. eunomia_errmsg reports where.
  EUNOMIA_ERR_PACKAGE = -7,
  // The value does not fit the type.
  EUNOMIA_ERR_TYPE = -8,
  // A privilege is missing. eunomia_errmsg names it.
  EUNOMIA_ERR_PERM = -9,
  // The kernel, or this build of the library, lacks a feature. eunomia_errmsg names it.
  EUNOMIA_ERR_UNSUPPORTED = -10,
  // The kernel's verifier rejected a program. eunomia_errdetail returns its log.
  EUNOMIA_ERR_VERIFIER = -11,
  // A program could not be attached. eunomia_errmsg names it. No program stays attached.
  EUNOMIA_ERR_ATTACH = -12,
  // A system call failed. eunomia_errsys returns its errno.
  EUNOMIA_ERR_SYSTEM = -13,
  // The WASM guest trapped or exceeded a limit. eunomia_errdetail returns its call stack.
  EUNOMIA_ERR_WASM = -14,
  // eunomia_stop was called. Each stop is reported once.
  EUNOMIA_ERR_STOPPED = -15,
  // The callback returned a negative value.
  EUNOMIA_ERR_CALLBACK = -16,
  // Internal error: a bug in the library. eunomia_errmsg reports the location. The vm is unusable:
  // only eunomia_destroy, errmsg, errdetail, errsys, errsubject, stop, stats_get and epoll_fd work.
  EUNOMIA_ERR_INTERNAL = -17,
} eunomia_status;

// The thing that a failed call was about; see eunomia_errsubject. Later releases may add kinds.
typedef enum eunomia_subject {
  // None of the others.
  EUNOMIA_SUBJECT_NONE = 0,
  // A global variable.
  EUNOMIA_SUBJECT_VARIABLE = 1,
  // A map.
  EUNOMIA_SUBJECT_MAP = 2,
  // A program.
  EUNOMIA_SUBJECT_PROGRAM = 3,
  // A value in the package's metadata. Its name is the path, such as meta.bpf_skel.maps[1].sample.
  EUNOMIA_SUBJECT_METADATA = 4,
  // A file or directory. Its name is the path.
  EUNOMIA_SUBJECT_FILE = 5,
} eunomia_subject;

// Kinds of packages. eunomia_open takes a bitmask of the accepted kinds and returns the kind found.
typedef enum eunomia_kind {
  // A JSON package, or an object opened with eunomia_open_object.
  EUNOMIA_KIND_JSON = 1,
  // A WASM module.
  EUNOMIA_KIND_WASM = 2,
  // Either of them.
  EUNOMIA_KIND_ANY = 3,
} eunomia_kind;

// Formats of events.
typedef enum eunomia_format {
  // The record as the kernel wrote it, 8-byte aligned. eunomia_event.type describes it. A record
  // may be shorter than its type; JSON and TEXT show the missing bytes as zero.
  EUNOMIA_FORMAT_RAW = 0,
  // One JSON object in UTF-8, with the members in the order of the C declaration.
  EUNOMIA_FORMAT_JSON = 1,
  // One human-readable table row (several lines for a histogram). Except for maps, a header comes
  // first.
  EUNOMIA_FORMAT_TEXT = 2,
} eunomia_format;

// Kinds of events. Only SAMPLE and MAP_ENTRY are counted in eunomia_stats.events.
typedef enum eunomia_event_kind {
  // A record sent by a BPF program.
  EUNOMIA_EVENT_SAMPLE = 0,
  // The kernel dropped eunomia_event.lost records of a perf buffer. In JSON, data is
  // {"lost":N,"cpu":N}. In TEXT, it is "lost N events on CPU N". In RAW, it is empty: len is 0.
  EUNOMIA_EVENT_LOST = 1,
  // An entry of a map. In JSON, data is {"key":..,"value":..}.
  EUNOMIA_EVENT_MAP_ENTRY = 2,
  // The table header (TEXT only). If the callback ends the poll on this event, the first row still
  // follows.
  EUNOMIA_EVENT_HEADER = 3,
  // A line that a guest wrote to its standard output, without the newline. Always TEXT.
  EUNOMIA_EVENT_OUTPUT = 4,
  // A round of a sampled map is complete: all its entries have been delivered. data is empty.
  EUNOMIA_EVENT_ROUND = 5,
} eunomia_event_kind;

// Log severities. The vm logs messages at eunomia_options.log_level and more severe ones.
typedef enum eunomia_log_level {
  // Failures.
  EUNOMIA_LOG_ERROR = 1,
  // Problems that the vm works around. The default.
  EUNOMIA_LOG_WARN = 2,
  // Actions of the library.
  EUNOMIA_LOG_INFO = 3,
  // Messages of libbpf.
  EUNOMIA_LOG_DEBUG = 4,
} eunomia_log_level;

// Bits of eunomia_options.flags.
typedef enum eunomia_option_flag {
  // Pass events as bytes, not JSON, to guests that do not declare a format. Guests built for
  // eunomia-bpf 0.3.2 to 0.3.23 need this.
  EUNOMIA_WASM_RAW_EVENTS = 1,
  // Connect guests to the host's stdin, stdout and stderr. There are no EUNOMIA_EVENT_OUTPUT
  // events.
  EUNOMIA_WASM_STDIO = 2,
  // Skip a program whose hook (function or tracepoint) does not exist, with a warning in the log,
  // if the remaining programs can do the package's work. Without this flag, attach fails.
  EUNOMIA_SKIP_MISSING_HOOKS = 4,
  // Keep libbpf's own handlers for the sections fentry, fexit, fmod_ret, fsession, tp_btf and
  // iter. Without this flag the library replaces them with its own, which load faster. Handlers
  // belong to the whole process, so set this flag either for all vms of the process or for none.
  EUNOMIA_LIBBPF_SECTIONS = 8,
  // Attach each tracing program that supports it through a dispatcher, a small program that
  // calls the program of the current version. eunomia_replace can then replace packages of
  // tracing programs. A dispatcher costs 1 to 3 ns per event. Run counts and run times include
  // those of dispatchers.
  EUNOMIA_REPLACEABLE = 16,
} eunomia_option_flag;

// Bits of eunomia_replace_options.flags.
typedef enum eunomia_replace_flag {
  // Start with empty maps. By default a map keeps its content if the new version has a map of the
  // same name, type, flags and sizes, whose key and value have the same members.
  EUNOMIA_REPLACE_FRESH_MAPS = 1,
  // Fail if a map of both versions cannot keep its content.
  EUNOMIA_REPLACE_STRICT_MAPS = 2,
  // Use the values of the new version for variables, instead of those that the host has set, including by
  // eunomia_args_set.
  EUNOMIA_REPLACE_FRESH_VARS = 4,
  // Deliver all events of the old version before the first of the new one. No call delivers events
  // during the kernel's grace period, some 10 to 60 ms.
  EUNOMIA_REPLACE_ORDERED = 8,
  // Keep the old version loaded until eunomia_commit, so that eunomia_rollback can return to it.
  EUNOMIA_REPLACE_KEEP_OLD = 16,
  // Copy the entries of hashes and arrays, including per-CPU ones, that have more entries in the new
  // version, or whose values have new members after the old ones. New members are 0. Updates by programs
  // of the old version between the copy and the switch are lost; the report has their number.
  EUNOMIA_REPLACE_MIGRATE_MAPS = 32,
  // Keep the values of variables in .data and .bss, if the section has the same variables in both
  // versions.
  EUNOMIA_REPLACE_CARRY_DATA = 64,
  // Where programs cannot be swapped exactly, attach the new ones before the old ones are detached,
  // so that both handle some events. If there are such programs, EUNOMIA_REPLACE_KEEP_OLD is refused.
  // Several programs on XDP, tcx and cgroups are swapped one by one.
  EUNOMIA_REPLACE_ALLOW_OVERLAP = 128,
  // Like EUNOMIA_REPLACE_ALLOW_OVERLAP, which takes precedence, but detach the old programs before
  // the new ones are attached, so that some events are lost.
  EUNOMIA_REPLACE_ALLOW_GAP = 256,
} eunomia_replace_flag;

// Bits of the flags of eunomia_export.
typedef enum eunomia_export_flag {
  // Export the version that eunomia_prepare has loaded, not the running one.
  EUNOMIA_EXPORT_PREPARED = 1,
  // Export every descriptor: also programs, links and what eunomia_replace uses. Without this flag only
  // maps and perf events are exported, which is all that a reader needs. As long as a copy of the descriptor
  // of a link is open, some kinds of programs stay attached.
  EUNOMIA_EXPORT_ALL = 2,
} eunomia_export_flag;

// Kinds of types, without typedefs and qualifiers.
typedef enum eunomia_type_kind {
  // Signed integer.
  EUNOMIA_TYPE_INT = 1,
  // Unsigned integer.
  EUNOMIA_TYPE_UINT = 2,
  // Boolean.
  EUNOMIA_TYPE_BOOL = 3,
  // Character. An array of them is a string.
  EUNOMIA_TYPE_CHAR = 4,
  // Floating-point number of 4, 8 or 16 bytes.
  EUNOMIA_TYPE_FLOAT = 5,
  // Enumeration. Its fields are the constants.
  EUNOMIA_TYPE_ENUM = 6,
  // Pointer.
  EUNOMIA_TYPE_POINTER = 7,
  // Array. Its fields are the elements.
  EUNOMIA_TYPE_ARRAY = 8,
  // Structure.
  EUNOMIA_TYPE_STRUCT = 9,
  // Union.
  EUNOMIA_TYPE_UNION = 10,
} eunomia_type_kind;

// Kinds of event sources.
typedef enum eunomia_source_kind {
  // A ring buffer.
  EUNOMIA_SOURCE_RING = 1,
  // A perf buffer.
  EUNOMIA_SOURCE_PERF = 2,
  // A map that is read at an interval (a sampled map).
  EUNOMIA_SOURCE_MAP = 3,
} eunomia_source_kind;

// The completeness of a count of records that the kernel dropped.
typedef enum eunomia_lost_known {
  // Drops are not counted.
  EUNOMIA_LOST_NOT_COUNTED = 0,
  // Drops after the last record of a CPU are missing: before Linux 6.0 the kernel reports the drops
  // of a perf buffer with the next record on that CPU.
  EUNOMIA_LOST_REPORTED = 1,
  // All drops are counted.
  EUNOMIA_LOST_ALL = 2,
} eunomia_lost_known;

// Bits of eunomia_prog_info.flags.
typedef enum eunomia_prog_flag {
  // eunomia_load loads the program.
  EUNOMIA_PROG_AUTOLOAD = 1,
  // The program is loaded into the kernel.
  EUNOMIA_PROG_LOADED = 2,
  // The program is attached.
  EUNOMIA_PROG_ATTACHED = 4,
} eunomia_prog_flag;

// A set of vms that one thread polls. Created by eunomia_group_new, freed by eunomia_group_destroy.
typedef struct eunomia_group eunomia_group;

// The type of raw bytes. Belongs to a vm and is valid until eunomia_destroy.
typedef struct eunomia_type eunomia_type;

// A vm, which holds at most one package. Created by eunomia_new, freed by eunomia_destroy.
typedef struct eunomia_vm eunomia_vm;

// Receives one line of the log.
//
// Any thread that is inside a call on the vm may call the function. The function must not use the vm.
//
//   arg    eunomia_options.log_arg
//   level  an eunomia_log_level
//   text   the line without a newline, valid during the call
typedef void (*eunomia_log_fn)(void *arg, uint32_t level, const char *text);

// Settings of a new vm. Fields that are 0 or NULL have their defaults; see EUNOMIA_INIT.
typedef struct eunomia_options {
  // Set by the caller to sizeof(eunomia_options).
  size_t size;
  // An eunomia_log_level. 0: EUNOMIA_LOG_WARN.
  uint32_t log_level;
  // Bitmask of eunomia_option_flag.
  uint32_t flags;
  // Called for each line of the log until eunomia_destroy returns. NULL: no log.
  eunomia_log_fn log;
  // First argument of log.
  void *log_arg;
  // Kernel BTF: a file, or for kernels without BTF a directory laid out like BTFHub. NULL: the
  // running kernel's.
  const char *btf_path;
  // Directory for pinned maps. NULL: /sys/fs/bpf.
  const char *pin_path;
  // Pages of each perf buffer per CPU, a power of two. 0: the package's setting, or 64.
  uint32_t perf_pages;
  // Maximum number of events that one poll delivers. 0: 65536.
  uint32_t poll_budget;
  // Bytes of a guest's call stack. 0: 128 KiB.
  uint32_t wasm_stack;
  // Bytes of heap for a guest without a malloc of its own, at most 1 GiB. 0: 2 MiB.
  uint32_t wasm_heap;
  // Maximum bytes of a guest's memory, not counting wasm_heap. 0: 16 MiB.
  uint32_t wasm_memory;
  // Time limit for a guest to handle one event, in milliseconds. 0: 1000.
  uint32_t wasm_budget_ms;
  // NULL-terminated array of directories that guests may read. NULL: none.
  const char *const *wasm_dirs;
  // Limit in bytes for the kernel memory of a package, or of all packages that a guest loads.
  // It includes programs, types and maps; a map is counted as if it were full. Above the limit,
  // eunomia_load fails with EUNOMIA_ERR_NOMEM. Pinned maps are counted until eunomia_destroy. With
  // a limit, a package whose programs allocate objects (bpf_obj_new) is rejected, because these
  // cannot be counted. UINT64_MAX: no limit. 0: a quarter of the available memory, but at most 1
  // GiB, or 16 MiB per possible CPU if that is more.
  uint64_t max_kernel_memory;
} eunomia_options;

// An event. It and everything that it points to are valid until the callback returns. Before you read a
// field that was added after the first release, check that size includes it.
typedef struct eunomia_event {
  // Set by the library to its sizeof(eunomia_event).
  size_t size;
  // An eunomia_event_kind.
  uint32_t kind;
  // The eunomia_format of data and key.
  uint32_t format;
  // Name of the map, or of the iterator program, that the event came from.
  const char *source;
  // Raw bytes, or a NUL-terminated string. JSON does not end with a newline.
  const void *data;
  // Length of data in bytes, without the terminating NUL. Check it before you cast raw data to a struct.
  size_t len;
  // Key of a map entry, in the same format as data. Otherwise empty.
  const void *key;
  // Bytes of key, without the NUL.
  size_t key_len;
  // Type of raw data. NULL if the package does not specify it.
  const struct eunomia_type *type;
  // Number of dropped records (EUNOMIA_EVENT_LOST only).
  uint64_t lost;
  // CPU of a perf buffer's record. -1: unknown.
  int32_t cpu;
  // Reserved, always 0.
  uint32_t reserved;
  // Time when the event was read, in nanoseconds of CLOCK_MONOTONIC. The clock is read once per
  // batch of at most 1024 records, and once per round of a sampled map.
  uint64_t time_ns;
  // The pointer given to eunomia_group_add. NULL unless eunomia_group_poll delivers the event.
  void *member;
} eunomia_event;

// Receives one event.
//
// The function must return normally: no longjmp, no C++ exception, no thread exit.
//
//   arg    the argument given together with the callback
//   event  the event, valid during the call
//
// Returns: 0 to continue, > 0 to end the delivering call with success, < 0 to end it with
// EUNOMIA_ERR_CALLBACK.
typedef int (*eunomia_event_fn)(void *arg, const struct eunomia_event *event);

// The bytes of one record in a batch.
typedef struct eunomia_span {
  // Raw bytes. Those of a record are 8-byte aligned.
  const void *data;
  // Bytes of data. Check it before you cast data to a struct.
  size_t len;
} eunomia_span;

// A batch of events of one source. It and everything that it points to are valid until the callback
// returns. Before you read a field that was added after the first release, check that size includes it.
typedef struct eunomia_records {
  // Set by the library to its sizeof(eunomia_records).
  size_t size;
  // An eunomia_event_kind: SAMPLE, MAP_ENTRY, LOST or ROUND.
  uint32_t kind;
  // Index of the source; see eunomia_source_at.
  uint32_t source_index;
  // Name of the source's map.
  const char *source;
  // The records, or the value of a map entry.
  const struct eunomia_span *spans;
  // Number of spans. 1 for MAP_ENTRY; 0 for LOST and ROUND, which have no data.
  size_t count;
  // Key of a map entry. Otherwise empty.
  const void *key;
  // Bytes of key.
  size_t key_len;
  // Type of the data. NULL if the package does not specify it.
  const struct eunomia_type *type;
  // Number of dropped records (EUNOMIA_EVENT_LOST only).
  uint64_t lost;
  // CPU of a perf buffer's records. -1: unknown.
  int32_t cpu;
  // Reserved, always 0.
  uint32_t reserved;
  // Time when the records were read, as eunomia_event.time_ns.
  uint64_t time_ns;
} eunomia_records;

// Receives a batch of events of one source.
//
// The function must return normally: no longjmp, no C++ exception, no thread exit. All events of the
// batch are counted as delivered, whatever the function returns.
//
//   arg      the argument given together with the callback
//   records  the batch, valid during the call
//
// Returns: 0 to continue, > 0 to end the delivering call with success, < 0 to end it with
// EUNOMIA_ERR_CALLBACK.
typedef int (*eunomia_batch_fn)(void *arg, const struct eunomia_records *records);

// Event counters. Every record that entered a buffer of the kernel is delivered, or counted in
// lost_queue, guest_dropped or malformed. Records that did not fit are counted in lost_kernel;
// lost_known specifies how complete that count is.
typedef struct eunomia_stats {
  // Set by the caller to sizeof(eunomia_stats).
  size_t size;
  // Events delivered.
  uint64_t events;
  // Bytes of the delivered records, as the kernel wrote them.
  uint64_t bytes;
  // Records that did not fit into a buffer of the kernel. The kernel counts them for perf
  // buffers, but not for ring buffers. For ring buffers, the package's programs count them in
  // the map __eunomia_lost, which ecc adds unless --no-count-lost is given. Without that map,
  // they are missing here.
  uint64_t lost_kernel;
  // Records dropped because the queue was full.
  uint64_t lost_queue;
  // Events dropped by a guest.
  uint64_t guest_dropped;
  // Records that could not be decoded.
  uint64_t malformed;
  // Calls of eunomia_poll, eunomia_poll_batch and eunomia_read, and iterations of eunomia_run.
  uint64_t polls;
  // Number of times that the package was replaced.
  uint64_t replaces;
  // Runs of all programs. 0 unless sysctl kernel.bpf_stats_enabled is on.
  uint64_t run_count;
  // Total run time of all programs in nanoseconds. 0 unless that sysctl is on.
  uint64_t run_ns;
  // How complete lost_kernel is: an eunomia_lost_known. The source whose count is the least complete
  // decides.
  uint32_t lost_known;
  // Reserved, always 0.
  uint32_t reserved;
} eunomia_stats;

// The content of a buffer that eunomia_read or eunomia_map_dump has filled.
typedef struct eunomia_batch {
  // Set by the caller to sizeof(eunomia_batch).
  size_t size;
  // Bytes stored.
  size_t len;
  // Bytes required. After EUNOMIA_ERR_TOO_SMALL only this field is valid.
  size_t need;
  // Index of the source that the records came from; see eunomia_source_at. After
  // eunomia_replace, records of the old version have the index that their source had in the old
  // version.
  uint32_t source;
  // Number of records stored.
  uint32_t count;
  // Time when the first record was read, as eunomia_event.time_ns. 0 without records.
  uint64_t time_ns;
  // RAW: bytes from each record to the next if that is the same for all. Otherwise 0.
  uint32_t stride;
  // EUNOMIA_EVENT_SAMPLE, or EUNOMIA_EVENT_MAP_ENTRY for entries of a map.
  uint32_t kind;
  // Name of that source. NULL without records.
  const char *name;
  // Type of the records. NULL if the package does not specify it.
  const struct eunomia_type *type;
} eunomia_batch;

// Options of eunomia_replace. All zero is the default.
typedef struct eunomia_replace_options {
  // Set by the caller to sizeof(eunomia_replace_options).
  size_t size;
  // Bitmask of eunomia_replace_flag.
  uint32_t flags;
  // Reserved, must be 0.
  uint32_t reserved;
} eunomia_replace_options;

// File descriptors with which another process reads the events of this package, and a text that lists them.
typedef struct eunomia_exported {
  // Set by the caller to sizeof(eunomia_exported).
  size_t size;
  // Text. The first line identifies the object of the package. Then follows one line per descriptor, in
  // their order: "map NAME", "perf_event CPU PAGES MAP", "program NAME", "generation", and "link",
  // "dispatcher" or "slots" with the name of the program.
  const char *description;
  // The descriptors.
  const int *fds;
  // Number of descriptors.
  size_t count;
} eunomia_exported;

// A map of the package.
typedef struct eunomia_map_info {
  // Set by the caller to sizeof(eunomia_map_info).
  size_t size;
  // Name of the map, valid until the next call on the vm.
  const char *name;
  // A BPF_MAP_TYPE_* constant.
  uint32_t kind;
  // Bytes of a key.
  uint32_t key_size;
  // Bytes of a value, on one CPU.
  uint32_t value_size;
  // Maximum number of entries.
  uint32_t max_entries;
  // Type of a key. NULL if the package does not specify it.
  const struct eunomia_type *key_type;
  // Type of a value. NULL if the package does not specify it.
  const struct eunomia_type *value_type;
  // File descriptor of the map, which the vm closes. -1 before load.
  int fd;
  // Number of values per key: for a per-CPU map the number of possible CPUs, otherwise 1. A buffer
  // for the value of a per-CPU map has cpus * round_up(value_size, 8) bytes.
  uint32_t cpus;
  // Bytes of kernel memory when the map is full, as eunomia_options.max_kernel_memory counts them.
  // 0 if eunomia_load does not create the map.
  uint64_t bytes;
} eunomia_map_info;

// A source of events.
typedef struct eunomia_source_info {
  // Set by the caller to sizeof(eunomia_source_info).
  size_t size;
  // Name of the source's map, valid until the next call on the vm.
  const char *name;
  // An eunomia_source_kind.
  uint32_t kind;
  // Milliseconds between two rounds of a sampled map. Otherwise 0.
  uint32_t interval_ms;
  // Bytes of a record. 0 if the package does not specify them.
  uint32_t record_size;
  // Reserved, always 0.
  uint32_t reserved;
  // Type of a record, or of a sampled map's value. NULL if the package does not specify it.
  const struct eunomia_type *type;
  // Type of a sampled map's key. Otherwise NULL.
  const struct eunomia_type *key_type;
  // Events delivered from this source.
  uint64_t events;
  // Records of this source dropped by the kernel.
  uint64_t lost;
  // How complete lost is: an eunomia_lost_known. Always EUNOMIA_LOST_NOT_COUNTED for ring buffers,
  // whose drops are counted only in total; see eunomia_stats.lost_kernel.
  uint32_t lost_known;
  // Reserved, always 0.
  uint32_t reserved1;
} eunomia_source_info;

// A program of the package. The strings are valid until the next call on the vm.
typedef struct eunomia_prog_info {
  // Set by the caller to sizeof(eunomia_prog_info).
  size_t size;
  // Name of the program.
  const char *name;
  // ELF section, which specifies the hook.
  const char *section;
  // Target as given to eunomia_prog_set_target_json. "" if none was given.
  const char *target;
  // A BPF_PROG_TYPE_* constant.
  uint32_t type;
  // Bitmask of eunomia_prog_flag.
  uint32_t flags;
  // The kernel's ID of the program. 0 before load.
  uint32_t id;
  // Reserved, always 0.
  uint32_t reserved;
  // Number of runs. 0 unless sysctl kernel.bpf_stats_enabled is on.
  uint64_t run_count;
  // Total run time in nanoseconds. 0 unless that sysctl is on.
  uint64_t run_ns;
} eunomia_prog_info;

// A member of a struct or union, an element of an array, or a constant of an enum.
typedef struct eunomia_field {
  // Set by the caller to sizeof(eunomia_field).
  size_t size;
  // Name, valid as long as the type. "" for an anonymous member or an element.
  const char *name;
  // Type of the member or element. For a constant the integer type of the enum.
  const struct eunomia_type *type;
  // Offset from the start of the outer type, in bits.
  uint32_t bit_offset;
  // Width in bits. A multiple of 8 except for bit-fields.
  uint32_t bit_size;
  // Value of a constant, otherwise 0. Cast it to uint64_t if type is unsigned.
  int64_t value;
} eunomia_field;

// Input of eunomia_prog_run, and the buffers for its output.
typedef struct eunomia_prog_input {
  // Set by the caller to sizeof(eunomia_prog_input).
  size_t size;
  // Packet for the program. NULL: none.
  const void *data;
  // Bytes of data.
  size_t data_len;
  // Context for the program, a struct that depends on its type. NULL: the default context.
  const void *ctx;
  // Bytes of ctx.
  size_t ctx_len;
  // Receives the packet after the last run. NULL: not wanted.
  void *data_out;
  // Capacity of data_out in bytes.
  size_t data_out_cap;
  // Receives the context after the last run. NULL: not wanted.
  void *ctx_out;
  // Capacity of ctx_out in bytes.
  size_t ctx_out_cap;
  // Number of runs. 0 is one run. Must be 0 for raw tracepoint programs.
  uint32_t repeat;
  // Reserved, must be 0.
  uint32_t reserved;
} eunomia_prog_input;

// Result of eunomia_prog_run.
typedef struct eunomia_prog_result {
  // Set by the caller to sizeof(eunomia_prog_result).
  size_t size;
  // Return value of the last run.
  uint32_t return_value;
  // Mean time of one run in nanoseconds. 0 for types of programs that the kernel does not time.
  uint32_t duration_ns;
  // Bytes of the packet after the last run. After EUNOMIA_ERR_TOO_SMALL, the required capacity.
  size_t data_len;
  // Bytes of the context after the last run. After EUNOMIA_ERR_TOO_SMALL, the required capacity.
  size_t ctx_len;
} eunomia_prog_result;

// Header of each record in a RAW batch. The record follows, then its key, each 8-byte aligned.
typedef struct eunomia_record {
  // Bytes from this header to the next.
  uint32_t size;
  // Bytes of the record.
  uint32_t len;
  // Bytes of the key. 0 unless the record is a map entry.
  uint32_t key_len;
  // CPU of a perf buffer's record. -1: unknown.
  int32_t cpu;
} eunomia_record;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// ---- Version: any thread, any time ----
//
// Returns the EUNOMIA_VERSION_NUM of the library in use, which may be newer than this header.
uint32_t eunomia_version(void);

// Returns a human-readable line with the versions of the library, of libbpf and of WAMR, and the
// kind of build. The string is static.
const char *eunomia_version_string(void);

// Returns a bitmask of the eunomia_kind values that this build can open.
uint32_t eunomia_kinds(void);

// Returns the name of a status, such as "EUNOMIA_ERR_TYPE". The string is static and never NULL.
//
//   status  a value returned by a function; every value >= 0 is "EUNOMIA_OK"
const char *eunomia_status_name(int status);

// ---- Life cycle ----
//
// Creates an empty vm.
//
//   out      receives the vm; free it with eunomia_destroy
//   options  settings, copied; NULL for the defaults
//
// On failure there is no vm to call eunomia_errmsg with. The message goes to options->log, and
// errno is set: with EUNOMIA_ERR_SYSTEM to the error of the system call, with EUNOMIA_ERR_INVAL,
// NOMEM and UNSUPPORTED to EINVAL, ENOMEM and ENOTSUP. strerror(errno) is meaningful only with
// these statuses.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_INVAL        out is NULL, or an option is out of range or unknown
//   EUNOMIA_ERR_NOMEM        out of memory
//   EUNOMIA_ERR_SYSTEM       no file descriptor is left
//   EUNOMIA_ERR_UNSUPPORTED  the libbpf in use is not the one that the library was built with
//   EUNOMIA_ERR_INTERNAL     a bug in the library
int eunomia_new(struct eunomia_vm **out, const struct eunomia_options *options);

// Detaches and unloads the package and frees the vm.
//
//   vm  may be NULL
//
// Pinned maps stay pinned. A vm that is in a group leaves it, as by eunomia_group_remove. While a
// call on the vm is in progress, and in a callback for an event of the vm, the function logs an
// error and does nothing. After fork, the child may call this function; it does not affect the
// parent's programs.
//
// A process that exits or is killed without eunomia_destroy leaves nothing attached except classic
// tc filters. Such a filter stays until the same program is attached again, or until "tc filter
// del".
void eunomia_destroy(struct eunomia_vm *vm);

// Opens a package from memory. On failure the vm stays empty.
//
//   data   the package, copied
//   len    bytes of data
//   kinds  bitmask of the accepted eunomia_kind values
//
// Returns: the eunomia_kind of the package or
//   EUNOMIA_ERR_PACKAGE      the package is malformed, or of a kind that kinds does not accept
//   EUNOMIA_ERR_UNSUPPORTED  the package is for another machine, or this build cannot run its kind
//   EUNOMIA_ERR_STATE        the vm has a package already
int eunomia_open(struct eunomia_vm *vm, const void *data, size_t len, uint32_t kinds);

// Opens a package from a file. On failure the vm stays empty, and eunomia_errmsg begins with path.
//
//   path   path of the file
//   kinds  bitmask of the accepted eunomia_kind values
//
// Returns: as eunomia_open or
//   EUNOMIA_ERR_NOT_FOUND  the file does not exist
//   EUNOMIA_ERR_PERM       the file may not be read
//   EUNOMIA_ERR_SYSTEM     reading the file failed
int eunomia_open_file(struct eunomia_vm *vm, const char *path, uint32_t kinds);

// Opens a BPF object and its metadata from memory. On failure the vm stays empty.
//
//   elf        the object (ELF), copied
//   len        bytes of elf
//   meta_json  the skeleton JSON, copied; NULL to derive the metadata from the object's BTF
//
// Returns: EUNOMIA_KIND_JSON, or an error as for eunomia_open.
int eunomia_open_object(struct eunomia_vm *vm, const void *elf, size_t len, const char *meta_json);

// Creates the maps and loads the programs, which the kernel verifies.
//
// On failure the package is unloaded and stays open. The process must be root or have CAP_BPF and
// CAP_PERFMON, and CAP_NET_ADMIN for network programs.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_VERIFIER     the verifier rejected a program; eunomia_errdetail returns its log
//   EUNOMIA_ERR_PERM         a privilege is missing
//   EUNOMIA_ERR_UNSUPPORTED  the kernel lacks a feature
//   EUNOMIA_ERR_NOMEM        out of memory, or above options.max_kernel_memory
//   EUNOMIA_ERR_PACKAGE      the kernel or libbpf rejected the object or one of its maps
//   EUNOMIA_ERR_STATE        no package is open, or it is loaded already
//   EUNOMIA_ERR_STOPPED      eunomia_stop was called
//   EUNOMIA_ERR_SYSTEM       a system call failed
int eunomia_load(struct eunomia_vm *vm);

// Attaches all programs. Loads the package first if it is not loaded.
//
// On failure no program stays attached, and a package that this call loaded is unloaded.
//
// Returns: EUNOMIA_OK, an error as for eunomia_load, or
//   EUNOMIA_ERR_ATTACH     a program could not be attached
//   EUNOMIA_ERR_NOT_FOUND  the package attaches to something that does not exist
//   EUNOMIA_ERR_INVAL      a target set with eunomia_prog_set_target_json does not exist, or has a
//                          key that does not apply to the program
//   EUNOMIA_ERR_STATE      no package is open, or it is attached already
//   EUNOMIA_ERR_STOPPED    eunomia_stop was called
int eunomia_attach(struct eunomia_vm *vm);

// Detaches all programs. Maps, variables and counters stay, and eunomia_attach may be called again.
//
// The next eunomia_poll or eunomia_read delivers a last round of each sampled map, unless a queue
// is running.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE  the package is not loaded
int eunomia_detach(struct eunomia_vm *vm);

// ---- Errors: the last failed call on a vm ----
//
// Returns a one-line human-readable message that names the object and the offending value.
//
//   vm  may be NULL
//
// Returns: the message, valid until the next call on the vm. It is never NULL. If no call has
// failed, it is "". If vm is NULL or another thread is inside a call, it is a fixed string. A call
// that fails because of another thread (EUNOMIA_ERR_BUSY) does not change the message. If the last
// failed call of this thread was eunomia_replace, eunomia_prepare, eunomia_flip, eunomia_abort,
// eunomia_commit, eunomia_rollback or eunomia_adopt, this thread gets the message of that call, even
// while another thread is inside a call.
const char *eunomia_errmsg(const struct eunomia_vm *vm);

// Returns the long message of the last failed call, such as the verifier's log. It can be megabytes
// long.
//
//   vm  may be NULL
//
// Returns: the message, valid until the next call on the vm; "" if there is none. It is never NULL.
const char *eunomia_errdetail(const struct eunomia_vm *vm);

// Returns the errno of the last failed call; 0 if it has none.
int eunomia_errsys(const struct eunomia_vm *vm);

// Returns what the last failed call was about.
//
//   name  receives the name of the variable, map or program, or the path, valid until the next call
//         on the vm; "" if there is none; may be NULL
//
// Returns: an eunomia_subject.
int eunomia_errsubject(const struct eunomia_vm *vm, const char **name);

// ---- Global variables, by name (eunomia_describe lists them) ----
//
// Sets a variable from JSON.
//
//   name  name of the variable
//   json  the value: a number, a string for char[], an object for a struct, and so on
//
// Constants (.rodata) can be set before load only, other variables at any time. Members that a JSON
// object leaves out keep their values. The library reads these members and writes them
// back, so a change that a program makes to them in between may be lost.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such variable
//   EUNOMIA_ERR_INVAL      the JSON is malformed
//   EUNOMIA_ERR_TYPE       the value does not fit, or the type is too large or nested for JSON
//   EUNOMIA_ERR_STATE      no package is open, or it is loaded and the variable is a constant
int eunomia_var_set_json(struct eunomia_vm *vm, const char *name, const char *json);

// Sets a variable from bytes.
//
//   name  name of the variable
//   data  the value
//   len   bytes of data; must be the size of the variable
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such variable
//   EUNOMIA_ERR_TYPE       len is not the size of the variable
//   EUNOMIA_ERR_STATE      no package is open, or it is loaded and the variable is a constant
int eunomia_var_set(struct eunomia_vm *vm, const char *name, const void *data, size_t len);

// Returns the current value of a variable as JSON.
//
//   name  name of the variable
//   out   receives the JSON, valid until the next call on the vm
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such variable
//   EUNOMIA_ERR_TYPE       the type is too large or nested for JSON
//   EUNOMIA_ERR_STATE      no package is open
int eunomia_var_get_json(struct eunomia_vm *vm, const char *name, const char **out);

// Copies the current value of a variable into a buffer.
//
//   name  name of the variable
//   buf   the buffer; may be NULL if *len is 0
//   len   in: bytes of buf; out: size of the value
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such variable
//   EUNOMIA_ERR_TOO_SMALL  buf is too small; *len is set, so a call with *len == 0 queries the size
//   EUNOMIA_ERR_STATE      no package is open
int eunomia_var_get(struct eunomia_vm *vm, const char *name, void *buf, size_t *len);

// ---- The command line that a package describes ----
//
// Parses a command line and sets the variables that belong to its options.
//
//   argc  number of arguments
//   argv  the arguments, beginning with the program's name
//
// If the command line asks for help or the version, no variable is set, and eunomia_args_help
// returns the requested text.
//
// Returns: EUNOMIA_OK, 1 if help or the version was requested, or
//   EUNOMIA_ERR_INVAL  the command line is malformed
//   EUNOMIA_ERR_TYPE   a value does not fit its variable
//   EUNOMIA_ERR_STATE  no package is open, or it is loaded and an option sets a constant
int eunomia_args_set(struct eunomia_vm *vm, int argc, const char *const *argv);

// Returns the help text of the package's command line. After eunomia_args_set returned 1, returns
// the requested text.
//
//   out  receives the text, valid until the next call on the vm
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE  no package is open
int eunomia_args_help(struct eunomia_vm *vm, const char **out);

// ---- Events ----
//
// Waits for events and calls a function for each of them.
//
//   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
//   format      an eunomia_format
//   callback    called for each event, in this thread
//   arg         first argument of callback; may be NULL
//
// The call waits until there are events, delivers at most options.poll_budget of them, and returns.
// A signal does not end the wait. A sampled map delivers at each interval, so a loop "until poll
// returns 0" ends only if timeout_ms is below the interval.
//
// Returns: the number of events, 0 after the timeout, or
//   EUNOMIA_ERR_STOPPED   eunomia_stop was called
//   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
//   EUNOMIA_ERR_STATE     the package is not loaded
//   EUNOMIA_ERR_SYSTEM    a system call failed
int eunomia_poll(struct eunomia_vm *vm,
                 int timeout_ms,
                 uint32_t format,
                 eunomia_event_fn callback,
                 void *arg);

// Waits for events as eunomia_poll does, and calls a function for each batch of raw records. This is the
// fastest way to receive many events.
//
//   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
//   callback    called for each batch, in this thread
//   arg         first argument of callback; may be NULL
//
// A batch has at most 256 records of one ring buffer, or of one CPU of a perf buffer, or one map
// entry. Records of a ring buffer are not copied: they are in the memory that the kernel wrote them
// to, and the kernel reuses that memory only after the callback has returned. With
// eunomia_queue_start, a batch has one record.
//
// Returns: the number of events, 0 after the timeout, or
//   EUNOMIA_ERR_STOPPED   eunomia_stop was called
//   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
//   EUNOMIA_ERR_STATE     the package is not loaded
//   EUNOMIA_ERR_SYSTEM    a system call failed
int eunomia_poll_batch(struct eunomia_vm *vm,
                       int timeout_ms,
                       eunomia_batch_fn callback,
                       void *arg);

// Polls until eunomia_stop is called or callback returns a value > 0.
//
//   format    an eunomia_format
//   callback  called for each event, in this thread
//   arg       first argument of callback; may be NULL
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
//   EUNOMIA_ERR_STATE     the package is not loaded
//   EUNOMIA_ERR_SYSTEM    a system call failed
int eunomia_run(struct eunomia_vm *vm, uint32_t format, eunomia_event_fn callback, void *arg);

// Returns a file descriptor for the host's event loop. Any thread, any time.
//
// The descriptor is readable when eunomia_poll with a timeout of 0 has something to do, which
// includes reporting a stop. Watch it level-triggered. It stays the same until eunomia_destroy. Do
// not read from it or close it.
//
// Returns: the descriptor, or EUNOMIA_ERR_INVAL if vm is NULL.
int eunomia_epoll_fd(const struct eunomia_vm *vm);

// Requests a stop. Any thread, any time, and signal handlers. Preserves errno.
//
//   vm  may be NULL
//
// A stop ends a running eunomia_poll, eunomia_poll_batch, eunomia_read, eunomia_load, eunomia_attach
// or eunomia_wasm_run with EUNOMIA_ERR_STOPPED, and eunomia_run with EUNOMIA_OK. If none of them is
// running, it ends the next one. A load stops when the kernel has created the current map or program.
// Several stops before one of these calls ends have the effect of one.
//
// Before eunomia_destroy, make sure that no signal handler can still pass this vm; NULL is allowed.
void eunomia_stop(struct eunomia_vm *vm);

// Pauses or resumes the delivery of events. Any thread, any time.
//
//   on  not 0 to pause, 0 to resume
//
// During a pause, records stay in the kernel's buffers and do not make eunomia_epoll_fd readable.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_SYSTEM  a system call failed
int eunomia_pause(struct eunomia_vm *vm, int on);

// Returns the event counters. Any thread, any time.
//
//   out  receives the counters; set out->size first
//
// Returns: EUNOMIA_OK.
int eunomia_stats_get(const struct eunomia_vm *vm, struct eunomia_stats *out);

// Waits for records and stores as many records of one source as fit in a buffer. Use it instead of
// eunomia_poll where callbacks are expensive, as from many other languages.
//
//   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
//   format      an eunomia_format
//   buf         the buffer; must be 8-byte aligned for RAW
//   cap         bytes of buf
//   out         receives what was stored; set out->size first
//
// In RAW, an eunomia_record precedes each record in buf. In JSON and TEXT, each record is one
// line. If all records in buf have the same size, out->stride is the distance between them: record
// i begins at i * stride. Otherwise out->stride is 0.
//
// Returns: the number of records, 0 after the timeout, or
//   EUNOMIA_ERR_TOO_SMALL  the next record needs out->need bytes; it is kept for the next call
//   EUNOMIA_ERR_STOPPED    eunomia_stop was called
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_SYSTEM     a system call failed
int eunomia_read(struct eunomia_vm *vm,
                 int timeout_ms,
                 uint32_t format,
                 void *buf,
                 size_t cap,
                 struct eunomia_batch *out);

// Starts a thread that moves records from the kernel's buffers to a queue in memory while the host
// is busy.
//
//   max_bytes  capacity of the queue, at most 1 GiB; a value below 128 KiB is raised to 128 KiB
//
// When the queue is full, new records are dropped and counted in eunomia_stats.lost_queue.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_INVAL   max_bytes is more than 1 GiB
//   EUNOMIA_ERR_STATE   the package is not loaded, the thread is running already, or the records of
//                       an earlier queue have not all been delivered
//   EUNOMIA_ERR_SYSTEM  a system call failed
int eunomia_queue_start(struct eunomia_vm *vm, size_t max_bytes);

// Stops the queue's thread. Later polls first deliver the records that are still in the queue.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE  the thread is not running
int eunomia_queue_stop(struct eunomia_vm *vm);

// Runs an attached iterator program and calls a function for its output.
//
//   prog      name of the program
//   callback  called for each line of text (TEXT), or for each piece of binary output (RAW)
//   arg       first argument of callback; may be NULL
//
// Returns: the number of lines or pieces, or
//   EUNOMIA_ERR_NOT_FOUND  no such program
//   EUNOMIA_ERR_INVAL      the program is not an iterator
//   EUNOMIA_ERR_STATE      the program is not attached
//   EUNOMIA_ERR_CALLBACK   callback returned a value < 0
//   EUNOMIA_ERR_SYSTEM     a system call failed
int eunomia_iter_each(struct eunomia_vm *vm,
                      const char *prog,
                      eunomia_event_fn callback,
                      void *arg);

// ---- Groups: many vms, polled by one thread with one call ----
//
// Creates an empty group.
//
//   out  receives the group; free it with eunomia_group_destroy
//
// A group costs less than a loop over the descriptors of its vms, because it finds waiting records
// without a system call. A vm is in at most one group. Every other function may still be called on
// a vm in a group.
//
// On failure errno is set.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_INVAL   out is NULL
//   EUNOMIA_ERR_SYSTEM  no file descriptor is left
int eunomia_group_new(struct eunomia_group **out);

// Frees the group. Its vms leave it and stay as they are.
//
//   group  may be NULL
//
// If a call of eunomia_group_poll is in progress, the function does nothing.
void eunomia_group_destroy(struct eunomia_group *group);

// Adds a vm to the group, in any state of its life cycle. Any thread, any time, also in callbacks.
//
//   vm      the vm; it leaves the group when it is destroyed
//   member  returned in eunomia_event.member with each event of the vm, such as a pointer to the
//           host's own data about it; may be NULL
//
// A failure of this call sets no message.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE   the vm is in a group already
//   EUNOMIA_ERR_SYSTEM  a system call failed
int eunomia_group_add(struct eunomia_group *group, struct eunomia_vm *vm, void *member);

// Removes a vm from the group. Any thread, any time, also in callbacks.
//
// If another thread is in a callback for an event of the vm, the call waits until that has returned, so
// the callback must not wait for this thread. No event of the vm is delivered after the call.
//
// A failure of this call sets no message.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  the vm is not in this group
int eunomia_group_remove(struct eunomia_group *group,
                         struct eunomia_vm *vm);

// Waits for events of all vms of the group and calls a function for each of them.
//
//   timeout_ms  milliseconds to wait; 0 does not wait, a negative value waits without limit
//   format      an eunomia_format
//   callback    called for each event, in this thread; eunomia_event.member is the vm's member
//   arg         first argument of callback; may be NULL
//
// In each call, every vm with events delivers at most options.poll_budget events (by default
// 1024), so that a busy vm does not delay the others. A vm that is not loaded, is paused or is in
// use by another thread is skipped.
//
// The callback may add, remove and destroy vms, but it must not destroy the vm that its event
// comes from. A vm that fails leaves the group, and a later call of eunomia_group_poll returns its
// error. eunomia_group_errmsg then returns its message and member. The other vms are not affected.
// eunomia_stop on a vm of the group is reported in the same way, as EUNOMIA_ERR_STOPPED.
//
// Returns: the number of events, 0 after the timeout, or
//   EUNOMIA_ERR_STOPPED   eunomia_group_stop was called, or eunomia_stop on a vm of the group
//   EUNOMIA_ERR_CALLBACK  callback returned a value < 0
//   EUNOMIA_ERR_BUSY      another thread polls the group, or this is a callback of it
//   EUNOMIA_ERR_SYSTEM    a system call failed
int eunomia_group_poll(struct eunomia_group *group,
                       int timeout_ms,
                       uint32_t format,
                       eunomia_event_fn callback,
                       void *arg);

// Requests a stop. Any thread, any time, and signal handlers. Preserves errno.
//
//   group  may be NULL
//
// A stop ends a running eunomia_group_poll, or else the next one, with EUNOMIA_ERR_STOPPED. Several
// stops before that call ends have the effect of one. The vms are not stopped.
void eunomia_group_stop(struct eunomia_group *group);

// Returns a file descriptor for the host's event loop. Any thread, any time.
//
// The descriptor is readable when eunomia_group_poll with a timeout of 0 has something to do. Watch it
// level-triggered. It stays the same until eunomia_group_destroy. Do not read from it or close it.
//
// Returns: the descriptor, or EUNOMIA_ERR_INVAL if group is NULL.
int eunomia_group_epoll_fd(const struct eunomia_group *group);

// Returns a one-line human-readable message about the last failed eunomia_group_poll.
//
//   group   may be NULL
//   member  receives the member of the vm that failed and left the group, or NULL if no vm
//           failed; may be NULL
//
// Returns: the message, valid until the next call on the group. It is never NULL. If no call has
// failed, it is "". If group is NULL or another thread is inside a call, it is a fixed string.
const char *eunomia_group_errmsg(const struct eunomia_group *group, void **member);

// ---- Replacing the running package: any thread, any time ----
//
// Replaces the package with a new version while events flow. A failure changes nothing.
//
//   data     the new package (JSON), or the new module if a WASM module is open; copied
//   len      bytes of data
//   options  NULL for the defaults
//
// Exactly one of the two versions handles each event of the kernel. Events of the old version are
// delivered with the types of the old version, even after this function has returned. Variables,
// map sizes, autoload and targets that the host has set apply to the new version. A map keeps its
// content if both versions define it alike; see eunomia_replace_flag. All other maps start empty, and
// all other variables have their initial values. If the new package equals the running one, nothing
// changes.
//
// The package must be attached. With EUNOMIA_REPLACEABLE it may have any number of programs on
// kprobes, uprobes, tracepoints, raw tracepoints, perf events, BTF tracepoints, functions (fentry,
// fexit) and LSM hooks. In any vm it may be one program whose link the kernel can update: XDP, tcx,
// cgroup, sk_lookup, flow dissector.
//
// A WASM module can be replaced while its guest is running. The guest is ended, and eunomia_wasm_run
// continues with the new guest and the same arguments. No program runs in between. The maps of the
// guest's packages keep their content as above. The options have no effect. The report has only times:
// load_ms for compiling the new module, flip_ms for ending the old guest.
//
// This function may be called while another thread is inside eunomia_poll or a similar call. If no
// other call is in progress, a failure also becomes the last error of the vm, and the strings that
// eunomia_errmsg and similar functions returned before become invalid. eunomia_replace_report always
// has the message of the failure.
//
// Returns: EUNOMIA_OK, an error as for eunomia_open, eunomia_load and eunomia_attach, or
//   EUNOMIA_ERR_UNSUPPORTED  a program of the package cannot be replaced
//   EUNOMIA_ERR_NOT_FOUND    the new version lacks a variable, map or program that the host has set
//   EUNOMIA_ERR_TYPE         such a variable has another type in the new version, or a map does not fit
//                            and options has EUNOMIA_REPLACE_STRICT_MAPS
//   EUNOMIA_ERR_STATE        the package is not attached, or an old version is kept
//   EUNOMIA_ERR_BUSY         called in a callback of the vm, during another replace, or while a version
//                            is prepared
int eunomia_replace(struct eunomia_vm *vm,
                    const void *data,
                    size_t len,
                    const struct eunomia_replace_options *options);

// Returns the result of the last eunomia_replace, eunomia_prepare, eunomia_flip or eunomia_rollback, or
// of the last failed eunomia_commit or eunomia_abort, as a JSON object. Any thread, any time, but only
// one thread at a time.
//
// The object has the following keys; later releases may add others. After eunomia_prepare, the times of
// later phases are 0. After eunomia_rollback, the arrays programs and maps are empty.
//   unchanged        whether the package equals the running one; then nothing was done
//   programs         name, section, change ("swapped", "added", "moved", "dropped"; "overlap" or "gap" if
//                    options allow it)
//   doubled          events that both versions have handled because of EUNOMIA_REPLACE_ALLOW_OVERLAP; null if
//                    unknown
//   gap_ms           milliseconds in which neither version was attached because of
//                    EUNOMIA_REPLACE_ALLOW_GAP
//   maps             name, change ("carried", "migrated" or "fresh"), reason (why it is not carried)
//   migrated         name, entries (number of copied entries) and updates_lost (number of entries that
//                    the old version changed after the copy) of each migrated map
//   load_ms          milliseconds of opening, comparing, loading and attaching
//   flip_ms          milliseconds of the switch
//   grace_ms         milliseconds of the wait for programs of the old version
//   grace_complete   whether that wait was long enough; false if the kernel has no way to wait, or if
//                    nothing was done
//   events_from_old  events of the old version that were delivered after the switch, until now
// After a failure:
//   error, detail, errno, subject_kind, subject  as the functions eunomia_err* return them
//
// Returns: the string, valid until the next call of this function or of one of the functions above;
// NULL before the first such call.
const char *eunomia_replace_report(struct eunomia_vm *vm);

// ---- Replacing in phases: any thread, any time ----
//
// These functions are the steps of eunomia_replace, for hosts that switch several things at the same
// moment, or that may have to return to the old version. Like eunomia_replace, they may be called while
// another thread is inside eunomia_poll, and they report failures in the same way.
//
//   prepare, flip                           does the same as eunomia_replace
//   prepare, abort                          changes nothing
//   prepare with KEEP_OLD, flip, commit     ends the old version later
//   prepare with KEEP_OLD, flip, rollback   returns to the old version
//
// Prepares a new version: does the part of eunomia_replace that can fail or takes long. It opens, compares
// and loads the new version, and attaches its programs to hooks that only the new version has. These
// programs do not run before eunomia_flip. The running version keeps running.
//
//   data     the new package (JSON), copied
//   len      bytes of data
//   options  NULL for the defaults
//
// The vm keeps the prepared version until eunomia_flip, eunomia_abort or eunomia_destroy. Until then,
// eunomia_replace, eunomia_commit and eunomia_rollback return EUNOMIA_ERR_BUSY. Settings that the host
// changes after this call do not apply to the prepared version. eunomia_replace_report returns what will
// happen to programs and maps. If the package equals the running one, "unchanged" is true in the
// report, and eunomia_flip does nothing.
//
// Returns: as eunomia_replace.
int eunomia_prepare(struct eunomia_vm *vm,
                    const void *data,
                    size_t len,
                    const struct eunomia_replace_options *options);

// Switches to the prepared version and waits until no program of the old version is running. Then it
// closes the old version, unless options had EUNOMIA_REPLACE_KEEP_OLD. Later calls of eunomia_poll
// deliver the remaining events of the old version. eunomia_replace_report returns the times.
//
// After a failure the old version runs as before, and the prepared version has been unloaded.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE   no version is prepared, or the package has been detached
//   EUNOMIA_ERR_BUSY    called in a callback of the vm
//   EUNOMIA_ERR_ATTACH  the kernel refuses a program
//   EUNOMIA_ERR_SYSTEM  no file descriptor or memory is left
int eunomia_flip(struct eunomia_vm *vm);

// Unloads the prepared version. The running version is not affected.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE  no version is prepared
int eunomia_abort(struct eunomia_vm *vm);

// Closes the old version that EUNOMIA_REPLACE_KEEP_OLD has kept. Its remaining events are still
// delivered. eunomia_detach closes it as well.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE  no old version is kept
//   EUNOMIA_ERR_BUSY   called in a callback of the vm, during a replace, or while a version is prepared
int eunomia_commit(struct eunomia_vm *vm);

// Switches back to the old version that is kept, without loading anything. The newer version is closed
// when none of its programs is running. Maps that both versions use keep their content; other maps of
// the old version have the content that they had at the replace.
//
// After a failure the newer version still runs, and the old version is still kept.
//
// Returns: as eunomia_commit or
//   EUNOMIA_ERR_STATE   also if the package has been detached
//   EUNOMIA_ERR_ATTACH  the kernel refuses a program
//   EUNOMIA_ERR_SYSTEM  no file descriptor or memory is left
int eunomia_rollback(struct eunomia_vm *vm);

// Returns whether all events of older versions have been delivered and no further ones can follow.
//
// Returns: 1 if so, or if no package was ever replaced; 0 if not; or
//   EUNOMIA_ERR_BUSY  called in a callback of the vm
int eunomia_drained(struct eunomia_vm *vm);

// ---- A package in two processes ----
//
// One process, the loader, has the capabilities that loading requires. Another one, the reader, has none
// and gets the events. The loader passes three things to the reader, for example through a socket: the
// bytes of the package, the description, and the descriptors (SCM_RIGHTS, at most 253 in a message).
//
//   step          loader                                  reader
//   start         attach, export                          new, import, poll
//   new version   prepare, export (EXPORT_PREPARED)       adopt
//                 flip                                    polls both versions
//                 drained: whether the reader has read    commit
//                 all events of the old version
//   or instead    abort, or rollback                      rollback
//
// The reader adopts a version before the loader flips. A reader reads maps and variables, and gets
// events by every function that delivers them; calls that change the package return EUNOMIA_ERR_STATE.
// It needs no capability from Linux 6.0 on. On older kernels, map calls need CAP_BPF unless the sysctl
// kernel.unprivileged_bpf_disabled is 0.
//
// Copies descriptors of the package for another process. With the first export this vm stops reading:
// eunomia_poll, eunomia_run, eunomia_read and similar calls, eunomia_queue_start and eunomia_replace
// return EUNOMIA_ERR_STATE from then on. All other calls work as before. A later export is for another
// reader, which continues where the previous reader has stopped; only one may read at a time.
//
//   flags  bitmask of eunomia_export_flag
//   out    receives the descriptors and their description
//
// The descriptors are the caller's: close them after they have been sent. They are close-on-exec. The
// array that has their numbers and the description are valid until the next call on the vm. Keep the
// vm: eunomia_destroy detaches the package, and programs can write to a perf buffer only as long as
// the process that opened it has it mapped.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE   the package is not loaded, or is imported; the vm is in a group; there are events
//                       that the reader would miss (in the queue, kept for the next eunomia_read, or of an
//                       old version); with EUNOMIA_EXPORT_PREPARED: no version is prepared, it is the
//                       running one, or the running one is not exported
//   EUNOMIA_ERR_SYSTEM  no file descriptor is left
// After a failure the vm reads as before.
int eunomia_export(struct eunomia_vm *vm,
                   uint32_t flags,
                   struct eunomia_exported *out);

// Makes an empty vm the reader of a package that another process has loaded, instead of eunomia_open,
// eunomia_load and eunomia_attach. After a failure the vm is empty as before.
//
//   data      the package, copied
//   len       bytes of data
//   exported  the description that the loader has sent, and the descriptors in the same order. Both are
//             copied: close the descriptors after the call, also after a failure.
//
// Of the options of the vm, those for log, paths and polling apply. eunomia_destroy detaches nothing.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_INVAL    the descriptors belong to another package, do not match the description, or
//                        are too few
//   EUNOMIA_ERR_PACKAGE  the package is malformed
//   EUNOMIA_ERR_PERM     the kernel refuses access
//   EUNOMIA_ERR_STATE    the vm has a package already
//   EUNOMIA_ERR_SYSTEM   a system call failed
int eunomia_import(struct eunomia_vm *vm,
                   const void *data,
                   size_t len,
                   const struct eunomia_exported *exported);

// Makes the vm of a reader read the next version of its package, too. It polls the buffers of both
// versions and delivers the events of each with their own types. Any thread may call it, also while another
// one polls.
//
//   data, len, exported  as for eunomia_import
//
// The loader flips after this. When its eunomia_flip has returned, call eunomia_commit: the old buffers are
// closed as soon as they are empty. If the loader unloads the new version or rolls back, call
// eunomia_rollback. Errors are reported as for eunomia_replace.
//
// Returns: as eunomia_import or
//   EUNOMIA_ERR_STATE  the vm was not imported, or still has an old version
//   EUNOMIA_ERR_BUSY   called in a callback of the vm, or during another such call
int eunomia_adopt(struct eunomia_vm *vm,
                  const void *data,
                  size_t len,
                  const struct eunomia_exported *exported);

// ---- Maps, by name ----
//
// Returns the number of maps of the package, including those of global variables (.data and so on).
int eunomia_map_count(const struct eunomia_vm *vm);

// Describes a map, by index.
//
//   index  0 to eunomia_map_count - 1
//   out    receives the description; set out->size first
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  index is out of range
int eunomia_map_at(const struct eunomia_vm *vm, int index, struct eunomia_map_info *out);

// Describes a map, by name.
//
//   name  name of the map
//   out   receives the description; set out->size first
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such map
int eunomia_map_find(const struct eunomia_vm *vm, const char *name, struct eunomia_map_info *out);

// Sets the maximum number of entries of a map, before load.
//
//   map    name of the map; not a map of global variables
//   count  number of entries; for a ring buffer its size in bytes, rounded up to a power of two and at
//          least a page; for an arena its number of pages
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such map
//   EUNOMIA_ERR_INVAL      the map does not allow this number of entries
//   EUNOMIA_ERR_STATE      the package is loaded already
int eunomia_map_set_max_entries(struct eunomia_vm *vm,
                                const char *map,
                                uint32_t count);

// Copies the value of a key into a buffer.
//
//   map   name of the map
//   key   the key
//   klen  bytes of key; must be key_size of the map
//   val   the buffer; must not overlap key
//   vlen  bytes of val; must be value_size of the map, for a per-CPU map see eunomia_map_info.cpus
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such map or key
//   EUNOMIA_ERR_INVAL      klen or vlen is wrong, or key and val overlap
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_SYSTEM     the system call failed
int eunomia_map_get(struct eunomia_vm *vm,
                    const char *map,
                    const void *key,
                    size_t klen,
                    void *val,
                    size_t vlen);

// Stores a value under a key.
//
//   map    name of the map
//   key    the key
//   klen   bytes of key; must be key_size of the map
//   val    the value
//   vlen   bytes of val, as for eunomia_map_get
//   flags  BPF_ANY (0), BPF_NOEXIST (1) or BPF_EXIST (2)
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such map; or no such key, with BPF_EXIST
//   EUNOMIA_ERR_INVAL      klen or vlen is wrong
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_SYSTEM     eunomia_errsys is EEXIST: the key exists, with BPF_NOEXIST;
//                          E2BIG: the map is full, or the index of an array is out of range
int eunomia_map_set(struct eunomia_vm *vm,
                    const char *map,
                    const void *key,
                    size_t klen,
                    const void *val,
                    size_t vlen,
                    uint64_t flags);

// Deletes a key and its value.
//
//   map   name of the map
//   key   the key
//   klen  bytes of key; must be key_size of the map
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such map or key
//   EUNOMIA_ERR_INVAL      klen is wrong
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_SYSTEM     the system call failed
int eunomia_map_del(struct eunomia_vm *vm, const char *map, const void *key, size_t klen);

// Copies the key that follows a given key.
//
//   map   name of the map
//   key   the key; NULL for the first key of the map
//   next  receives the following key; may be the same buffer as key
//   klen  bytes of key and of next; must be key_size of the map
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such map, or key is the last one
//   EUNOMIA_ERR_INVAL      klen is wrong
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_SYSTEM     the system call failed
int eunomia_map_next(struct eunomia_vm *vm,
                     const char *map,
                     const void *key,
                     void *next,
                     size_t klen);

// Returns the value of a key, both as JSON. The value of a per-CPU map is an array.
//
//   map  name of the map
//   key  the key in JSON
//   out  receives the value in JSON, valid until the next call on the vm
//
// Returns: EUNOMIA_OK, an error as for eunomia_map_get, or
//   EUNOMIA_ERR_TYPE  the key does not fit the map
int eunomia_map_get_json(struct eunomia_vm *vm, const char *map, const char *key, const char **out);

// Stores a value under a key, both as JSON.
//
//   map    name of the map
//   key    the key in JSON
//   val    the value in JSON
//   flags  as for eunomia_map_set
//
// Returns: EUNOMIA_OK, an error as for eunomia_map_set, or
//   EUNOMIA_ERR_TYPE  the key or the value does not fit the map
int eunomia_map_set_json(struct eunomia_vm *vm,
                         const char *map,
                         const char *key,
                         const char *val,
                         uint64_t flags);

// Deletes a key and its value.
//
//   map  name of the map
//   key  the key in JSON
//
// Returns: EUNOMIA_OK, an error as for eunomia_map_del, or
//   EUNOMIA_ERR_TYPE  the key does not fit the map
int eunomia_map_del_json(struct eunomia_vm *vm, const char *map, const char *key);

// Calls a function for each entry of a map, with an event of kind EUNOMIA_EVENT_MAP_ENTRY. These
// events are not counted in eunomia_stats.
//
//   map       name of the map
//   format    an eunomia_format
//   callback  called for each entry
//   arg       first argument of callback; may be NULL
//
// Entries that are added or deleted during the call may be missed.
//
// Returns: the number of entries, or
//   EUNOMIA_ERR_NOT_FOUND  no such map
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_CALLBACK   callback returned a value < 0
//   EUNOMIA_ERR_SYSTEM     a system call failed
int eunomia_map_each(struct eunomia_vm *vm,
                     const char *map,
                     uint32_t format,
                     eunomia_event_fn callback,
                     void *arg);

// Stores all entries of a map in a buffer.
//
//   map     name of the map
//   format  an eunomia_format
//   buf     the buffer, filled as by eunomia_read
//   cap     bytes of buf
//   out     receives what was stored; set out->size first
//
// Returns: the number of entries, or
//   EUNOMIA_ERR_TOO_SMALL  the entries need out->need bytes; nothing was stored
//   EUNOMIA_ERR_NOT_FOUND  no such map
//   EUNOMIA_ERR_STATE      the package is not loaded
//   EUNOMIA_ERR_SYSTEM     a system call failed
int eunomia_map_dump(struct eunomia_vm *vm,
                     const char *map,
                     uint32_t format,
                     void *buf,
                     size_t cap,
                     struct eunomia_batch *out);

// ---- Contents of a package ----
//
// Returns a description of the whole package as a JSON object.
//
//   out  receives the JSON, valid until the next call on the vm
//   len  receives its length; may be NULL
//
// The object has these keys. Later releases may add keys.
//   kind           kind of the package
//   state          "opened", "loaded" or "attached"
//   lost_kernel    what eunomia_stats.lost_kernel counts
//   kernel_memory  maximum bytes of kernel memory that eunomia_load takes
//   variables      name, section, type, constant, value (null if JSON cannot represent it)
//   maps           name, kind, key_size, value_size, max_entries, bytes, key_type, value_type
//   programs       name, section, autoload, loaded, attached, instead_of, skipped (the reason)
//   meta           metadata of the package
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_STATE  no package is open
int eunomia_describe(struct eunomia_vm *vm, const char **out, size_t *len);

// Returns the number of event sources, after load. A package without sources is valid; it just
// runs.
int eunomia_source_count(const struct eunomia_vm *vm);

// Describes an event source, by index.
//
//   index  0 to eunomia_source_count - 1
//   out    receives the description; set out->size first
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  index is out of range
int eunomia_source_at(const struct eunomia_vm *vm, int index, struct eunomia_source_info *out);

// Returns the number of programs.
int eunomia_prog_count(const struct eunomia_vm *vm);

// Describes a program, by index.
//
//   index  0 to eunomia_prog_count - 1
//   out    receives the description; set out->size first
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  index is out of range
int eunomia_prog_at(const struct eunomia_vm *vm, int index, struct eunomia_prog_info *out);

// Describes a program, by name.
//
//   name  name of the program
//   out   receives the description; set out->size first
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such program
int eunomia_prog_find(const struct eunomia_vm *vm, const char *name, struct eunomia_prog_info *out);

// Sets whether eunomia_load loads a program, before load.
//
//   prog  name of the program
//   on    not 0 to load it, 0 to leave it out
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such program
//   EUNOMIA_ERR_STATE      the package is loaded already
int eunomia_prog_set_autoload(struct eunomia_vm *vm, const char *prog, int on);

// Sets where a program attaches, before attach.
//
//   prog  name of the program
//   json  an object with the keys below, or an array of objects for several targets
//
// The keys are attach, path, func, offset, address, build_id, pid, cgroup, perf_event, interface,
// flags, tchook and tcopts; docs/package.md describes them. If a key does not apply to the type of
// the program, eunomia_attach fails with EUNOMIA_ERR_INVAL.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND  no such program
//   EUNOMIA_ERR_INVAL      the JSON is malformed or has an unknown key
//   EUNOMIA_ERR_STATE      the package is attached already
int eunomia_prog_set_target_json(struct eunomia_vm *vm, const char *prog, const char *json);

// ---- Types of raw bytes: any thread, until eunomia_destroy of their vm ----
//
// Returns the type's name in C, such as "struct event"; "" for NULL.
const char *eunomia_type_name(const struct eunomia_type *type);

// Returns the type's eunomia_type_kind, without typedefs and qualifiers; 0 for NULL.
uint32_t eunomia_type_kind_of(const struct eunomia_type *type);

// Returns the type's size in bytes; 0 for NULL.
size_t eunomia_type_size(const struct eunomia_type *type);

// Returns the number of members, elements or constants; 0 for NULL and for other kinds of types.
uint32_t eunomia_type_count(const struct eunomia_type *type);

// Describes a member of a struct or union, an element of an array or a constant of an enum.
//
//   type   the outer type
//   index  0 to eunomia_type_count - 1
//   out    receives the description; set out->size first
//
// Returns: EUNOMIA_OK or, without setting eunomia_errmsg,
//   EUNOMIA_ERR_INVAL      type or out is NULL, or out->size is wrong
//   EUNOMIA_ERR_NOT_FOUND  index is out of range
int eunomia_type_field(const struct eunomia_type *type, uint32_t index, struct eunomia_field *out);

// ---- Test runs ----
//
// Runs a loaded program with input of the caller (BPF_PROG_TEST_RUN). The program need not be
// attached. Its side effects are real: it changes maps and sends events.
//
//   prog  name of the program
//   in    the input; NULL: no data, the default context, one run
//   out   receives the result; set out->size first
//
// The type of the program determines its input. An XDP or traffic control program takes a packet as
// data. A raw tracepoint program takes the arguments of its tracepoint as ctx, one uint64_t each.
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_NOT_FOUND    no such program
//   EUNOMIA_ERR_INVAL        the program's type does not accept this input
//   EUNOMIA_ERR_STATE        the program is not loaded
//   EUNOMIA_ERR_TOO_SMALL    data_out or ctx_out is too small; data_len and ctx_len of out are the
//                            required sizes
//   EUNOMIA_ERR_UNSUPPORTED  the kernel has no test runs for programs of this type
//   EUNOMIA_ERR_PERM         a privilege is missing
//   EUNOMIA_ERR_SYSTEM       the system call failed
int eunomia_prog_run(struct eunomia_vm *vm,
                     const char *prog,
                     const struct eunomia_prog_input *in,
                     struct eunomia_prog_result *out);

// ---- WASM packages ----
//
// Runs the guest of an open WASM package until it ends. The guest loads and attaches its own
// programs, which are detached before the call returns (about 70 ms per tracepoint). The guest may
// be run again.
//
//   argc       number of arguments
//   argv       the guest's arguments, beginning with the program's name
//   exit_code  receives the guest's exit code; may be NULL
//   format     an eunomia_format; must be JSON if the guest handles events as JSON
//   callback   called for each event that the guest passes on, and for each line that it prints
//              (EUNOMIA_EVENT_OUTPUT); a return value > 0 ends the guest with exit code 0
//   arg        first argument of callback; may be NULL
//
// Returns: EUNOMIA_OK or
//   EUNOMIA_ERR_WASM         the guest trapped, took too long over an event or exceeded a limit
//   EUNOMIA_ERR_STOPPED      eunomia_stop was called
//   EUNOMIA_ERR_CALLBACK     callback returned a value < 0
//   EUNOMIA_ERR_INVAL        the guest handles events as JSON, and format is another one
//   EUNOMIA_ERR_STATE        no WASM package is open
//   EUNOMIA_ERR_UNSUPPORTED  the library was built without WASM
int eunomia_wasm_run(struct eunomia_vm *vm,
                     int argc,
                     const char *const *argv,
                     int *exit_code,
                     uint32_t format,
                     eunomia_event_fn callback,
                     void *arg);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EUNOMIA_H */
