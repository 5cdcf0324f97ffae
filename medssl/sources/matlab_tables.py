"""Tables of real numbers in MATLAB files of version 4 and of versions 5 to 7, found and read by their position.

scipy's reader ends the whole process on some damaged files (a data element of type 0 is enough), and it builds every
kind of value. Here an element that is no table of real numbers is stepped over.

Source: MATLAB MAT-File Format, chapters 1 (version 5) and 2 (version 4).
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medssl.sources.claims import require_bytes
from medssl.sources.record import BadRecord

MATRIX, COMPRESSED = 14, 15
NUMERIC_CLASSES = range(6, 16)  # double, single, int8 to uint64; below are cells, structs, objects, text and sparse
LOGICAL, COMPLEX = 0x200, 0x800  # flags of an array
# How numpy reads the types of version 5 elements and of version 4 tables.
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TYPES_4 = ("f8", "f4", "i4", "i2", "u2", "u1")
HEAD_BYTES = 1024  # flags, axes and name of an array take less
MAX_VARIABLES = 10_000
# Recordings compress a few times. What shrinks more than this is no recording.
MAX_COMPRESSION = 200


@dataclass(frozen=True)
class Table:
    """A variable. Its numbers start at byte ``offset`` of the file, or of what ``packed`` (start, bytes) unpacks to."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    packed: tuple[int, int] | None = None


def list_tables(path: Path, size: int) -> list[Table]:
    """Return the tables of real numbers in a file of ``size`` bytes, each compared with the bytes that hold it.

    Raises:
        BadRecord: ``unreadable``; or whatever parsing a damaged header raises.
    """
    with path.open("rb") as file:
        head = file.read(128)
        # Version 5 starts with text, version 4 with a number below 5000, whichever way its bytes run.
        tables = _list_4(file, size) if 0 in head[:4] else _list_5(file, size, head)
    return tables


def read_table(path: Path, table: Table) -> np.ndarray:
    """Return the numbers of ``table`` as (rows, columns).

    Raises:
        BadRecord: ``unreadable``, the numbers end early.
    """
    count = int(np.prod(table.shape, dtype=np.int64))
    with path.open("rb") as file:
        if table.packed is None:
            values = np.fromfile(file, table.dtype, count=count, offset=table.offset)
        else:
            unpacked = _unpack(file, table.packed, table.offset + count * table.dtype.itemsize)
            values = np.frombuffer(unpacked[table.offset :], table.dtype, count=count)
    require_bytes(count, len(values))
    return values.reshape(table.shape, order="F")


def _list_4(file: BinaryIO, size: int) -> list[Table]:
    """Return the tables of a file of version 4: 20 bytes of type, axes and name's length; name; numbers."""
    found: list[Table] = []
    at = 0
    for _ in range(MAX_VARIABLES):
        if at == size:
            return found
        require_bytes(at + 20, size)
        file.seek(at)
        head = file.read(20)
        order = "<" if 0 <= int.from_bytes(head[:4], "little") < 1000 else ">"
        code, rows, columns, complex_, name_bytes = (int(n) for n in np.frombuffer(head, f"{order}i4"))
        kind, content = TYPES_4[code // 10 % 10], code % 10  # the last digit: 0 numbers, 1 text, 2 sparse
        if code not in range(5000) or min(rows, columns, name_bytes) < 0:
            raise BadRecord("unreadable", "the file is not MATLAB, or a header in it is damaged")
        dtype = np.dtype(f"{order}{kind}")
        offset = at + 20 + name_bytes
        at = offset + rows * columns * dtype.itemsize * (2 if complex_ else 1)
        require_bytes(at, size)
        if content == 0 and not complex_:
            found.append(Table(_text(file.read(name_bytes)), (rows, columns), dtype, offset))
    raise BadRecord("unreadable", f"the file claims more than {MAX_VARIABLES} variables")


def _list_5(file: BinaryIO, size: int, head: bytes) -> list[Table]:
    """Return the tables of a file of version 5 to 7: 128 bytes of text, then elements of type, length and content."""
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(head[124:])
    if order is None:
        raise BadRecord("unreadable", "the file is not MATLAB, or its header is damaged")
    found: list[Table] = []
    at = 128
    for _ in range(MAX_VARIABLES):
        if at == size:
            return found
        require_bytes(at + 8, size)
        file.seek(at)
        kind, length = (int(n) for n in np.frombuffer(file.read(8), f"{order}u4"))
        require_bytes(at + 8 + length, size)
        if kind == COMPRESSED:
            table = _packed_table(file, (at + 8, length), order)
        elif kind == MATRIX:
            table = _table(file.read(min(length, HEAD_BYTES)), length, order, start=at + 8)
        else:
            raise BadRecord("unreadable", "the file holds an element that is no variable; it may be damaged")
        if table is not None:
            found.append(table)
        at += 8 + length
    raise BadRecord("unreadable", f"the file claims more than {MAX_VARIABLES} variables")


def _packed_table(file: BinaryIO, packed: tuple[int, int], order: str) -> Table | None:
    """Return the table that a compressed element holds, or None."""
    content = _unpack(file, packed, 8 + HEAD_BYTES, cut=True)
    kind, length = (int(n) for n in np.frombuffer(content[:8], f"{order}u4"))
    table = _table(content[8:], length, order, start=8, packed=packed) if kind == MATRIX else None
    if table is not None:
        require_bytes(length, packed[1] * MAX_COMPRESSION + HEAD_BYTES)
    return table


def _table(
    content: bytes, length: int, order: str, *, start: int, packed: tuple[int, int] | None = None
) -> Table | None:
    """Return the table in an array of ``length`` bytes from ``start``, given its first bytes; None if it is none."""
    at, parts = 0, []
    for _ in range(4):  # flags, axes, name, numbers
        kind, part_bytes, lead = _tag(content[at : at + 8], order)
        parts.append((kind, part_bytes, at + lead))
        if len(parts) == 1:
            flags = int(np.frombuffer(content[8:12], f"{order}u4")[0])
            if flags & 0xFF not in NUMERIC_CLASSES or flags & (LOGICAL | COMPLEX):
                return None
        at += max(8, -(-(lead + part_bytes) // 8) * 8)
    (_, axes_bytes, axes_at), (_, name_bytes, name_at), (kind, held, numbers_at) = parts[1:]
    if not name_bytes:  # what MATLAB keeps of objects
        return None
    shape = tuple(int(n) for n in np.frombuffer(content[axes_at : axes_at + axes_bytes], f"{order}i4"))
    dtype = np.dtype(f"{order}{TYPES[kind]}")
    claimed = float(np.prod([float(n) for n in shape])) * dtype.itemsize
    if min(shape) < 0 or claimed != held:
        raise BadRecord("unreadable", "a variable's axes do not agree with its numbers")
    require_bytes(numbers_at + held, length)
    return Table(_text(content[name_at : name_at + name_bytes]), shape, dtype, start + numbers_at, packed)


def _tag(tag: bytes, order: str) -> tuple[int, int, int]:
    """Return type and bytes of an element, and the bytes before its content: 8, or 4 where all fits into 8."""
    first, second = (int(n) for n in np.frombuffer(tag, f"{order}u4"))
    if first >> 16:
        return first & 0xFFFF, min(first >> 16, 4), 4
    return first, second, 8


def _unpack(file: BinaryIO, packed: tuple[int, int], wanted: int, *, cut: bool = False) -> bytes:
    """Return the first ``wanted`` bytes of a compressed element; fewer only if ``cut`` and there are no more."""
    start, length = packed
    file.seek(start)
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(file.read(min(length, 4 * wanted + 1024)), wanted)
    if not cut:
        require_bytes(wanted, len(content))
        unpacker.decompress(unpacker.unconsumed_tail, 16)  # what is left is filling, then the checksum
        if not unpacker.eof:
            raise BadRecord("unreadable", "a compressed variable is damaged or cut off")
    return content


def _text(name: bytes) -> str:
    """Return the name of a variable."""
    return name.split(b"\0")[0].decode("latin-1")
