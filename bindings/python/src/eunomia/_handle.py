"""Owns the C vm: who may use it, and when it is freed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ._error import Error
from ._ffi import Status
from ._library import LIBRARY

# How long the end of the interpreter waits for a callback of a daemon thread to return.
_PATIENCE = 5.0


class Handle:
    """A C vm that several threads may use.

    Whoever uses the vm holds it (`held`), and for a call takes its turn first. After `close` the last one to leave
    frees it, so it is never pulled from under a call, a callback or a wait.

    A signal handler may raise between any two steps of Python; since Python 3.11 not between a lock and its `with`, so
    a turn is always given back. A hold may be left over; then the vm is freed when nobody refers to it any more.
    """

    def __init__(self, vm: int, callbacks: object) -> None:
        self._vm = vm
        self.fd: int = LIBRARY.eunomia_epoll_fd(vm)  # the same from first to last
        self._callbacks = callbacks  # C has their address for as long as there is a vm
        self._process = os.getpid()
        self._life = threading.RLock()  # guards _users and closed, for moments; a signal handler may come in between
        self._users = 0
        self.closed = False
        self._freed = False
        self.turn = threading.RLock()  # held over each call and its error text; a callback comes in between
        self.delivering: int | None = None  # the thread in a call that calls back, which has the turn

    @contextmanager
    def held(self) -> Iterator[int]:
        """Gives out the C vm for the length of a block. Raises Error if there is none any more."""
        vm = self._hold()
        try:
            yield vm
        finally:
            self._release()

    def _hold(self) -> int:
        if os.getpid() != self._process:
            raise Error(
                Status.ERR_STATE, f"the vm is that of process {self._process}; after fork it can only be closed"
            )
        with self._life:
            if self.closed:
                raise Error(Status.ERR_STATE, "the vm is closed")
            self._users += 1
        return self._vm

    def _release(self) -> None:
        with self._life:
            self._users -= 1
            if self.closed:
                self._stop_or_free()

    def in_callback(self) -> bool:
        """Whether a callback of this vm is further up the stack."""
        return self.delivering == threading.get_ident()

    def close(self) -> None:
        """Frees the vm, or ends the waiting of those who hold it, the last of whom will."""
        if os.getpid() != self._process:
            # Only this thread has come over with the fork, and perhaps locks that others held.
            self.closed = True
            self._free()
            return
        with self._life:
            if not self.closed:
                self.closed = True
                self._stop_or_free()

    def finish(self) -> None:
        """Frees a vm that nobody refers to any more, or whose interpreter ends.

        A thread must not end inside a C call, which is what befalls daemon threads at the end of the interpreter; so
        their calls are waited for.
        """
        self.close()
        if os.getpid() == self._process and self.turn.acquire(timeout=_PATIENCE):
            with self._life:
                self._free()
            self.turn.release()

    def _stop_or_free(self) -> None:
        # A stop wakes one: each that leaves wakes the next.
        if self._users and not self._freed:
            LIBRARY.eunomia_stop(self._vm)
        else:
            self._free()

    def _free(self) -> None:
        if not self._freed:
            self._freed = True
            LIBRARY.eunomia_destroy(self._vm)
