"""Reads raw records of the example "bootstrap" into a typed struct, without JSON, until Ctrl-C.

usage: raw.py target/packages/bootstrap/package.json
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

import eunomia


class Event(ctypes.Structure):
    """struct event of examples/bpf/bootstrap/bootstrap.h."""

    _fields_ = (
        ("pid", ctypes.c_int),
        ("ppid", ctypes.c_int),
        ("exit_code", ctypes.c_uint),
        ("duration_ns", ctypes.c_ulonglong),
        ("comm", ctypes.c_char * 16),
        ("filename", ctypes.c_char * 128),
        ("exit_event", ctypes.c_bool),
    )


def show(event: eunomia.Event) -> None:
    # A record may be shorter than its type; missing bytes are zero.
    record = Event.from_buffer_copy(event.data.ljust(ctypes.sizeof(Event), b"\0"))
    what = f"exit {record.exit_code}" if record.exit_event else record.filename.decode("utf-8", "replace")
    print(record.pid, record.comm.decode("utf-8", "replace"), what, flush=True)


def main(package: str) -> None:
    with eunomia.VM() as vm:
        vm.open_file(package)
        vm.load()
        [source] = vm.sources()
        if source.record_size != ctypes.sizeof(Event):
            sys.exit(f"{package}: its records have {source.record_size} bytes, not {ctypes.sizeof(Event)}")
        vm.attach()
        vm.run(show, eunomia.Format.RAW)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1])
