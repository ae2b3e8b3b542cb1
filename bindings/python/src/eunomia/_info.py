"""Descriptions of maps, sources and programs, and statistics, as values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Optional, TypeVar

from ._type import Type, Types


@dataclass(frozen=True)
class MapInfo:
    """A map. `kind` is its BPF_MAP_TYPE_*. `cpus` is the number of per-CPU values. `fd` is borrowed from the vm.

    `bytes` is the kernel memory that the map uses when full.
    """

    name: str
    kind: int
    key_size: int
    value_size: int
    max_entries: int
    key_type: Optional[Type]
    value_type: Optional[Type]
    fd: int
    cpus: int
    bytes: int


@dataclass(frozen=True)
class SourceInfo:
    """A source of events. `kind` is a SourceKind; `interval_ms` is 0 except for a sampled map.

    `lost_known` is a LostKnown: whether `lost` is complete. Losses of ring buffers are counted for all of them
    together.
    """

    name: str
    kind: int
    interval_ms: int
    record_size: int
    type: Optional[Type]
    key_type: Optional[Type]
    events: int
    lost: int
    lost_known: int


@dataclass(frozen=True)
class ProgInfo:
    """A program. `type` is its BPF_PROG_TYPE_*; `flags` is a set of ProgFlag."""

    name: str
    section: str
    target: str
    type: int
    flags: int
    id: int
    run_count: int
    run_ns: int


@dataclass(frozen=True)
class ProgResult:
    """The result of a test run of a program.

    `duration_ns` is the mean time of one run, 0 if the kernel does not time it.
    `data` and `ctx` are packet and context after the last run, empty unless `prog_run` asked for them.
    """

    return_value: int
    duration_ns: int
    data: bytes
    ctx: bytes


@dataclass(frozen=True)
class Stats:
    """Event counters. Each record is either delivered or counted in one of the drop counters.

    `lost_known` is a LostKnown: whether `lost_kernel` is complete.
    """

    events: int
    bytes: int
    lost_kernel: int
    lost_queue: int
    guest_dropped: int
    malformed: int
    polls: int
    replaces: int
    run_count: int
    run_ns: int
    lost_known: int


Info = TypeVar("Info", MapInfo, SourceInfo, ProgInfo, Stats)


def of(kind: type[Info], found: Any, types: Types) -> Info:
    """Copies a C struct, with its borrowed strings and types, to the class of that name."""
    values = {}
    for field in fields(kind):
        value = getattr(found, field.name)
        if field.type == "Optional[Type]":
            value = types.of(value)
        elif isinstance(value, bytes):
            value = value.decode()
        values[field.name] = value
    return kind(**values)
