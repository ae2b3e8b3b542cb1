"""The C declarations of eunomia.h. Generated from it by `make header`; not for editing."""

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from enum import IntEnum, IntFlag
from typing import Any

VERSION = "0.1.0"
VERSION_NUM = 100


class Status(IntEnum):
    OK = 0
    ERR_INVAL = -1
    ERR_STATE = -2
    ERR_BUSY = -3
    ERR_NOMEM = -4
    ERR_NOT_FOUND = -5
    ERR_TOO_SMALL = -6
    ERR_PACKAGE = -7
    ERR_TYPE = -8
    ERR_PERM = -9
    ERR_UNSUPPORTED = -10
    ERR_VERIFIER = -11
    ERR_ATTACH = -12
    ERR_SYSTEM = -13
    ERR_WASM = -14
    ERR_STOPPED = -15
    ERR_CALLBACK = -16
    ERR_INTERNAL = -17


class Subject(IntEnum):
    NONE = 0
    VARIABLE = 1
    MAP = 2
    PROGRAM = 3
    METADATA = 4
    FILE = 5


class Kind(IntFlag):
    JSON = 1
    WASM = 2
    ANY = 3


class Format(IntEnum):
    RAW = 0
    JSON = 1
    TEXT = 2


class EventKind(IntEnum):
    SAMPLE = 0
    LOST = 1
    MAP_ENTRY = 2
    HEADER = 3
    OUTPUT = 4
    ROUND = 5


class LogLevel(IntEnum):
    ERROR = 1
    WARN = 2
    INFO = 3
    DEBUG = 4


class OptionFlag(IntFlag):
    WASM_RAW_EVENTS = 1
    WASM_STDIO = 2
    SKIP_MISSING_HOOKS = 4
    LIBBPF_SECTIONS = 8
    REPLACEABLE = 16


class ReplaceFlag(IntFlag):
    FRESH_MAPS = 1
    STRICT_MAPS = 2
    FRESH_VARS = 4
    ORDERED = 8
    KEEP_OLD = 16
    MIGRATE_MAPS = 32
    CARRY_DATA = 64
    ALLOW_OVERLAP = 128
    ALLOW_GAP = 256


class ExportFlag(IntFlag):
    PREPARED = 1
    ALL = 2


class TypeKind(IntEnum):
    INT = 1
    UINT = 2
    BOOL = 3
    CHAR = 4
    FLOAT = 5
    ENUM = 6
    POINTER = 7
    ARRAY = 8
    STRUCT = 9
    UNION = 10


class SourceKind(IntEnum):
    RING = 1
    PERF = 2
    MAP = 3


class LostKnown(IntEnum):
    NOT_COUNTED = 0
    REPORTED = 1
    ALL = 2


class ProgFlag(IntFlag):
    AUTOLOAD = 1
    LOADED = 2
    ATTACHED = 4


eunomia_log_fn = CFUNCTYPE(None, c_void_p, c_uint32, c_char_p)


class eunomia_options(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("log_level", c_uint32),
        ("flags", c_uint32),
        ("log", eunomia_log_fn),
        ("log_arg", c_void_p),
        ("btf_path", c_char_p),
        ("pin_path", c_char_p),
        ("perf_pages", c_uint32),
        ("poll_budget", c_uint32),
        ("wasm_stack", c_uint32),
        ("wasm_heap", c_uint32),
        ("wasm_memory", c_uint32),
        ("wasm_budget_ms", c_uint32),
        ("wasm_dirs", POINTER(c_char_p)),
        ("max_kernel_memory", c_uint64),
    )


class eunomia_event(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("kind", c_uint32),
        ("format", c_uint32),
        ("source", c_char_p),
        ("data", c_void_p),
        ("len", c_size_t),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("type", c_void_p),
        ("lost", c_uint64),
        ("cpu", c_int32),
        ("reserved", c_uint32),
        ("time_ns", c_uint64),
        ("member", c_void_p),
    )


eunomia_event_fn = CFUNCTYPE(c_int, c_void_p, POINTER(eunomia_event))


class eunomia_span(Structure):
    _fields_ = (
        ("data", c_void_p),
        ("len", c_size_t),
    )


class eunomia_records(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("kind", c_uint32),
        ("source_index", c_uint32),
        ("source", c_char_p),
        ("spans", POINTER(eunomia_span)),
        ("count", c_size_t),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("type", c_void_p),
        ("lost", c_uint64),
        ("cpu", c_int32),
        ("reserved", c_uint32),
        ("time_ns", c_uint64),
    )


eunomia_batch_fn = CFUNCTYPE(c_int, c_void_p, POINTER(eunomia_records))


class eunomia_stats(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("events", c_uint64),
        ("bytes", c_uint64),
        ("lost_kernel", c_uint64),
        ("lost_queue", c_uint64),
        ("guest_dropped", c_uint64),
        ("malformed", c_uint64),
        ("polls", c_uint64),
        ("replaces", c_uint64),
        ("run_count", c_uint64),
        ("run_ns", c_uint64),
        ("lost_known", c_uint32),
        ("reserved", c_uint32),
    )


class eunomia_batch(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("len", c_size_t),
        ("need", c_size_t),
        ("source", c_uint32),
        ("count", c_uint32),
        ("time_ns", c_uint64),
        ("stride", c_uint32),
        ("kind", c_uint32),
        ("name", c_char_p),
        ("type", c_void_p),
    )


class eunomia_replace_options(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("flags", c_uint32),
        ("reserved", c_uint32),
    )


class eunomia_exported(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("description", c_char_p),
        ("fds", POINTER(c_int)),
        ("count", c_size_t),
    )


class eunomia_map_info(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("name", c_char_p),
        ("kind", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("key_type", c_void_p),
        ("value_type", c_void_p),
        ("fd", c_int),
        ("cpus", c_uint32),
        ("bytes", c_uint64),
    )


class eunomia_source_info(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("name", c_char_p),
        ("kind", c_uint32),
        ("interval_ms", c_uint32),
        ("record_size", c_uint32),
        ("reserved", c_uint32),
        ("type", c_void_p),
        ("key_type", c_void_p),
        ("events", c_uint64),
        ("lost", c_uint64),
        ("lost_known", c_uint32),
        ("reserved1", c_uint32),
    )


class eunomia_prog_info(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("name", c_char_p),
        ("section", c_char_p),
        ("target", c_char_p),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("id", c_uint32),
        ("reserved", c_uint32),
        ("run_count", c_uint64),
        ("run_ns", c_uint64),
    )


class eunomia_field(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("name", c_char_p),
        ("type", c_void_p),
        ("bit_offset", c_uint32),
        ("bit_size", c_uint32),
        ("value", c_int64),
    )


class eunomia_prog_input(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("data", c_void_p),
        ("data_len", c_size_t),
        ("ctx", c_void_p),
        ("ctx_len", c_size_t),
        ("data_out", c_void_p),
        ("data_out_cap", c_size_t),
        ("ctx_out", c_void_p),
        ("ctx_out_cap", c_size_t),
        ("repeat", c_uint32),
        ("reserved", c_uint32),
    )


class eunomia_prog_result(Structure):
    _fields_ = (
        ("size", c_size_t),
        ("return_value", c_uint32),
        ("duration_ns", c_uint32),
        ("data_len", c_size_t),
        ("ctx_len", c_size_t),
    )


class eunomia_record(Structure):
    _fields_ = (
        ("size", c_uint32),
        ("len", c_uint32),
        ("key_len", c_uint32),
        ("cpu", c_int32),
    )


# Name, result and arguments of each function.
FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("eunomia_version", c_uint32, ()),
    ("eunomia_version_string", c_char_p, ()),
    ("eunomia_kinds", c_uint32, ()),
    ("eunomia_status_name", c_char_p, (c_int,)),
    ("eunomia_new", c_int, (POINTER(c_void_p), POINTER(eunomia_options))),
    ("eunomia_destroy", None, (c_void_p,)),
    ("eunomia_open", c_int, (c_void_p, c_void_p, c_size_t, c_uint32)),
    ("eunomia_open_file", c_int, (c_void_p, c_char_p, c_uint32)),
    ("eunomia_open_object", c_int, (c_void_p, c_void_p, c_size_t, c_char_p)),
    ("eunomia_load", c_int, (c_void_p,)),
    ("eunomia_attach", c_int, (c_void_p,)),
    ("eunomia_detach", c_int, (c_void_p,)),
    ("eunomia_errmsg", c_char_p, (c_void_p,)),
    ("eunomia_errdetail", c_char_p, (c_void_p,)),
    ("eunomia_errsys", c_int, (c_void_p,)),
    ("eunomia_errsubject", c_int, (c_void_p, POINTER(c_char_p))),
    ("eunomia_var_set_json", c_int, (c_void_p, c_char_p, c_char_p)),
    ("eunomia_var_set", c_int, (c_void_p, c_char_p, c_void_p, c_size_t)),
    ("eunomia_var_get_json", c_int, (c_void_p, c_char_p, POINTER(c_char_p))),
    ("eunomia_var_get", c_int, (c_void_p, c_char_p, c_void_p, POINTER(c_size_t))),
    ("eunomia_args_set", c_int, (c_void_p, c_int, POINTER(c_char_p))),
    ("eunomia_args_help", c_int, (c_void_p, POINTER(c_char_p))),
    ("eunomia_poll", c_int, (c_void_p, c_int, c_uint32, eunomia_event_fn, c_void_p)),
    ("eunomia_poll_batch", c_int, (c_void_p, c_int, eunomia_batch_fn, c_void_p)),
    ("eunomia_run", c_int, (c_void_p, c_uint32, eunomia_event_fn, c_void_p)),
    ("eunomia_epoll_fd", c_int, (c_void_p,)),
    ("eunomia_stop", None, (c_void_p,)),
    ("eunomia_pause", c_int, (c_void_p, c_int)),
    ("eunomia_stats_get", c_int, (c_void_p, POINTER(eunomia_stats))),
    ("eunomia_read", c_int, (c_void_p, c_int, c_uint32, c_void_p, c_size_t, POINTER(eunomia_batch))),
    ("eunomia_queue_start", c_int, (c_void_p, c_size_t)),
    ("eunomia_queue_stop", c_int, (c_void_p,)),
    ("eunomia_iter_each", c_int, (c_void_p, c_char_p, eunomia_event_fn, c_void_p)),
    ("eunomia_group_new", c_int, (POINTER(c_void_p),)),
    ("eunomia_group_destroy", None, (c_void_p,)),
    ("eunomia_group_add", c_int, (c_void_p, c_void_p, c_void_p)),
    ("eunomia_group_remove", c_int, (c_void_p, c_void_p)),
    ("eunomia_group_poll", c_int, (c_void_p, c_int, c_uint32, eunomia_event_fn, c_void_p)),
    ("eunomia_group_stop", None, (c_void_p,)),
    ("eunomia_group_epoll_fd", c_int, (c_void_p,)),
    ("eunomia_group_errmsg", c_char_p, (c_void_p, POINTER(c_void_p))),
    ("eunomia_replace", c_int, (c_void_p, c_void_p, c_size_t, POINTER(eunomia_replace_options))),
    ("eunomia_replace_report", c_char_p, (c_void_p,)),
    ("eunomia_prepare", c_int, (c_void_p, c_void_p, c_size_t, POINTER(eunomia_replace_options))),
    ("eunomia_flip", c_int, (c_void_p,)),
    ("eunomia_abort", c_int, (c_void_p,)),
    ("eunomia_commit", c_int, (c_void_p,)),
    ("eunomia_rollback", c_int, (c_void_p,)),
    ("eunomia_drained", c_int, (c_void_p,)),
    ("eunomia_export", c_int, (c_void_p, c_uint32, POINTER(eunomia_exported))),
    ("eunomia_import", c_int, (c_void_p, c_void_p, c_size_t, POINTER(eunomia_exported))),
    ("eunomia_adopt", c_int, (c_void_p, c_void_p, c_size_t, POINTER(eunomia_exported))),
    ("eunomia_map_count", c_int, (c_void_p,)),
    ("eunomia_map_at", c_int, (c_void_p, c_int, POINTER(eunomia_map_info))),
    ("eunomia_map_find", c_int, (c_void_p, c_char_p, POINTER(eunomia_map_info))),
    ("eunomia_map_set_max_entries", c_int, (c_void_p, c_char_p, c_uint32)),
    ("eunomia_map_get", c_int, (c_void_p, c_char_p, c_void_p, c_size_t, c_void_p, c_size_t)),
    ("eunomia_map_set", c_int, (c_void_p, c_char_p, c_void_p, c_size_t, c_void_p, c_size_t, c_uint64)),
    ("eunomia_map_del", c_int, (c_void_p, c_char_p, c_void_p, c_size_t)),
    ("eunomia_map_next", c_int, (c_void_p, c_char_p, c_void_p, c_void_p, c_size_t)),
    ("eunomia_map_get_json", c_int, (c_void_p, c_char_p, c_char_p, POINTER(c_char_p))),
    ("eunomia_map_set_json", c_int, (c_void_p, c_char_p, c_char_p, c_char_p, c_uint64)),
    ("eunomia_map_del_json", c_int, (c_void_p, c_char_p, c_char_p)),
    ("eunomia_map_each", c_int, (c_void_p, c_char_p, c_uint32, eunomia_event_fn, c_void_p)),
    ("eunomia_map_dump", c_int, (c_void_p, c_char_p, c_uint32, c_void_p, c_size_t, POINTER(eunomia_batch))),
    ("eunomia_describe", c_int, (c_void_p, POINTER(c_char_p), POINTER(c_size_t))),
    ("eunomia_source_count", c_int, (c_void_p,)),
    ("eunomia_source_at", c_int, (c_void_p, c_int, POINTER(eunomia_source_info))),
    ("eunomia_prog_count", c_int, (c_void_p,)),
    ("eunomia_prog_at", c_int, (c_void_p, c_int, POINTER(eunomia_prog_info))),
    ("eunomia_prog_find", c_int, (c_void_p, c_char_p, POINTER(eunomia_prog_info))),
    ("eunomia_prog_set_autoload", c_int, (c_void_p, c_char_p, c_int)),
    ("eunomia_prog_set_target_json", c_int, (c_void_p, c_char_p, c_char_p)),
    ("eunomia_type_name", c_char_p, (c_void_p,)),
    ("eunomia_type_kind_of", c_uint32, (c_void_p,)),
    ("eunomia_type_size", c_size_t, (c_void_p,)),
    ("eunomia_type_count", c_uint32, (c_void_p,)),
    ("eunomia_type_field", c_int, (c_void_p, c_uint32, POINTER(eunomia_field))),
    ("eunomia_prog_run", c_int, (c_void_p, c_char_p, POINTER(eunomia_prog_input), POINTER(eunomia_prog_result))),
    ("eunomia_wasm_run", c_int, (c_void_p, c_int, POINTER(c_char_p), POINTER(c_int), c_uint32, eunomia_event_fn, c_void_p)),
)
