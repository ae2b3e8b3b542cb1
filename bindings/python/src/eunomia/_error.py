"""The exceptions of this package: Error, and its subclasses, which are also the matching built-in exceptions."""

from __future__ import annotations

import os
from ctypes import byref, c_char_p
from errno import EACCES, ENOENT, EPERM

from ._ffi import Status, Subject
from ._library import LIBRARY


class Error(Exception):
    """A call failed.

    `status` is the reason, for programs. `message` is one human-readable line. `detail` is a longer text, such as the
    verifier's log or a guest's stack. `errno` is the system's error number, or 0. For ERR_TOO_SMALL `need` is the
    required buffer size in bytes. `subject_kind` is the kind of object that the error is about, and `subject` its
    name or path ("" for Subject.NONE).
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
        system = os.strerror(self.errno) if self.errno else ""
        # Most messages include it already.
        system = f": {system}" if system not in self.message else ""
        return f"{self.message}{system} ({self._name()})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name()}, {self.message!r})"

    def _name(self) -> str:
        name: bytes = LIBRARY.eunomia_status_name(self.status)
        return name.decode()


class NotFoundError(Error, KeyError):
    """No variable, map, program or other object has that name."""


class MissingFileError(Error, FileNotFoundError):
    """A file or directory does not exist."""

    errno: int


class DeniedError(Error, PermissionError):
    """A privilege is missing."""

    errno: int


class InvalidError(Error, ValueError):
    """An argument or value is invalid."""


class NoMemoryError(Error, MemoryError):
    """Not enough memory, or a memory limit would be exceeded."""


def _class(status: int, errno: int, subject_kind: int) -> type[Error]:
    is_file = subject_kind == Subject.FILE or (subject_kind == Subject.NONE and errno == ENOENT)
    if status == Status.ERR_NOT_FOUND:
        return MissingFileError if is_file else NotFoundError
    if status == Status.ERR_PERM or (is_file and errno in (EACCES, EPERM)):
        return DeniedError
    if status in (Status.ERR_INVAL, Status.ERR_TYPE):
        return InvalidError
    return NoMemoryError if status == Status.ERR_NOMEM else Error


def of_vm(status: int, vm: int, need: int = 0) -> Error:
    """Returns the error of the call that has just failed on a vm."""
    message = LIBRARY.eunomia_errmsg(vm).decode("utf-8", "replace")
    detail = LIBRARY.eunomia_errdetail(vm).decode("utf-8", "replace")
    name = c_char_p()
    kind = LIBRARY.eunomia_errsubject(vm, byref(name))
    subject = (name.value or b"").decode("utf-8", "replace")
    errno: int = LIBRARY.eunomia_errsys(vm)
    return _class(status, errno, kind)(status, message, detail, errno, need, kind, subject)


def of_parts(
    status: int, error: str = "", detail: str = "", errno: int = 0, subject_kind: int = Subject.NONE, subject: str = ""
) -> Error:
    """Returns the error that a report of eunomia_replace describes."""
    return _class(status, errno, subject_kind)(status, error, detail, errno, 0, subject_kind, subject)
