"""Finds libeunomia and refuses an incompatible version."""

from __future__ import annotations

import os
from ctypes import CDLL
from pathlib import Path

from ._ffi import FUNCTIONS, VERSION, VERSION_NUM

# Before 1.0 each minor version may break the interface, so it is part of the soname.
SONAME = "libeunomia.so." + VERSION.rpartition(".")[0]


def load() -> CDLL:
    """Returns the library with all functions declared. Raises ImportError if it is missing or has another version."""
    library = _open()
    _check_version(library)
    for name, result, arguments in FUNCTIONS:
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


def _candidates() -> list[str]:
    """Returns EUNOMIA_LIBRARY if it is set; otherwise the library of the wheel, then that of the system."""
    chosen = os.environ.get("EUNOMIA_LIBRARY")
    return [chosen] if chosen else [str(Path(__file__).with_name("libeunomia.so")), SONAME]


def _open() -> CDLL:
    failures = []
    for path in _candidates():
        try:
            return CDLL(path)
        except OSError as error:
            failures.append(f"\n  {path}: {error}")
    directories = os.environ.get("LD_LIBRARY_PATH", "")
    raise ImportError(
        f"libeunomia cannot be loaded, tried{''.join(failures)}\n"
        f'  (names without a directory: LD_LIBRARY_PATH="{directories}", then /etc/ld.so.conf)\n'
        "install it with `make install`, or set EUNOMIA_LIBRARY to its path"
    )


def _check_version(library: CDLL) -> None:
    try:
        found = int(library.eunomia_version())
    except AttributeError:
        raise ImportError(f"{library._name} is not libeunomia: it has no eunomia_version") from None
    if found // 100 != VERSION_NUM // 100:
        text = f"{found // 10000}.{found // 100 % 100}.{found % 100}"
        raise ImportError(f"{library._name} is libeunomia {text}, this package is for {VERSION}")


LIBRARY = load()
