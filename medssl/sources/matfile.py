"""Arrays of a MATLAB file, read one by one and on demand: versions 4, 5 to 7, and 7.3 (HDF5).

scipy's reader is not used because some damaged files (a data element of type 0 is enough) end the whole process in it.
Only real numbers, text and the fields of structures can be read. What else a file holds (cells, objects, functions) is
stepped over, and whatever a header claims is compared with the bytes around it before memory is taken.

Source: MathWorks, "MAT-File Format" (2024), chapters 1 (version 5) and 2 (version 4).
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from medssl.sources.claims import require_bytes
from medssl.sources.record import BadRecord

MATRIX, COMPRESSED = 14, 15  # types of data elements, as are the next two
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-{}e", 16: "utf-8", 17: "utf-16-{}e", 18: "utf-32-{}e"}
NUMBERS_4 = (9, 7, 5, 3, 4, 2)  # the types of numbers in version 4, as those of version 5
KINDS = {2: "struct", 4: "text", **dict.fromkeys(range(6, 16), "numbers")}  # by the class of an array
LOGICAL, COMPLEX = 0x200, 0x800  # flags of an array
HEAD_BYTES = 1024  # class, size and name of an array take less
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_AT = (0, 512)  # MATLAB puts 512 bytes of text first
BUILT_IN_FILTERS = {1, 2, 3}  # deflate, shuffle, checksum; others may load code from the machine
# Recordings compress a few times. What shrinks more than this is no recording.
MAX_COMPRESSION = 200
MAX_CHUNK_BYTES = 64 << 20
MAX_VARIABLES = 10_000
MAX_TEXT = 10_000


@dataclass(frozen=True)
class Array:
    """One array: of ``kind`` numbers, text, struct or other, its ``shape`` as in MATLAB. This one can't be read.

    The file itself is an array too: a structure whose fields are the variables.
    """

    kind: str = "other"
    shape: tuple[int, ...] = ()

    def names(self) -> list[str]:
        """Return the names of the fields of a structure."""
        return []

    def field(self, name: str) -> list[Array]:
        """Return the field ``name`` of each element of a structure, nothing where there is none."""
        return []

    def numbers(self, *at: slice) -> np.ndarray:
        """Return the real numbers of the part ``at``, in MATLAB's order of axes and in the file's own type.

        Raises:
            BadRecord: ``unreadable``, ``outside_folder`` for what lies in another file, or ``unsupported``.
        """
        raise BadRecord("unreadable", "an array that should hold real numbers does not")

    def text(self) -> str | None:
        """Return text of one line, None for what is none."""
        return None


@contextmanager
def open_matlab(path: Path, size: int) -> Iterator[Array]:
    """Open a file of ``size`` bytes as a structure of its variables, which can be read as long as it is open.

    Raises:
        BadRecord: ``unreadable``. Damage may also raise what its parser does; see `medssl.sources.claims.guarded`.
    """
    with path.open("rb") as file:
        head = file.read(HDF5_AT[-1] + 64)
        at = next((at for at in HDF5_AT if head[at:].startswith(HDF5)), None)
        if at is None:
            # Version 5 starts with text, version 4 with a number below 5000, whichever way its bytes run.
            listed = _list_4(file, size) if 0 in head[:4] else _list_5(file, size, head[124:128])
            found: dict[str, list[Array]] = {}
            for i, (name, array) in enumerate(listed):
                if i == MAX_VARIABLES:
                    raise BadRecord("unreadable", f"the file claims more than {MAX_VARIABLES} variables")
                if name:  # others are what MATLAB keeps of objects
                    found.setdefault(name, []).append(array)
            yield _Struct("struct", (1, 1), fields=lambda: found)
            return
    _check_superblock(head[at + len(HDF5) :], size, at)
    with h5py.File(path, "r", locking=False) as root:
        yield _hdf5(root)


# --- versions 4 to 7 ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class _Struct(Array):
    fields: Callable[[], dict[str, list[Array]]]

    def names(self) -> list[str]:
        return list(self.fields())

    def field(self, name: str) -> list[Array]:
        return self.fields().get(name, [])


@dataclass(frozen=True, kw_only=True)
class _Values(Array):
    """Numbers or text, stored as ``type`` of data element; ``load`` gives the bytes."""

    type: int
    order: str
    load: Callable[[], memoryview]

    def numbers(self, *at: slice) -> np.ndarray:
        if self.kind != "numbers":
            return super().numbers()
        return np.frombuffer(self.load(), self.order + NUMBERS[self.type]).reshape(self.shape, order="F")[at]

    def text(self) -> str | None:
        if self.kind != "text":
            return None
        if 0 in self.shape:
            return ""
        raw = self.load()
        if self.type not in TEXTS or len(raw) > 4 * MAX_TEXT:
            raise BadRecord("unreadable", "a text is damaged or too long")
        encoding = TEXTS[self.type].format("l" if self.order == "<" else "b")
        return bytes(raw).decode(encoding, errors="replace").rstrip("\0 ")


def _list_4(file: BinaryIO, size: int) -> Iterator[tuple[str, Array]]:
    """Yield the variables of version 4: 20 bytes of type, axes and name's length; name; numbers."""
    at = 0
    while at != size:
        require_bytes(at + 20, size)
        file.seek(at)
        head = file.read(20)
        order = "<" if 0 <= int.from_bytes(head[:4], "little") < 1000 else ">"
        code, rows, columns, is_complex, name_bytes = struct.unpack(order + "5i", head)
        if code not in range(5000) or min(rows, columns, name_bytes) < 0:
            raise BadRecord("unreadable", "the file is not MATLAB, or a header in it is damaged")
        kind, content = NUMBERS_4[code // 10 % 10], code % 10  # the last digit: 0 numbers, 1 text, 2 sparse
        held = rows * columns * np.dtype(NUMBERS[kind]).itemsize
        start = at + 20 + name_bytes
        at = start + held * (2 if is_complex else 1)
        require_bytes(at, size)
        load = partial(_contents, file, start, held, order, False)
        values = _Values("numbers", (rows, columns), type=kind, order=order, load=load)
        yield _name(file.read(name_bytes)), Array() if content or is_complex else values


def _list_5(file: BinaryIO, size: int, mark: bytes) -> Iterator[tuple[str, Array]]:
    """Yield the variables of version 5 to 7: 128 bytes of text, then elements of type, length and content."""
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(mark)
    if order is None:
        raise BadRecord("unreadable", "the file is not MATLAB, or its header is damaged")
    at = 128
    while at != size:
        require_bytes(at + 8, size)
        file.seek(at)
        kind, length = struct.unpack(order + "II", file.read(8))
        require_bytes(at + 8 + length, size)
        if kind not in (MATRIX, COMPRESSED):
            raise BadRecord("unreadable", "the file holds an element that is no variable; it may be damaged")
        load = partial(_contents, file, at + 8, length, order, kind == COMPRESSED)
        yield _array(load(HEAD_BYTES), order, load)
        at += 8 + length


def _contents(file: BinaryIO, start: int, length: int, order: str, packed: bool, first: int = 0) -> memoryview:
    """Return ``length`` bytes, or what the matrix element packed in them holds; if given, only the ``first`` bytes."""
    file.seek(start)
    if not packed:
        return memoryview(file.read(min(length, first or length)))
    engine = zlib.decompressobj()
    raw = file.read(min(length, 4 * first or length))
    content = memoryview(engine.decompress(raw, first or MAX_COMPRESSION * length + HEAD_BYTES))
    kind, size, at = _tag(content, 0, order)
    if not first:
        if not engine.eof:  # the checksum included
            raise BadRecord("unreadable", "a compressed variable is cut off or claims more than a recording can hold")
        require_bytes(at + size, len(content))
    return content[at : at + size] if kind == MATRIX else memoryview(b"")


def _tag(data: memoryview, at: int, order: str) -> tuple[int, int, int]:
    """Return type and bytes of the data element at ``at``, and where its contents start."""
    require_bytes(at + 8, len(data))
    kind, size = struct.unpack(order + "II", data[at : at + 8])
    if not kind >> 16:
        return kind, size, at + 8
    if kind >> 16 > 4:  # up to four bytes are packed into the tag itself
        raise BadRecord("unreadable", "a data element is damaged")
    return kind & 0xFFFF, kind >> 16, at + 4


def _element(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Return type, contents and end of the data element at ``at``."""
    kind, size, start = _tag(data, at, order)
    require_bytes(start + size, len(data))
    return kind, data[start : start + size], -(-(start + size) // 8) * 8


def _array(head: memoryview, order: str, load: Callable[[], memoryview] | None = None) -> tuple[str, Array]:
    """Return name and array of what a matrix element holds; ``load`` gives it all where ``head`` does not."""
    whole = load or (lambda: head)
    if not head:  # an empty one
        return "", Array()
    _, flags_bytes, at = _element(head, 0, order)
    flags = struct.unpack(order + "I", flags_bytes[:4])[0]
    kind = KINDS.get(flags & 0xFF)
    if kind is None or flags & (LOGICAL | COMPLEX):
        return "", Array()
    shape_kind, shape_bytes, at = _element(head, at, order)
    _, name, at = _element(head, at, order)
    shape = tuple(int(n) for n in np.frombuffer(shape_bytes, order + "i4"))
    if shape_kind != 5 or not 0 < len(shape) <= 32 or min(shape) < 0:
        raise BadRecord("unreadable", "the size of an array is damaged")
    if kind == "struct":
        return _name(name), _Struct(kind, shape, fields=cache(lambda: _fields(whole()[at:], shape, order)))
    number, held, _ = _tag(head, at, order) if at < len(head) else (1, 0, 0)  # an empty array may end here
    if kind == "numbers" and (number not in NUMBERS or math.prod(shape) * int(NUMBERS[number][1]) != held):
        raise BadRecord("unreadable", "the size of an array does not agree with its numbers")
    return _name(name), _Values(kind, shape, type=number, order=order, load=lambda: _element(whole(), at, order)[1])


def _fields(data: memoryview, shape: tuple[int, ...], order: str) -> dict[str, list[Array]]:
    """Return the fields of each element of a structure: width of a name, names, matrix elements."""
    _, width_bytes, at = _element(data, 0, order)
    _, names, at = _element(data, at, order)
    width = struct.unpack(order + "i", width_bytes[:4])[0]
    if width <= 0 or len(names) % width:
        raise BadRecord("unreadable", "the names of a structure's fields are damaged")
    found: dict[str, list[Array]] = {_name(names[i : i + width]): [] for i in range(0, len(names), width)}
    for _ in range(math.prod(shape) if found else 0):
        for arrays in found.values():
            kind, part, at = _element(data, at, order)
            if kind != MATRIX:
                raise BadRecord("unreadable", "a structure holds something that is no array")
            arrays.append(_array(part, order)[1])
    return found


def _name(raw: bytes | memoryview) -> str:
    return bytes(raw).split(b"\0")[0].decode("latin-1")


# --- version 7.3 ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class _Hdf5(Array):
    """A group (a structure) or a data set, whose axes are MATLAB's in reverse."""

    item: Any

    def names(self) -> list[str]:
        if self.kind != "struct":
            return []
        if len(self.item) > MAX_VARIABLES:
            raise BadRecord("unreadable", f"the file claims more than {MAX_VARIABLES} variables")
        # A link of another kind may lead to another file.
        return [name for name in self.item if isinstance(self.item.get(name, getlink=True), h5py.HardLink)]

    def field(self, name: str) -> list[Array]:
        link = self.item.get(name, getlink=True) if self.kind == "struct" else None
        if link is None:
            return []
        if not isinstance(link, h5py.HardLink):
            raise BadRecord("outside_folder", "the file refers to another file")
        array = _hdf5(self.item[name])
        if array.kind != "references":
            return [array]
        # The field of an array of structures: one reference an element.
        return [_hdf5(self.item.file[ref]) if ref else Array() for ref in array.checked()[()].reshape(-1)]

    def numbers(self, *at: slice) -> np.ndarray:
        if self.kind != "numbers":
            return super().numbers()
        return np.asarray(self.checked()[at[::-1]]).T

    def text(self) -> str | None:
        if self.kind != "text":
            return None
        if "MATLAB_empty" in self.item.attrs:
            return ""
        if self.item.dtype.kind != "u" or self.item.size > MAX_TEXT:
            raise BadRecord("unreadable", "a text is damaged or too long")
        return "".join(chr(code) for code in self.checked()[()].reshape(-1)).rstrip("\0 ")

    def checked(self) -> Any:
        """Return the data set, or refuse it by what it claims before it is read."""
        table = self.item
        if table.external or table.is_virtual:
            raise BadRecord("outside_folder", "the file refers to another file")
        layout = table.id.get_create_plist()
        filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
        if not filters <= BUILT_IN_FILTERS:
            raise BadRecord("unsupported", "the file is compressed in a way that MATLAB does not use")
        stored, width = table.id.get_storage_size(), table.dtype.itemsize
        require_bytes(stored, Path(table.file.filename).stat().st_size)
        require_bytes(math.prod(table.shape) * width, stored * (MAX_COMPRESSION if filters else 1))
        require_bytes(math.prod(table.chunks or ()) * width, MAX_CHUNK_BYTES)
        return table


def _hdf5(item: Any) -> _Hdf5:
    """Return an object of an HDF5 file as an array; MATLAB stores text and logical values as numbers too."""
    if isinstance(item, h5py.Group):
        return _Hdf5("struct", (1, 1), item=item)
    if not isinstance(item, h5py.Dataset):
        return _Hdf5(item=item)
    name = item.attrs.get("MATLAB_class", b"double")
    name = name.decode("ascii") if isinstance(name, bytes) else str(name)
    kind = "text" if name == "char" else "other"
    if h5py.check_ref_dtype(item.dtype) is h5py.Reference and name != "cell":
        kind = "references"
    elif re.fullmatch(r"double|single|u?int(8|16|32|64)", name) and item.dtype.kind in "iuf":
        kind = "other" if item.attrs.get("MATLAB_empty", 0) else "numbers"
    return _Hdf5(kind, (item.shape or ())[::-1], item=item)


def _check_superblock(block: bytes, size: int, at: int) -> None:
    """Refuse an HDF5 file whose first block, less its mark, is damaged or promises a longer file."""
    version = block[0] if len(block) >= 48 else -1
    # Position of: bytes of an address (MATLAB writes 8), address of the start, address of the end.
    width_at, base_at, end_at = {0: (5, 16, 32), 1: (5, 20, 36), 2: (1, 4, 20), 3: (1, 4, 20)}.get(version, (0, 0, 0))
    base, end = (int.from_bytes(block[i : i + 8], "little") for i in (base_at, end_at))
    if not width_at or block[width_at : width_at + 2] != b"\x08\x08" or base not in (0, at):
        raise BadRecord("unreadable", "the first block of the HDF5 file is damaged")
    require_bytes(end, size)
