"""A replace in phases."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._error import Error
from ._ffi import Status
from ._library import LIBRARY

if TYPE_CHECKING:
    from ._vm import VM


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
