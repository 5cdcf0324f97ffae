"""Read a signal from a MATLAB file: one table of numbers in a ``.mat`` of version 4, 5 to 7, or 7.3 (HDF5).

Only plain numbers are ever read. Structs, cells and objects stay in the file: they hold names and dates as often as
signals, and none is rebuilt.
"""

from __future__ import annotations

import numpy as np

from medssl.sources.claims import guarded, positive, require_file, span
from medssl.sources.matfile import Array, open_matlab
from medssl.sources.record import BadRecord, Record, Signal
from medssl.sources.tabular import pick_numbered


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
    with guarded("the MATLAB reader"), open_matlab(record.path, size) as file:
        table = _pick([(name, array) for name in file.names() for array in file.field(name)], record)
        time_axis = int(np.argmax(table.shape))
        part = slice(*span(record, rate_hz, table.shape[time_axis]))
        values = table.numbers(slice(None), part) if time_axis else table.numbers(part, slice(None)).T
        # Within the guard: numbers beyond float32 warn.
        at_rows, channels = pick_numbered(
            record.hints.get("columns"), len(values), str(record.hints.get("channel", "signal"))
        )
        values = np.ascontiguousarray(values[at_rows], dtype=np.float32)
    return Signal(values, rate_hz, channels, str(record.hints.get("unit", "1")))


def _pick(variables: list[tuple[str, Array]], record: Record) -> Array:
    wanted = record.hints.get("variable")
    named = [array for name, array in variables if wanted in (None, name) and array.kind == "numbers"]
    tables = [array for array in named if len(array.shape) == 2 and min(array.shape) > 0 and max(array.shape) > 1]
    if wanted is not None and not tables:
        raise BadRecord("missing_channel", "the file has no table of numbers under the name in 'variable'")
    if not tables:
        raise BadRecord("no_samples", "the file holds no table of numbers with two axes (structs are not read)")
    if len(tables) > 1:
        raise BadRecord("unsupported", "the file holds several tables of numbers; name one in the hint 'variable'")
    if len(set(tables[0].shape)) == 1:
        raise BadRecord("unsupported", "the table has as many channels as time steps, so its time axis is unknown")
    return tables[0]
