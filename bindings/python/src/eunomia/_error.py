"""The one exception of this package."""

from __future__ import annotations

import os
from ctypes import byref, c_char_p

from ._ffi import Status, Subject
from ._library import LIBRARY


class Error(Exception):
    """A call failed.

    `status` is the reason, to decide by; `message` is one line to read, `detail` a long text such as the verifier's log
    or a guest's functions, and `errno` the system's error number, 0 if there is none. With ERR_TOO_SMALL `need` is how
    many bytes the buffer has to have. `subject_kind` is the kind of thing that the error is about and `subject` its
    name or path, "" for Subject.NONE.
    """

    def __init__(
        self,
        status: int,
        message: str,
        detail: str = "",
        errno: int = 0,
        need: int = 0,
        subject_kind: int = Subject.NONE,
        subject: str = "",
    ) -> None:
        super().__init__(status, message, detail, errno, need, subject_kind, subject)
        known = status in Status._value2member_map_
        self.status: int = Status(status) if known else status
        self.message = message
        self.detail = detail
        self.errno = errno
        self.need = need
        known = subject_kind in Subject._value2member_map_
        self.subject_kind: int = Subject(subject_kind) if known else subject_kind
        self.subject = subject

    def __str__(self) -> str:
        name: bytes = LIBRARY.eunomia_status_name(self.status)
        system = f": {os.strerror(self.errno)}" if self.errno else ""
        return f"{self.message}{system} ({name.decode()})"


def of_vm(status: int, vm: int, need: int = 0) -> Error:
    """The error of the call that has just failed on a vm."""
    message = LIBRARY.eunomia_errmsg(vm).decode("utf-8", "replace")
    detail = LIBRARY.eunomia_errdetail(vm).decode("utf-8", "replace")
    name = c_char_p()
    kind = LIBRARY.eunomia_errsubject(vm, byref(name))
    subject = (name.value or b"").decode("utf-8", "replace")
    return Error(status, message, detail, LIBRARY.eunomia_errsys(vm), need, kind, subject)
