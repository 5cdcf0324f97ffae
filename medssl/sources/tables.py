"""Tables beside the recordings, such as manifests and what a public set comes with, as text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medssl.sources import delimited
from medssl.sources.record import SourceError

if TYPE_CHECKING:
    import pandas as pd

# How files begin that are no text, and what to do.
PACKED = {
    b"\x1f\x8b": "the table is packed (gzip); unpack it",
    b"PK": "the table is a workbook or packed (zip); save its sheet as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "the table is a workbook; save its sheet as CSV in UTF-8",
    b"PAR1": "the table is Parquet; name it .parquet",
}
PREFIXES = ("label_", "anat_")  # of columns that a table may name as it likes


def read_text_table(
    path: Path,
    columns: tuple[str, ...],
    *,
    fix: str,
    header: int | None = 0,
    excel: bool = False,
    optional: tuple[str, ...] = (),
) -> pd.DataFrame:
    """Return a table as text, empty string for what is absent, or refuse it in one line.

    Args:
        path: delimited text, or Parquet by its suffix.
        columns: names that must be there, in any case; the names themselves where ``header`` is None.
        fix: what the user can do about a missing file or column.
        header: line of the names, for a workbook; None: there are none.
        excel: read the first sheet of a workbook.
        optional: more names that are found in any case.

    Raises:
        SourceError: the file is absent, unreadable, lacks one of ``columns``, or has lines that do not fit its header.
    """
    import pandas as pd

    if not path.is_file():
        raise SourceError(f"{path}: no such table; {fix}")
    try:
        if path.suffix == ".parquet":
            rows = pd.read_parquet(path)
        elif excel:
            rows = pd.read_excel(path, header=header, dtype=str, keep_default_na=False)
        else:
            with path.open("rb") as file:
                head = file.read(4)
            for mark, unpack in PACKED.items():
                if head.startswith(mark):
                    raise delimited.TableError(unpack)
            # Text throughout: a patient "007" must not become 7, nor a patient "NA" a missing value.
            lines = delimited.lines_of(delimited.decode(path))
            before = "if lines stand before the table, delete the first {lines}"
            rows = delimited.frame(lines, fix=before, names=() if header == 0 else columns)
    except ImportError:
        raise
    except delimited.TableError as error:
        raise SourceError(f"{path}: {error}") from None
    except Exception as error:  # pyarrow and openpyxl share no base class
        raise SourceError(f"{path}: not a readable table ({type(error).__name__}); save it again as CSV") from None
    # A name for each, so that the place of a column is its number in the file.
    rows.columns = [str(name).strip() or f"unnamed {i}" for i, name in enumerate(rows.columns, start=1)]
    wanted = (*columns, *optional)
    unspelt = {*wanted} - {*rows.columns}
    spelt = {name: name.lower() for name in rows.columns if name.lower() in unspelt}
    spelt |= {n: p + n[len(p) :] for n in rows.columns for p in PREFIXES if optional and n.lower().startswith(p)}
    rows = rows.rename(columns=spelt)
    if not rows.columns.is_unique:
        twice = rows.columns[rows.columns.duplicated()][0]
        first, second = [i for i, name in enumerate(rows.columns, start=1) if name == twice][:2]
        named = f"two columns are named '{twice}' ({first} and {second})"
        # Any other name may be one of a person, where the line of names is missing.
        named = named if twice in wanted else f"columns {first} and {second} have one name"
        raise SourceError(f"{path}: {named}; keep one of them")
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        names = ", ".join(columns)
        detail = f"column '{missing[0]}' is missing; {fix} (needed: {names}; separated by , ; or tabs)"
        raise SourceError(f"{path}: {detail}")
    if path.suffix == ".parquet":
        for number, name in enumerate(rows.columns, start=1):
            try:
                rows[name] = _as_text(rows[name], several=name.startswith("label_") and name.endswith("_multi"))
            except delimited.TableError as error:
                if name in wanted or name.startswith(PREFIXES):
                    raise SourceError(f"{path}: column {number} {error}") from None
                rows[name] = rows[name].map(str)
    return rows.fillna("")


def _as_text(column: pd.Series, *, several: bool = False) -> pd.Series:
    """Return a column of Parquet as CSV writes it: whole numbers without a point, empty where there is none.

    Lists are classes, which CSV separates by ``;``, where there may be ``several``. What else is no text and no number
    is refused (`TableError`).
    """
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all() and column.abs().max() < 2**53:
        column = column.astype("Int64")

    def text(value: object) -> str:
        if isinstance(value, bytes):
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise delimited.TableError("holds bytes that are not UTF-8; store it as text") from None
        if isinstance(value, np.ndarray | list | tuple):
            if not several:
                raise delimited.TableError(
                    "holds lists; store text or numbers, or classes in a column named label_<task>_multi"
                )
            parts = [text(part) for part in np.asarray(value, dtype=object).tolist() if part is not None]
            if any(";" in part for part in parts):
                raise delimited.TableError("holds a class with a semicolon, which separates classes; rename it")
            return ";".join(parts) or ";"  # an empty list says that there is none of the classes
        if isinstance(value, dict):
            raise delimited.TableError("holds records of several fields; store text or numbers")
        return f"{value:.0f}" if several and isinstance(value, float) and value.is_integer() else str(value)

    return column.astype(object).where(column.notna(), "").map(text)


def as_dicts(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of a text table, each by column name and without surrounding blanks."""
    return [{str(name): str(text).strip() for name, text in row.items()} for row in rows.to_dict("records")]


def unused(cells: Mapping[str, Sequence[str]], known: Sequence[str]) -> list[str]:
    """Return a line about the columns that are neither known nor empty; by number, since a name may be a person's.

    Args:
        cells: texts by name of the column, as `read_text_table` orders and names them.
        known: names, besides those that begin with one of `PREFIXES`.
    """
    names = {
        i: name
        for i, (name, texts) in enumerate(cells.items(), start=1)
        if name not in known and not name.startswith(PREFIXES) and any(texts)
    }
    if not names:
        return []
    asked = []
    for i, name in names.items():
        plain = re.sub(r"[\W_]+", "_", name.lower())
        prefix = next((prefix for prefix in PREFIXES if plain.startswith(prefix)), "")
        near = [f"{prefix}<name>"] if prefix else difflib.get_close_matches(plain, known, n=1, cutoff=0.8)
        asked += [f"{i} may be meant as {known_name}" for known_name in near]
    listed = ("columns " if len(names) > 1 else "column ") + ", ".join(map(str, names))
    meant = f" ({'; '.join(asked)})" if asked else ""
    return [f"not used, as the name is not known: {listed} of the table{meant}"]
