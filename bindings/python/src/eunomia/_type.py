"""The types of raw records, as values that outlive the vm."""

from __future__ import annotations

from ctypes import byref, sizeof
from dataclasses import dataclass

from . import _ffi
from ._ffi import TypeKind
from ._library import LIBRARY


@dataclass(frozen=True)
class Field:
    """A member of a struct or union, or a constant of an enum, which has a `value`."""

    name: str
    type: Type
    bit_offset: int
    bit_size: int
    value: int


@dataclass(frozen=True)
class Type:
    """A C type without typedefs and qualifiers. `size` is in bytes."""

    name: str
    kind: TypeKind
    size: int
    # Members or constants; empty for an array.
    fields: tuple[Field, ...]
    # For an array: the type of its elements and their number.
    element: Type | None
    count: int


class Types:
    """The types returned by a vm, each converted once."""

    def __init__(self) -> None:
        self._known: dict[int, Type] = {}

    def of(self, pointer: int | None) -> Type | None:
        """Converts the type at a C pointer; None for null. The vm must exist."""
        if pointer is None:
            return None
        known = self._known.get(pointer)
        if known is None:
            known = self._known[pointer] = self._convert(pointer)
        return known

    def _convert(self, pointer: int) -> Type:
        kind = TypeKind(LIBRARY.eunomia_type_kind_of(pointer))
        count: int = LIBRARY.eunomia_type_count(pointer)
        array = kind == TypeKind.ARRAY
        # All elements of an array have the same type.
        fields = tuple(self._field(pointer, index) for index in range(min(count, 1) if array else count))
        return Type(
            name=LIBRARY.eunomia_type_name(pointer).decode(),
            kind=kind,
            size=LIBRARY.eunomia_type_size(pointer),
            fields=() if array else fields,
            element=fields[0].type if array and fields else None,
            count=count,
        )

    def _field(self, pointer: int, index: int) -> Field:
        field = _ffi.eunomia_field(size=sizeof(_ffi.eunomia_field))
        status = LIBRARY.eunomia_type_field(pointer, index, byref(field))
        of = self.of(field.type)
        assert status == 0 and of is not None, f"field {index} of a type"
        value = field.value % 2**64 if of.kind == TypeKind.UINT else field.value  # C has an int64_t for both
        return Field(field.name.decode(), of, field.bit_offset, field.bit_size, value)
