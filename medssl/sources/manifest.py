"""List your own recordings from a table of files: ``manifest.csv`` (or ``.parquet``) in the data folder.

Columns: ``path`` (file, or folder of one DICOM series, relative to the data folder), ``patient`` (identifier, kept as
text: leading zeros survive) and ``trial`` (name of the recording, unique within the patient).

Optional: ``start_s``, ``end_s`` (part to use), ``format`` (default: from the suffix), ``fold``, ``mask`` (label map
in NIfTI, of a MetaImage also in MetaImage), ``events`` (EDF+ annotations or a table of events), ``label_<task>``
(number or class), ``label_<task>_multi`` (several classes separated by ``;``), ``anat_<measure>`` (number) and
``freesurfer`` (a subject's folder, whose tables become measures). Hints for the reader: ``rate_hz``, ``rate_from``,
``skip_lines``, ``unit``, ``time_column``, ``time_unit``, ``columns`` (``I=lead1;II=lead2`` or ``I;II``),
``spacing_mm`` (``1x0.5x0.5`` or ``0.5;0.5``), ``frame`` (of 4-D NIfTI) and, for arrays, ``variable``, ``axis`` and
``index``. Empty cells are absent values; case does not matter in the names of columns and formats. Beside the manifest,
``mask_labels.csv`` names the organs of the masks (columns ``value``, ``name``), ``event_labels.csv`` the classes that
texts of events stand for (``text``, ``task``, ``class``), and ``label_kinds.csv`` says what labels are (`labels`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medssl.sources import delimited, freesurfer, identifiers, labels
from medssl.sources.claims import locate
from medssl.sources.labels import ABSENT, number
from medssl.sources.record import BadRecord, Record, SourceError, likenesses
from medssl.sources.tables import as_dicts, read_text_table, unused

REQUIRED = ("path", "patient", "trial")
HINTS = ("unit", "time_column", "time_unit", "columns", "variable", "axis", "index", "frame", "skip_lines", "rate_from")
NUMBERS = ("start_s", "end_s", "fold", "rate_hz")
# What people write where they do not know the patient; NA may be somebody's initials.
NOBODY = ABSENT | {"-", "--", "?", "unknown", "unk", "anonymous", "anonym", "unbekannt", "inconnu", "#nv", "x", "xxx"}
ENOUGH = 8  # groups of patients that a line lists
COLUMNS = (*REQUIRED, *NUMBERS, *HINTS, "format", "mask", "events", "freesurfer", "spacing_mm")
FORMATS = {
    ".hea": "wfdb", ".dat": "wfdb", ".mat": "matlab", ".edf": "edf", ".bdf": "bdf", ".vhdr": "brainvision",
    ".set": "eeglab", ".fif": "fif", ".dcm": "dicom", ".nii": "nifti", ".hdr": "nifti", ".img": "nifti",
    ".png": "image", ".jpg": "image", ".jpeg": "image", ".bmp": "image", ".tif": "image", ".tiff": "image",
    ".txt": "tabular", ".csv": "tabular", ".tsv": "tabular", ".parquet": "tabular", ".npy": "array", ".npz": "array",
    ".xml": "aecg", ".mhd": "metaimage", ".mha": "metaimage",
}  # fmt: skip
# A table that is not called, or not saved, as it must be.
ALMOST = re.compile(r"(?i)manifest\.(csv|tsv|txt|xlsx?|ods|parquet)(\.\w+)?")


@dataclass(frozen=True)
class Listing:
    """What a table of files holds: sorted records and labels as they are understood.

    ``slips`` are cells that are wrong, ``notes`` what people should know besides, each a line.
    """

    records: list[Record]
    labels: list[labels.Column]
    slips: list[str]
    notes: list[str]


def list_records(root: Path) -> list[Record]:
    """Return the recordings named in the manifest of a folder; errors as `table_in` and `listing`."""
    return list_table(table_in(root), root)


def in_folder(root: Path) -> bool:
    """Say whether a folder holds a manifest, or a file that is almost named so."""
    return root.is_dir() and any(ALMOST.fullmatch(path.name) for path in root.iterdir())


def table_in(root: Path) -> Path:
    """Return ``manifest.csv`` or ``manifest.parquet`` of a folder; neither and both are refused (`SourceError`)."""
    tables = [root / name for name in ("manifest.csv", "manifest.parquet") if (root / name).is_file()]
    if not tables:
        near = [name for name in (path.name for path in root.glob("*")) if ALMOST.fullmatch(name)]
        fix = f"write one with the columns {', '.join(REQUIRED)}"
        if near:
            fix = f"save {min(near)} as CSV in UTF-8, not packed, and name it manifest.csv"
        raise SourceError(f"{root}: no manifest.csv or manifest.parquet; {fix}")
    if len(tables) == 2:
        raise SourceError(f"{root}: holds manifest.csv and manifest.parquet; keep one of them")
    return tables[0]


def tasks_in(root: Path) -> list[str]:
    """Return the labels that the manifest of a folder and its events may give; errors as `listing`."""
    rows = read_text_table(table_in(root), REQUIRED, fix="add it to the header line", optional=COLUMNS)
    said = label_kinds(root / "label_kinds.csv")
    names = [str(name) for name in rows.columns if str(name).startswith("label_")]
    events = {task for task, _ in event_labels(root).values()}
    return sorted({labels.column(name, (), said).task for name in names} | events)


def list_table(table: Path, root: Path | None = None) -> list[Record]:
    """Return the records of the `listing` of a table."""
    return listing(table, root).records


def listing(table: Path, root: Path | None = None) -> Listing:
    """Return the recordings named in ``table``, sorted by patient, trial and path, and what its labels are.

    A row that names an absent file, or one outside ``root`` (the folder of the table by default), still gives a
    record; reading it is refused with the reason. A label that a row holds wrongly is absent there.

    Raises:
        SourceError: the table is absent or unreadable, or lacks a required column.
    """
    root = root or table.parent
    rows = read_text_table(table, REQUIRED, fix="add it to the header line", optional=COLUMNS)
    said = label_kinds(root / "label_kinds.csv")
    cells = {str(name): [text.strip() for text in rows[name]] for name in rows.columns}
    known = [labels.column(name, texts, said) for name, texts in cells.items() if name.startswith("label_")]
    unknown = said.keys() - {column.task for column in known}
    if unknown:
        at = min(_kinds(root / "label_kinds.csv")[task][0] for task in unknown)
        raise SourceError(f"{root / 'label_kinds.csv'}: {table.name} has no label of the name in row {at}; correct it")
    places: dict[str, int] = {}
    for i, column in zip((i for i, name in enumerate(cells, start=1) if name.startswith("label_")), known, strict=True):
        if (first := places.setdefault(column.task, i)) != i:
            raise SourceError(f"{table}: columns {first} and {i} are one label; keep one, or name them apart")
    anatomy = {name.removeprefix("anat_"): texts for name, texts in cells.items() if name.startswith("anat_")}
    measures = [labels.column(f"label_{name}", texts, {name: "number"}) for name, texts in anatomy.items()]
    for name in NUMBERS:
        # By the cells that are numbers: one slip must not make slips of all.
        if delimited.decimal_comma([text for text in cells.get(name, ()) if delimited.DECIMAL.fullmatch(text)]):
            cells[name] = [text.replace(",", ".") for text in cells[name]]
    organs, classes = _mask_labels(root / "mask_labels.csv"), event_labels(root)
    records = []
    for position in range(len(rows)):
        row = {name: texts[position] for name, texts in cells.items()}
        if any(row.values()):  # spreadsheets leave rows of separators
            own = {c.task: value for c in known if (value := c.values[position]) is not None}
            sizes = {c.task: float(value) for c in measures if isinstance(value := c.values[position], float)}
            records.append(_record(row, position + 1, root, own, sizes, organs, classes))
    records.sort(key=order)
    slips = [column.problem for column in (*known, *measures) if column.problem]
    notes = [*remarks(records), *(column.note for column in known if column.note), *unused(cells, COLUMNS)]
    if table.suffix != ".parquet" and delimited.encoding_of(table.read_bytes()) == "cp1252":
        notes.append("the table is not in UTF-8 and is read as Windows-1252; if accents are wrong, save it as UTF-8")
    return Listing(records, known, slips, notes)


def remarks(records: Sequence[Record]) -> list[str]:
    """Return what may be wrong with the patients of a list, each a line: identifiers that differ in form alone.

    They are named by their rows in the user's table, or by their entries in the list where there is none.
    """
    # A row without a patient is refused, which says what is wrong with it.
    named = [(record.patient, record.row or entry) for entry, record in enumerate(records, start=1) if record.patient]
    first: dict[str, int] = {}
    for patient, place in named:
        first.setdefault(patient, place)
    forms: dict[str, list[int]] = {}
    for patient, place in first.items():
        for likeness in likenesses(patient) - {""}:
            forms.setdefault(likeness, []).append(place)
    said = "row" if any(record.row is not None for record in records) else "entry"
    several = list(dict.fromkeys(tuple(sorted(places)) for places in forms.values() if len(places) > 1))
    out = []
    if several:
        shown = "; ".join(" and ".join(map(str, places)) for places in several[:ENOUGH])
        more = f" and {len(several) - ENOUGH} more" if len(several) > ENOUGH else ""
        out.append(
            f"{len(several)} patients may be written in several forms, which differ in case, leading zeros, blanks, "
            f"punctuation or letters that look alike and count as several persons: {said} {shown}{more}"
        )
    nobody = [place for patient, place in named if patient.lower() in NOBODY]
    if len(nobody) > 1:
        out.append(
            f"{len(nobody)} records have a word for an unknown patient, and those of one word count as one person: "
            f"{said} {', '.join(map(str, nobody[:ENOUGH]))}{' and more' if len(nobody) > ENOUGH else ''}"
        )
    if len(first) == 1 and len(named) >= ENOUGH:
        out.append(f"all {len(named)} records are of one patient; is the column patient as it should be?")
    rounded = sum(bool(re.fullmatch(r"\d([.,]\d+)?e\+?\d+", patient.lower())) for patient, _ in named)
    if rounded:
        out.append(f"{rounded} patients are numbers rounded by a spreadsheet (1.2E+11); format the column as text")
    return out


def order(record: Record) -> tuple[str, str, str, float]:
    """Return the key that every listing is sorted by."""
    return record.patient, record.trial, str(record.path), record.start_s or 0.0


def _plain(text: str) -> str:
    return text if (value := number(text)) is None else str(value)  # 1 and 1.0 are one


def _mask_labels(path: Path) -> dict[int, str]:
    out = {}
    for text, (row, cells) in _beside(path, ("value", "name"), _plain).items():
        value = number(text)
        if value is None or not value.is_integer() or not cells["name"]:
            raise SourceError(f"{path}: row {row} must hold a whole number, as in the masks, and a name")
        out[int(value)] = cells["name"]
    return out


def _beside(
    path: Path, columns: tuple[str, ...], key: Callable[[str], str] = str
) -> dict[str, tuple[int, dict[str, str]]]:
    """Return row and cells of a table beside the manifest by ``key`` of its first column; empty without the table.

    Raises:
        SourceError: it cannot be read, or two of its rows have one key.
    """
    found: dict[str, tuple[int, dict[str, str]]] = {}
    if not path.is_file():
        return found
    rows = as_dicts(read_text_table(path, columns, fix=f"{path.name} needs the columns {', '.join(columns)}"))
    for row, cells in enumerate(rows, start=1):
        if not any(cells.values()):
            continue
        name = key(cells[columns[0]])
        if name in found:
            raise SourceError(f"{path}: one {columns[0]} is there twice, in rows {found[name][0]} and {row}; keep one")
        found[name] = row, cells
    return found


def label_kinds(path: Path) -> dict[str, str]:
    """Return task -> kind from ``label_kinds.csv``; empty without that table."""
    found = _kinds(path)
    said = {task: cells["kind"].lower() for task, (_, cells) in found.items()}
    for task, (row, _) in found.items():
        if said[task] not in labels.KINDS:
            raise SourceError(f"{path}: the kind in row {row} is none of {', '.join(labels.KINDS)}")
    return said


def _kinds(path: Path) -> dict[str, tuple[int, dict[str, str]]]:
    return _beside(path, ("label", "kind"), lambda text: text.removeprefix("label_"))


def event_labels(root: Path) -> dict[str, tuple[str, str]]:
    """Return text -> task and class from ``root/event_labels.csv`` (``text,task,class``); empty without that table.

    Raises:
        SourceError: the table lacks a column, or a text stands for two classes or none.
    """
    path = root / "event_labels.csv"
    found = _beside(path, ("text", "task", "class"))
    known = {text: (cells["task"].removeprefix("label_"), cells["class"]) for text, (_, cells) in found.items()}
    for text, (row, _) in found.items():
        if not all((text, *known[text])):
            raise SourceError(f"{path}: row {row} lacks its text, task or class; a text stands for one class")
    return known


def _record(
    row: Mapping[str, str],
    position: int,
    root: Path,
    own: Mapping[str, labels.Label],
    anatomy: dict[str, float],
    organs: Mapping[int, str],
    classes: Mapping[str, tuple[str, str]],
) -> Record:
    """Return the record of one row; what is wrong with the row becomes its refusal."""
    path, hints = locate(root, row["path"])
    told = {name: text for name, text in row.items() if text.lower() not in ABSENT}

    def refuse(reason: str, detail: str) -> None:
        hints.setdefault("refused", (reason, detail))  # the first fault is told

    beside: dict[str, Path] = {}
    for name in ("mask", "events"):
        if name in told:
            beside[name], more = locate(root, told[name])
            hints = more | hints
    if "events" in beside and not classes:
        refuse("bad_events", "event_labels.csv is absent: write one with the columns text,task,class")
    numbers = {name: number(told.get(name, "")) for name in NUMBERS}
    for name in NUMBERS:
        if name in told and numbers[name] is None:
            refuse("unreadable", f"the manifest's {name} is not a number; write digits alone")
    if not float(numbers["fold"] or 0).is_integer():
        refuse("unreadable", "the manifest's fold is not a whole number")
    rate_hz = numbers["rate_hz"]
    if rate_hz is not None and (rate_hz <= 0 or re.fullmatch(r"1?[1-9]\.\d{3}", told["rate_hz"])):
        refuse("no_rate", "rate_hz is not above 0, or as 1.000 may be a thousand; write 1000 or 1")
    if not row["patient"] or not row["trial"]:
        refuse("no_identity", "the manifest row has no patient or no trial")
    if not row["path"]:
        refuse("missing_file", "the manifest row has no path")
    hints |= {name: told[name] for name in HINTS if name in told}
    if rate_hz is not None:
        hints["rate_hz"] = rate_hz
    if "spacing_mm" in told:
        spacing = [number(text) for text in re.split(r"[x;\s]+", told["spacing_mm"].lower())]
        if len(spacing) > 3 or any(value is None or value <= 0 for value in spacing):
            refuse("unreadable", "the manifest's spacing_mm is not one to three positive numbers")
        hints["spacing_mm"] = tuple(spacing)
    if "freesurfer" in told:
        folder, more = locate(root, told["freesurfer"])
        hints = more | hints
        try:
            anatomy = anatomy if more else freesurfer.measures(folder) | anatomy
        except BadRecord as bad:
            refuse(bad.reason, bad.detail)
    # A format by its name or a suffix, in any case.
    named = told.get("format", "").lower()
    named = FORMATS.get("." + named.removeprefix(".").removesuffix(".gz"), named)
    return Record(
        path, named or ("unknown" if "refused" in hints else format_of(path)), row["patient"], row["trial"], "manifest",
        labels=own, anatomy=anatomy, fold=None if numbers["fold"] is None else int(numbers["fold"]),
        mask=beside.get("mask"), mask_labels=organs if "mask" in beside else {},
        events=beside.get("events"), event_labels=classes if "events" in beside else {},
        hints=hints, start_s=numbers["start_s"], end_s=numbers["end_s"], row=position,
    )  # fmt: skip


def format_of(path: Path) -> str:
    """Return the format by suffix, in any case; a folder is a DICOM series, a bare name beside a ``.hea`` is WFDB.

    A file without a suffix, or of one that says nothing, is DICOM where its content is, as exports of scanners are.
    """
    try:
        if path.is_dir():
            return "dicom"
        suffix = Path(path.name.lower().removesuffix(".gz")).suffix
        # A .mat file beside a header of its name, or a bare name, is WFDB.
        header = path.with_suffix(".hea") if suffix == ".mat" else path.with_name(path.name + ".hea")
        if (suffix == ".mat" or suffix not in FORMATS) and header.is_file():
            return "wfdb"
        if suffix not in FORMATS and identifiers.is_dicom(path):
            return "dicom"
    except OSError:  # a name too long, a folder without permission: reading it will be refused
        return "unknown"
    return FORMATS.get(suffix, "unknown")
