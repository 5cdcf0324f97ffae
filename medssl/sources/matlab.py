"""Read a signal from a MATLAB file: one table of numbers in a ``.mat`` of version 4, 5 to 7, or 7.3 (HDF5).

Only plain numbers are ever read. Structs, cells and objects stay in the file: they hold names and dates as often as
signals, and none is rebuilt.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, span
from medssl.sources.matlab_tables import MAX_COMPRESSION, MAX_VARIABLES, list_tables, read_table
from medssl.sources.record import BadRecord, Record, Signal
from medssl.sources.tabular import pick_numbered

if TYPE_CHECKING:
    import h5py

HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_AT = (0, 512)  # MATLAB puts 512 bytes of text first
NUMBERS = {"double", "single", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
MAX_CHUNK_BYTES = 64 << 20
BUILT_IN_FILTERS = {1, 2, 3}  # deflate, shuffle, checksum; others may load code from the machine


def read(record: Record) -> Signal:
    """Read one table of a MATLAB file at ``hints["rate_hz"]``, in ``hints["unit"]`` (``"1"`` by default).

    The table is (C, T) or (T, C): time runs along the longer axis.

    Hints:
        rate_hz: sampling rate; required, since files have no agreed place for it.
        variable: name of the table; by default the only one with two axes and more than one number.
        columns: names of the channels in the file's order, ``"I,II"``, or by number, ``"II=2"``; by default
            ``channel 1`` and so on (`medssl.sources.tabular.pick_numbered`).
        channel: name of the only channel of a single row or column (``signal`` by default).

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``missing_channel`` (no such variable, or another number of
            channels than names), ``no_samples``, ``too_short``, ``unsupported`` (several tables, a square table, a
            struct, a link to another file) or ``unreadable``.
    """
    size = require_file(record.path)
    rate_hz = positive(record.hints.get("rate_hz"))
    if rate_hz is None:
        raise BadRecord("no_rate", "the MATLAB file has no sampling rate; give rate_hz with the record")
    with record.path.open("rb") as file:
        head = file.read(HDF5_AT[-1] + len(HDF5))
    at = next((at for at in HDF5_AT if head[at:].startswith(HDF5)), None)
    with guarded("the MATLAB reader"):
        if at is None:
            values = _read_plain(record, size, rate_hz)
        else:
            _check_superblock(record.path, size, at)
            values = _read_hdf5(record, size, rate_hz)
        # Within the guard: numbers beyond float32 warn.
        at_rows, channels = pick_numbered(
            record.hints.get("columns"), len(values), str(record.hints.get("channel", "signal"))
        )
        values = np.ascontiguousarray(values[at_rows], dtype=np.float32)
    return Signal(values, rate_hz, channels, str(record.hints.get("unit", "1")))


def _pick(shapes: list[tuple[str, tuple[int, ...]]], wanted: object) -> int:
    """Return the position of the table to read among the numeric variables, given as (name, shape)."""
    tables = [i for i, (_, shape) in enumerate(shapes) if len(shape) == 2 and min(shape) > 0 and max(shape) > 1]
    if wanted is not None:
        tables = [i for i in tables if shapes[i][0] == wanted]
        if not tables:
            raise BadRecord("missing_channel", "the file has no table of numbers under the name in 'variable'")
    if not tables:
        raise BadRecord("no_samples", "the file holds no table of numbers with two axes (structs are not read)")
    if len(tables) > 1:
        raise BadRecord("unsupported", "the file holds several tables of numbers; name one in the hint 'variable'")
    if len(set(shapes[tables[0]][1])) == 1:
        raise BadRecord("unsupported", "the table has as many channels as time steps, so its time axis is unknown")
    return tables[0]


def _read_plain(record: Record, size: int, rate_hz: float) -> np.ndarray:
    """Return (C, T) numbers of a file of version 4 to 7."""
    tables = list_tables(record.path, size)
    table = tables[_pick([(t.name, t.shape) for t in tables], record.hints.get("variable"))]
    values = read_table(record.path, table)
    if len(values) > values.shape[1]:
        values = values.T
    start, stop = span(record, rate_hz, values.shape[1])
    return values[:, start:stop]


def _check_superblock(path: Path, size: int, at: int) -> None:
    """Refuse an HDF5 file whose first block is damaged or promises a longer file."""
    with path.open("rb") as file:
        file.seek(at + len(HDF5))
        block = file.read(48)
    version = block[0] if len(block) == 48 else -1
    # Position of: bytes of an address (MATLAB writes 8), address of the start, address of the end.
    width_at, base_at, end_at = {0: (5, 16, 32), 1: (5, 20, 36), 2: (1, 4, 20), 3: (1, 4, 20)}.get(version, (0, 0, 0))
    if not width_at or block[width_at] != 8 or block[width_at + 1] != 8:
        raise BadRecord("unreadable", "the first block of the HDF5 file is damaged")
    base, end = (int.from_bytes(block[i : i + 8], "little") for i in (base_at, end_at))
    if base not in (0, at):
        raise BadRecord("unreadable", "the first block of the HDF5 file is damaged")
    require_bytes(end, size)


def _read_hdf5(record: Record, size: int, rate_hz: float) -> np.ndarray:
    """Return (C, T) numbers of a file of version 7.3. Its axes are MATLAB's in reverse."""
    import h5py

    with h5py.File(record.path, "r", locking=False) as file:
        if len(file) > MAX_VARIABLES:
            raise BadRecord("unreadable", f"the file claims more than {MAX_VARIABLES} variables")
        numeric = []
        for name in file:
            # A link of another kind may lead to another file.
            if (
                isinstance(file.get(name, getlink=True), h5py.HardLink)
                and file.get(name, getclass=True) is h5py.Dataset
            ):
                table = file[name]
                if _is_numeric(table):
                    numeric.append(table)
        table = numeric[_pick([(t.name.lstrip("/"), t.shape) for t in numeric], record.hints.get("variable"))]
        _check_storage(table, size)
        time_axis = int(np.argmax(table.shape))
        start, stop = span(record, rate_hz, table.shape[time_axis])
        return table[:, start:stop] if time_axis else table[start:stop].T


def _is_numeric(table: h5py.Dataset) -> bool:
    """Tell whether a data set is numbers to MATLAB; text and logical values are stored as numbers too."""
    kind = table.attrs.get("MATLAB_class", b"double")
    name = kind.decode("ascii") if isinstance(kind, bytes) else str(kind)
    return name in NUMBERS and table.dtype.kind in "iuf" and not table.attrs.get("MATLAB_empty", 0)


def _check_storage(table: h5py.Dataset, size: int) -> None:
    """Refuse a table by what it claims, before its numbers are read."""
    if table.external or table.is_virtual:
        raise BadRecord("outside_folder", "the table lies in another file")
    layout = table.id.get_create_plist()
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if not filters <= BUILT_IN_FILTERS:
        raise BadRecord("unsupported", "the table is compressed in a way that MATLAB does not use")
    stored = table.id.get_storage_size()
    require_bytes(stored, size)
    width = table.dtype.itemsize
    require_bytes(float(table.size) * width, stored * (MAX_COMPRESSION if filters else 1))
    if table.chunks is not None:
        chunk_bytes = float(np.prod([float(n) for n in table.chunks])) * width
        require_bytes(chunk_bytes, MAX_CHUNK_BYTES)
