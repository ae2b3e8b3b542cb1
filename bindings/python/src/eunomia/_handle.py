"""Owns the C vm: who may use it, and when it is freed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from ._error import Error
from ._ffi import Status
from ._library import LIBRARY

# How long the end of the interpreter waits for a callback of a daemon thread to return.
_PATIENCE = 5.0


class Handle:
    """A C vm that several threads may use.

    In `with handle as vm` a thread has the C vm for itself. A thread that only waits for the vm's descriptor, or stops
    the vm, holds it: it stays, and others may use it. After `close` the last one to leave frees it, so it is never
    pulled from under a call, a callback or a wait.
    """

    def __init__(self, vm: int, callbacks: object) -> None:
        self._vm = vm
        self._callbacks = callbacks  # C has their address for as long as there is a vm
        self._process = os.getpid()
        self._life = threading.RLock()  # guards _users and closed, for moments; a signal handler may come in between
        self._users = 0
        self.closed = False
        self._turn = threading.RLock()  # held over each call and its error text; a callback comes in between

    def __enter__(self) -> int:
        vm = self.hold()
        self._turn.acquire()
        return vm

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._turn.release()
        self.release()

    def hold(self) -> int:
        """Keeps the vm from being freed until `release`. Raises Error if there is none any more."""
        if os.getpid() != self._process:
            raise Error(
                Status.ERR_STATE, f"the vm is that of process {self._process}; after fork it can only be closed"
            )
        with self._life:
            if self.closed:
                raise Error(Status.ERR_STATE, "the vm is closed")
            self._users += 1
        return self._vm

    def release(self) -> None:
        """Ends what `hold` began."""
        with self._life:
            self._users -= 1
            if self.closed:
                self._stop_or_free()

    @contextmanager
    def held(self) -> Iterator[int]:
        """Keeps the vm from being freed for the length of a block."""
        vm = self.hold()
        try:
            yield vm
        finally:
            self.release()

    def close(self) -> None:
        """Frees the vm, or ends the waiting of those who hold it, the last of whom will."""
        if os.getpid() != self._process:
            # Only this thread has come over with the fork, and perhaps locks that others held.
            if not self.closed:
                self.closed = True
                LIBRARY.eunomia_destroy(self._vm)
            return
        with self._life:
            if not self.closed:
                self.closed = True
                self._stop_or_free()

    def finish(self) -> None:
        """Closes a vm that nobody refers to any more, or whose interpreter ends.

        A thread must not end inside a C call, which is what befalls daemon threads at the end of the interpreter.
        """
        self.close()
        if os.getpid() == self._process and self._turn.acquire(timeout=_PATIENCE):
            self._turn.release()

    def _stop_or_free(self) -> None:
        # A stop wakes one: each that leaves wakes the next.
        if self._users:
            LIBRARY.eunomia_stop(self._vm)
        else:
            LIBRARY.eunomia_destroy(self._vm)
