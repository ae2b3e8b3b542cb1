"""Owns the C vm: controls its use and frees it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ._error import Error
from ._ffi import Status
from ._library import LIBRARY

# Seconds that interpreter shutdown waits for a callback in a daemon thread to return.
_PATIENCE = 5.0


class Handle:
    """A C vm that several threads may use.

    A user holds the vm (`held`), and takes `turn` before a call. After `close` the last holder frees it, so that it is
    never freed during a call, a callback or a wait.

    A signal handler may raise an exception between any two bytecodes. Since Python 3.11 that cannot happen between a
    lock and its `with`, so `turn` is always released. A hold may leak; then the vm is freed when nothing refers to it
    any more.
    """

    def __init__(self, vm: int, callbacks: object) -> None:
        self._vm = vm
        self.fd: int = LIBRARY.eunomia_epoll_fd(vm)  # never changes
        self._callbacks = callbacks  # C keeps their address as long as the vm exists
        self._process = os.getpid()
        self._life = threading.RLock()  # guards _users and closed, briefly; reentrant for signal handlers
        self._users = 0
        self.closed = False
        self._freed = False
        self.turn = threading.RLock()  # held during a call and the read of its error text; reentrant for callbacks
        self.delivering: int | None = None  # the thread in a call that runs callbacks; it holds turn

    @contextmanager
    def held(self) -> Iterator[int]:
        """Yields the C vm and keeps it alive during the block. Raises Error if it is closed."""
        vm = self._hold()
        try:
            yield vm
        finally:
            self._release()

    def _hold(self) -> int:
        if os.getpid() != self._process:
            raise Error(
                Status.ERR_STATE, f"the vm belongs to process {self._process}; after fork it can only be closed"
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
        """Returns whether this thread is inside a callback of this vm."""
        return self.delivering == threading.get_ident()

    def close(self) -> None:
        """Frees the vm, or stops the calls that hold it; the last of them frees it."""
        if os.getpid() != self._process:
            # The child has only this thread, and perhaps locks that other threads held.
            self.closed = True
            self._free()
            return
        with self._life:
            if not self.closed:
                self.closed = True
                self._stop_or_free()

    def finish(self) -> None:
        """Frees a vm that nothing refers to any more, or at interpreter shutdown.

        Shutdown kills daemon threads, which must not happen inside a C call, so this waits for their calls.
        """
        self.close()
        if os.getpid() == self._process and self.turn.acquire(timeout=_PATIENCE):
            with self._life:
                self._free()
            self.turn.release()

    def _stop_or_free(self) -> None:
        # A stop wakes one waiter; each waiter that leaves wakes the next.
        if self._users and not self._freed:
            LIBRARY.eunomia_stop(self._vm)
        else:
            self._free()

    def _free(self) -> None:
        if not self._freed:
            self._freed = True
            LIBRARY.eunomia_destroy(self._vm)
