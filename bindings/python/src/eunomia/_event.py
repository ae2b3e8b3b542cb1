"""Events for callbacks, batches, and the C callback, which carries exceptions through C."""

from __future__ import annotations

import json
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from ctypes import addressof, c_size_t, string_at
from dataclasses import dataclass
from typing import Any, Optional

from ._ffi import EventKind, Format
from ._handle import Handle
from ._type import Type, Types


@dataclass(frozen=True)
class Event:
    """One event. It is a copy and may be kept.

    `data` and `key` are raw bytes or UTF-8 text; `type` describes raw data. `lost` is the number of lost records for
    EventKind.LOST. `cpu` is -1 if it is unknown. `time_ns` is when the event was read, on the clock of
    time.monotonic_ns(). The clock is read once per batch of at most 1024 records.
    """

    kind: int
    format: Format
    source: str
    data: bytes
    key: bytes
    type: Optional[Type]
    lost: int
    cpu: int
    time_ns: int

    def json(self) -> Any:
        """Returns the Python value of JSON data."""
        return json.loads(self.data)


# Receives one event. Returning True ends the delivering call; an exception ends it too, and that call raises it.
Callback = Callable[[Event], Optional[bool]]


@dataclass(frozen=True)
class Record:
    """One record of a raw batch. It may be shorter than its type; missing bytes read as zero."""

    data: memoryview
    key: memoryview
    cpu: int


@dataclass(frozen=True)
class Batch:
    """Records of one source (or map). `data` has one line per record; for RAW use `records`."""

    source: str
    type: Optional[Type]
    format: Format
    count: int
    data: memoryview
    time_ns: int  # when the first record was read

    def json(self) -> list[Any]:
        """Returns the Python values of a JSON batch."""
        lines = bytes(self.data).rstrip(b"\n")
        values: list[Any] = json.loads(b"[%b]" % lines.replace(b"\n", b","))
        return values

    def records(self) -> Iterator[Record]:
        """Yields the records of a RAW batch."""
        at = 0
        for _ in range(self.count):
            size, length, key_length, cpu = struct.unpack_from("=IIIi", self.data, at)
            data = at + 16
            key = data + (length + 7) // 8 * 8
            yield Record(self.data[data : data + length], self.data[key : key + key_length], cpu)
            at += size


@dataclass(frozen=True)
class Records:
    """Raw events of one source. It is a copy and may be kept.

    `data` has the bytes of each record. It is empty for EventKind.LOST and EventKind.ROUND; a map entry has one value,
    and its `key`. `source_index` is the index in `VM.sources`. The other members are those of Event.
    """

    kind: int
    source: str
    source_index: int
    data: list[bytes]
    key: bytes
    type: Optional[Type]
    lost: int
    cpu: int
    time_ns: int


# Receives a batch; its result is that of a Callback.
BatchCallback = Callable[[Records], Optional[bool]]


class Delivery:
    """The C callback of one call.

    An exception must not pass through C, so it is stored here and raised after the call. A signal handler may raise
    KeyboardInterrupt before this callback's first line; ctypes passes that to sys.unraisablehook.
    """

    def __init__(self, handle: Handle, types: Types, callback: Callable[[Any], bool | None], batches: bool) -> None:
        self._handle = handle
        self._types = types
        self._callback = callback
        self._convert = self._records if batches else self._event
        self._failure: BaseException | None = None
        self._outer = handle.delivering
        self._outer_hook = sys.unraisablehook

    def __call__(self, _arg: int | None, event: Any) -> int:
        try:
            if self._failure is not None:
                return -1
            # The result True ends the call, and so does a close during the callback.
            return int(bool(self._callback(self._convert(event.contents))) or self._handle.closed)
        except BaseException as failure:
            self._failure = failure
            return -1

    def _event(self, event: Any) -> Event:
        return event_of(event, self._types)

    def _records(self, records: Any) -> Records:
        return Records(
            kind=_KINDS.get(records.kind, records.kind),
            source=records.source.decode(),
            source_index=records.source_index,
            data=_copies(records.spans, records.count) if records.count else [],
            key=string_at(records.key, records.key_len) if records.key_len else b"",
            type=self._types.of(records.type),
            lost=records.lost,
            cpu=records.cpu,
            time_ns=records.time_ns,
        )

    def __enter__(self) -> Delivery:
        self._handle.delivering = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            self._outer_hook, sys.unraisablehook = sys.unraisablehook, self._hook
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.delivering = self._outer
        if sys.unraisablehook == self._hook:
            sys.unraisablehook = self._outer_hook
        if self._failure is not None:
            raise self._failure

    def _hook(self, unraisable: sys.UnraisableHookArgs) -> None:
        # Since Python 3.13 only the message names the callback.
        ours = unraisable.object is self or repr(self) in (unraisable.err_msg or "")
        if ours and unraisable.exc_value is not None:
            self._failure = unraisable.exc_value
        else:
            self._outer_hook(unraisable)


_KINDS: dict[int, EventKind] = {kind.value: kind for kind in EventKind}


def event_of(event: Any, types: Types) -> Event:
    """Copies a C event."""
    return Event(
        kind=_KINDS.get(event.kind, event.kind),
        format=Format(event.format),
        source=event.source.decode(),
        data=string_at(event.data, event.len) if event.len else b"",
        key=string_at(event.key, event.key_len) if event.key_len else b"",
        type=types.of(event.type),
        lost=event.lost,
        cpu=event.cpu,
        time_ns=event.time_ns,
    )


def _copies(spans: Any, count: int) -> list[bytes]:
    """Copies the bytes of `count` spans.

    Calling C for each record would take longer than everything else. Neighbouring records of a buffer are copied
    together with the bytes between them, and then separated. Records are not neighbours where a ring buffer wraps
    around, or if many discarded records are between them.
    """
    numbers = (c_size_t * (2 * count)).from_address(addressof(spans.contents))[:]
    starts, lengths = numbers[::2], numbers[1::2]
    first = min(starts)
    size = max(map(int.__add__, starts, lengths)) - first
    if size > 2 * sum(lengths) + _BETWEEN:
        return [string_at(start, length) for start, length in zip(starts, lengths)]
    data = string_at(first, size)
    return [data[start - first : start - first + length] for start, length in zip(starts, lengths)]


# Bytes that may lie between the records of a batch, for the headers and a few discarded records.
_BETWEEN = 16 * 1024
