"""What stands above the numbers of a table: names of columns, or lines of a device (start time, rate, counts).

What looks like neither is refused with the fix: a start time that becomes a sample is wrong in silence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from medssl.sources import delimited
from medssl.sources.record import BadRecord

# Rates that devices write; a first number that is one, and no value like the others, is a rate.
RATES_HZ = (
    4, 8, 16, 20, 25, 32, 40, 50, 51.2, 60, 64, 75, 80, 100, 120, 125, 128, 130, 150, 180, 200, 240, 250, 256, 300, 320,
    360, 400, 480, 500, 512, 600, 720, 800, 900, 960, 1000, 1024, 1200, 2000, 2048, 4000, 4096, 5000, 8000, 10_000,
)  # fmt: skip
FAR = 20  # times the range of the other values from their median
SLOW = 0.2  # of their size: what begins nearer to its next value is a curve
WHOLE = 20  # a whole number from here on among fractions is a count or a time
NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*")
NO_RATE = re.compile(r"interval|period|per sample|/ ?sample|\b(m|u|n)?s(ec(onds?)?)?\b", re.IGNORECASE)
RATE_WORD = re.compile(r"hz|rate|fs\b|freq|sampl|abtast", re.IGNORECASE)
TITLE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[./]\d\d?[./]\d{2,4}")  # a date


def holds_names(lines: Sequence[str], first: int) -> bool:
    """Say whether the first line of a table holds the names of its columns rather than numbers.

    Raises:
        BadRecord: ``no_samples`` for no line at all, ``unreadable`` where it can be told neither way.
    """
    filled = [(number, line) for number, line in enumerate(lines, start=first) if line.strip()]
    if filled and re.fullmatch(r"sep=.", filled[0][1].strip()):
        filled = filled[1:]
    if not filled:
        raise BadRecord("no_samples", "the file holds no number")
    number, head = filled[0]
    separator = delimited.separator_of([line for _, line in filled[: delimited.LOOKED_AT]])
    cells = delimited.cells(head, separator)
    given = [cell for cell in cells if cell]
    numeric = [c for c in given if delimited.DECIMAL.fullmatch(c) or c.lower() in ("nan", "-nan", "inf", "-inf")]
    rest = [delimited.cells(line, separator) for _, line in filled[1:40]]
    counts = bool(given) and any(given == [str(n + i) for i in range(len(given))] for n in (0, 1))
    below_whole = all(re.fullmatch(r"[-+]?\d*", cell) for row in rest for cell in row)
    fix = f"set skip_lines to {number} and count the columns (columns: I=1;II=2)"
    if len(numeric) == len(given):
        if counts and rest and (not cells[0] or len(given) > 3 or (len(given) > 1 and not below_whole)):
            if cells[0]:
                detail = f"line {number} counts the columns and may hold names; {fix}, or to 0 for values"
                raise BadRecord("unreadable", detail)
            return True  # pandas numbers its columns and, below an empty name, its rows
        return False
    in_order = all(map(str.isdecimal, numeric)) and np.all(np.diff([float(cell) for cell in numeric]) == 1)
    if len(numeric) * 2 >= len(given) and not (rest and in_order):  # t, 1, 2, 3 are names
        raise BadRecord("unreadable", f"line {number} holds numbers where names should be; {fix}, or turn the table")
    if len(given) == 1 and TITLE.search(given[0]):
        raise BadRecord("unreadable", f"line {number} looks like a title, not like the name of a column; {fix}")
    return True


def refuse(values: np.ndarray, first: int, *, named: bool) -> None:
    """Refuse values ``(C, T)`` whose first column is that of a device (line ``first`` of the file) and no value.

    Such a column is whole among fractions, far from all others, or a usual rate outside of their range, in every
    channel. Below names (``named``) a zero is a sensor that warms up; without, it may be pandas' name of a column.
    """
    known = np.isfinite(values[:, 0]) if values.shape[1] > 3 else np.zeros(len(values), bool)
    rest = values[known][:, 3:]
    filled = np.isfinite(rest)
    if not known.any() or not filled.any(axis=1).all():
        return
    head = values[known, 0]
    low, high = np.nanmin(rest, axis=1), np.nanmax(rest, axis=1)
    reach = high - low
    # A slow curve may begin a little outside of its range, and near to its next value.
    outside = (head < low - reach / 4) | (head > high + reach / 4)
    usual = np.abs(np.nanmedian(rest, axis=1))
    away = np.abs(head - values[known, 1]) > np.maximum(reach, SLOW * usual)
    far = (reach > 0) & ((head != 0) | (not named)) & (np.abs(head - np.nanmedian(rest, axis=1)) > FAR * reach)
    fractions = ((rest % 1 != 0) & filled).sum(axis=1) > 0.9 * filled.sum(axis=1)
    whole = (head % 1 == 0) & (np.abs(head) >= WHOLE) & outside & away & fractions
    rate = np.isin(head, RATES_HZ) & away & ((head < low - reach) | (head > high + reach))
    if far.all() or whole.all() or rate.all():
        raise BadRecord(
            "unreadable",
            f"line {first} looks like a start time, a rate or a count of a device, not like a value; set skip_lines to "
            "the number of such lines (0 if it is a value), and rate_hz, or rate_from to the line that holds the rate",
        )


def rate_in(line: str, number: int) -> float:
    """Return the rate in Hz that one line of a file holds, such as ``Rate: 51,2 Hz`` or ``64.0,64.0,64.0``.

    No number, several, or a time in place of a rate are refused (``no_rate``).
    """
    line = re.sub(r"samples?\s*(/|per)\s*s(ecs?|econds?)?\b", "Hz", line, flags=re.IGNORECASE)
    line = re.sub(r'(?<=[A-Za-z"])\s*,\s*(?="?\d)', " ", line)  # a comma after a word separates
    found = {text.replace(",", ".") for text in NUMBER.findall(re.sub(r"(?<=\d), ", " ", line.replace("=", " ")))}
    if len(found) > 1 or any(text.count(".") > 1 for text in found):  # numbers side by side, one a channel
        found = {text for part in re.split(r"[,;\t ]+", line.strip()) for text in NUMBER.findall(part)}
    values = {float(text) for text in found if text.count(".") < 2 and "," not in text}
    named = bool(RATE_WORD.search(line)) or not re.search(r"[A-Za-z]", line)
    # 1,000 may be a thousand, and so may 1.000: no device records at so few Hz with so many digits.
    kilo = re.search(r"khz", line, re.IGNORECASE)
    either = delimited.EITHER.search(line) or any(re.fullmatch(r"\d\.\d{3}", text) and not kilo for text in found)
    if NO_RATE.search(line) or either or not named or len(values) != 1 or not (rate := values.pop()) > 0:
        raise BadRecord(
            "no_rate",
            f"line {number} of the file, which rate_from names, does not hold one rate in Hz; give rate_hz instead",
        )
    return rate * (1000 if kilo else 1)
