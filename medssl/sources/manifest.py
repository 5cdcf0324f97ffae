"""List your own recordings from a table of files: ``manifest.csv`` (or ``.parquet``) in the data folder.

======== ==================================================================================================
column   meaning
======== ==================================================================================================
path     file (or folder of one DICOM series), relative to the data folder
patient  identifier of the patient, kept as text: leading zeros survive
trial    name of the recording, unique within the patient
======== ==================================================================================================

Optional: ``start_s``, ``end_s`` (part to use), ``format`` (default: from the suffix), ``fold``, ``mask`` (label map
in NIfTI, of a MetaImage also in MetaImage), ``events`` (EDF+ annotations or a table of events), ``label_<task>``
(number or class), ``label_<task>_multi`` (several classes separated by ``;``), ``anat_<measure>`` (number) and
``freesurfer`` (a subject's folder, whose tables become measures). Hints for the reader: ``rate_hz``, ``unit``,
``time_column``, ``time_unit``, ``columns`` (``I=lead1;II=lead2`` or ``I;II``), ``spacing_mm`` (``1x0.5x0.5`` or
``0.5;0.5``), ``frame`` (of 4-D NIfTI) and, for arrays, ``variable``, ``axis`` and ``index``. Empty cells are absent
values. Beside the manifest, ``mask_labels.csv`` names the organs of the masks (columns ``value``, ``name``) and
``event_labels.csv`` the classes that texts of events stand for (``text``, ``task``, ``class``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from medssl.sources import freesurfer
from medssl.sources.claims import locate, refused
from medssl.sources.record import BadRecord, Label, Record, SourceError

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("path", "patient", "trial")
HINTS = ("unit", "time_column", "time_unit", "columns", "variable", "axis", "index", "frame")
FORMATS = {
    ".hea": "wfdb", ".dat": "wfdb", ".mat": "matlab", ".edf": "edf", ".bdf": "bdf", ".vhdr": "brainvision",
    ".set": "eeglab", ".fif": "fif", ".dcm": "dicom", ".nii": "nifti", ".png": "image", ".tif": "image",
    ".tiff": "image", ".txt": "tabular", ".csv": "tabular", ".tsv": "tabular", ".parquet": "tabular", ".npy": "array",
    ".npz": "array", ".xml": "aecg", ".mhd": "metaimage", ".mha": "metaimage",
}  # fmt: skip
ABSENT = {"", "nan", "na", "n/a", "none", "null", "<na>"}


def list_records(root: Path) -> list[Record]:
    """Return the recordings named in ``root/manifest.csv`` or ``root/manifest.parquet``.

    Raises:
        SourceError: no manifest, both, or one that `list_table` refuses.
    """
    root = Path(root)
    tables = [root / name for name in ("manifest.csv", "manifest.parquet") if (root / name).is_file()]
    if not tables:
        raise SourceError(
            f"{root}: no manifest.csv or manifest.parquet; write one with the columns {', '.join(REQUIRED)}"
        )
    if len(tables) == 2:
        raise SourceError(f"{root}: holds manifest.csv and manifest.parquet; keep one of them")
    return list_table(tables[0], root)


def list_table(table: Path, root: Path | None = None) -> list[Record]:
    """Return the recordings named in ``table``, sorted by patient, trial and path.

    A row that names an absent file, or one outside ``root`` (the folder of the table by default), still gives a
    record; reading it is refused with the reason.

    Raises:
        SourceError: the table is absent or unreadable, or lacks a required column.
    """
    table = Path(table)
    root = Path(root) if root is not None else table.parent
    rows = read_text_table(table, REQUIRED, fix="add it to the header line")
    numeric = {name for name in rows.columns if name.startswith("label_") and _all_numbers(rows[name])}
    organs, classes = _mask_labels(root / "mask_labels.csv"), event_labels(root)
    records = [
        _record(row, number, root, numeric, organs, classes) for number, row in enumerate(as_dicts(rows), start=1)
    ]
    records.sort(key=order)
    return records


def order(record: Record) -> tuple[str, str, str, float]:
    """Return the key that every listing is sorted by."""
    return record.patient, record.trial, str(record.path), record.start_s or 0.0


def read_text_table(
    path: Path, columns: tuple[str, ...], *, fix: str, header: int | None = 0, excel: bool = False
) -> pd.DataFrame:
    """Return a table as text, empty string for what is absent, or refuse it in one line.

    Args:
        path: CSV, or Parquet by its suffix.
        columns: names that must be there; the names themselves where ``header`` is None.
        fix: what the user can do about a missing file or column.
        header: line of the names.
        excel: read the first sheet of a workbook.

    Raises:
        SourceError: the file is absent, unreadable, or lacks one of ``columns``.
    """
    import pandas as pd

    if not path.is_file():
        raise SourceError(f"{path}: no such table; {fix}")
    try:
        if path.suffix == ".parquet":
            raw = pd.read_parquet(path)
            rows = raw.astype(object).where(raw.notna(), "").map(str)
        elif excel:
            rows = pd.read_excel(path, header=header, dtype=str, keep_default_na=False)
        else:
            # Text throughout: a patient "007" must not become 7, nor a patient "NA" a missing value.
            names = list(columns) if header is None else None
            rows = pd.read_csv(path, dtype=str, keep_default_na=False, header=header, names=names, encoding="utf-8-sig")
    except ImportError:
        raise
    except Exception as error:  # pandas' parser, pyarrow and openpyxl share no base class
        raise SourceError(f"{path}: not a readable table ({type(error).__name__}); save it again as CSV") from None
    rows.columns = [str(name).strip() for name in rows.columns]
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise SourceError(f"{path}: column '{missing[0]}' is missing; {fix}")
    return rows.fillna("")


def as_dicts(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of a text table, each by column name and without surrounding blanks."""
    return [{str(name): str(text).strip() for name, text in row.items()} for row in rows.to_dict("records")]


def number(text: str) -> float | None:
    """Return a finite number, or None for an empty cell or a word."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _all_numbers(column: pd.Series) -> bool:
    values = [text for text in column.map(str.strip) if text.lower() not in ABSENT]
    return bool(values) and all(number(text) is not None for text in values)


def _mask_labels(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    rows = read_text_table(path, ("value", "name"), fix="mask_labels.csv needs the columns value, name")
    try:
        return {int(value): name.strip() for value, name in zip(rows["value"], rows["name"], strict=True)}
    except ValueError:
        raise SourceError(f"{path}: column 'value' must hold whole numbers, as in the masks") from None


def event_labels(root: Path) -> dict[str, tuple[str, str]]:
    """Return text -> task and class from ``root/event_labels.csv`` (``text,task,class``); empty without that table.

    Raises:
        SourceError: the table lacks a column, or a text stands for two classes or none.
    """
    path = root / "event_labels.csv"
    if not path.is_file():
        return {}
    rows = as_dicts(read_text_table(path, ("text", "task", "class"), fix="event_labels.csv needs text, task, class"))
    known = {row["text"]: (row["task"], row["class"]) for row in rows}
    if len(known) < len(rows) or not all(task and name for task, name in known.values()):
        raise SourceError(f"{path}: a text is there twice, or lacks its task or class; a text stands for one class")
    return known


def _record(
    row: Mapping[str, str],
    position: int,
    root: Path,
    numeric: set[str],
    organs: Mapping[int, str],
    classes: Mapping[str, tuple[str, str]],
) -> Record:
    """Return the record of one row; what is wrong with the row becomes its refusal."""
    path, hints = locate(root, row["path"])
    beside: dict[str, Path] = {}
    for name in ("mask", "events"):
        if row.get(name, "").lower() not in ABSENT:
            beside[name], more = locate(root, row[name])
            hints = hints or more
    if "events" in beside and not classes:
        hints = hints or refused("bad_events", "event_labels.csv is absent: write one with the columns text,task,class")
    numbers: dict[str, float | None] = {}
    for name in ("start_s", "end_s", "fold", "rate_hz"):
        text = row.get(name, "")
        numbers[name] = None if text.lower() in ABSENT else number(text)
        if text.lower() not in ABSENT and numbers[name] is None:
            hints = hints or refused("unreadable", f"the manifest's {name} is not a number")
    if not row["patient"] or not row["trial"]:
        hints = hints or refused("no_identity", "the manifest row has no patient or no trial")
    if not row["path"]:
        hints = hints or refused("missing_file", "the manifest row has no path")
    hints = {**hints, **{name: row[name] for name in HINTS if row.get(name)}}
    if numbers["rate_hz"] is not None:
        hints["rate_hz"] = numbers["rate_hz"]
    if row.get("spacing_mm", "").lower() not in ABSENT:
        spacing = [number(text) for text in re.split(r"[x;\s]+", row["spacing_mm"].lower())]
        if len(spacing) > 3 or any(value is None or value <= 0 for value in spacing):
            hints = {**refused("unreadable", "the manifest's spacing_mm is not one to three positive numbers"), **hints}
        hints["spacing_mm"] = tuple(spacing)
    anatomy = {
        name.removeprefix("anat_"): value
        for name, text in row.items()
        if name.startswith("anat_") and (value := number(text)) is not None
    }
    if row.get("freesurfer", "").lower() not in ABSENT:
        folder, folder_hints = locate(root, row["freesurfer"])
        hints = {**folder_hints, **hints}
        try:
            anatomy = {**({} if folder_hints else freesurfer.measures(folder)), **anatomy}
        except BadRecord as bad:
            hints = {**refused(bad.reason, bad.detail), **hints}
    return Record(
        path=path,
        format=row.get("format") or ("unknown" if "refused" in hints else format_of(path)),
        patient=row["patient"],
        trial=row["trial"],
        source="manifest",
        labels=_labels(row, numeric),
        anatomy=anatomy,
        fold=None if numbers["fold"] is None else int(numbers["fold"]),
        mask=beside.get("mask"),
        mask_labels=organs if "mask" in beside else {},
        events=beside.get("events"),
        event_labels=classes if "events" in beside else {},
        hints=hints,
        start_s=numbers["start_s"],
        end_s=numbers["end_s"],
        row=position,
    )


def _labels(row: Mapping[str, str], numeric: set[str]) -> dict[str, Label]:
    labels: dict[str, Label] = {}
    for column, text in row.items():
        if not column.startswith("label_") or text.lower() in ABSENT:
            continue
        name = column.removeprefix("label_")
        if name.endswith("_multi"):
            labels[name.removesuffix("_multi")] = tuple(part.strip() for part in text.split(";") if part.strip())
        else:
            labels[name] = float(text) if column in numeric else text
    return labels


def format_of(path: Path) -> str:
    """Return the format by suffix; a folder is a DICOM series, a bare name beside a ``.hea`` is WFDB."""
    try:
        if path.is_dir():
            return "dicom"
    except OSError:  # a name too long, a folder without permission: reading it will be refused
        return "unknown"
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
    # A .mat file beside a header of its name, or a bare name, is WFDB.
    if (suffix == ".mat" and path.with_suffix(".hea").is_file()) or (
        suffix not in FORMATS and path.with_name(path.name + ".hea").is_file()
    ):
        return "wfdb"
    return FORMATS.get(suffix, "unknown")
