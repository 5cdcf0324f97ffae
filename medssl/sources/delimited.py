"""Text that people and devices write as tables: its encoding, lines, separator and decimal sign, and what is off in it.

Messages name lines and say what to do; they quote no cell, which may name a person.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = "\t;|,"  # in this order: what separates numbers with decimal commas comes before the comma
MAX_COLUMNS = 4096
MANY = 20  # numbers that tell by their signs
LOOKED_AT = 200  # lines that tell how wide a table is
DECIMAL = re.compile(r"[-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?|[-+]?\d+[.,]")
# 1,234 may be 1.234 or 1234 where nothing else in its column tells.
EITHER = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")


class TableError(ValueError):
    """A table whose cells cannot be told apart with certainty; one sentence with line and fix, without the file."""


def encoding_of(data: bytes) -> str:
    """Return how a file is encoded: UTF-8, UTF-16 as spreadsheets write it, else Windows-1252, which is then a guess.

    A file that holds no text is refused (`TableError`).
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    head = data[:4096]
    if b"\0" in head:
        if head[1::2].count(0) > len(head) // 4:  # Latin letters in UTF-16 whose mark is lost
            return "utf-16-le"
        raise TableError("the file holds no text; save it as CSV in UTF-8")
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def decode(path: Path) -> str:
    """Return the text of a file; errors as `encoding_of`."""
    data = path.read_bytes()
    return data.decode(encoding_of(data), "replace")


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, however a system ends them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def separator_of(lines: Sequence[str]) -> str:
    """Return what separates the cells of the first line, an empty string for white space; the next lines help."""
    # Separators inside quotes separate nothing.
    head, *rows = (re.sub(r'"[^"]*"', "q", line) for line in lines[:LOOKED_AT])
    rows = [row for row in rows if row.strip()]
    found = next((s for s in SEPARATORS if s in head), None)
    if found:
        return "" if found == "," and _one_column(head, rows) else found
    words = head.split()
    numbers_side_by_side = len(words) > 1 and all(DECIMAL.fullmatch(word) for word in words)
    alike = bool(rows) and len(words) == len(rows[0].split()) > 1
    if numbers_side_by_side or alike or decimal_comma([row.strip() for row in rows]):
        return ""
    # A line of the device may stand before the names.
    return next((s for s in SEPARATORS if sum(s in row for row in rows) > len(rows) / 2), ",")


def _one_column(head: str, rows: Sequence[str]) -> bool:
    """Say whether lines such as ``0,12`` are single numbers: no whole number is written ``-0`` or ``045``."""
    found = [re.fullmatch(r"\s*([-+]?\d+),(\d+)\s*", line) for line in (head, *rows)]
    pairs = [match.groups() for match in found if match]
    return len(pairs) == len(found) and any(one == "-0" or (two[0] == "0" and len(two) > 1) for one, two in pairs)


def cells(line: str, separator: str) -> list[str]:
    """Return the cells of one line, without blanks around them."""
    if '"' in line:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator or " ", skipinitialspace=True))]
    return [cell.strip() for cell in line.split(separator or None)]


def frame(
    lines: Sequence[str], *, first: int = 1, fix: str = "", names: Sequence[str] = (), numeric: bool = False
) -> pd.DataFrame:
    """Return a table as text, each cell under the name that stands above it.

    Separators at the end of lines make no column. A name may be empty; of names that repeat, all are kept.

    Args:
        lines: from the line of names on.
        first: number of the first of them in the file.
        fix: what to do about lines that stand before the table, from ``{lines}`` of them.
        names: of the columns; then all lines hold cells.
        numeric: give columns of numbers as such, NaN for their empty cells.

    Raises:
        TableError: lines and names differ in number, with the first such line.
    """
    import pandas as pd

    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    mark = re.fullmatch(r"sep=(.)", lines[start].strip()) if lines else None
    start += bool(mark)  # as spreadsheets leave it
    lines = lines[start:]
    if not lines or not any(line.strip() for line in lines):
        raise TableError("the table is empty")
    separator = mark[1] if mark else separator_of(lines)
    if lines[0].count(separator or " ") > MAX_COLUMNS:
        raise TableError(f"the table has more than {MAX_COLUMNS} columns; rows and columns may be exchanged")
    head = list(names) or cells(lines[0], separator)
    while len(head) > 1 and not head[-1]:
        head.pop()
    rows = list(lines if names else lines[1:])
    while rows and not rows[-1].strip():
        rows.pop()
    width = _check_widths(rows, separator, len(head), first + start + (not names), fix)
    if not rows:
        return pd.DataFrame({name: pd.Series(dtype=str) for name in head})
    options: dict[str, Any] = {} if numeric else {"dtype": str, "na_filter": False}
    # In a single column an empty line is a missing value.
    options |= {"skip_blank_lines": len(head) > 1, "skipinitialspace": True, "low_memory": False}
    text, at = io.StringIO("\n".join(rows)), list(range(width))
    table = pd.read_csv(text, sep=separator or r"\s+", header=None, names=at, usecols=at[: len(head)], **options)
    return table.set_axis(head, axis=1)


def _check_widths(rows: Sequence[str], separator: str, wanted: int, first: int, fix: str) -> int:
    """Return the number of cells of the longest of ``rows``; all have ``wanted`` cells, and empty ones after them."""
    if any('"' in row for row in rows):
        return _check_quoted(rows, separator, wanted, first)
    widths = [row.count(separator) + 1 if separator else len(row.split()) for row in rows]
    if set(widths) == {wanted}:
        return wanted
    longest = wanted
    for i, (row, width) in enumerate(zip(rows, widths, strict=True)):
        if width == wanted or not row.strip():
            continue
        if width < wanted or any(cell.strip() for cell in row.split(separator or None)[wanted:]):
            raise TableError(_mismatch(widths, i, wanted, first, fix))
        longest = max(longest, width)
    return longest


def _mismatch(widths: Sequence[int], at: int, wanted: int, first: int, fix: str) -> str:
    """Return a sentence about the first line ``at`` that does not fit the ``wanted`` names of the line before all."""
    said = f"line {first + at} has {widths[at]} cells, the line of names {wanted}"
    usual, times = Counter(widths[:LOOKED_AT]).most_common(1)[0]
    # A table that begins further down: its lines agree with one another, and not with the first.
    begins = next((i for i, width in enumerate(widths) if width == usual), 0)
    if fix and usual > wanted + 1 and times > min(len(widths), LOOKED_AT) / 2:
        return f"{said}; {fix.format(lines=first - 1 + begins)}"
    return f"{said}; write one separator between each two cells, empty ones too, and a name above each column"


def _check_quoted(rows: Sequence[str], separator: str, wanted: int, first: int) -> int:
    """Do the same for cells in quotes, which may hold separators and ends of lines."""
    longest = wanted
    reader = csv.reader((f"{row}\n" for row in rows), delimiter=separator or " ", skipinitialspace=True)
    while True:
        begins = first + reader.line_num
        try:
            row = next(reader, None)
        except csv.Error:
            raise TableError(f"line {begins} holds a quote or a cell that cannot be read") from None
        if row is None:
            return longest
        # A note may hold an end of line; a row of the table that is swallowed by a quote may not.
        below = [part for cell in row for part in cell.split("\n")[1:]]
        if any(part.count(separator or " ") >= max(wanted - 1, 1) for part in below):
            raise TableError(
                f"line {begins} opens a quote that is closed on line {first + reader.line_num - 1}; remove it, or the "
                "end of line within the cell"
            )
        if row and (len(row) < wanted or any(cell.strip() for cell in row[wanted:])):
            raise TableError(
                f"line {begins} has {len(row)} cells, the line of names {wanted}; write one separator between each two "
                "cells, and quotes around cells that hold one"
            )
        longest = max(longest, len(row))


def decimal_comma(texts: Sequence[str]) -> bool:
    """Tell whether numbers, none of them empty, are written with a decimal comma throughout.

    Not where one could as well be thousands (1,234) and no other tells, and not where points occur too.
    """
    commas = [text for text in texts if "," in text]
    if not commas or not all("." not in text and DECIMAL.fullmatch(text) for text in texts):
        return False
    # Thousands of both signs would have smaller numbers among them.
    both = len(commas) == len(texts) >= MANY and 0 < sum(text.startswith("-") for text in texts) < len(texts)
    return both or not all(EITHER.fullmatch(text) for text in commas)


def numbers(column: pd.Series) -> pd.Series:
    """Return a column as float64, NaN for empty cells, or refuse (`TableError`) a word by its place in the column.

    Decimal commas count where all its numbers agree.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64")
    text = column.fillna("").astype(str).str.strip()
    filled = text.ne("")
    given = pd.to_numeric(text, errors="coerce")
    # By the cells that are numbers: one slip must not make slips of all.
    if text.str.contains(",", regex=False).any() and decimal_comma([t for t in text[filled] if DECIMAL.fullmatch(t)]):
        given = pd.to_numeric(text.str.replace(",", ".", regex=False), errors="coerce")
    wrong = (given.isna() & filled).to_numpy()
    if wrong.any():
        raise TableError(f"row {int(wrong.argmax()) + 1} of a column holds a word, or commas that may be of thousands")
    return given.astype("float64")
