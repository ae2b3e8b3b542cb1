// eunomia.h: load, configure and run eBPF packages inside any program.
//
// Generated from the library's source, and its reference manual. SPDX-License-Identifier: MIT
//
// The model
//   A vm holds at most one package (a JSON file, or a BPF object with its metadata) and goes one way:
//     new, open, (set variables, arguments, targets), load, attach, poll ..., destroy
//   A package may be a WASM module as well, which does all of that by itself while eunomia_wasm_run lasts:
//     new, open, wasm_run, destroy
//   A call out of order answers EUNOMIA_ERR_STATE. eunomia_attach loads if that has not been done; detach and
//   attach may repeat. What has a name is addressed by its name on every call; there are no handles.
//
// Ownership
//   The vm is the caller's. Nothing else is: there is no function to free anything.
//   - What goes in is copied before the call returns.
//   - A string that comes out is borrowed from the vm until the next call on it. The functions that any
//     thread may call do not end that, nor do errmsg, errdetail, errsys and errsubject.
//   - An event and all it points to is borrowed until the callback returns.
//   - An eunomia_type is borrowed until eunomia_destroy. So is a map's descriptor: dup it to keep it.
//   - A function that takes a callback uses it during the call only. eunomia_options.log is used until
//     eunomia_destroy.
//
// Errors
//   The returned number decides: below 0 is an eunomia_status, from 0 up is success. eunomia_errmsg and
//   eunomia_errdetail say more, for people. A function does all of its work or none, and writes to what its
//   out parameters point to on success only, but for the needed length with EUNOMIA_ERR_TOO_SMALL.
//   A null pointer where none is allowed is EUNOMIA_ERR_INVAL; a buffer of length 0 may be null. So is text
//   that is not UTF-8, paths in options aside.
//
// Structs with a size
//   A struct whose first field is size is used with all bytes 0 and size set to its sizeof (EUNOMIA_INIT does
//   both in C). So a program and a library of different releases understand each other: fields are only ever
//   appended; a library that knows fewer writes those and stores their size; settings it does not know it
//   refuses (EUNOMIA_ERR_INVAL) unless they are 0. A size of 0 is refused.
//
// Threads, callbacks, signals
//   any thread, any time      version functions, stop, pause, stats_get, epoll_fd, type functions
//   one thread at a time      all others; meanwhile a second thread gets EUNOMIA_ERR_BUSY
//   in an event callback      all but poll, run, read, map_each, iter_each, wasm_run, open*, load, attach,
//                             detach, queue_start, queue_stop (EUNOMIA_ERR_BUSY) and destroy (refused, logged)
//   in the log callback       none
//   in a signal handler       stop
//   Different vms are independent of each other. A vm may move between threads; the host sees to it that one
//   thread's calls have ended before the other's begin. "Any time" ends when eunomia_destroy is called: no
//   thread, and no signal handler, uses the vm or its types from then on.
//   The library installs no signal handler, touches no signal mask, prints nothing, and starts no thread
//   unless asked to (eunomia_queue_start, eunomia_wasm_run).
//
// fork, dlclose
//   After fork the child may call eunomia_destroy and nothing else. All descriptors are close-on-exec.
//   The library stays mapped after dlclose.


#ifndef EUNOMIA_H
#define EUNOMIA_H

#include <stddef.h>
#include <stdint.h>

// Version of this header; eunomia_version tells that of the library in use.
#define EUNOMIA_VERSION_MAJOR 0
#define EUNOMIA_VERSION_MINOR 1
#define EUNOMIA_VERSION_PATCH 0
#define EUNOMIA_VERSION_NUM 100 // MAJOR * 10000 + MINOR * 100 + PATCH

// Initialiser, in C, of a struct with a size: eunomia_stats stats = EUNOMIA_INIT(eunomia_stats);
#define EUNOMIA_INIT(type) { .size = sizeof(type) }

// What a function answers: 0 or more is success, below 0 a failure. Later releases may add failures,
// so treat every negative number as one.
typedef enum eunomia_status {
  // Done.
  EUNOMIA_OK = 0,
  // An argument is null, out of range or malformed.
  EUNOMIA_ERR_INVAL = -1,
  // The call does not fit the state of the vm, such as load on an empty one.
  EUNOMIA_ERR_STATE = -2,
  // Another thread is inside a call on this vm, or the function is not for use in a callback.
  EUNOMIA_ERR_BUSY = -3,
  // Out of memory.
  EUNOMIA_ERR_NOMEM = -4,
  // No such variable, map, program, key, index or file; no such file, function of it, interface or cgroup that the
  // package attaches to (the host's own word is EUNOMIA_ERR_INVAL).
  EUNOMIA_ERR_NOT_FOUND = -5,
  // The buffer is too small; the needed length has been stored.
  EUNOMIA_ERR_TOO_SMALL = -6,
  // The package is malformed; errmsg tells where.
  EUNOMIA_ERR_PACKAGE = -7,
  // The value does not fit the type.
  EUNOMIA_ERR_TYPE = -8,
  // A privilege is missing; errmsg names it.
  EUNOMIA_ERR_PERM = -9,
  // This kernel, or this build of the library, cannot do it; errmsg names what is missing.
  EUNOMIA_ERR_UNSUPPORTED = -10,
  // The kernel's verifier rejected a program; errdetail holds its log.
  EUNOMIA_ERR_VERIFIER = -11,
  // A program could not be attached; errmsg names it. Nothing is left attached.
  EUNOMIA_ERR_ATTACH = -12,
  // A system call failed; errsys holds its errno.
  EUNOMIA_ERR_SYSTEM = -13,
  // The WASM guest trapped, took too long or exceeded a limit; errdetail holds its functions.
  EUNOMIA_ERR_WASM = -14,
  // eunomia_stop was called. Reported once.
  EUNOMIA_ERR_STOPPED = -15,
  // The callback returned a negative number.
  EUNOMIA_ERR_CALLBACK = -16,
  // A bug of the library, caught; errmsg says where. The vm is dead: only eunomia_destroy, errmsg,
  // errdetail, errsys, stop, stats_get and epoll_fd still work on it.
  EUNOMIA_ERR_INTERNAL = -17,
} eunomia_status;

// The kind of thing that a failed call was about; see eunomia_errsubject. Later releases may add kinds.
typedef enum eunomia_subject {
  // None of the others.
  EUNOMIA_SUBJECT_NONE = 0,
  // A global variable.
  EUNOMIA_SUBJECT_VARIABLE = 1,
  // A map.
  EUNOMIA_SUBJECT_MAP = 2,
  // A program.
  EUNOMIA_SUBJECT_PROGRAM = 3,
  // A value in the package's metadata; its name is the path, such as meta.bpf_skel.maps[1].sample.
  EUNOMIA_SUBJECT_METADATA = 4,
  // A file or folder; its name is the path.
  EUNOMIA_SUBJECT_FILE = 5,
} eunomia_subject;

// Kinds of packages. eunomia_open takes a set of them and answers the one it found.
typedef enum eunomia_kind {
  // A JSON package, or an object opened with eunomia_open_object.
  EUNOMIA_KIND_JSON = 1,
  // A WASM module.
  EUNOMIA_KIND_WASM = 2,
  // Whatever the bytes turn out to be.
  EUNOMIA_KIND_ANY = 3,
} eunomia_kind;

// Form in which events are handed out.
typedef enum eunomia_format {
  // The record as the kernel wrote it, 8-aligned; eunomia_event.type describes it. It may be shorter than
  // its type; in JSON and TEXT the missing bytes read as zero.
  EUNOMIA_FORMAT_RAW = 0,
  // One JSON object in UTF-8, members in the order of the C declaration.
  EUNOMIA_FORMAT_JSON = 1,
  // One line of a table for people (a histogram has several); a header comes first, but for maps.
  EUNOMIA_FORMAT_TEXT = 2,
} eunomia_format;

// What an event is.
typedef enum eunomia_event_kind {
  // A record that a BPF program sent.
  EUNOMIA_EVENT_SAMPLE = 0,
  // The kernel dropped eunomia_event.lost records of a perf buffer. Not counted as an event.
  EUNOMIA_EVENT_LOST = 1,
  // An entry of a map. In JSON, data is {"key":..,"value":..}.
  EUNOMIA_EVENT_MAP_ENTRY = 2,
  // Head of the table, in TEXT; the row it is for follows even if the head ends the poll. Not counted as an event.
  EUNOMIA_EVENT_HEADER = 3,
  // A line that a guest wrote to its standard output, without the line feed; always TEXT. Not counted as an
  // event.
  EUNOMIA_EVENT_OUTPUT = 4,
  // A round over a sampled map is complete. Not counted as an event.
  EUNOMIA_EVENT_ROUND = 5,
} eunomia_event_kind;

// Importance of a log line; eunomia_options.log_level lets through this and what is graver.
typedef enum eunomia_log_level {
  // A failure.
  EUNOMIA_LOG_ERROR = 1,
  // Something is not as the package expects, and the vm goes on. The default.
  EUNOMIA_LOG_WARN = 2,
  // What the library does.
  EUNOMIA_LOG_INFO = 3,
  // What libbpf does.
  EUNOMIA_LOG_DEBUG = 4,
} eunomia_log_level;

// Bits of eunomia_options.flags.
typedef enum eunomia_option_flag {
  // Guests that do not say how they want events get their bytes, not JSON: guests made for eunomia-bpf 0.3.2 to
  // 0.3.23 need that.
  EUNOMIA_WASM_RAW_EVENTS = 1,
  // Guests read and write the host's stdin, stdout and stderr; there are no EUNOMIA_EVENT_OUTPUT events then.
  EUNOMIA_WASM_STDIO = 2,
  // A program whose hook (function, tracepoint) is not there is skipped, with a line in the log for each cause, where
  // programs attach that can do the package's work. For code whose host picks programs by kernel; else it is an error.
  EUNOMIA_SKIP_MISSING_HOOKS = 4,
} eunomia_option_flag;

// What a type is, once typedefs and qualifiers are removed.
typedef enum eunomia_type_kind {
  // Signed integer.
  EUNOMIA_TYPE_INT = 1,
  // Unsigned integer.
  EUNOMIA_TYPE_UINT = 2,
  // Boolean.
  EUNOMIA_TYPE_BOOL = 3,
  // Character; an array of them is a string.
  EUNOMIA_TYPE_CHAR = 4,
  // Floating point number of 4, 8 or 16 bytes.
  EUNOMIA_TYPE_FLOAT = 5,
  // Enumeration; its fields are the constants.
  EUNOMIA_TYPE_ENUM = 6,
  // Pointer.
  EUNOMIA_TYPE_POINTER = 7,
  // Array; its fields are the elements.
  EUNOMIA_TYPE_ARRAY = 8,
  // Structure.
  EUNOMIA_TYPE_STRUCT = 9,
  // Union.
  EUNOMIA_TYPE_UNION = 10,
} eunomia_type_kind;

// Where eunomia_poll takes events from.
typedef enum eunomia_source_kind {
  // A ring buffer.
  EUNOMIA_SOURCE_RING = 1,
  // A perf buffer.
  EUNOMIA_SOURCE_PERF = 2,
  // A map that is sampled at an interval.
  EUNOMIA_SOURCE_MAP = 3,
} eunomia_source_kind;

// How far it is known what the kernel dropped.
typedef enum eunomia_lost_known {
  // Nobody counts it.
  EUNOMIA_LOST_NOT_COUNTED = 0,
  // Up to the last record of each CPU: before Linux 6.0 the kernel reports what a perf buffer lost only with
  // the next record on that CPU.
  EUNOMIA_LOST_REPORTED = 1,
  // All of it.
  EUNOMIA_LOST_ALL = 2,
} eunomia_lost_known;

// Bits of eunomia_prog_info.flags.
typedef enum eunomia_prog_flag {
  // eunomia_load loads it.
  EUNOMIA_PROG_AUTOLOAD = 1,
  // It is in the kernel.
  EUNOMIA_PROG_LOADED = 2,
  // It is attached.
  EUNOMIA_PROG_ATTACHED = 4,
} eunomia_prog_flag;

// Type of raw bytes. Borrowed from a vm until eunomia_destroy.
typedef struct eunomia_type eunomia_type;

// A running BPF package, or an empty place for one. Owned by the caller: eunomia_new, eunomia_destroy.
typedef struct eunomia_vm eunomia_vm;

// Receives one line of log without a line feed, valid during the call; level is an eunomia_log_level. May be
// called by any thread that is inside a call on the vm, and must not call back into the vm.
typedef void (*eunomia_log_fn)(void *arg, uint32_t level, const char *text);

// Settings of a new vm. All zero but size is the default; see EUNOMIA_INIT.
typedef struct eunomia_options {
  // sizeof(eunomia_options) as the caller was compiled.
  size_t size;
  // An eunomia_log_level; 0: EUNOMIA_LOG_WARN.
  uint32_t log_level;
  // A set of eunomia_option_flag.
  uint32_t flags;
  // Receives the log; NULL: there is none.
  eunomia_log_fn log;
  // First argument of log.
  void *log_arg;
  // Kernel BTF to use: a file, or a BTFHub-style folder for kernels without BTF of their own; NULL: the
  // running kernel's.
  const char *btf_path;
  // Folder for pinned maps; NULL: /sys/fs/bpf.
  const char *pin_path;
  // Pages of each perf buffer per CPU, a power of two; 0: what the package says, else 64.
  uint32_t perf_pages;
  // Most events that one poll delivers; 0: 65536.
  uint32_t poll_budget;
  // Bytes of a guest's stack of calls and locals; 0: 128 KiB.
  uint32_t wasm_stack;
  // Bytes of the heap behind malloc of a guest that has no malloc of its own; 0: 2 MiB. More than 1 GiB counts as 1 GiB.
  uint32_t wasm_heap;
  // Bytes a guest's memory may grow to, that heap not counted; 0: 16 MiB.
  uint32_t wasm_memory;
  // Milliseconds a guest may take over one event before it is ended; 0: 1000.
  uint32_t wasm_budget_ms;
  // Folders that guests may read, NULL at the end; NULL: none.
  const char *const *wasm_dirs;
  // Bytes of kernel memory that a package may take, all packages of a guest together: maps when they are full, programs
  // and types. eunomia_load refuses more with NOMEM. 0: a quarter of the memory that is available, at most 1 GiB or
  // 16 MiB for each possible CPU; UINT64_MAX: no limit. With a limit, packages whose programs allocate objects
  // (bpf_obj_new) are refused too: nothing counts these. Pinned maps count until eunomia_destroy.
  uint64_t max_kernel_memory;
} eunomia_options;

// One event, borrowed for the call of the callback. Before touching a field that is newer than the library
// in use, compare size.
typedef struct eunomia_event {
  // sizeof(eunomia_event) as the library was compiled.
  size_t size;
  // An eunomia_event_kind.
  uint32_t kind;
  // The eunomia_format of data and key.
  uint32_t format;
  // Name of the map, or iterator program, it came through.
  const char *source;
  // Raw bytes, or text with a NUL behind it.
  const void *data;
  // Bytes of data, the NUL not counted. Look at it before casting raw data: there may be fewer than the
  // type has.
  size_t len;
  // Key of a map entry, in the same format; else empty.
  const void *key;
  // Bytes of key.
  size_t key_len;
  // Type of raw data; NULL if the package does not tell.
  const struct eunomia_type *type;
  // Records lost, for EUNOMIA_EVENT_LOST.
  uint64_t lost;
  // CPU of a perf record; -1: not known.
  int32_t cpu;
  // 0.
  uint32_t reserved;
  // Time when the event was read, in nanoseconds of CLOCK_MONOTONIC. The clock is read once per batch of at most
  // 1024 records, and once per round of a sampled map.
  uint64_t time_ns;
} eunomia_event;

// Receives one event, valid during the call. Returns 0 to go on, above 0 to end this poll, below 0 to end
// it with EUNOMIA_ERR_CALLBACK. Must return normally: no longjmp, no C++ exception, no thread exit.
typedef int (*eunomia_event_fn)(void *arg, const struct eunomia_event *event);

// The ledger: every record is delivered, or dropped and counted under its cause.
typedef struct eunomia_stats {
  // sizeof(eunomia_stats) as the caller was compiled.
  size_t size;
  // Events delivered.
  uint64_t events;
  // Raw bytes of these.
  uint64_t bytes;
  // Dropped by the kernel: by perf buffers, and by ring buffers where the package counts the records that
  // found no space. lost_known says how far that is known.
  uint64_t lost_kernel;
  // Dropped because the queue was full.
  uint64_t lost_queue;
  // Dropped by a guest.
  uint64_t guest_dropped;
  // Records that could not be decoded.
  uint64_t malformed;
  // Calls of eunomia_poll, eunomia_read, and rounds of eunomia_run.
  uint64_t polls;
  // Versions replaced.
  uint64_t replaces;
  // Runs of all programs; 0 unless the kernel counts (sysctl kernel.bpf_stats_enabled).
  uint64_t run_count;
  // Nanoseconds of these.
  uint64_t run_ns;
  // An eunomia_lost_known about lost_kernel: that of the source of which least is known.
  uint32_t lost_known;
  // 0.
  uint32_t reserved;
} eunomia_stats;

// What eunomia_read or eunomia_map_dump stored in the buffer.
typedef struct eunomia_batch {
  // sizeof(eunomia_batch) as the caller was compiled.
  size_t size;
  // Bytes stored.
  size_t len;
  // With EUNOMIA_ERR_TOO_SMALL the bytes that are needed; nothing else is written then.
  size_t need;
  // Index of the source (eunomia_source_at) the records came from.
  uint32_t source;
  // Records stored.
  uint32_t count;
  // Time when the first record was read, as eunomia_event.time_ns. 0 without records.
  uint64_t time_ns;
} eunomia_batch;

// A map of the package.
typedef struct eunomia_map_info {
  // sizeof(eunomia_map_info) as the caller was compiled.
  size_t size;
  // Its name, borrowed until the next call on the vm.
  const char *name;
  // Its BPF_MAP_TYPE_*.
  uint32_t kind;
  // Bytes of a key.
  uint32_t key_size;
  // Bytes of a value, on one CPU.
  uint32_t value_size;
  // Most entries.
  uint32_t max_entries;
  // Type of a key; NULL if the package does not tell.
  const struct eunomia_type *key_type;
  // Type of a value; NULL if the package does not tell.
  const struct eunomia_type *value_type;
  // Its descriptor, -1 before load. Borrowed: dup it to keep it.
  int fd;
  // CPUs a value exists for: 1, or for a per-CPU map all possible CPUs. The value buffers of such a map
  // hold cpus * round_up(value_size, 8) bytes.
  uint32_t cpus;
  // Bytes of kernel memory when it is full, as eunomia_options.max_kernel_memory counts them; 0 if load does not make it.
  uint64_t bytes;
} eunomia_map_info;

// A source of events.
typedef struct eunomia_source_info {
  // sizeof(eunomia_source_info) as the caller was compiled.
  size_t size;
  // Name of its map, borrowed until the next call on the vm.
  const char *name;
  // An eunomia_source_kind.
  uint32_t kind;
  // Milliseconds between two rounds over a sampled map; else 0.
  uint32_t interval_ms;
  // Bytes of a record; 0 if the package does not tell.
  uint32_t record_size;
  // 0.
  uint32_t reserved;
  // Type of a record, or of a sampled map's value; NULL if the package does not tell.
  const struct eunomia_type *type;
  // Type of a sampled map's key; else NULL.
  const struct eunomia_type *key_type;
  // Events delivered from it.
  uint64_t events;
  // Records that the kernel dropped, as far as lost_known says.
  uint64_t lost;
  // An eunomia_lost_known about lost. What ring buffers drop is counted for all of them together at most: see
  // eunomia_stats.
  uint32_t lost_known;
  // 0.
  uint32_t reserved1;
} eunomia_source_info;

// A program of the package.
typedef struct eunomia_prog_info {
  // sizeof(eunomia_prog_info) as the caller was compiled.
  size_t size;
  // Its name; this and the next two are borrowed until the next call on the vm.
  const char *name;
  // Its ELF section, which names the hook.
  const char *section;
  // Where it attaches, as given to eunomia_prog_set_target_json; "" if nothing was.
  const char *target;
  // Its BPF_PROG_TYPE_*.
  uint32_t type;
  // A set of eunomia_prog_flag.
  uint32_t flags;
  // The kernel's id for it, 0 before load.
  uint32_t id;
  // 0.
  uint32_t reserved;
  // Runs; 0 unless the kernel counts (sysctl kernel.bpf_stats_enabled).
  uint64_t run_count;
  // Nanoseconds of these.
  uint64_t run_ns;
} eunomia_prog_info;

// A member of a struct or union, an element of an array, or a constant of an enum.
typedef struct eunomia_field {
  // sizeof(eunomia_field) as the caller was compiled.
  size_t size;
  // Its name, borrowed like the type; "" for an anonymous member or an element.
  const char *name;
  // Its type; for a constant the integer type that holds it.
  const struct eunomia_type *type;
  // Distance from the start of the outer type.
  uint32_t bit_offset;
  // Width; not a multiple of 8 only for bit-fields.
  uint32_t bit_size;
  // Value of a constant, to be read as unsigned where its type is; else 0.
  int64_t value;
} eunomia_field;

// Stands before each record of a RAW batch. Behind it the record, then its key; each begins 8-aligned.
typedef struct eunomia_record {
  // Bytes from this head to the next.
  uint32_t size;
  // Bytes of the record.
  uint32_t len;
  // Bytes of its key; 0 unless it is a map entry.
  uint32_t key_len;
  // CPU of a perf record; -1: not known.
  int32_t cpu;
} eunomia_record;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// ---- Version: any thread, any time ----
//
// Returns the EUNOMIA_VERSION_NUM of the library in use, which may be newer than this header's.
uint32_t eunomia_version(void);

// Returns a line for people that names the library, the libbpf and WAMR inside and the build. Static.
const char *eunomia_version_string(void);

// Returns the set of eunomia_kind this build can open.
uint32_t eunomia_kinds(void);

// Returns the name of a status, such as "EUNOMIA_ERR_TYPE"; of 0 and above "EUNOMIA_OK". Static, never NULL.
const char *eunomia_status_name(int status);

// ---- Life of a vm ----
//
// Makes an empty vm. NULL options: all defaults. Fails with INVAL, NOMEM, SYSTEM (no descriptors) or
// UNSUPPORTED (linked with another libbpf than it was built with); there is no vm to ask then, so the
// text goes to options->log and an error number to errno.
int eunomia_new(struct eunomia_vm **out, const struct eunomia_options *options);

// Detaches, unloads and frees; maps pinned by name stay pinned. NULL is fine. A host that ends without it, even
// killed, leaves no link behind, but a classic tc filter stays until the same program attaches in its place, or
// someone removes it (tc filter del). While a call on the vm is in progress, as in a callback, it refuses: a
// line in the log, and the vm goes on. After fork the one call a child may make; what the parent has in the
// kernel stays.
void eunomia_destroy(struct eunomia_vm *vm);

// Opens a package from memory, which is copied. kinds: a set of eunomia_kind that is welcome. Returns the
// eunomia_kind it was. On failure the vm stays empty.
int eunomia_open(struct eunomia_vm *vm, const void *data, size_t len, uint32_t kinds);

// Opens a package from a file, as eunomia_open does.
int eunomia_open_file(struct eunomia_vm *vm, const char *path, uint32_t kinds);

// Opens a BPF object (ELF) with its metadata apart: a skeleton JSON, or NULL to take everything from the
// object's BTF. Both are copied. Returns EUNOMIA_KIND_JSON. On failure the vm stays empty.
int eunomia_open_object(struct eunomia_vm *vm, const void *elf, size_t len, const char *meta_json);

// Creates the maps and loads the programs through the kernel's verifier. All or nothing. Needs privileges:
// CAP_BPF and CAP_PERFMON, for network programs CAP_NET_ADMIN, or root. NOMEM: the package would take more kernel memory
// than options.max_kernel_memory; nothing was made. STOPPED: eunomia_stop was called.
int eunomia_load(struct eunomia_vm *vm);

// Attaches all programs, after loading them if that has not been done. All or nothing.
int eunomia_attach(struct eunomia_vm *vm);

// Detaches all programs. Maps, variables and counters stay, and eunomia_attach may follow. The next poll or read delivers
// a last round of each sampled map, unless the queue reads them.
int eunomia_detach(struct eunomia_vm *vm);

// ---- Errors: of the last failed call on a vm ----
//
// Returns one line for people that names the thing and the value, "" if no call has failed. Borrowed until
// the next call. Never NULL: for a NULL vm, and while another thread is inside a call, a fixed text. So
// EUNOMIA_ERR_BUSY because of another thread leaves the kept text as it was.
const char *eunomia_errmsg(const struct eunomia_vm *vm);

// Returns the long text to it, such as the verifier's log, "" if there is none. May be megabytes. Else as
// eunomia_errmsg.
const char *eunomia_errdetail(const struct eunomia_vm *vm);

// Returns the errno behind it, 0 if there is none.
int eunomia_errsys(const struct eunomia_vm *vm);

// Returns what kind of thing it is about, an eunomia_subject, and stores that thing's name in *name: the
// name of a variable, map or program, or a path; "" if it is about none of these. name may be NULL. *name is
// borrowed as eunomia_errmsg's text is.
int eunomia_errsubject(const struct eunomia_vm *vm, const char **name);

// ---- Global variables, by name ----
//
// Sets a variable from JSON text: a number, a string for char[], an object for a struct, and so on, checked
// against its type. Members that an object leaves out keep their values; they are read and written back, so a
// program that changes them at that moment may lose its change. Constants (.rodata) only before load, others
// any time. A type that is too large or nested too deep for JSON returns TYPE, here and in
// eunomia_var_get_json; the bytes are accessible.
int eunomia_var_set_json(struct eunomia_vm *vm, const char *name, const char *json);

// Sets a variable from len bytes, which must be exactly its size.
int eunomia_var_set(struct eunomia_vm *vm, const char *name, const void *data, size_t len);

// Gives out the present value as JSON, borrowed until the next call.
int eunomia_var_get_json(struct eunomia_vm *vm, const char *name, const char **out);

// Copies the present value to buf. *len: its room before, the value's size after; with TOO_SMALL only *len
// is written, so a room of 0 asks for the size.
int eunomia_var_get(struct eunomia_vm *vm, const char *name, void *buf, size_t *len);

// ---- The command line that a package describes ----
//
// Sets variables from the arguments of a command line, argv[0] included. Returns 1 if it asks for help or
// the version: nothing is set then, and eunomia_args_help has the text.
int eunomia_args_set(struct eunomia_vm *vm, int argc, const char *const *argv);

// Gives out the help text, or after eunomia_args_set returned 1 what was asked for. Borrowed until the
// next call.
int eunomia_args_help(struct eunomia_vm *vm, const char **out);

// ---- Events ----
//
// Waits for events and calls fn for each, at most options.poll_budget. Returns after the first batch that
// was not empty, or after timeout_ms (0: at once, negative: never), the number of events (0 at the
// timeout), or STOPPED. fn is used only during the call. A sampled map delivers at each interval, so "until
// poll returns 0" ends only with a timeout below the interval.
int eunomia_poll(struct eunomia_vm *vm, int timeout_ms, uint32_t format, eunomia_event_fn fn, void *arg);

// Polls until eunomia_stop, or until fn returns above 0, then returns 0.
int eunomia_run(struct eunomia_vm *vm, uint32_t format, eunomia_event_fn fn, void *arg);

// Returns a descriptor for the host's own event loop: readable when eunomia_poll(0) has something to do,
// a stop included. Level-triggered use. The same from eunomia_new to eunomia_destroy; do not read from or
// close it. Any thread, any time.
int eunomia_epoll_fd(const struct eunomia_vm *vm);

// Ends the poll that is waiting, or the next one, with STOPPED (eunomia_run with 0); likewise a load, after the map or
// program that the kernel is at work on. Kept until reported once; several before that count as one. Any thread, any time, and in signal handlers: errno stays as it
// was. NULL is fine.
void eunomia_stop(struct eunomia_vm *vm);

// Pauses delivery (on not 0) or goes on (0). Records stay in the kernel's buffers meanwhile, and
// eunomia_epoll_fd is not readable for them. Any thread, any time.
int eunomia_pause(struct eunomia_vm *vm, int on);

// Writes the ledger. Set out->size first. Any thread, any time.
int eunomia_stats_get(const struct eunomia_vm *vm, struct eunomia_stats *out);

// Stores the waiting records of one source in buf, as many as fit, for hosts whose callbacks are dear.
// RAW: an eunomia_record before each, and buf must be 8-aligned; JSON and TEXT: one line each. Returns the number of records, 0 at the
// timeout, or STOPPED. TOO_SMALL: the next record takes out->need bytes and is kept for the next call.
int eunomia_read(struct eunomia_vm *vm,
                 int timeout_ms,
                 uint32_t format,
                 void *buf,
                 size_t cap,
                 struct eunomia_batch *out);

// Starts a thread that moves records from the kernel to memory while the host is busy. Holds max_bytes, at
// most 1 GiB; less than 128 KiB counts as 128 KiB. When it is full the newest records are dropped and counted
// in stats.lost_queue.
int eunomia_queue_start(struct eunomia_vm *vm, size_t max_bytes);

// Ends that thread. What has been queued is still delivered, before anything newer.
int eunomia_queue_stop(struct eunomia_vm *vm);

// Runs an attached iterator program to its end and gives fn each line it wrote (TEXT), or each piece if it
// writes bytes (RAW). Returns their number.
int eunomia_iter_each(struct eunomia_vm *vm, const char *prog, eunomia_event_fn fn, void *arg);

// ---- Maps, by name ----
//
// Returns the number of maps of the package, those of global variables (.data and so on) included.
int eunomia_map_count(const struct eunomia_vm *vm);

// Describes the map at index, from 0. Set out->size first. Beyond the last: NOT_FOUND.
int eunomia_map_at(const struct eunomia_vm *vm, int index, struct eunomia_map_info *out);

// Describes the map of that name. Set out->size first.
int eunomia_map_find(const struct eunomia_vm *vm, const char *name, struct eunomia_map_info *out);

// Sets how many entries a map has; the bytes of a ring buffer, rounded up to a power of two of pages; the pages of an
// arena. Before load. Not for maps of global variables.
int eunomia_map_set_max_entries(struct eunomia_vm *vm,
                                const char *map,
                                uint32_t count);

// Copies the value under key to val, whose lengths must be exactly those of the map; see
// eunomia_map_info.cpus for per-CPU maps. NOT_FOUND: no such key. key and val must not overlap.
int eunomia_map_get(struct eunomia_vm *vm,
                    const char *map,
                    const void *key,
                    size_t klen,
                    void *val,
                    size_t vlen);

// Stores val under key. flags: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2. SYSTEM with errsys EEXIST: the key is
// there already and flags is BPF_NOEXIST, with errsys E2BIG: the map is full, or the index of an array out
// of range. NOT_FOUND: there is no such key and flags is BPF_EXIST.
int eunomia_map_set(struct eunomia_vm *vm,
                    const char *map,
                    const void *key,
                    size_t klen,
                    const void *val,
                    size_t vlen,
                    uint64_t flags);

// Deletes key and its value. NOT_FOUND: no such key.
int eunomia_map_del(struct eunomia_vm *vm, const char *map, const void *key, size_t klen);

// Stores the key after key in next. NULL key: the first one. NOT_FOUND: there are no more. key and next
// may be the same buffer; both have klen bytes.
int eunomia_map_next(struct eunomia_vm *vm, const char *map, const void *key, void *next, size_t klen);

// Gives out the value under a key, both as JSON; of a per-CPU map an array. Borrowed until the next call.
int eunomia_map_get_json(struct eunomia_vm *vm, const char *map, const char *key, const char **out);

// Stores a value under a key, both as JSON, checked against their types. Else as eunomia_map_set.
int eunomia_map_set_json(struct eunomia_vm *vm,
                         const char *map,
                         const char *key,
                         const char *val,
                         uint64_t flags);

// Deletes a key, given as JSON, and its value.
int eunomia_map_del_json(struct eunomia_vm *vm, const char *map, const char *key);

// Calls fn for each entry of a map, as an EUNOMIA_EVENT_MAP_ENTRY that stats do not count. Returns the number
// of entries. Those that come or go meanwhile may be missed or seen.
int eunomia_map_each(struct eunomia_vm *vm, const char *map, uint32_t format, eunomia_event_fn fn, void *arg);

// Stores all entries of a map in buf, laid out and aligned as for eunomia_read. Returns their number. TOO_SMALL: all of
// them take out->need bytes.
int eunomia_map_dump(struct eunomia_vm *vm,
                     const char *map,
                     uint32_t format,
                     void *buf,
                     size_t cap,
                     struct eunomia_batch *out);

// ---- What a package consists of ----
//
// Gives out a description of the whole package as JSON, borrowed until the next call; len may be NULL. Keys:
// kind; state (opened, loaded, attached); lost_kernel (what eunomia_stats.lost_kernel counts); kernel_memory (bytes
// that load takes at most); variables (name, section, type, constant, value); maps (name, kind, key_size,
// value_size, max_entries, bytes, key_type, value_type); programs (name, section, autoload, loaded, attached,
// instead_of, and skipped: why it is not used); meta (what the package says). The value of a variable that
// JSON cannot have is null. More keys may come.
int eunomia_describe(struct eunomia_vm *vm,
                     const char **out,
                     size_t *len);

// Returns the number of sources of events, known once the package is loaded. None is no failure: such a
// package just runs.
int eunomia_source_count(const struct eunomia_vm *vm);

// Describes the source at index, from 0. Set out->size first. Beyond the last: NOT_FOUND.
int eunomia_source_at(const struct eunomia_vm *vm, int index, struct eunomia_source_info *out);

// Returns the number of programs.
int eunomia_prog_count(const struct eunomia_vm *vm);

// Describes the program at index, from 0. Set out->size first. Beyond the last: NOT_FOUND.
int eunomia_prog_at(const struct eunomia_vm *vm, int index, struct eunomia_prog_info *out);

// Describes the program of that name. Set out->size first.
int eunomia_prog_find(const struct eunomia_vm *vm, const char *name, struct eunomia_prog_info *out);

// Chooses whether eunomia_load loads a program: on not 0, or 0. Before load.
int eunomia_prog_set_autoload(struct eunomia_vm *vm, const char *prog, int on);

// Sets where a program attaches. json: an object with the keys of docs/package.md (attach, path, func, offset,
// address, build_id, pid, cgroup, perf_event, interface, flags, tchook, tcopts), or an array of them for several
// targets. INVAL for any other key, and when attaching for one that says nothing of such a program. Before attach.
int eunomia_prog_set_target_json(struct eunomia_vm *vm,
                                 const char *prog,
                                 const char *json);

// ---- Types of raw bytes: any thread, until eunomia_destroy of their vm ----
//
// Returns the spelling in C, such as "struct event". "" for NULL.
const char *eunomia_type_name(const struct eunomia_type *type);

// Returns its eunomia_type_kind, typedefs and qualifiers removed. 0 for NULL.
uint32_t eunomia_type_kind_of(const struct eunomia_type *type);

// Returns its size in bytes. 0 for NULL.
size_t eunomia_type_size(const struct eunomia_type *type);

// Returns the number of members, elements or constants. 0 for NULL and all other kinds.
uint32_t eunomia_type_count(const struct eunomia_type *type);

// Describes the member, element or constant at index, from 0. Set out->size first. Returns INVAL or
// NOT_FOUND without a text.
int eunomia_type_field(const struct eunomia_type *type, uint32_t index, struct eunomia_field *out);

// ---- WASM packages ----
//
// Runs the guest of an open WASM package with these arguments, argv[0] included, until it ends; it loads and
// attaches its own programs, which go with it. fn gets what it lets through in that format, and what it
// prints as EUNOMIA_EVENT_OUTPUT. Returns 0 and stores the guest's exit code, if exit_code is not NULL; fn
// returning above 0 ends the guest with code 0. STOPPED: eunomia_stop ended it, wherever it was. WASM: it
// trapped, took too long over an event, or exceeded a limit; errdetail holds its functions. INVAL: RAW or
// TEXT of a guest that gets JSON. Whatever ends it, the call returns when the guest's programs are detached,
// which takes some 70 ms for each tracepoint. The guest may be run again.
int eunomia_wasm_run(struct eunomia_vm *vm,
                     int argc,
                     const char *const *argv,
                     int *exit_code,
                     uint32_t format,
                     eunomia_event_fn fn,
                     void *arg);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* EUNOMIA_H */
