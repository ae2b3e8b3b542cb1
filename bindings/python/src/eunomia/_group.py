"""Groups: many vms that one thread polls with one call."""

from __future__ import annotations

import ctypes
import select
import threading
import time
import weakref
from contextlib import ExitStack
from ctypes import byref, c_void_p
from types import TracebackType
from typing import Any, Callable, Optional

from . import _ffi
from ._error import Error
from ._event import Event, event_of
from ._ffi import Format, Status
from ._library import LIBRARY
from ._vm import VM

# Receives the vm that an event is from, and the event. Returning True ends the poll; an exception ends it too.
GroupCallback = Callable[[VM, Event], Optional[bool]]

# Longest timeout of poll(2) in milliseconds; a longer wait calls it again.
_LONGEST_MS = 2**31 - 1


class Group:
    """Many vms that one thread polls together, with one descriptor.

    A vm is in at most one group, and leaves it when it is closed. Every other method can still be called on a vm in a
    group. `add`, `remove` and `stop` may be called from any thread and in callbacks.
    """

    def __init__(self) -> None:
        """Creates an empty group."""
        group = c_void_p()
        status: int = LIBRARY.eunomia_group_new(byref(group))
        if status < 0 or group.value is None:
            raise Error(status, "cannot create a group", errno=ctypes.get_errno())
        self._group = group.value
        self._turn = threading.Lock()  # held by the thread that polls
        self._members: weakref.WeakValueDictionary[int, VM] = weakref.WeakValueDictionary()
        self._added = 0
        self._failed: VM | None = None
        self._end = weakref.finalize(self, LIBRARY.eunomia_group_destroy, self._group)

    def __enter__(self) -> Group:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Frees the group. Its vms leave it and stay as they are. Raises ERR_BUSY while a thread polls."""
        if not self._turn.acquire(blocking=False):
            raise Error(Status.ERR_BUSY, "the group is being polled")
        self._end()
        self._turn.release()

    def add(self, vm: VM) -> None:
        """Adds a vm, in any state. The group does not keep it alive."""
        self._check()
        self._added += 1
        key = self._added
        self._members[key] = vm
        with vm._handle.held() as raw:
            status: int = LIBRARY.eunomia_group_add(self._group, raw, key)
        if status < 0:
            del self._members[key]
            raise Error(status, "the vm is in a group already; remove it there first")

    def remove(self, vm: VM) -> None:
        """Removes a vm. If another thread is in a callback for an event of it, this waits until that has returned."""
        self._check()
        with vm._handle.held() as raw:
            status: int = LIBRARY.eunomia_group_remove(self._group, raw)
        if status < 0:
            raise Error(status, "the vm is not in this group")

    def poll(self, callback: GroupCallback, format: Format = Format.JSON, timeout: float | None = None) -> int:
        """Waits for events of the vms, calls `callback` for each, and returns their number.

        Each vm with events delivers at most poll_budget events per call (default: 1024). Returns 0 after `timeout`
        seconds (None waits forever). Signal handlers run during the wait. A vm that fails leaves the group. Its error
        is raised, and `failed` returns the vm. Raises ERR_STOPPED after `stop`.
        """
        self._check()
        if not self._turn.acquire(blocking=False):
            raise Error(Status.ERR_BUSY, "the group is being polled")
        try:
            return self._poll(callback, format, timeout)
        finally:
            self._turn.release()

    def _poll(self, callback: GroupCallback, format: Format, timeout: float | None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        ready = select.poll()
        ready.register(self.fileno(), select.POLLIN)
        while True:
            count, ended = self._poll_now(callback, format)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if count or ended or left == 0:
                return count
            ready.poll(_LONGEST_MS if left is None else min(left * 1000 + 1, _LONGEST_MS))

    def _poll_now(self, callback: GroupCallback, format: Format) -> tuple[int, bool]:
        failures: list[BaseException] = []
        ended = False

        # A vm that a callback closes is freed after the call.
        with ExitStack() as held:
            users: set[int] = set()

            def on_event(_: int | None, event: Any) -> int:
                nonlocal ended
                try:
                    vm = self._members[event.contents.member]
                    if event.contents.member not in users:
                        held.enter_context(vm._handle.held())
                        users.add(event.contents.member)
                    ended = bool(callback(vm, event_of(event.contents, vm._types)))
                    return int(ended or vm._handle.closed)
                except BaseException as failure:
                    failures.append(failure)
                    return -1

            receive = _ffi.eunomia_event_fn(on_event)
            status: int = LIBRARY.eunomia_group_poll(self._group, 0, format, receive, None)
            if failures:
                raise failures[0]
            if status < 0:
                raise self._error(status)
            return status, ended

    def _error(self, status: int) -> Error:
        member = c_void_p()
        message: bytes = LIBRARY.eunomia_group_errmsg(self._group, byref(member))
        self._failed = self._members.get(member.value) if member.value else None
        return Error(status, message.decode("utf-8", "replace"))

    @property
    def failed(self) -> VM | None:
        """The vm that the last failed poll was about; None if it was not about a vm."""
        return self._failed

    def stop(self) -> None:
        """Ends the poll in progress, or else the next one, with ERR_STOPPED. The vms are not stopped."""
        self._check()
        LIBRARY.eunomia_group_stop(self._group)

    def fileno(self) -> int:
        """Returns a descriptor for the host's event loop. It is readable when `poll(..., timeout=0)` has work to do."""
        self._check()
        fd: int = LIBRARY.eunomia_group_epoll_fd(self._group)
        return fd

    def _check(self) -> None:
        if not self._end.alive:
            raise Error(Status.ERR_STATE, "the group is closed")
