"""A replace in phases, and a package in two processes."""

from __future__ import annotations

import os
from ctypes import c_int, sizeof
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _ffi
from ._error import Error
from ._ffi import ExportFlag, Status
from ._library import LIBRARY

if TYPE_CHECKING:
    from ._vm import VM


class Exported:
    """The descriptors of a package for another process, and their description, a string.

    It owns the descriptors: `close`, the end of a `with` block or its own end closes them. A process that has received
    them with `socket.recv_fds` creates it from the description and the descriptors in the same order.
    """

    def __init__(self, description: str, fds: list[int]) -> None:
        self.description = description
        self.fds = fds

    def __enter__(self) -> Exported:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Closes the descriptors. May be called again."""
        while self.fds:
            os.close(self.fds.pop())

    def _to_c(self) -> _ffi.eunomia_exported:
        """Returns the struct of the C interface."""
        fds = (c_int * len(self.fds))(*self.fds)
        size = sizeof(_ffi.eunomia_exported)
        return _ffi.eunomia_exported(size=size, description=self.description.encode(), fds=fds, count=len(fds))


class Prepared:
    """A version that `VM.prepare` has loaded and that does not run yet.

    with vm.prepare(data) as prepared:
        prepared.flip()

    At the end of the block it is unloaded, unless `flip` was called. `report` has what will happen to programs and
    maps.
    """

    def __init__(self, vm: VM, report: dict[str, Any]) -> None:
        self._vm = vm
        self._over = False
        self.report = report

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()

    def flip(self) -> dict[str, Any]:
        """Switches to this version and returns the report.

        After an exception the old version runs as before, and this one has been unloaded.
        """
        if self._over:
            raise Error(Status.ERR_STATE, "the prepared version has been used or given up")
        self._over = True
        return self._vm._change(LIBRARY.eunomia_flip)

    def abort(self) -> None:
        """Unloads this version. Does nothing after `flip` or if the vm is closed."""
        if not self._over and not self._vm._handle.closed:
            self._over = True
            self._vm._change(LIBRARY.eunomia_abort)

    def export(self, flags: ExportFlag | None = None) -> Exported:
        """Copies descriptors of this version for the process that reads the events; see `VM.export`."""
        return self._vm.export((flags or ExportFlag(0)) | ExportFlag.PREPARED)
