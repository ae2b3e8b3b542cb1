"""Raw records as numpy arrays. The only file that imports numpy, which is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._ffi import TypeKind
from ._type import Type

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Size of eunomia_record, the header of each record: distance to the next record, length, ...
_HEADER = 16


def dtype(of: Type) -> np.dtype[Any]:
    """Returns the numpy type with the layout of a C type. Bit-fields are left out, because numpy has none."""
    import numpy as np

    if of.kind == TypeKind.ARRAY and of.element is not None:
        if of.element.kind == TypeKind.CHAR:
            return np.dtype(f"S{of.count}")
        return np.dtype((dtype(of.element), (of.count,)))
    if of.kind in (TypeKind.STRUCT, TypeKind.UNION):
        return _struct(of)
    return np.dtype(_scalar(of))


def _scalar(of: Type) -> str:
    if of.kind == TypeKind.BOOL and of.size == 1:
        return "?"
    letters = {TypeKind.INT: "i", TypeKind.FLOAT: "f", TypeKind.CHAR: "S"}
    signed_enum = of.kind == TypeKind.ENUM and any(field.type.kind == TypeKind.INT for field in of.fields)
    letter = "i" if signed_enum else letters.get(of.kind, "u")
    plain = letter in "fS" or of.size in (1, 2, 4, 8)
    return f"{letter}{of.size}" if plain else f"V{of.size}"


def _struct(of: Type) -> np.dtype[Any]:
    import numpy as np

    names, formats, offsets = [], [], []
    for name, member, offset in _members(of, 0):
        names.append(name)
        formats.append(dtype(member))
        offsets.append(offset)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": of.size})


def _members(of: Type, base: int) -> list[tuple[str, Type, int]]:
    """Returns name, type and offset in bytes of each member, including the members of anonymous members."""
    members = []
    for field in of.fields:
        offset = base + field.bit_offset // 8
        if field.bit_offset % 8 or field.bit_size != field.type.size * 8:
            continue
        if field.name:
            members.append((field.name, field.type, offset))
        else:
            members += _members(field.type, offset)
    return members


def with_strings(array: NDArray[Any]) -> NDArray[Any]:
    """Returns a copy in which top-level members are strings (`U`) instead of bytes (`S`), as pandas shows them."""
    import numpy as np

    names = array.dtype.names or ()
    columns = {name: array[name] for name in names}
    for name, column in columns.items():
        if column.dtype.kind == "S":
            columns[name] = np.char.decode(column, "utf-8", "replace")
    kind = np.dtype([(name, column.dtype, column.shape[1:]) for name, column in columns.items()])
    decoded = np.empty(array.shape, kind)
    for name, column in columns.items():
        decoded[name] = column
    return decoded if names else array


def records(data: memoryview, count: int, of: Type) -> NDArray[Any]:
    """Returns a copy of the records of a raw batch. A record shorter than its type is zero beyond its end."""
    import numpy as np

    kind = dtype(of)
    if not count:
        return np.empty(0, kind)
    heads = np.frombuffer(data, np.uint32)
    stride = int(heads[0])
    # Fast path: nearly always all records have the same size, so their headers are equally spaced.
    if stride * count == len(data) and stride >= _HEADER + kind.itemsize:
        lengths = heads[1 :: stride // 4]
        if (heads[:: stride // 4] == stride).all() and (lengths >= kind.itemsize).all():
            even: NDArray[Any] = np.ndarray((count,), kind, data, _HEADER, (stride,)).copy()
            return even
    return _uneven(data, count, kind)


def _uneven(data: memoryview, count: int, kind: np.dtype[Any]) -> NDArray[Any]:
    import numpy as np

    buffer = bytearray(count * kind.itemsize)
    at = 0
    for start in range(0, len(buffer), kind.itemsize):
        size, length = (int(number) for number in np.frombuffer(data, np.uint32, 2, at))
        length = min(length, kind.itemsize)
        buffer[start : start + length] = data[at + _HEADER : at + _HEADER + length]
        at += size
    return np.frombuffer(buffer, kind)
