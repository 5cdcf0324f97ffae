"""Read signals stored as a table (CSV, TSV, Parquet) or as plain numbers: an even rate, or a time column."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file, span
from medssl.sources.record import BadRecord, Record, Signal

if TYPE_CHECKING:
    import pandas as pd

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0}
MAX_GAP_S = 1.0
# A time column may claim any duration. Beyond this many even steps per row it is a mistake, not a gap.
MAX_STEPS_PER_ROW = 100
# Parquet stores a constant column in a few bytes, so rows are not bounded by the file: this many numbers for each
# of its bytes, and this many in any case.
MAX_NUMBERS_PER_BYTE = 128
FREE_NUMBERS = 2_000_000
MAX_COLUMNS = 4096
LINE_BYTES = 200_000


def read(record: Record) -> Signal:
    """Read one table at ``hints["rate_hz"]``, in ``hints["unit"]`` (``"1"`` by default).

    Hints:
        rate_hz: rate of the rows, or of the even grid where a time column is given.
        time_column, time_unit: name of the time column and its unit (s by default; ms, us, min).
        columns: the channels and their columns, as `column_map` understands them; all numeric columns by default.
        channel: name of the only channel of a file without names (``signal`` by default).
        skip_lines: lines before the numbers of a file without names (0 by default).

    Numbers without column names are one channel if they stand on one line or one below the other, else one
    column per channel; ``columns`` then counts them from 1. With a time column, values are interpolated linearly;
    grid points inside gaps longer than 1 s are NaN, and so are empty cells of evenly sampled tables. The comma is
    a decimal comma where semicolons or tabs separate the numbers.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``missing_channel``, ``no_samples``, ``too_short``,
            ``unsupported`` (unknown time unit) or ``unreadable``.
    """
    size = require_file(record.path)
    rate_hz = positive(record.hints.get("rate_hz"))
    if rate_hz is None:
        raise BadRecord("no_rate", "the table has no sampling rate; give rate_hz with the record")
    unit = str(record.hints.get("unit", "1"))
    with guarded("the table reader"):
        start, stop = None, None
        if _is_parquet(record.path):
            values, channels, start, stop = _read_parquet(record, rate_hz, size)
        elif _has_names(record.path):
            values, channels = _values(_read_text(record), record, rate_hz, column_map(record.hints.get("columns")))
        else:
            values, channels = _read_numbers(record)
        if start is None or stop is None:
            start, stop = span(record, rate_hz, values.shape[1])
        cut = np.array(values[:, start:stop], dtype=np.float32, order="C")
    cut[~np.isfinite(cut)] = np.nan
    return Signal(cut, rate_hz, channels, unit)


def column_map(hint: Any) -> dict[str, str]:
    """Return channel name -> column from the hint ``columns``; empty without one.

    A hint is a mapping, a list of names, or text such as ``I=lead1;II=lead2`` or ``I,II``. Text is split at
    semicolons if there are any, else at commas; a plain name is both channel and column.

    Raises:
        BadRecord: ``unreadable`` for a channel named twice or an empty name.
    """
    if isinstance(hint, Mapping):
        pairs = [(str(name).strip(), str(column).strip()) for name, column in hint.items()]
    else:
        if isinstance(hint, str):
            parts = [part for part in hint.split(";" if ";" in hint else ",") if part.strip()]
        else:
            parts = [str(part) for part in hint or ()]
        split = [part.partition("=") if "=" in part else (part, "", part) for part in parts]
        pairs = [(name.strip(), column.strip()) for name, _, column in split]
    if any(not name or not column for name, column in pairs) or len({name for name, _ in pairs}) < len(pairs):
        raise BadRecord("unreadable", "columns must name each channel once, as in 'I=lead1;II=lead2' or 'I;II'")
    return dict(pairs)


def pick_numbered(hint: Any, count: int, alone: str = "signal") -> tuple[list[int], tuple[str, ...]]:
    """Return positions and names of the channels of ``count`` columns that have no names of their own.

    ``I=2`` takes the second column; plain names stand for the columns in their order. Without a hint all are taken,
    named ``channel 1`` and so on, or ``alone`` if there is but one.

    Raises:
        BadRecord: ``missing_channel`` if the hint does not fit.
    """
    wanted = column_map(hint)
    if not wanted:
        return list(range(count)), ((alone,) if count == 1 else tuple(f"channel {i + 1}" for i in range(count)))
    if all(name == column for name, column in wanted.items()):
        if len(wanted) != count:
            raise BadRecord("missing_channel", f"columns names {len(wanted)} channels; the file holds {count}")
        return list(range(count)), tuple(wanted)
    at = [int(column) - 1 if column.isdecimal() else -1 for column in wanted.values()]
    if min(at) < 0 or max(at) >= count:
        raise BadRecord("missing_channel", f"columns must count the {count} channels of the file from 1, as in 'I=1'")
    return at, tuple(wanted)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return path.suffix.lower() == ".parquet" or file.read(4) == b"PAR1"


def _has_names(path: Path) -> bool:
    """Tell whether the first line holds column names rather than numbers."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        word = file.read(200).replace(",", " ").replace(";", " ").split()
    return bool(word) and positive(word[0].lstrip("-+")) is None and word[0].strip("-+0.eE") != ""


def _read_numbers(record: Record) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` numbers of a file without column names."""
    if record.hints.get("time_column"):
        raise BadRecord("missing_channel", "the table has no column names, so no time column")
    text = record.path.read_text(encoding="utf-8-sig")
    # 1,5;2,5 and 1,5<tab>2,5 are two numbers each; 1,5 alone is two as well.
    text = text.replace(",", "." if ";" in text or re.search(r"\d,\d+\t|\t-?\d+,\d", text) else " ").replace(";", " ")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    rows = rows[int(record.hints.get("skip_lines", 0)) :]
    if len(rows) == 1:
        rows = [[number] for number in rows[0]]
    values = np.array(rows, dtype=np.float64).T
    if values.size == 0:
        raise BadRecord("no_samples", "the file holds no number")
    at, names = pick_numbered(record.hints.get("columns"), len(values), str(record.hints.get("channel", "signal")))
    return values[at], names


def _read_text(record: Record) -> pd.DataFrame:
    """Return the columns of a text table that `_values` needs, numbers where all of a column are."""
    import pandas as pd

    with record.path.open(encoding="utf-8-sig", errors="replace") as file:
        # Separators inside quotes separate nothing.
        head, row = (re.sub(r'"[^"]*"', "", file.readline(LINE_BYTES)).rstrip("\n") for _ in range(2))
    # pandas could guess, but its guess takes minutes on some lines, and takes letters for separators.
    separator = next((s for s in "\t;," if s in head), None)
    if separator is None:
        separator = r"\s+" if len(head.split()) == len(row.split()) else ","
    if head.count(separator) > MAX_COLUMNS:
        raise BadRecord("unreadable", f"the table has more than {MAX_COLUMNS} columns; channels stand in columns")
    comma = separator in ("\t", ";") and "," in row and "." not in row
    return pd.read_csv(
        record.path, sep=separator, decimal="," if comma else ".", encoding="utf-8-sig", skipinitialspace=True
    )


def _values(
    table: pd.DataFrame, record: Record, rate_hz: float, wanted: dict[str, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` values of the columns ``wanted`` (none: all numeric), on the even grid, and the channels."""
    import pandas as pd

    table.columns = [str(name).strip() for name in table.columns]
    time = record.hints.get("time_column")
    if not {*wanted.values(), *([str(time)] if time else [])} <= set(table.columns):
        raise BadRecord("missing_channel", "the table lacks a column that the record asks for")
    if not table.columns.is_unique:
        raise BadRecord("unreadable", "two columns of the table have the same name")
    if not wanted:
        others = [name for name in table.columns if name != time]
        wanted = {name: name for name in others if pd.api.types.is_numeric_dtype(table[name])}
        words = table[[name for name in others if name not in wanted]]
        if any(pd.to_numeric(words[name], errors="coerce").notna().mean() > 0.5 for name in words):
            raise BadRecord("unreadable", "a column of numbers holds a word; name the columns to use in columns")
    if not wanted or not len(table):
        raise BadRecord("no_samples", "the table holds no numbers")
    # A word in a numeric column raises here and makes the record unreadable, which it is.
    values = table[list(wanted.values())].to_numpy(dtype=np.float64, na_value=np.nan).T
    if not time:
        return values, tuple(wanted)
    time_unit = str(record.hints.get("time_unit", "s"))
    if time_unit not in SECONDS:
        raise BadRecord("unsupported", f"the time unit is unknown; allowed: {', '.join(SECONDS)}")
    times_s = table[str(time)].to_numpy(dtype=np.float64) * SECONDS[time_unit]
    return _even(times_s, values, rate_hz), tuple(wanted)


def _read_parquet(
    record: Record, rate_hz: float, size: int
) -> tuple[np.ndarray, tuple[str, ...], int | None, int | None]:
    """Return values and channels as `_values`, and the part to keep where no more than that was read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(record.path, memory_map=False, pre_buffer=False, page_checksum_verification=True) as file:
        claims = file.metadata
        groups = [claims.row_group(i) for i in range(claims.num_row_groups)]
        rows = [int(group.num_rows) for group in groups]
        # pandas keeps its row names as columns; they are no signal.
        numeric = [
            field.name
            for field in file.schema_arrow
            if pa.types.is_floating(field.type) or pa.types.is_integer(field.type) or pa.types.is_decimal(field.type)
        ]
        numeric = [name for name in numeric if not name.startswith("__index_level_")]
        time = record.hints.get("time_column")
        wanted = column_map(record.hints.get("columns")) or {name: name for name in numeric if name != time}
        names = [*dict.fromkeys([*wanted.values(), *([str(time)] if time else [])])]
        if not set(names) <= set(file.schema_arrow.names):
            raise BadRecord("missing_channel", "the table lacks a column that the record asks for")
        if not set(names) <= set(numeric) or len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
            raise BadRecord(
                "unreadable", "a column that is asked for holds no numbers, or has a name that is not unique"
            )
        if not names or not sum(rows):
            raise BadRecord("no_samples", "the table holds no numbers")
        if min(rows) < 0 or sum(rows) != claims.num_rows or claims.num_columns > MAX_COLUMNS:
            raise BadRecord("unreadable", "the row groups do not add up to the table")
        for group in groups:
            chunks = [group.column(i) for i in range(group.num_columns)]
            require_bytes(sum(max(chunk.total_compressed_size, 0) for chunk in chunks), size)
        require_bytes(float(claims.num_rows) * len(names), max(FREE_NUMBERS, MAX_NUMBERS_PER_BYTE * size))

        first, last = 0, len(rows)
        start: int | None = None
        stop: int | None = None
        if not time:  # the rows are even steps: only groups that hold some of the part are read
            start, stop = span(record, rate_hz, claims.num_rows)
            ends = np.cumsum(rows)
            first, last = int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop)) + 1
            start, stop = start - int(ends[first]) + rows[first], stop - int(ends[first]) + rows[first]
        table = file.read_row_groups(list(range(first, last)), columns=names, use_threads=False)
    if table.num_rows != sum(rows[first:last]):
        raise BadRecord("unreadable", "the table holds fewer rows than its header claims")
    frame = pa.table({name: table[name].cast(pa.float64(), safe=False) for name in names}).to_pandas()
    values, channels = _values(frame, record, rate_hz, wanted)
    return values, channels, start, stop


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
