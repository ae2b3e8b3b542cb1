"""libeunomia for Python: runs eBPF packages and delivers their events as dicts, batches or numpy arrays.

import eunomia

with eunomia.VM() as vm:
    vm.open_file("package.json")
    vm.attach()
    for event in vm.events():
        print(event)
"""

from ._error import DeniedError, Error, InvalidError, MissingFileError, NoMemoryError, NotFoundError
from ._event import Batch, Event, Record, Records
from ._ffi import (
    VERSION,
    EventKind,
    ExportFlag,
    Format,
    Kind,
    LogLevel,
    LostKnown,
    OptionFlag,
    ProgFlag,
    ReplaceFlag,
    SourceKind,
    Status,
    Subject,
    TypeKind,
)
from ._group import Group
from ._info import MapInfo, ProgInfo, ProgResult, SourceInfo, Stats
from ._library import LIBRARY as _LIBRARY
from ._phases import Exported, Prepared
from ._type import Field, Type
from ._vm import VM

__version__ = VERSION

__all__ = [
    "VM",
    "Batch",
    "DeniedError",
    "Error",
    "Event",
    "EventKind",
    "ExportFlag",
    "Exported",
    "Field",
    "Format",
    "Group",
    "InvalidError",
    "Kind",
    "LogLevel",
    "LostKnown",
    "MapInfo",
    "MissingFileError",
    "NoMemoryError",
    "NotFoundError",
    "OptionFlag",
    "Prepared",
    "ProgFlag",
    "ProgInfo",
    "ProgResult",
    "Record",
    "Records",
    "ReplaceFlag",
    "SourceInfo",
    "SourceKind",
    "Stats",
    "Status",
    "Subject",
    "Type",
    "TypeKind",
    "library_version",
]


def library_version() -> str:
    """Returns one line with the versions of the loaded library, its libbpf and WAMR, and the build."""
    text: bytes = _LIBRARY.eunomia_version_string()
    return text.decode()
