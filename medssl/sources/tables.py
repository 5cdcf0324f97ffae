"""Tables beside the recordings, such as manifests and what a public set comes with, as text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medssl.sources import delimited
from medssl.sources.record import SourceError

if TYPE_CHECKING:
    import pandas as pd

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
        SourceError: the file is absent, unreadable, lacks one of ``columns``, or has lines of other lengths than its
            header.
    """
    import pandas as pd

    if not path.is_file():
        raise SourceError(f"{path}: no such table; {fix}")
    try:
        if path.suffix == ".parquet":
            raw = pd.read_parquet(path)
            rows = raw.apply(_as_text)
        elif excel:
            rows = pd.read_excel(path, header=header, dtype=str, keep_default_na=False)
        else:
            # Text throughout: a patient "007" must not become 7, nor a patient "NA" a missing value.
            lines = delimited.lines_of(delimited.decode(path))
            rows = delimited.frame(
                lines,
                fix="if lines stand before the table, delete the first {lines}",
                names=() if header == 0 else columns,
            )
    except ImportError:
        raise
    except delimited.TableError as error:
        raise SourceError(f"{path}: {error}") from None
    except Exception as error:  # pyarrow and openpyxl share no base class
        raise SourceError(f"{path}: not a readable table ({type(error).__name__}); save it again as CSV") from None
    rows.columns = [str(name).strip() for name in rows.columns]
    wanted = (*columns, *optional)
    unspelt = {*wanted} - {*rows.columns}
    spelt = {name: name.lower() for name in rows.columns if name.lower() in unspelt}
    spelt |= {n: p + n[len(p) :] for n in rows.columns for p in PREFIXES if optional and n.lower().startswith(p)}
    rows = rows.rename(columns=spelt)
    if not rows.columns.is_unique:
        twice = rows.columns[rows.columns.duplicated()][0]
        if twice:
            raise SourceError(f"{path}: two columns are named '{twice}'; keep one of them")
        rows = rows.loc[:, rows.columns != ""]
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        names = ", ".join(columns)
        raise SourceError(
            f"{path}: column '{missing[0]}' is missing; {fix} (needed: {names}; separated by , ; or tabs)"
        )
    return rows.fillna("")


def _as_text(column: pd.Series) -> pd.Series:
    """Return a column of Parquet as CSV writes it: whole numbers without a point, empty where there is none."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all() and column.abs().max() < 2**53:
        column = column.astype("Int64")
    return column.astype(object).where(column.notna(), "").map(str)


def as_dicts(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of a text table, each by column name and without surrounding blanks."""
    return [{str(name): str(text).strip() for name, text in row.items()} for row in rows.to_dict("records")]
