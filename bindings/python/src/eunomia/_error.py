"""The one exception of this package."""

from __future__ import annotations

import os

from ._ffi import Status
from ._library import LIBRARY


class Error(Exception):
    """A call failed.

    `status` tells programs why; `message` is a line for people, `detail` the long text to it (the verifier's log, a
    guest's functions) and `errno` the system's error number, 0 if there is none. With ERR_TOO_SMALL `need` is how many
    bytes the buffer has to have.
    """

    def __init__(self, status: int, message: str, detail: str = "", errno: int = 0, need: int = 0) -> None:
        super().__init__(status, message, detail, errno, need)
        known = status in Status._value2member_map_
        self.status: int = Status(status) if known else status
        self.message = message
        self.detail = detail
        self.errno = errno
        self.need = need

    def __str__(self) -> str:
        name: bytes = LIBRARY.eunomia_status_name(self.status)
        system = f": {os.strerror(self.errno)}" if self.errno else ""
        return f"{self.message}{system} ({name.decode()})"


def of_vm(status: int, vm: int, need: int = 0) -> Error:
    """The error of the call that has just failed on a vm."""
    message = LIBRARY.eunomia_errmsg(vm).decode("utf-8", "replace")
    detail = LIBRARY.eunomia_errdetail(vm).decode("utf-8", "replace")
    return Error(status, message, detail, LIBRARY.eunomia_errsys(vm), need)
