"""The vm: the functions of eunomia.h under the same names, with Python's values, exceptions and iterators."""

from __future__ import annotations

import asyncio
import json
import math
import os
import select
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from ctypes import Array, byref, c_char, c_char_p, c_int, c_size_t, c_uint64, c_void_p, cast, sizeof
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, TypeVar, Union

from . import _array, _ffi, _info
from ._error import Error, of_parts, of_vm
from ._event import Batch, BatchCallback, Callback, Delivery, Event, Records
from ._ffi import ExportFlag, Format, Kind, LogLevel, OptionFlag, ReplaceFlag, Status
from ._handle import Handle
from ._info import Info
from ._library import LIBRARY
from ._phases import Exported, Prepared
from ._type import Type, Types

Found = TypeVar("Found")

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Receives the severity, a LogLevel, and one line.
Log = Callable[[int, str], object]

# A file name.
Path = Union[str, "os.PathLike[str]"]

# Initial size in bytes of the buffer for batches; it grows if a record needs more.
_BUFFER_SIZE = 256 * 1024

# Longest timeout of poll(2) in milliseconds; a longer wait calls it again.
_LONGEST_MS = 2**31 - 1


class VM:
    """A handle to one loaded BPF package.

    The life cycle is linear: open, set variables, load, attach, poll. `close`, or the end of a `with` block, frees the
    vm. A failed call raises Error. Several threads may use a vm: their calls wait for each other, but not for a poll
    that waits for events. A call that eunomia.h forbids in callbacks raises ERR_BUSY there.

    A `bytes` value is passed to C unchanged; any other value is passed as JSON and checked against the type.
    """

    def __init__(
        self,
        *,
        log: Log | None = None,
        log_level: LogLevel = LogLevel.WARN,
        flags: OptionFlag | None = None,
        btf_path: Path | None = None,
        pin_path: Path | None = None,
        perf_pages: int = 0,
        poll_budget: int = 0,
        wasm_stack: int = 0,
        wasm_heap: int = 0,
        wasm_memory: int = 0,
        wasm_budget_ms: int = 0,
        wasm_dirs: Sequence[Path] = (),
        max_kernel_memory: int = 0,
    ) -> None:
        """Creates an empty vm. The options are those of eunomia_options; 0 and None select the default.

        Any thread that uses the vm may call `log`, which must not use the vm. Exceptions of `log` go to
        sys.unraisablehook.
        """
        failure = ["cannot create a vm"]  # without a vm, only the log has the reason

        def on_log(_: int | None, level: int, line: bytes) -> None:
            failure[0] = line.decode("utf-8", "replace")
            if log is not None:
                log(level, failure[0])

        options = _ffi.eunomia_options(
            size=sizeof(_ffi.eunomia_options),
            log_level=log_level,
            flags=flags or 0,
            log=_ffi.eunomia_log_fn(on_log),
            btf_path=_path(btf_path),
            pin_path=_path(pin_path),
            perf_pages=_fitting("perf_pages", perf_pages, 32),
            poll_budget=_fitting("poll_budget", poll_budget, 32),
            wasm_stack=_fitting("wasm_stack", wasm_stack, 32),
            wasm_heap=_fitting("wasm_heap", wasm_heap, 32),
            wasm_memory=_fitting("wasm_memory", wasm_memory, 32),
            wasm_budget_ms=_fitting("wasm_budget_ms", wasm_budget_ms, 32),
            wasm_dirs=_strings(map(_path, wasm_dirs)) if wasm_dirs else None,
            max_kernel_memory=_fitting("max_kernel_memory", max_kernel_memory, 64),
        )
        vm = c_void_p()
        status: int = LIBRARY.eunomia_new(byref(vm), byref(options))
        if status < 0 or vm.value is None:
            raise Error(status, failure[0])
        self._handle = Handle(vm.value, options.log)
        self._types = Types()
        self._left: Iterator[dict[str, Any]] = iter(())  # read, but not yet yielded by `events`
        self._replacing = threading.Lock()  # held until the report has been read
        self._buffer: Array[c_uint64] = (c_uint64 * 0)()
        weakref.finalize(self, self._handle.finish)

    def __enter__(self) -> VM:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detaches and unloads the package and frees the vm. Callable repeatedly, from any thread, and in a callback.

        Waiting polls end with ERR_STATE or ERR_STOPPED, and the last user frees the vm. After fork it is the only call
        that a child may make.
        """
        self._handle.close()

    # ---- package ----

    def open(self, data: bytes, kinds: Kind = Kind.ANY) -> Kind:
        """Opens a package from memory and returns its kind."""
        return Kind(self._call(LIBRARY.eunomia_open, _bytes(data), len(data), kinds))

    def open_file(self, path: Path, kinds: Kind = Kind.ANY) -> Kind:
        """Opens a package from a file and returns its kind."""
        return Kind(self._call(LIBRARY.eunomia_open_file, _path(path), kinds))

    def open_object(self, elf: bytes, meta: str | None = None) -> Kind:
        """Opens a BPF object with separate metadata: a skeleton JSON, or None to use only its BTF."""
        metadata = None if meta is None else _text(meta)
        return Kind(self._call(LIBRARY.eunomia_open_object, _bytes(elf), len(elf), metadata))

    def load(self) -> None:
        """Creates the maps and loads the programs."""
        self._call(LIBRARY.eunomia_load)

    def attach(self) -> None:
        """Attaches all programs. Loads them first if necessary."""
        self._call(LIBRARY.eunomia_attach)

    def detach(self) -> None:
        """Detaches all programs. Maps and variables stay; `attach` may be called again."""
        self._call(LIBRARY.eunomia_detach)

    def replace(self, data: bytes, flags: ReplaceFlag | None = None) -> dict[str, Any]:
        """Replaces the running package with a new version while events flow, and returns the report as a dict.

        Events of the old version are still delivered, with their own types. Callable from any thread, even while
        another one polls. A failure changes nothing. eunomia.h has the keys of the report.
        """
        return self._change(LIBRARY.eunomia_replace, *_replacing(data, flags))

    def prepare(self, data: bytes, flags: ReplaceFlag | None = None) -> Prepared:
        """Loads a new version, which does not run before `Prepared.flip`. Callable from any thread.

        The running version keeps running. At the end of a `with` block the prepared version is unloaded, unless it was
        flipped.
        """
        return Prepared(self, self._change(LIBRARY.eunomia_prepare, *_replacing(data, flags)))

    def commit(self) -> None:
        """Closes the old version that ReplaceFlag.KEEP_OLD has kept, or `adopt` has left. Callable from any thread."""
        self._change(LIBRARY.eunomia_commit)

    def rollback(self) -> dict[str, Any]:
        """Switches back to that old version, and returns the report. Callable from any thread."""
        return self._change(LIBRARY.eunomia_rollback)

    def drained(self) -> bool:
        """Returns whether all events of older versions have been delivered. Callable from any thread."""
        with self._handle.held() as vm:
            status: int = LIBRARY.eunomia_drained(vm)
        if status < 0:
            raise of_parts(status, error="called from a callback of this vm")
        return status == 1

    def export(self, flags: ExportFlag | None = None) -> Exported:
        """Copies descriptors for a process that reads the events. This vm stops reading.

        Send the description and the descriptors (`socket.send_fds`), then close them. eunomia.h describes both sides.
        """
        found = _ffi.eunomia_exported(size=sizeof(_ffi.eunomia_exported))
        with self._handle.turn, self._handle.held() as vm:
            status: int = LIBRARY.eunomia_export(vm, flags or 0, byref(found))
            if status < 0:
                raise of_vm(status, vm)
            return Exported(found.description.decode(), list(found.fds[: found.count]))

    def import_fds(self, data: bytes, exported: Exported) -> None:
        """Makes this empty vm the reader of a package that another process has loaded. The descriptors are copied."""
        self._call(LIBRARY.eunomia_import, _bytes(data), len(data), byref(exported._to_c()))

    def adopt(self, data: bytes, exported: Exported) -> None:
        """Makes this reader read the next version, too. Callable from any thread. The descriptors are copied."""
        self._change(LIBRARY.eunomia_adopt, _bytes(data), len(data), byref(exported._to_c()))

    def replace_report(self) -> dict[str, Any] | None:
        """Returns the report of the last `replace`, or the parts of its error; None before the first."""
        with self._replacing, self._handle.held() as vm:
            text: bytes | None = LIBRARY.eunomia_replace_report(vm)
        found: dict[str, Any] | None = None if text is None else json.loads(text)
        return found

    def __repr__(self) -> str:
        if self._handle.closed:
            return "<eunomia.VM, closed>"
        try:
            found = self.describe()
        except Error as error:  # used by another thread, owned by another process, or empty
            state = "empty" if error.status == Status.ERR_STATE else error.message
            return f"<eunomia.VM, {state}>"
        name = found.get("meta", {}).get("bpf_skel", {}).get("obj_name", "a module")
        return f"<eunomia.VM of {name}, {found.get('state', 'opened')}>"

    def describe(self) -> dict[str, Any]:
        """Returns a description of the package; eunomia.h lists the keys."""
        description: dict[str, Any] = json.loads(self._call_for_text(LIBRARY.eunomia_describe, after=(None,)))
        return description

    # ---- variables and arguments ----

    def var_set(self, name: str, value: Any) -> None:
        """Sets a variable. Constants can only be set before `load`."""
        if isinstance(value, bytes):
            self._call(LIBRARY.eunomia_var_set, _text(name), value, len(value))
        else:
            self._call(LIBRARY.eunomia_var_set_json, _text(name), _json(value))

    def var_get(self, name: str) -> Any:
        """Returns the current value of a variable, converted by its type."""
        return json.loads(self._call_for_text(LIBRARY.eunomia_var_get_json, _text(name)))

    def var_get_bytes(self, name: str) -> bytes:
        """Returns the current bytes of a variable."""
        size = c_size_t(0)
        buffer: Array[c_char] = (c_char * 0)()
        with self._handle.turn, self._handle.held() as vm:
            status: int = LIBRARY.eunomia_var_get(vm, _text(name), None, byref(size))
            if status == Status.ERR_TOO_SMALL:
                buffer = (c_char * size.value)()
                status = LIBRARY.eunomia_var_get(vm, _text(name), buffer, byref(size))
            if status < 0:
                raise of_vm(status, vm)
            return bytes(buffer)

    def args_set(self, argv: Sequence[str]) -> bool:
        """Sets variables from a command line, including argv[0]. Returns True if it asks for help; see `args_help`."""
        return self._call(LIBRARY.eunomia_args_set, len(argv), _strings(map(_text, argv))) == 1

    def args_help(self) -> str:
        """Returns the help text of the package, or the text that the last `args_set` asked for."""
        return self._call_for_text(LIBRARY.eunomia_args_help)

    # ---- events ----

    def poll(self, callback: Callback, format: Format = Format.JSON, timeout: float | None = None) -> int:
        """Waits for events, calls `callback` for each event of the first batch, and returns their number.

        Returns 0 after `timeout` seconds (None waits forever). A callback that returns True ends the poll; its
        exceptions are raised here. Signal handlers run during the wait, so Ctrl-C ends it. Raises ERR_STOPPED after
        `stop`.
        """

        ended = False

        def until(event: Event) -> bool:
            nonlocal ended
            ended = bool(callback(event))
            return ended

        def once(vm: int) -> int | None:
            count = self._deliver(LIBRARY.eunomia_poll, vm, 0, format, callback=until)
            return count if count or ended else None

        return self._when_ready(once, timeout) or 0

    def poll_batch(self, callback: BatchCallback, timeout: float | None = None) -> int:
        """Waits like `poll`, calls `callback` for each batch of raw records, and returns the number of events.

        A batch has at most 256 records of one buffer. The callback's result and exceptions are as for `poll`.
        """
        ended = False

        def until(records: Records) -> bool:
            nonlocal ended
            ended = bool(callback(records))
            return ended

        def once(vm: int) -> int | None:
            count = self._deliver(LIBRARY.eunomia_poll_batch, vm, 0, callback=until, batches=True)
            return count if count or ended else None

        return self._when_ready(once, timeout) or 0

    def run(self, callback: Callback, format: Format = Format.JSON) -> None:
        """Polls until `stop` is called or the callback returns True."""
        ended = False

        def until(event: Event) -> bool:
            nonlocal ended
            ended = True  # also if the callback raises: ERR_STOPPED then belongs to another vm
            ended = bool(callback(event))
            return ended

        while not ended:
            try:
                self.poll(until, format)
            except Error as error:
                if ended or error.status != Status.ERR_STOPPED:
                    raise
                return

    def events(self, timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """Yields each event as a dict, until `stop` is called or no event arrives for `timeout` seconds.

        It reads ahead: after a `break`, the next call yields the remaining events first.
        """
        try:
            yield from self._left
            while batch := self.read(Format.JSON, timeout):
                self._left = iter(batch.json())
                yield from self._left
        except Error as error:
            if error.status != Status.ERR_STOPPED:
                raise

    async def async_events(self) -> AsyncIterator[dict[str, Any]]:
        """Yields each event as a dict in asyncio, until `stop` is called."""
        try:
            while True:
                for event in self._left:
                    yield event
                await asyncio.sleep(0)  # let other tasks run even if events never pause
                batch = self.read(Format.JSON, timeout=0)
                if batch is None:
                    await self._readable()
                else:
                    self._left = iter(batch.json())
        except Error as error:
            if error.status != Status.ERR_STOPPED:
                raise

    def read(
        self, format: Format = Format.JSON, timeout: float | None = None, buffer: bytearray | memoryview | None = None
    ) -> Batch | None:
        """Waits for records like `poll` and returns those of one source in one batch; None at the timeout.

        Without `buffer` the records are copied from the vm's own buffer, which grows as needed. With `buffer`, they are
        stored there; it must be 8-byte aligned for RAW. ERR_TOO_SMALL then means that the next record needs
        `Error.need` bytes, and stays unread.
        """

        def once(vm: int) -> Batch | None:
            batch, data = self._fill(vm, buffer, LIBRARY.eunomia_read, 0, format)
            if not batch.count:
                return None
            name, kind = batch.name.decode(), self._types.of(batch.type)
            return Batch(
                name, kind, format, batch.count, memoryview(bytes(data)) if buffer is None else data, batch.time_ns
            )

        return self._when_ready(once, timeout)

    def read_array(self, timeout: float | None = None, strings: bool = False) -> NDArray[Any]:
        """Waits for records and returns those of one source as a numpy structured array, laid out like the C struct.

        With `strings`, arrays of char are str (dtype `U`), as pandas shows them. Otherwise they are bytes (dtype `S`),
        which need no conversion.

        Bit-fields and the keys of sampled maps are left out; `read` returns both. At the timeout the array is empty.
        Raises ERR_TYPE if the package does not specify the type.
        """

        def once(vm: int) -> NDArray[Any] | None:
            batch, data = self._fill(vm, None, LIBRARY.eunomia_read, 0, Format.RAW)
            return _records(batch.name.decode(), self._types.of(batch.type), batch.count, data) if batch.count else None

        found = self._when_ready(once, timeout)
        if found is None:
            with self._handle.turn, self._handle.held() as vm:
                found = _records(*self._first_source(vm), 0, memoryview(b""))
        return _array.with_strings(found) if strings else found

    def fileno(self) -> int:
        """Returns a descriptor for the host's event loop. It is readable when `poll(..., timeout=0)` has work to do."""
        with self._handle.held():
            return self._handle.fd

    def stop(self) -> None:
        """Ends the waiting poll, or the next one, with ERR_STOPPED. Callable from any thread and in signal handlers."""
        with self._handle.held() as vm:
            LIBRARY.eunomia_stop(vm)

    def pause(self, on: bool = True) -> None:
        """Pauses or resumes delivery. Records stay in the kernel's buffers while paused."""
        with self._handle.held() as vm:
            LIBRARY.eunomia_pause(vm, on)

    def stats(self) -> _info.Stats:
        """Returns the event counters."""
        found = _ffi.eunomia_stats(size=sizeof(_ffi.eunomia_stats))
        with self._handle.held() as vm:
            status: int = LIBRARY.eunomia_stats_get(vm, byref(found))
        if status < 0:
            raise Error(status, "cannot read the statistics")
        return _info.of(_info.Stats, found, self._types)

    def queue_start(self, max_bytes: int) -> None:
        """Starts a thread that moves records from the kernel's buffers to memory while the host is busy."""
        self._call(LIBRARY.eunomia_queue_start, _fitting("max_bytes", max_bytes, 64))

    def queue_stop(self) -> None:
        """Stops the queue thread. Queued records are still delivered."""
        self._call(LIBRARY.eunomia_queue_stop)

    def iter_each(self, prog: str, callback: Callback) -> int:
        """Runs an attached iterator program, calls `callback` for each line it writes, and returns their number."""
        with self._handle.turn, self._handle.held() as vm:
            return self._deliver(LIBRARY.eunomia_iter_each, vm, _text(prog), callback=callback)

    # ---- maps ----

    def map_get(self, name: str, key: Any) -> Any:
        """Returns the value of a key: bytes for a bytes key, otherwise converted by its type."""
        if not isinstance(key, bytes):
            return json.loads(self._call_for_text(LIBRARY.eunomia_map_get_json, _text(name), _json(key)))
        info = self.map_find(name)
        cpu = info.value_size if info.cpus == 1 else -(-info.value_size // 8) * 8
        value = (c_char * (cpu * info.cpus))()
        self._call(LIBRARY.eunomia_map_get, _text(name), key, len(key), value, len(value))
        return bytes(value)

    def map_set(self, name: str, key: Any, value: Any, flags: int = 0) -> None:
        """Stores the value of a key; both are bytes or neither. flags: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2."""
        flags = _fitting("flags", flags, 64)
        if isinstance(key, bytes) and isinstance(value, bytes):
            self._call(LIBRARY.eunomia_map_set, _text(name), key, len(key), value, len(value), flags)
        else:
            self._call(LIBRARY.eunomia_map_set_json, _text(name), _json(key), _json(value), flags)

    def map_del(self, name: str, key: Any) -> None:
        """Deletes a key and its value."""
        if isinstance(key, bytes):
            self._call(LIBRARY.eunomia_map_del, _text(name), key, len(key))
        else:
            self._call(LIBRARY.eunomia_map_del_json, _text(name), _json(key))

    def map_next(self, name: str, key: bytes | None = None) -> bytes | None:
        """Returns the key after `key` as bytes. Pass None for the first key. The result None means no more keys."""
        size = self.map_find(name).key_size if key is None else len(_bytes(key))
        found = (c_char * size)()
        try:
            self._call(LIBRARY.eunomia_map_next, _text(name), key, found, size)
        except Error as error:
            if error.status != Status.ERR_NOT_FOUND:
                raise
            return None
        return bytes(found)

    def map_each(self, name: str, callback: Callback, format: Format = Format.JSON) -> int:
        """Calls `callback` for each entry, an event of kind MAP_ENTRY, and returns their number."""
        with self._handle.turn, self._handle.held() as vm:
            return self._deliver(LIBRARY.eunomia_map_each, vm, _text(name), format, callback=callback)

    def map_dump(self, name: str, format: Format = Format.JSON, buffer: bytearray | memoryview | None = None) -> Batch:
        """Returns all entries in one batch. `buffer` is as for `read`."""
        kind = self.map_find(name).value_type
        with self._handle.turn, self._handle.held() as vm:
            batch, data = self._fill(vm, buffer, LIBRARY.eunomia_map_dump, _text(name), format)
            return Batch(
                name, kind, format, batch.count, memoryview(bytes(data)) if buffer is None else data, batch.time_ns
            )

    def maps(self) -> list[_info.MapInfo]:
        """Returns the maps of the package, including those of global variables."""
        return self._list(_info.MapInfo, _ffi.eunomia_map_info, LIBRARY.eunomia_map_count, LIBRARY.eunomia_map_at)

    def map_find(self, name: str) -> _info.MapInfo:
        """Returns the map with that name."""
        return self._find(_info.MapInfo, _ffi.eunomia_map_info, LIBRARY.eunomia_map_find, _text(name))

    def map_set_max_entries(self, name: str, count: int) -> None:
        """Sets the number of entries of a map (bytes of a ring buffer, pages of an arena). Call before `load`."""
        self._call(LIBRARY.eunomia_map_set_max_entries, _text(name), _fitting("count", count, 32))

    # ---- sources and programs ----

    def sources(self) -> list[_info.SourceInfo]:
        """Returns the sources of events. They are known after `load`."""
        kind, c_kind = _info.SourceInfo, _ffi.eunomia_source_info
        return self._list(kind, c_kind, LIBRARY.eunomia_source_count, LIBRARY.eunomia_source_at)

    def progs(self) -> list[_info.ProgInfo]:
        """Returns the programs."""
        return self._list(_info.ProgInfo, _ffi.eunomia_prog_info, LIBRARY.eunomia_prog_count, LIBRARY.eunomia_prog_at)

    def prog_find(self, name: str) -> _info.ProgInfo:
        """Returns the program with that name."""
        return self._find(_info.ProgInfo, _ffi.eunomia_prog_info, LIBRARY.eunomia_prog_find, _text(name))

    def prog_set_autoload(self, name: str, on: bool) -> None:
        """Sets whether `load` loads a program."""
        self._call(LIBRARY.eunomia_prog_set_autoload, _text(name), on)

    def prog_set_target(self, name: str, target: Any) -> None:
        """Sets where a program attaches, with the keys of progs[] in the package; a list sets several targets."""
        self._call(LIBRARY.eunomia_prog_set_target_json, _text(name), _json(target))

    def prog_run(
        self, name: str, data: bytes = b"", ctx: bytes = b"", repeat: int = 0, data_out: int = 0, ctx_out: int = 0
    ) -> _info.ProgResult:
        """Runs a loaded program with a packet (`data`) or a context, without its hook, and returns the result.

        An XDP or traffic control program takes a packet, a raw tracepoint program the arguments of its tracepoint as
        `ctx`. `data_out` and `ctx_out` are the capacities in bytes of the buffers for packet and context after the run.
        """
        data_buffer, ctx_buffer = (c_char * data_out)(), (c_char * ctx_out)()
        given = _ffi.eunomia_prog_input(
            size=sizeof(_ffi.eunomia_prog_input),
            data=cast(c_char_p(data), c_void_p) if data else None,
            data_len=len(data),
            ctx=cast(c_char_p(ctx), c_void_p) if ctx else None,
            ctx_len=len(ctx),
            data_out=cast(data_buffer, c_void_p) if data_out else None,
            data_out_cap=data_out,
            ctx_out=cast(ctx_buffer, c_void_p) if ctx_out else None,
            ctx_out_cap=ctx_out,
            repeat=_fitting("repeat", repeat, 32),
        )
        found = _ffi.eunomia_prog_result(size=sizeof(_ffi.eunomia_prog_result))
        self._call(LIBRARY.eunomia_prog_run, _text(name), byref(given), byref(found))
        left = data_buffer.raw[: found.data_len], ctx_buffer.raw[: found.ctx_len]
        return _info.ProgResult(found.return_value, found.duration_ns, *left)

    # ---- guests ----

    def wasm_run(self, argv: Sequence[str], callback: Callback | None = None, format: Format = Format.JSON) -> int:
        """Runs the guest of an open WASM package and returns its exit code.

        The guest and the callback run in a separate thread while this one waits. Ctrl-C ends the guest.
        """
        code = c_int()
        failures: list[BaseException] = []

        def guest() -> None:
            try:
                arguments = (len(argv), _strings(map(_text, argv)), byref(code), format)
                with self._handle.turn, self._handle.held() as vm:
                    self._deliver(LIBRARY.eunomia_wasm_run, vm, *arguments, callback=callback or _ignore)
            except BaseException as failure:
                failures.append(failure)

        if self._handle.in_callback():
            guest()  # C refuses it; a thread would deadlock on the turn that this one holds
        else:
            self._in_thread(guest)
        if failures:
            raise failures[0]
        return code.value

    # ---- internals ----

    def _in_thread(self, guest: Callable[[], None]) -> None:
        thread = threading.Thread(target=guest, name="eunomia guest")
        thread.start()
        try:
            thread.join()
        except BaseException:
            self.stop()
            thread.join()
            raise

    def _call(self, function: Any, *arguments: Any) -> int:
        with self._handle.turn, self._handle.held() as vm:
            status: int = function(vm, *arguments)
            if status < 0:
                raise of_vm(status, vm)
            return status

    def _change(self, function: Any, *arguments: Any) -> dict[str, Any]:
        """Calls a function that takes no turn, and returns its report."""
        with self._replacing, self._handle.held() as vm:
            status: int = function(vm, *arguments)
            found: dict[str, Any] = json.loads(LIBRARY.eunomia_replace_report(vm) or b"{}")
        if status < 0:
            raise of_parts(status, **found)
        return found

    def _call_for_text(self, function: Any, *arguments: Any, after: tuple[Any, ...] = ()) -> str:
        """Calls a function that returns a borrowed string."""
        text = c_char_p()
        with self._handle.turn, self._handle.held() as vm:
            status: int = function(vm, *arguments, byref(text), *after)
            if status < 0:
                raise of_vm(status, vm)
            return (text.value or b"").decode("utf-8", "replace")

    def _deliver(
        self, function: Any, vm: int, *arguments: Any, callback: Callable[[Any], bool | None], batches: bool = False
    ) -> int:
        """Calls a function that runs callbacks."""
        kind = _ffi.eunomia_batch_fn if batches else _ffi.eunomia_event_fn
        with Delivery(self._handle, self._types, callback, batches) as delivery:
            status: int = function(vm, *arguments, kind(delivery), None)
        if status < 0:
            raise of_vm(status, vm)
        return status

    def _fill(
        self, vm: int, given: bytearray | memoryview | None, function: Any, *arguments: Any
    ) -> tuple[_ffi.eunomia_batch, memoryview]:
        """Calls a function that stores a batch, in `given` or in the vm's own buffer, which grows."""
        batch = _ffi.eunomia_batch(size=sizeof(_ffi.eunomia_batch))
        if given is None and not self._buffer:
            self._buffer = (c_uint64 * (_BUFFER_SIZE // 8))()
        while True:
            buffer = self._buffer if given is None else (c_char * memoryview(given).nbytes).from_buffer(given)
            status: int = function(vm, *arguments, buffer, sizeof(buffer), byref(batch))
            if status >= 0:
                return batch, memoryview(buffer).cast("B")[: batch.len]
            if status != Status.ERR_TOO_SMALL or given is not None:
                raise of_vm(status, vm, batch.need)
            self._buffer = (c_uint64 * (batch.need // 8 + 1))()

    def _first_source(self, vm: int) -> tuple[str, Type | None]:
        """Returns name and type of the first source."""
        found = _ffi.eunomia_source_info(size=sizeof(_ffi.eunomia_source_info))
        status: int = LIBRARY.eunomia_source_at(vm, 0, byref(found))
        if status < 0:
            raise of_vm(status, vm)
        return found.name.decode(), self._types.of(found.type)

    def _when_ready(self, once: Callable[[int], Found | None], timeout: float | None) -> Found | None:
        """Calls `once` until it returns a value, and waits for the vm's descriptor in between.

        The wait is in Python, not in C, so that signal handlers run and other threads can use the vm.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            with self._handle.turn, self._handle.held() as vm:
                found = once(vm)
            left = deadline - time.monotonic()
            if found is not None or left <= 0:
                return found
            with self._handle.held():
                ready = select.poll()
                ready.register(self._handle.fd, select.POLLIN)
                ready.poll(min(math.ceil(left * 1000), _LONGEST_MS) if left < math.inf else None)

    async def _readable(self) -> None:
        """Waits for the vm's descriptor in the running loop. Uses a duplicate, as a loop watches each once."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        with self._handle.held():
            watched = os.dup(self._handle.fd)
            try:
                loop.add_reader(watched, lambda: None if ready.done() else ready.set_result(None))
                await ready
            finally:
                loop.remove_reader(watched)
                os.close(watched)

    def _list(self, kind: type[Info], c_kind: Any, count: Any, at: Any) -> list[Info]:
        with self._handle.turn:
            return [self._find(kind, c_kind, at, index) for index in range(self._call(count))]

    def _find(self, kind: type[Info], c_kind: Any, function: Any, which: Any) -> Info:
        found = c_kind(size=sizeof(c_kind))
        with self._handle.turn, self._handle.held() as vm:
            status: int = function(vm, which, byref(found))
            if status < 0:
                raise of_vm(status, vm)
            return _info.of(kind, found, self._types)


def _ignore(_: Event) -> None:
    pass


def _records(source: str, kind: Type | None, count: int, data: memoryview) -> NDArray[Any]:
    if kind is None:
        raise Error(Status.ERR_TYPE, f'source "{source}": the package does not specify the type of its records')
    return _array.records(data, count, kind)


def _fitting(name: str, value: int, bits: int) -> int:
    """Checks that a number fits; ctypes would truncate it."""
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name}: {value} does not fit {bits} bits")
    return value


def _text(text: str) -> bytes:
    """Encodes a string and refuses NUL, which would end it in C."""
    if "\0" in text:
        raise ValueError(f"{text!r} contains a NUL")
    return text.encode()


def _path(path: Path | None) -> bytes | None:
    """Encodes a file name. It may contain any bytes, which Python represents as surrogates."""
    if path is None:
        return None
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError(f"{path!r} contains a NUL")
    return name


def _replacing(data: bytes, flags: ReplaceFlag | None) -> tuple[Any, ...]:
    """Returns the arguments of a replace."""
    options = _ffi.eunomia_replace_options(size=sizeof(_ffi.eunomia_replace_options), flags=flags or 0)
    return _bytes(data), len(data), byref(options)


def _bytes(data: bytes) -> bytes:
    """Refuses str, which ctypes would pass with four bytes per character."""
    if not isinstance(data, bytes):
        raise TypeError(f"expected bytes, not {type(data).__name__}")
    return data


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _strings(texts: Iterable[bytes | None]) -> Array[c_char_p]:
    """Returns a NULL-terminated array of C strings."""
    words = [*texts, None]
    return (c_char_p * len(words))(*words)
