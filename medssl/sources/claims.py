"""Checks that every reader makes before it trusts a file: location, size, part to read, library failures."""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medssl.sources.record import BadRecord, Record, inside

VOLTS = {"nV": 1e-9, "uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "mV": 1e-3, "V": 1.0}


@contextmanager
def guarded(library: str) -> Iterator[None]:
    """Turn any failure of ``library`` into `BadRecord` and silence its warnings.

    Messages of the libraries quote file names and header text, so only the name of the exception is kept.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except BadRecord:
        raise
    except Exception as error:
        detail = f"the file is damaged, or in a variant that {library} does not read; save or export it again"
        raise BadRecord("unreadable", f"{detail} ({type(error).__name__})") from None


def require_file(path: Path) -> int:
    """Return the size of ``path`` in bytes; ``missing_file`` where there is none, ``unreadable`` for an empty one."""
    if not path.is_file():
        raise BadRecord("missing_file", "the file does not exist; paths count from the folder of the table")
    size = path.stat().st_size
    if size == 0:
        raise BadRecord("unreadable", "the file is empty")
    return size


def text_of(data: bytes, encoding: str = "utf-8") -> str:
    """Return a text in ``encoding``, or in Latin-1 where it is not."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("latin-1")


def require_bytes(claimed: float, available: float) -> None:
    """Refuse a header that promises more data than the file can hold, before memory is taken for it."""
    if claimed > available:
        raise BadRecord("unreadable", "the header claims more data than the file holds; it may be cut off")


def span(record: Record, rate_hz: float, length: int) -> tuple[int, int]:
    """Return first and last-plus-one index of ``start_s`` to ``end_s`` in ``length`` samples at ``rate_hz``.

    Raises:
        BadRecord: ``no_samples`` for an empty recording, ``too_short`` if the part lies outside of it.
    """
    if length <= 0:
        raise BadRecord("no_samples", "the recording holds no samples")
    start_s, end_s = record.start_s, record.end_s
    if any(t is not None and not math.isfinite(t) for t in (start_s, end_s)):
        raise BadRecord("too_short", "start_s or end_s is not a finite number")
    start = 0 if start_s is None else round(start_s * rate_hz)
    stop = length if end_s is None else min(length, round(end_s * rate_hz))
    if start < 0 or stop <= start:
        raise BadRecord("too_short", "the part from start_s to end_s lies outside the recording")
    return start, stop


def finite(value: Any) -> float | None:
    """Return ``value`` as a finite float, or None if it is anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def positive(value: Any) -> float | None:
    """Return ``value`` as a finite positive float, or None if it is anything else."""
    number = finite(value)
    return number if number is not None and number > 0 else None


def whole(value: Any, name: str) -> int:
    """Return the hint ``name`` as a whole number, 0 or more; any other is ``unreadable``."""
    number = float(value) if str(value).strip().replace(".", "", 1).isdigit() else -1.0
    if number < 0 or not number.is_integer():
        raise BadRecord("unreadable", f"{name} is not a whole number of lines")
    return int(number)


def counted(hint: Any, count: int) -> int | None:
    """Return a hint that counts from 0 as an index below ``count``, ``1.0`` as 1; None for anything else."""
    number = finite(hint)
    return int(number) if number is not None and number.is_integer() and 0 <= number < count else None


def refused(reason: str, detail: str) -> dict[str, Any]:
    """Return the hint of a listed record that `medssl.sources.read` must refuse: one row never ends a listing."""
    return {"refused": (reason, detail)}


def locate(root: Path, relative: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return ``root / relative`` and the hints that refuse it where it leaves ``root``.

    Where no such file is there, the same name written as another system writes it is looked for: with backslashes,
    with accents as characters of their own, or in another case.
    """
    path = root / relative
    try:
        if not path.exists():
            forward = str(relative).replace("\\", "/")
            others = [root / unicodedata.normalize(form, forward) for form in ("NFC", "NFD")]
            others.append(others[0].parent / spelt(others[0].parent, others[0].name))
            path = next((other for other in others if other.exists()), path)
            if re.match(r"[A-Za-z]:[\\/]", str(relative)) and not path.exists():
                fix = "write it from the folder of the table"
                return path, refused("missing_file", f"the path begins with a drive; {fix}")
        inside(path, root)
    except BadRecord as bad:
        return path, refused(bad.reason, bad.detail)
    except (OSError, ValueError, RuntimeError) as error:  # loops of links, a NUL or too long a name
        return path, refused("unreadable", f"the path raised {type(error).__name__}")
    return path, {}


def spelt(folder: Path, name: str) -> str:
    """Return the name as the folder spells it: other systems do not tell ``R1.HEA`` from ``r1.hea``."""
    if (folder / name).exists() or not folder.is_dir():
        return name
    alike = [path.name for path in folder.iterdir() if path.name.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else name


def require_plain_name(name: str) -> None:
    """Refuse a name out of a header that leads ``outside_folder``; whether it is a link is for `inside`."""
    if re.search(r"[/\\\0]|^\w:|^\.*$", name):
        raise BadRecord("outside_folder", "the file names another file outside its own folder")
