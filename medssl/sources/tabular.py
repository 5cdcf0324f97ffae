"""Read signals stored as a table (CSV, TSV, Parquet) or as plain numbers: an even rate, or a time column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.sources import delimited
from medssl.sources.claims import guarded, positive, require_bytes, require_file, span, whole
from medssl.sources.record import BadRecord, Record, Signal

if TYPE_CHECKING:
    import pandas as pd

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0, "days": 86_400.0}
MAX_GAP_S = 1.0
# A time column may claim any duration. Beyond this many even steps per row it is a mistake, not a gap.
MAX_STEPS_PER_ROW = 100
# Parquet stores a constant column in a few bytes, so rows are not bounded by the file: this many numbers for each
# of its bytes, and this many in any case.
MAX_NUMBERS_PER_BYTE = 128
FREE_NUMBERS = 2_000_000
# A number before all others that is one of these may be a rate; a start time counts seconds or ms since 1970.
RATES_HZ = {4, 8, 16, 25, 32, 50, 60, 64, 100, 125, 128, 200, 240, 250, 256, 300, 360, 400, 500, 512, 1000, 1024, 2000}
TIMES = ((3e8, 5e9), (3e11, 5e12))


def read(record: Record) -> Signal:
    """Read one table at ``hints["rate_hz"]``, in ``hints["unit"]`` (``"1"`` by default).

    Hints:
        rate_hz: rate of the rows, or of the even grid where a time column is given.
        rate_from: in place of rate_hz, the line of the file (from 1) whose first number is the rate.
        time_column, time_unit: name of the time column and its unit (s by default; ms, us, min, h, days); dates and
            times of day as text need no unit.
        columns: the channels and their columns, as `column_map` understands them; all numeric columns by default.
        channel: name of the only channel of a file without names (``signal`` by default).
        skip_lines: lines before the names, or before the numbers of a file without names (0 by default).

    Numbers without column names are one channel if they stand on one line or one below the other, else one
    column per channel; ``columns`` then counts them from 1. With a time column, values are interpolated linearly;
    grid points inside gaps longer than 1 s are NaN, and so are empty cells of evenly sampled tables. Encoding,
    separator and decimal commas: `medssl.sources.delimited`. A column without a name that counts the rows is left out.

    Raises:
        BadRecord: ``missing_file``, ``no_rate``, ``missing_channel``, ``no_samples``, ``too_short``,
            ``unsupported`` (unknown time unit) or ``unreadable`` (lines that differ in length, lines of a device
            before the data that skip_lines does not count).
    """
    size = require_file(record.path)
    unit = str(record.hints.get("unit", "1"))
    with guarded("the table reader"):
        start, stop = None, None
        try:
            if _is_parquet(record.path):
                rate_hz = _rate(record, [])
                values, channels, start, stop = _read_parquet(record, rate_hz, size)
            else:
                lines = delimited.lines_of(delimited.decode(record.path))
                rate_hz = _rate(record, lines)
                skipped = whole(record.hints.get("skip_lines", 0), "skip_lines")
                values, channels = _read_text(lines[skipped:], record, rate_hz, first=1 + skipped)
        except delimited.TableError as error:
            raise BadRecord("unreadable", str(error)) from None
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


def _rate(record: Record, lines: Sequence[str]) -> float:
    """Return the rate that the record states, or that stands in the file where the record says."""
    given = record.hints.get("rate_hz")
    if given is None and record.hints.get("rate_from") is not None:
        line = whole(record.hints["rate_from"], "rate_from")
        words = lines[line - 1].replace(",", " ").replace(";", " ").split() if 1 <= line <= len(lines) else []
        given = next((word for word in words if positive(word) is not None), None)
        if given is None:
            raise BadRecord("no_rate", f"line {line} of the file, which rate_from names, holds no positive number")
    rate_hz = positive(given)
    if rate_hz is None:
        raise BadRecord(
            "no_rate", "the table has no sampling rate; give rate_hz in Hz, or rate_from, the line of the file with it"
        )
    return rate_hz


def _read_text(
    lines: Sequence[str], record: Record, rate_hz: float, *, first: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` values and channels of lines that begin with names, or with numbers; ``first`` counts them."""
    head = next((line for line in lines if line.strip()), "")
    if not head:
        raise BadRecord("no_samples", "the file holds no number")
    words = head.replace(",", " ").replace(";", " ").split()
    if words and positive(words[0].lstrip("-+")) is None and words[0].strip("-+0.eE") != "":
        fix = "if lines of the device stand before the names, set skip_lines to {lines}"
        table = delimited.frame(lines, first=first, fix=fix, numeric=True)
        return _values(table, record, rate_hz, column_map(record.hints.get("columns")))
    if record.hints.get("time_column"):
        raise BadRecord("missing_channel", "the table has no column names, so no time column")
    return _read_numbers(lines, record, first=first)


def _read_numbers(lines: Sequence[str], record: Record, *, first: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` numbers of a file without column names."""
    filled = [line for line in lines if line.strip()]
    if len(filled) == 1:  # numbers side by side are one after another in time
        filled = filled[0].replace(",", " ").replace(";", " ").split()
    separator = delimited.separator_of(filled)
    count = len(delimited.cells(filled[0].rstrip(f"{separator} "), separator))
    names = [str(i) for i in range(count)]
    fix = "if lines of the device stand before the numbers, set skip_lines to {lines}"
    table = delimited.frame(filled, first=first, fix=fix, names=names, numeric=True)
    values = np.stack([delimited.numbers(table[name]).to_numpy() for name in names])
    _refuse_heading(values, first)
    at, channels = pick_numbered(record.hints.get("columns"), len(values), str(record.hints.get("channel", "signal")))
    return values[at], channels


def _refuse_heading(values: np.ndarray, first: int) -> None:
    """Refuse numbers ``(C, T)`` whose first line is the start time or the rate of a device and no value."""
    if values.shape[1] < 4 or not np.isfinite(values[:, 0]).all():
        return
    head, rest = values[:, 0], values[:, 3:]
    reach = np.nanmax(np.abs(rest), initial=0.0) if np.isfinite(rest).any() else 0.0
    same = (head == head[0]).all()
    start_time = same and any(low < head[0] < high for low, high in TIMES) and reach < head[0] / 100
    spread = np.nanmax(rest, initial=-np.inf) - np.nanmin(rest, initial=np.inf)
    rate = same and float(head[0]) in RATES_HZ and reach > 0 and head[0] > 20 * max(reach, spread)
    if start_time or rate:
        what = "start time (seconds since 1970)" if start_time else "sampling rate"
        raise BadRecord(
            "unreadable",
            f"line {first} looks like the {what} of a device, not like a value; set skip_lines to the number of such "
            f"lines (such as {2 if start_time else 1}) and rate_hz, or rate_from to the line that holds the rate",
        )


def _values(
    table: pd.DataFrame, record: Record, rate_hz: float, wanted: dict[str, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` values of the columns ``wanted`` (none: all numeric), on the even grid, and the channels."""
    import pandas as pd

    table = _named(table)
    time = record.hints.get("time_column")
    known = {str(name).lower(): str(name) for name in reversed(table.columns)}
    wanted = {name: column if column in table else known.get(column.lower(), column) for name, column in wanted.items()}
    if time and str(time) not in table:
        time = known.get(str(time).lower(), str(time))
    absent = [i for i, column in enumerate(wanted.values(), start=1) if column not in table]
    if absent or (time and str(time) not in table):
        said = "time_column" if not absent else f"entry {absent[0]} of columns"
        raise BadRecord("missing_channel", f"the table has no column of the name that {said} asks for; correct it")
    if not table.columns.is_unique:
        raise BadRecord("unreadable", "two columns of the table have the same name")
    if not wanted:
        others = [name for name in table.columns if name != time]
        wanted = {name: name for name in others if pd.api.types.is_numeric_dtype(table[name])}
        for name in others:  # numbers with decimal commas, or a slip among numbers; never words
            if name not in wanted:
                text = table[name].dropna().astype(str).str.replace(",", ".", regex=False)
                if len(text) and pd.to_numeric(text, errors="coerce").notna().mean() > 0.5:
                    wanted[name] = name
        wanted = {name: name for name in others if name in wanted}
    if not wanted or not len(table):
        raise BadRecord("no_samples", "the table holds no numbers")
    values = np.stack([_numbers(table[column], i) for i, column in enumerate(wanted.values(), start=1)])
    if not time:
        return values, tuple(wanted)
    return _even(_seconds(table[str(time)], str(record.hints.get("time_unit", "s"))), values, rate_hz), tuple(wanted)


def _named(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without the numbers of its rows, which pandas and R write below an empty name."""
    table = table.set_axis([str(name).strip() for name in table.columns], axis=1)
    for at in np.flatnonzero(table.columns == "")[::-1]:
        column = table.iloc[:, at]
        counts = column.dtype.kind == "i" and bool((column.diff().iloc[1:] == 1).all())
        if not counts and column.notna().any():
            raise BadRecord("unreadable", f"column {at + 1} of the table has no name; write one above it")
        table = table.iloc[:, [i for i in range(table.shape[1]) if i != at]]
    return table


def _numbers(column: pd.Series, number: int) -> np.ndarray:
    """Return the values of channel ``number``, or refuse a word among them, such as the units below the names."""
    try:
        return np.asarray(delimited.numbers(column).to_numpy())
    except delimited.TableError as error:
        raise BadRecord(
            "unreadable",
            f"channel {number}: {error}; name the columns to use in columns, or correct the cell (a row of units below "
            "the names must go: skip_lines past both, and columns such as I=1)",
        ) from None


def _seconds(column: pd.Series, unit: str) -> np.ndarray:
    """Return a time column in seconds: numbers in ``unit``, times of day, or dates with times (from the first on)."""
    import pandas as pd

    if unit not in SECONDS:
        raise BadRecord("unsupported", f"the time unit is unknown; allowed: {', '.join(SECONDS)}")
    try:
        return np.asarray(delimited.numbers(column).to_numpy()) * SECONDS[unit]
    except delimited.TableError:
        pass
    text = column.astype(str).str.strip().str.replace(r"(\d),(\d+)$", r"\1.\2", regex=True)
    try:
        if text.str.fullmatch(r"\d{1,3}(:\d{1,2}){1,2}(\.\d+)?").all():
            short = text.str.count(":").eq(1)  # minutes and seconds
            since = pd.to_timedelta(text.where(~short, "0:" + text))
        else:
            moments = pd.to_datetime(text, format="ISO8601" if text.str.match(r"\d{4}-").all() else None, utc=True)
            since = moments - moments.iloc[0]
    except (ValueError, OverflowError):
        raise BadRecord(
            "unreadable",
            "the time column holds neither numbers nor times such as 2020-01-31 12:00:00.5 or 12:00:00.5 throughout",
        ) from None
    return np.asarray(since.dt.total_seconds().to_numpy())


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
        if min(rows) < 0 or sum(rows) != claims.num_rows or claims.num_columns > delimited.MAX_COLUMNS:
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
        within = np.clip(grid_s, at[0], at[-1])  # 0.1 s + 2 / (10 Hz) is a rounding error beyond 0.3 s
        row[:] = np.where(np.abs(within - grid_s) * rate_hz > 1e-6, np.nan, np.interp(within, at, level))
        after = np.searchsorted(at, grid_s).clip(1, max(len(at) - 1, 1))
        if len(at) > 1:
            before = after - 1
            strictly_between = (grid_s > at[before] + 1e-9) & (grid_s < at[after] - 1e-9)
            row[strictly_between & (at[after] - at[before] > MAX_GAP_S)] = np.nan
    return out
