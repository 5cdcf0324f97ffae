"""Time columns of tables: numbers, times of day or dates, brought to an even grid."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from medssl.sources import delimited
from medssl.sources.record import BadRecord

if TYPE_CHECKING:
    import pandas as pd

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0, "days": 86_400.0}
MAX_GAP_S = 1.0
# A time column may claim any duration. Beyond this many even steps per row it is a mistake, not a gap.
MAX_STEPS_PER_ROW = 100
SAME_TIME = 0.01  # share of rows that may have the time of the row before


def seconds(column: pd.Series, unit: str) -> np.ndarray:
    """Return a time column in seconds: numbers in ``unit``, times of day, or dates with times (from the first on)."""
    import pandas as pd

    if unit not in SECONDS:
        raise BadRecord("unsupported", f"the time unit is unknown; allowed: {', '.join(SECONDS)}")
    with suppress(delimited.TableError):
        numbers = np.asarray(delimited.numbers(column).to_numpy())
        if numbers.size and ((numbers > 19e12) & (numbers < 21e12)).all():  # 20200131120058
            fix = "write them as 2020-01-31 12:00:58"
            raise BadRecord("unreadable", f"the time column holds dates without signs; {fix}")
        return numbers * SECONDS[unit]
    text = column.astype(str).str.strip().str.replace(r"(\d),(\d+)$", r"\1.\2", regex=True)
    try:
        if text.str.fullmatch(r"\d{1,3}(:\d{1,2}){1,2}(\.\d+)?").all():
            short = text.str.count(":").eq(1)  # minutes and seconds, unless they begin at an hour of the day
            unsure = short.all() and not text.str.contains(".", regex=False).any()
            if unsure and not text.iloc[0].startswith(("0:", "00:")):
                raise BadRecord("unreadable", "times such as 12:30 may be hours or minutes; write 12:30:00 or 0:12:30")
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


def even(times_s: np.ndarray, values: np.ndarray, rate_hz: float) -> np.ndarray:
    """Interpolate ``(C, T)`` values at uneven ``times_s`` on an even grid; NaN inside gaps above 1 s."""
    if not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
        raise BadRecord("unreadable", "the time column is not a rising list of numbers")
    if (np.diff(times_s) == 0).mean() > SAME_TIME:
        fix = "give times with fractions of a second, or rate_hz alone"
        raise BadRecord("unreadable", f"many rows have the time of the row before; {fix}")
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
        if len(at) > 1:
            after = np.searchsorted(at, grid_s).clip(1, len(at) - 1)
            strictly_between = (grid_s > at[after - 1] + 1e-9) & (grid_s < at[after] - 1e-9)
            row[strictly_between & (at[after] - at[after - 1] > MAX_GAP_S)] = np.nan
    return out
