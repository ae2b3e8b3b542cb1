"""What comes out of a vm: events for callbacks, batches, and what carries a callback's exception over C."""

from __future__ import annotations

import json
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from ctypes import string_at
from dataclasses import dataclass
from typing import Any, Optional

from ._ffi import EventKind, Format
from ._handle import Handle
from ._type import Type, Types


@dataclass(frozen=True)
class Event:
    """One event, a copy that may be kept.

    `data` and `key` are raw bytes, or UTF-8 text; `type` describes raw data. `lost` counts for EventKind.LOST; `cpu` is
    -1 where it is not known.
    """

    kind: int
    format: Format
    source: str
    data: bytes
    key: bytes
    type: Optional[Type]
    lost: int
    cpu: int

    def json(self) -> Any:
        """The Python value of data in JSON."""
        return json.loads(self.data)


# Takes one event. True ends the call that delivers; an exception ends it too and is raised by it.
Callback = Callable[[Event], Optional[bool]]


@dataclass(frozen=True)
class Record:
    """One record of a raw batch. It may be shorter than its type; what is missing is zero."""

    data: memoryview
    key: memoryview
    cpu: int


@dataclass(frozen=True)
class Batch:
    """Records of one source (or map). `data`: one line each, or in RAW what `records` takes apart."""

    source: str
    type: Optional[Type]
    format: Format
    count: int
    data: memoryview

    def json(self) -> list[Any]:
        """The Python values of a batch in JSON."""
        lines = bytes(self.data).rstrip(b"\n")
        values: list[Any] = json.loads(b"[%b]" % lines.replace(b"\n", b","))
        return values

    def records(self) -> Iterator[Record]:
        """The records of a batch in RAW."""
        at = 0
        for _ in range(self.count):
            size, length, key_length, cpu = struct.unpack_from("=IIIi", self.data, at)
            data = at + 16
            key = data + (length + 7) // 8 * 8
            yield Record(self.data[data : data + length], self.data[key : key + key_length], cpu)
            at += size


class Delivery:
    """The C callback of one call.

    An exception must not go through C, so it is kept here and raised after the call. That of a signal handler, such as
    KeyboardInterrupt, may come before this callback's first line; ctypes then hands it to sys.unraisablehook.
    """

    def __init__(self, handle: Handle, types: Types, callback: Callback) -> None:
        self._handle = handle
        self._types = types
        self._callback = callback
        self._failure: BaseException | None = None
        self._outer = handle.delivering
        self._outer_hook = sys.unraisablehook

    def __call__(self, _arg: int | None, event: Any) -> int:
        try:
            if self._failure is not None:
                return -1
            # True, and a vm that has been closed meanwhile, end the call.
            return int(bool(self._callback(self._event(event.contents))) or self._handle.closed)
        except BaseException as failure:
            self._failure = failure
            return -1

    def _event(self, event: Any) -> Event:
        return Event(
            kind=_KINDS.get(event.kind, event.kind),
            format=Format(event.format),
            source=event.source.decode(),
            data=string_at(event.data, event.len) if event.len else b"",
            key=string_at(event.key, event.key_len) if event.key_len else b"",
            type=self._types.of(event.type),
            lost=event.lost,
            cpu=event.cpu,
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
        # Python 3.13 names the callback in the message only.
        ours = unraisable.object is self or repr(self) in (unraisable.err_msg or "")
        if ours and unraisable.exc_value is not None:
            self._failure = unraisable.exc_value
        else:
            self._outer_hook(unraisable)


_KINDS: dict[int, EventKind] = {kind.value: kind for kind in EventKind}
