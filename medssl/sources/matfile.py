"""Pick single fields out of a MATLAB file without building the rest: version 5 (MATLAB 5 to 7) and 7.3 (HDF5).

scipy builds everything that a variable holds before a caller can look at one size in it, and takes memory for
whatever sizes a damaged file claims. Here each part is bounded by the bytes around it, other parts are stepped over.

Source: MathWorks, "MAT-File Format" (2024), chapter 1.
"""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources.claims import require_bytes
from medssl.sources.record import BadRecord

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
STRUCT, CHAR, NUMERIC, OPAQUE = 2, 4, range(6, 16), 17
COMPLEX = 0x0800
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
# Deflate shrinks at most 1032 times; what would grow by more is no such stream.
DEFLATE = 1032
MAX_TEXT = 10_000


class Fields(ABC):
    """Fields of one structure, read on demand."""

    @abstractmethod
    def __contains__(self, name: str) -> bool: ...

    @abstractmethod
    def number(self, name: str) -> float:
        """Return a field of one number."""

    @abstractmethod
    def text(self, name: str) -> str | None:
        """Return a field of text, None where it is not text."""

    @abstractmethod
    def columns(self, name: str, rows: int, length: int, start: int, stop: int) -> np.ndarray:
        """Return columns ``start`` to ``stop`` of a numeric field, refused unless ``rows`` times ``length``."""

    @abstractmethod
    def structs(self, name: str, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
        """Return the ``wanted`` texts of each element of an array of structures."""


@contextmanager
def open_fields(path: Path, size: int, name: str) -> Iterator[Fields]:
    """Open the structure ``name`` of a MATLAB file; where it is absent, the variables of the file are its fields.

    Raises:
        BadRecord: ``unreadable`` for no such file, ``unsupported`` for what is stored in yet another file.
    """
    with path.open("rb") as file:
        head = file.read(128)
        file.seek(512)
        magic = file.read(8)
    if HDF5_MAGIC in (head[:8], magic):
        import h5py

        with h5py.File(path, "r") as root:
            yield _Hdf5Fields(root[name] if isinstance(root.get(name), h5py.Group) else root, root)
        return
    if len(head) < 128 or head[126:128] not in (b"IM", b"MI") or not head.startswith(b"MATLAB"):
        raise BadRecord("unreadable", "the file is no MATLAB file of version 5 or 7.3")
    order = "<" if head[126:128] == b"IM" else ">"
    variables = _variables(path.read_bytes(), size, order)
    matrix = variables.get(name)
    if matrix is not None and matrix.kind == STRUCT:
        elements = matrix.elements()
        if len(elements) != 1:
            raise BadRecord("unsupported", "the file holds several recordings; save them one by one")
        variables = elements[0]
    yield _Mat5Fields(variables)


@dataclass(frozen=True)
class _Matrix:
    """One array of a version 5 file: its class, size and undecoded contents."""

    order: str
    kind: int
    flags: int
    dims: tuple[int, ...]
    body: memoryview

    def claimed(self) -> int:
        """Return the number of elements that the header claims, as a Python integer that cannot overflow."""
        total = 1
        for size in self.dims:
            total *= size
        return total

    def elements(self) -> list[dict[str, _Matrix]]:
        """Return each element of an array of structures as its fields."""
        _, width_bytes, at = _element(self.body, 0, self.order)
        _, names_bytes, at = _element(self.body, at, self.order)
        width = struct.unpack(self.order + "i", width_bytes[:4])[0]
        if width <= 0 or len(names_bytes) % width:
            raise BadRecord("unreadable", "the names of a structure's fields are damaged")
        raw = bytes(names_bytes)
        names = [raw[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(raw), width)]
        found = []
        for _ in range(self.claimed() if names else 0):
            fields = {}
            for name in names:
                kind, part, at = _element(self.body, at, self.order)
                if kind != MATRIX:
                    raise BadRecord("unreadable", "a structure holds something that is no array")
                if len(part):
                    fields[name] = _matrix(part, self.order)[1]
            found.append(fields)
        return found

    def numbers(self) -> np.ndarray:
        """Return the numbers in the file's own type and in MATLAB's order, the first index fastest."""
        kind, part, _ = _element(self.body, 0, self.order)
        if self.kind not in NUMERIC or kind not in NUMBERS or self.flags & COMPLEX:
            raise BadRecord("unreadable", "an array that should hold real numbers does not")
        dtype = np.dtype(self.order + NUMBERS[kind])
        require_bytes(self.claimed() * dtype.itemsize, len(part))
        return np.frombuffer(part, dtype, self.claimed())

    def text(self) -> str | None:
        """Return text of one line, None for what is none."""
        if self.kind != CHAR:
            return None
        if not self.claimed():
            return ""
        kind, part, _ = _element(self.body, 0, self.order)
        if kind not in TEXTS or len(part) > 4 * MAX_TEXT:
            raise BadRecord("unreadable", "a text is damaged or too long")
        code = TEXTS[kind]
        wide = {"<": "-le", ">": "-be"}[self.order] if code in ("utf-16", "utf-32") else ""
        return bytes(part).decode(code + wide, errors="replace").rstrip("\0 ")


def _element(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Return type, contents and end of the data element at ``at``."""
    if at + 8 > len(data):
        raise BadRecord("unreadable", "the file ends within a variable; it may be cut off")
    kind, size = struct.unpack(order + "II", data[at : at + 8])
    if kind >> 16:  # up to four bytes are packed into the tag itself
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise BadRecord("unreadable", "a data element is damaged")
        return kind, data[at + 4 : at + 4 + size], at + 8
    require_bytes(size, len(data) - at - 8)
    end = at + 8 + size
    if kind != COMPRESSED:
        end += -size % 8
    return kind, data[at + 8 : at + 8 + size], end


def _matrix(data: memoryview, order: str) -> tuple[str, _Matrix]:
    """Return name and `_Matrix` of the contents of a matrix element."""
    _, flags_bytes, at = _element(data, 0, order)
    flags = struct.unpack(order + "I", flags_bytes[:4])[0]
    if flags & 0xFF == OPAQUE:  # an object of a MATLAB class: no size, no use
        return "", _Matrix(order, OPAQUE, flags, (0,), data[at:])
    dims_kind, dims_bytes, at = _element(data, at, order)
    _, name, at = _element(data, at, order)
    dims = tuple(int(n) for n in np.frombuffer(dims_bytes, order + "i4"))
    if dims_kind != 5 or not 0 < len(dims) <= 32 or min(dims) < 0:
        raise BadRecord("unreadable", "the size of an array is damaged")
    return bytes(name).decode("latin-1"), _Matrix(order, flags & 0xFF, flags, dims, data[at:])


def _variables(raw: bytes, size: int, order: str) -> dict[str, _Matrix]:
    """Return the variables of a version 5 file by name."""
    data, at = memoryview(raw), 128
    found: dict[str, _Matrix] = {}
    room = DEFLATE * size
    while at + 8 <= len(data):
        kind, part, at = _element(data, at, order)
        if kind == COMPRESSED:
            engine = zlib.decompressobj()
            part = memoryview(engine.decompress(part, max(room, 1)))  # 0 would be no bound
            if not engine.eof:
                raise BadRecord("unreadable", "a compressed variable is cut off")
            room -= len(part)
            kind, part, _ = _element(part, 0, order)
        if kind == MATRIX and len(part):
            name, matrix = _matrix(part, order)
            found[name] = matrix
    return found


class _Mat5Fields(Fields):
    """Fields of a version 5 file."""

    def __init__(self, fields: dict[str, _Matrix]) -> None:
        self.fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def _field(self, name: str) -> _Matrix:
        if name not in self.fields:
            raise BadRecord("unreadable", "the file lacks a field that every recording has")
        return self.fields[name]

    def number(self, name: str) -> float:
        values = self._field(name).numbers()
        if len(values) != 1:
            raise BadRecord("unreadable", "a field of one number holds another count of them")
        return float(values[0])

    def text(self, name: str) -> str | None:
        return self._field(name).text()

    def columns(self, name: str, rows: int, length: int, start: int, stop: int) -> np.ndarray:
        matrix = self._field(name)
        if matrix.dims != (rows, length):
            raise BadRecord("unreadable", "the data have another size than the file states")
        return matrix.numbers().reshape(length, rows)[start:stop].T

    def structs(self, name: str, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
        matrix = self._field(name)
        if matrix.kind != STRUCT:
            return []
        return [{key: element[key].text() for key in wanted if key in element} for element in matrix.elements()]


class _Hdf5Fields(Fields):
    """Fields of a version 7.3 file, where arrays are stored transposed and structures as references to texts."""

    def __init__(self, group: Any, root: Any) -> None:
        self.group, self.root = group, root

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def _member(self, group: Any, name: str) -> Any:
        import h5py

        link = group.get(name, getlink=True)
        if link is None:
            raise BadRecord("unreadable", "the file lacks a field that every recording has")
        if not isinstance(link, h5py.HardLink):
            raise BadRecord("outside_folder", "the file refers to another file")
        return self._checked(group[name])

    def _checked(self, item: Any) -> Any:
        """Return ``item`` unless its contents lie in another file or are larger than this one could hold."""
        import h5py

        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise BadRecord("outside_folder", "the file refers to another file")
            require_bytes(item.nbytes, DEFLATE * Path(self.root.filename).stat().st_size)
        return item

    def number(self, name: str) -> float:
        values = self._member(self.group, name)
        if values.size != 1:
            raise BadRecord("unreadable", "a field of one number holds another count of them")
        return float(np.asarray(values).reshape(-1)[0])

    def text(self, name: str) -> str | None:
        return self._text(self._member(self.group, name))

    def columns(self, name: str, rows: int, length: int, start: int, stop: int) -> np.ndarray:
        stored = self._member(self.group, name)
        if stored.shape != (length, rows) or stored.dtype.kind not in "iuf":
            raise BadRecord("unreadable", "the data have another size or type than the file states")
        return stored[start:stop].T

    def structs(self, name: str, wanted: tuple[str, ...]) -> list[dict[str, Any]]:
        import h5py

        group = self._member(self.group, name)
        if not isinstance(group, h5py.Group):
            return []
        columns = {key: self._texts(self._member(group, key)) for key in wanted if key in group}
        if len({len(column) for column in columns.values()}) > 1:
            raise BadRecord("unreadable", "a structure has fields of different lengths")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def _texts(self, item: Any) -> list[str | None]:
        """Return the texts that ``item`` refers to; a structure of one element holds the text itself."""
        import h5py

        if h5py.check_ref_dtype(item.dtype) is not h5py.Reference:
            return [self._text(item)]
        return [self._text(self._checked(self.root[ref])) if ref else None for ref in np.asarray(item).reshape(-1)]

    def _text(self, item: Any) -> str | None:
        if item.attrs.get("MATLAB_class") != b"char":
            return None
        if "MATLAB_empty" in item.attrs:
            return ""
        if item.dtype.kind != "u" or item.size > MAX_TEXT:
            raise BadRecord("unreadable", "a text is damaged or too long")
        return "".join(chr(code) for code in np.asarray(item).reshape(-1)).rstrip("\0 ")
