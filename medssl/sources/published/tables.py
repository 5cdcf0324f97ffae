"""What the lists of public sets share: tables and header comments as text, labels that have a value."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medssl.sources.claims import locate
from medssl.sources.labels import number
from medssl.sources.record import Label, Record, SourceError
from medssl.sources.tables import as_dicts, read_text_table

SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
MAX_COMMENT_BYTES = 100_000


def rows_of(path: Path, columns: tuple[str, ...], fix: str) -> list[dict[str, str]]:
    """Return the rows of a table by column name; ``fix`` says what to do about an absent file or column."""
    return as_dicts(read_text_table(path, columns, fix=fix))


def tab_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a tab-separated table, cells as they are, or refuse one that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restkey="", restval=""))
    except (OSError, csv.Error) as error:
        raise SourceError(f"{path}: not a readable table ({type(error).__name__}); save it as TSV again") from None


def found(root: Path, pattern: str, fix: str) -> list[Path]:
    """Return the files of a set relative to ``root``, sorted, or refuse it without any; a Mac leaves hidden ones."""
    paths = sorted(p.relative_to(root) for p in root.glob(pattern) if not p.name.startswith("."))
    if not paths:
        raise SourceError(f"{root}: no {pattern}; {fix}")
    return paths


def listed(root: Path, fix: str) -> list[str]:
    """Return the names in PhysioNet's file RECORDS, or refuse a set without it or without names in it."""
    path = root / "RECORDS"
    try:
        names = path.read_text("utf-8").split()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: not readable ({type(error).__name__}); {fix}") from None
    if not names:
        raise SourceError(f"{path}: names no record; {fix}")
    return names


def comments(root: Path, relative: str | Path) -> str:
    """Return the comment lines of a WFDB header or the text of a note beside it; empty if it cannot be read.

    They may tell who the patient is: a caller takes from them the fields it knows, by pattern.
    """
    path, hints = locate(root, relative)
    if hints:
        return ""
    try:
        with path.open(encoding="latin-1") as file:
            lines = file.read(MAX_COMMENT_BYTES).splitlines()
    except OSError:
        return ""
    if path.suffix == ".hea":
        lines = [line.partition("#")[2] for line in lines if line.lstrip().startswith("#")]
    return "\n".join(line.strip() for line in lines)


def field(text: str, name: str) -> str:
    """Return what follows ``name:`` on a line of ``text``, or an empty string."""
    # Within one line: an empty field must not take the next one's value.
    match = re.search(
        rf"^[^\w\n]*{re.escape(name)}[^\w\n]*[:,=\t ][ \t]*(.*?)[^\w\n]*$", text, re.IGNORECASE | re.MULTILINE
    )
    return match[1] if match else ""


def age_of(text: str) -> float | None:
    """Return an age in years, or None for a word or a number that is none (-1 and 999 stand for unknown)."""
    age = number(text.strip().rstrip("+"))
    return age if age is not None and 0 < age < 130 else None


def record_of(
    root: Path, file: str | Path, format: str, patient: str, trial: str, source: str, labels: Mapping[str, Label] = {},
    *, mask: str | Path | None = None, hints: Mapping[str, Any] = {}, **more: Any,
) -> Record:  # fmt: skip
    """Return the `Record` of a ``file``, and its ``mask``, relative to ``root``; refused where one leaves ``root``."""
    path, refusal = locate(root, file)
    mask, mask_refusal = locate(root, mask) if mask is not None else (None, {})
    hints = {**hints, **mask_refusal, **refusal}
    return Record(path, format, patient, trial, source, labels, mask=mask, hints=hints, **more)


def present(**labels: Label | None) -> dict[str, Label]:
    """Return the labels that have a value."""
    return {name: value for name, value in labels.items() if value is not None}
