"""Measures of a brain from the tables that FreeSurfer and FastSurfer leave: ``aseg.stats`` and ``?h.aparc.stats``.

Columns are found by the names in the table's own header. Comments, which name the subject, the user and the machine,
are not read beyond that and the intracranial volume.
"""

from __future__ import annotations

import re
from pathlib import Path

from medssl.sources.claims import require_file
from medssl.sources.record import BadRecord, inside

MAX_BYTES = 1_000_000
# Column of the cortical table -> suffix of the measure, which is its unit.
CORTEX = {"SurfArea": "area_mm2", "GrayVol": "mm3", "ThickAvg": "mm"}
# Name of a table -> how its measures begin, and the columns read.
TABLES = {
    "aseg.stats": ("", {"Volume_mm3": "mm3"}), "lh.aparc.stats": ("lh_", CORTEX), "rh.aparc.stats": ("rh_", CORTEX),
}  # fmt: skip
INTRACRANIAL = re.compile(r"# Measure EstimatedTotalIntraCranialVol, eTIV,[^,]*, ([\d.]+), mm\^3")


def measures(folder: Path) -> dict[str, float]:
    """Return the measures of one subject.

    ``<structure>_mm3`` of each structure and ``intracranial_mm3`` from ``aseg.stats``; ``lh_<region>_mm3`` (grey
    matter), ``_area_mm2`` (surface) and ``_mm`` (mean thickness) from the tables of both sides. Names are in lower
    case. A structure that a table does not list has no measure, and is never 0; nor has one of volume 0, which was not
    found.

    Args:
        folder: the subject's folder, or its ``stats``.

    Raises:
        BadRecord: ``missing_file`` where none of the three tables is there, ``unreadable`` for a damaged one.
    """
    stats = folder / "stats" if (folder / "stats").is_dir() else folder
    found = [path for name in TABLES if (path := stats / name).is_file()]
    if not found:
        raise BadRecord("missing_file", "the FreeSurfer folder holds no aseg.stats and no lh. or rh.aparc.stats")
    out: dict[str, float] = {}
    for path in found:
        if require_file(inside(path, folder)) > MAX_BYTES:
            raise BadRecord("unreadable", "a FreeSurfer table is longer than 1 MB")
        out |= _table(path.read_text(encoding="latin-1"), *TABLES[path.name])
    return out


def _table(text: str, prefix: str, columns: dict[str, str]) -> dict[str, float]:
    names: list[str] = []
    out: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# ColHeaders"):
            names = line.split()[2:]
        if (intracranial := INTRACRANIAL.match(line)) is not None:
            out["intracranial_mm3"] = float(intracranial[1])
        if line.startswith("#") or not line.strip():
            continue
        cells = line.split()
        if len(cells) != len(names) or not {"StructName", *columns} <= set(names):
            raise BadRecord("unreadable", "a FreeSurfer table has a row that does not fit its header")
        row = dict(zip(names, cells, strict=True))
        structure = re.sub(r"[^a-z0-9]+", "_", row["StructName"].lower()).strip("_")
        for column, suffix in columns.items():
            try:
                value = float(row[column])
            except ValueError:
                raise BadRecord("unreadable", "a FreeSurfer table has a word where a number belongs") from None
            if value > 0:
                out[f"{prefix}{structure}_{suffix}"] = value
    return out
