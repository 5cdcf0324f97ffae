"""Read signals stored as a table (CSV, TSV, Parquet) or as plain numbers: an even rate, or a time column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medssl.sources import delimited, electrodes, heading, times
from medssl.sources.claims import guarded, positive, require_bytes, require_file, span, whole
from medssl.sources.record import BadRecord, Record, Signal, unit_name

if TYPE_CHECKING:
    import pandas as pd

# Parquet stores a constant column in a few bytes, so rows are bounded by these, not by the file.
MAX_NUMBERS_PER_BYTE = 128
FREE_NUMBERS = 2_000_000
# Numbers written for people: with thousands, units, per cent, or for other programs.
DRESSED = re.compile(
    r"[-+(]?(0x[\da-fA-F]+|[\d'., \u00a0\u202f]*\d[\d'., \u00a0\u202f]*(D[-+]?\d+)?"
    r"\s*(%|\u2030|[numk\u00b5\u03bc]?V|mmHg|bpm|k?Hz|m?s|\u00b0?C|g)?)\)?"
)
DATE = re.compile(r"\d{1,4}[./]\d{1,2}[./]\d{1,4}")
THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:\.\d{3})+")


def read(record: Record) -> Signal:
    """Read one table at ``hints["rate_hz"]``, in ``hints["unit"]`` (``"1"`` by default).

    Hints:
        rate_hz: rate of the rows, or of the even grid where a time column is given.
        rate_from: in place of rate_hz, the line of the file (from 1) whose first number is the rate.
        time_column, time_unit: name of the time column and its unit (s by default; ms, us, min, h, days); dates and
            times of day as text need no unit.
        columns: the channels and their columns, as `column_map` understands them; all numeric columns by default.
        channel: name of the only channel of a file without names (``signal`` by default).
        skip_lines: lines before the names, or before the numbers of a file without names (0 by default). Where it is
            given, what then comes first is taken for what it is.

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
        try:
            with record.path.open("rb") as file:
                parquet = record.path.suffix.lower() == ".parquet" or file.read(4) == b"PAR1"
            if parquet:
                rate_hz = _rate(record, [])
                values, channels = _read_parquet(record, rate_hz, size)
            else:
                # The minus of typesetters, which programs for people write.
                lines = delimited.lines_of(delimited.decode(record.path).replace("\u2212", "-"))
                rate_hz = _rate(record, lines)
                skipped = whole(record.hints.get("skip_lines", 0), "skip_lines")
                values, channels = _read_text(lines[skipped:], record, rate_hz, first=1 + skipped)
                start, stop = span(record, rate_hz, values.shape[1])
                values = values[:, start:stop]
        except delimited.TableError as error:
            raise BadRecord("unreadable", str(error)) from None
        cut = np.array(values, dtype=np.float32, order="C")
    cut[~np.isfinite(cut)] = np.nan
    return Signal(cut, rate_hz, channels, unit)


def column_map(hint: Any) -> dict[str, str]:
    """Return channel name -> column from the hint ``columns``; empty without one, ``unreadable`` for a name twice.

    A hint is a mapping, a list of names, or text such as ``I=lead1;II=lead2`` or ``I,II``. Text is split at
    semicolons if there are any, else at commas; a plain name is both channel and column.
    """
    if isinstance(hint, str):
        hint = [part for part in hint.split(";" if ";" in hint else ",") if part.strip()]
    if isinstance(hint, Mapping):
        given: list[Any] = list(hint.items())
    else:
        given = [part.split("=", 1) if "=" in part else (part, part) for part in map(str, hint or ())]
    pairs = [(str(name).strip(), str(column).strip()) for name, column in given]
    if any(not name or not column for name, column in pairs) or len({name for name, _ in pairs}) < len(pairs):
        raise BadRecord("unreadable", "columns must name each channel once, as in 'I=lead1;II=lead2' or 'I;II'")
    return dict(pairs)


def pick_numbered(hint: Any, count: int, alone: str = "signal") -> tuple[list[int], tuple[str, ...]]:
    """Return positions and names of the channels of ``count`` columns that have no names of their own.

    ``I=2`` takes the second column; plain names stand for the columns in their order. Without a hint all are taken,
    named ``channel 1`` and so on, or ``alone`` if there is but one. A hint that does not fit is a ``missing_channel``.
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


def _rate(record: Record, lines: Sequence[str]) -> float:
    """Return the rate that the record states, or that stands in the file where the record says."""
    given = record.hints.get("rate_hz")
    if given is None and record.hints.get("rate_from") is not None:
        line = whole(record.hints["rate_from"], "rate_from")
        given = heading.rate_in(lines[line - 1] if 1 <= line <= len(lines) else "", line)
    rate_hz = positive(given)
    if rate_hz is None:
        detail = "the table has no sampling rate; give rate_hz in Hz, or rate_from, the line of the file with it"
        raise BadRecord("no_rate", detail)
    return rate_hz


def _read_text(
    lines: Sequence[str], record: Record, rate_hz: float, *, first: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` values and channels of lines that begin with names, or with numbers; ``first`` counts them."""
    said = record.hints.get("skip_lines") is not None
    if heading.holds_names(lines, first):
        fix = "if lines of the device stand before the names, set skip_lines to {lines}"
        table = delimited.frame(lines, first=first, fix=fix, numeric=True)
        wanted = column_map(record.hints.get("columns"))
        used = [str(name) for name in wanted.values() or table.columns]
        _check_units(used, record)
        words = [c.dropna().astype(str).str.strip() for name, c in table.items() if name in used and c.dtype == object]
        if any(delimited.decimal_comma([text for text in column if text]) for column in words):
            _check_points(lines, [i for i, name in enumerate(table.columns) if name in used], first=first)
        values, channels = _values(table, record, rate_hz, wanted)
        if (not said or first > 1) and not record.hints.get("time_column"):
            heading.refuse(values, first + 1, named=True)
        return values, channels
    if record.hints.get("time_column"):
        raise BadRecord("missing_channel", "the table has no column names, so no time column")
    values = _read_numbers(lines, first=first)
    if not said:
        heading.refuse(values, first, named=False)
    at, channels = pick_numbered(record.hints.get("columns"), len(values), str(record.hints.get("channel", "signal")))
    return values[at], channels


def _check_points(lines: Sequence[str], columns: Sequence[int], *, first: int) -> None:
    """Refuse a number such as 1.234 in one of the columns, of which others have decimal commas."""
    separator = delimited.separator_of(lines)
    for number, line in enumerate(lines, start=first):
        cells = delimited.cells(line, separator)
        if any(THOUSANDS.fullmatch(cells[i]) for i in columns if i < len(cells)):
            detail = f"line {number}: a point as in 1.234 beside decimal commas may be of thousands"
            raise BadRecord("unreadable", detail)


def _check_units(names: Sequence[str], record: Record) -> None:
    """Refuse names of columns whose own unit, as in ``I [uV]``, is another than that of the record."""
    said = str(record.hints.get("unit", "1"))
    for name in names if said != "1" else ():  # what has no unit is not taken for another
        found = electrodes.UNIT_BEHIND.search(name)
        unit = unit_name(found[0].strip(" ()[]\t")) if found else said
        if unit != said and name != record.hints.get("time_column"):
            detail = f"the name of a column says {unit}, the table of recordings {said}; correct unit"
            raise BadRecord("bad_unit", detail)


def _read_numbers(lines: Sequence[str], *, first: int) -> np.ndarray:
    """Return ``(C, T)`` numbers of a file without column names."""
    filled = [line for line in lines if line.strip() and not re.fullmatch(r"sep=.", line.strip())]
    if len(filled) == 1:  # numbers side by side are one after another in time
        parts = re.split(r"[;\t|\s]+", filled[0].strip())
        if len(parts) > 1 and delimited.decimal_comma(parts):
            parts = [part.replace(",", ".") for part in parts]
        filled = [number for part in parts for number in part.split(",") if number]
    separator = delimited.separator_of(filled)
    count = len(delimited.cells(filled[0].rstrip(f"{separator} "), separator))
    names = [str(i) for i in range(count)]
    fix = "if lines of the device stand before the numbers, set skip_lines to {lines}"
    table = delimited.frame(filled, first=first, fix=fix, names=names, numeric=True)
    return np.stack([delimited.numbers(table[name]).to_numpy() for name in names])


def _values(
    table: pd.DataFrame, record: Record, rate_hz: float, wanted: dict[str, str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return ``(C, T)`` values of the columns ``wanted`` (none: all numeric), on the even grid, and the channels."""
    import pandas as pd

    table = _named(table, strict=not wanted)
    known = {name.lower(): name for name in reversed(table.columns)}

    def spelt(name: str) -> str:
        return name if name in table else known.get(name.lower(), name)

    wanted = {name: spelt(column) for name, column in wanted.items()}
    time = spelt(str(record.hints.get("time_column") or ""))
    absent = [i for i, column in enumerate(wanted.values(), start=1) if column not in table]
    if absent or (time and time not in table):
        said = "time_column" if not absent else f"entry {absent[0]} of columns"
        raise BadRecord("missing_channel", f"the table has no column of the name that {said} asks for; correct it")
    used = [*(wanted.values() or table.columns), *([time] if time else [])]
    numeric = Counter(name for name, column in table.items() if pd.api.types.is_numeric_dtype(column))
    # Words may share a name, as nobody reads them.
    if table.columns[table.columns.isin(used)].has_duplicates and (wanted or max(numeric.values(), default=0) > 1):
        raise BadRecord("unreadable", "two columns of the table have the same name")
    if not wanted:
        others = [name for name in table.columns[~table.columns.duplicated(keep=False)] if name != time]
        for name in others:
            if name in numeric:
                wanted[name] = name
                continue
            text = table[name].dropna().astype(str).str.strip()
            if pd.to_numeric(text.str.replace(",", ".", regex=False), errors="coerce").notna().mean() > 0.5:
                wanted[name] = name  # with decimal commas, or a slip among numbers
            # Words are left out, and so are dates, times and codes.
            elif len(text) > len(table) / 2 and (text.str.fullmatch(DRESSED) & ~text.str.fullmatch(DATE)).mean() > 0.5:
                raise BadRecord(
                    "unreadable",
                    f"column {list(table.columns).index(name) + 1} of the table holds numbers in a form not read "
                    "(thousands, units, per cent); write plain numbers, or name the columns to use in columns",
                )
    if not wanted or not len(table):
        raise BadRecord("no_samples", "the table holds no numbers")
    values = np.stack([_numbers(table[column], i) for i, column in enumerate(wanted.values(), start=1)])
    if time:
        times_s = times.seconds(table[time], str(record.hints.get("time_unit", "s")))
        values = times.even(times_s, values, rate_hz)
    return values, tuple(wanted)


def _named(table: pd.DataFrame, *, strict: bool) -> pd.DataFrame:
    """Return a table without the numbers of its rows, which pandas and R write below an empty name.

    Other columns below one are refused if ``strict``, else left out.
    """
    table = table.set_axis([str(name).strip() for name in table.columns], axis=1)
    for at in np.flatnonzero(table.columns == "")[::-1]:
        column = table.iloc[:, at]
        counts = column.dtype.kind == "i" and bool((column.diff().iloc[1:] == 1).all())
        if strict and not counts and column.notna().any():
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


def _read_parquet(record: Record, rate_hz: float, size: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return values and channels as `_values`, of the part that the record asks for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(record.path, memory_map=False, pre_buffer=False, page_checksum_verification=True) as file:
        claims = file.metadata
        groups = [claims.row_group(i) for i in range(claims.num_row_groups)]
        rows = [int(group.num_rows) for group in groups]
        # pandas keeps its row names as columns; they are no signal.
        kinds = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal)
        fields = [field for field in file.schema_arrow if not field.name.startswith("__index_level_")]
        numeric = [field.name for field in fields if any(is_kind(field.type) for is_kind in kinds)]
        time = record.hints.get("time_column")
        wanted = column_map(record.hints.get("columns")) or {name: name for name in numeric if name != time}
        names = [*dict.fromkeys([*wanted.values(), *([str(time)] if time else [])])]
        if not set(names) <= set(file.schema_arrow.names):
            raise BadRecord("missing_channel", "the table lacks a column that the record asks for")
        if not set(names) <= set(numeric) or len(set(file.schema_arrow.names)) < len(file.schema_arrow.names):
            detail = "a column that is asked for holds no numbers, or has a name that is not unique"
            raise BadRecord("unreadable", detail)
        if not names or not sum(rows):
            raise BadRecord("no_samples", "the table holds no numbers")
        if min(rows) < 0 or sum(rows) != claims.num_rows or claims.num_columns > delimited.MAX_COLUMNS:
            raise BadRecord("unreadable", "the row groups do not add up to the table")
        for group in groups:
            require_bytes(sum(max(group.column(i).total_compressed_size, 0) for i in range(group.num_columns)), size)
        require_bytes(float(claims.num_rows) * len(names), max(FREE_NUMBERS, MAX_NUMBERS_PER_BYTE * size))

        first, last = 0, len(rows)
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
    if time:
        start, stop = span(record, rate_hz, values.shape[1])
    return values[:, start:stop], channels
