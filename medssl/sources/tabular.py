"""Read signals stored as text: plain numbers at an even rate, or a table with a time column."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.sources.claims import guarded, positive, require_file, span
from medssl.sources.record import BadRecord, Record, Signal

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0}
MAX_GAP_S = 1.0
# A time column may claim any duration. Beyond this many even steps per row it is a mistake, not a gap.
MAX_STEPS_PER_ROW = 100


def read(record: Record) -> Signal:
    """Read one text file at ``hints["rate_hz"]``, in ``hints["unit"]`` (``"1"`` by default).

    Hints:
        rate_hz: rate of the numbers, or of the even grid where a time column is given.
        time_column, time_unit: name of the time column and its unit (s by default; ms, us, min).
        columns: columns to read from a table with names; all numeric ones by default.
        channel: name of the only channel of a file without names (``signal`` by default).

    Numbers without column names are one channel if they stand on one line or one below the other, else one
    column per channel. With a time column, values are interpolated linearly; grid points inside gaps longer
    than 1 s are NaN, and so are empty cells of evenly sampled tables.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``missing_channel``, ``no_samples``, ``too_short``,
            ``unsupported`` (unknown time unit) or ``unreadable``.
    """
    require_file(record.path)
    rate_hz = positive(record.hints.get("rate_hz"))
    if rate_hz is None:
        raise BadRecord("no_rate", "the text file has no sampling rate; give rate_hz with the record")
    unit = str(record.hints.get("unit", "1"))
    with guarded("the text reader"):
        if _has_names(record.path):
            values, channels = _read_table(record, rate_hz)
        else:
            values, channels = _read_numbers(record)
    start, stop = span(record, rate_hz, values.shape[1])
    return Signal(np.ascontiguousarray(values[:, start:stop], dtype=np.float32), rate_hz, channels, unit)


def _has_names(path: Path) -> bool:
    """Tell whether the first line holds column names rather than numbers."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        word = file.read(200).replace(",", " ").replace(";", " ").split()
    return bool(word) and positive(word[0].lstrip("-+")) is None and word[0].strip("-+0.eE") != ""


def _read_numbers(record: Record) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` numbers of a file without column names."""
    if record.hints.get("time_column"):
        raise BadRecord("missing_channel", "the table has no column names, so no time column")
    text = record.path.read_text(encoding="utf-8-sig").replace(",", " ").replace(";", " ")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) == 1:
        rows = [[number] for number in rows[0]]
    values = np.array(rows, dtype=np.float64).T
    if values.size == 0:
        raise BadRecord("no_samples", "the file holds no number")
    if len(values) == 1:
        return values, (str(record.hints.get("channel", "signal")),)
    return values, tuple(f"channel {i + 1}" for i in range(len(values)))


def _read_table(record: Record, rate_hz: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` values of a table with column names, on the even grid."""
    import pandas as pd

    wanted = tuple(str(name) for name in record.hints.get("columns", ()))
    time = record.hints.get("time_column")
    needed = {*wanted, time} if time else {*wanted}
    table = pd.read_csv(record.path, sep=None, engine="python", encoding="utf-8-sig", skipinitialspace=True)
    if not needed <= set(table.columns):
        raise BadRecord("missing_channel", "the table lacks a column that the record asks for")
    if not wanted:
        wanted = tuple(str(c) for c in table.select_dtypes("number").columns if c != time)
    if not wanted or not len(table):
        raise BadRecord("no_samples", "the table holds no numbers")
    # A word in a numeric column raises here and makes the record unreadable, which it is.
    values = table[list(wanted)].to_numpy(dtype=np.float64).T
    if not time:
        return values, wanted
    time_unit = str(record.hints.get("time_unit", "s"))
    if time_unit not in SECONDS:
        raise BadRecord("unsupported", f"the time unit is unknown; allowed: {', '.join(SECONDS)}")
    times_s = table[str(time)].to_numpy(dtype=np.float64) * SECONDS[time_unit]
    return _even(times_s, values, rate_hz), wanted


def _even(times_s: np.ndarray, values: np.ndarray, rate_hz: float) -> np.ndarray:
    """Interpolate ``(C, T)`` values at uneven ``times_s`` on an even grid; NaN inside gaps above 1 s."""
    if not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
        raise BadRecord("unreadable", "the time column is not a rising list of numbers")
    # Whole steps that fit, with room for rounding: 0.1 s * 30 Hz is 2.9999999999999996.
    steps = np.floor((times_s[-1] - times_s[0]) * rate_hz + 1e-6) + 1
    if steps > MAX_STEPS_PER_ROW * len(times_s) + 10 * rate_hz:
        raise BadRecord("unreadable", "the time column spans far more time than there are rows; check its unit")
    grid_s = times_s[0] + np.arange(int(steps)) / rate_hz
    out = np.full((len(values), len(grid_s)), np.nan)
    for row, column in zip(out, values, strict=True):
        known = np.isfinite(column)
        if not known.any():
            continue
        at, level = times_s[known], column[known]
        row[:] = np.interp(grid_s, at, level, left=np.nan, right=np.nan)
        after = np.searchsorted(at, grid_s).clip(1, max(len(at) - 1, 1))
        if len(at) > 1:
            before = after - 1
            strictly_between = (grid_s > at[before] + 1e-9) & (grid_s < at[after] - 1e-9)
            row[strictly_between & (at[after] - at[before] > MAX_GAP_S)] = np.nan
    return out
