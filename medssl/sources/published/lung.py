"""List public sets of chest CT as volumes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from medssl.sources.claims import locate
from medssl.sources.labels import number
from medssl.sources.published.tables import found, present, record_of, rows_of
from medssl.sources.record import Record, SourceError

LUNG_LABELS = {3: "left_lung", 4: "right_lung", 5: "trachea"}
MIN_SLICES = 10


def luna16(root: Path) -> list[Record]:
    """List the CT of LUNA16 in HU, with the lungs as masks where ``seg-lungs-LUNA16/`` is there.

    Labels: ``nodules`` (of 3 mm or more, marked by at least three of four radiologists; 0 where there is none) and
    ``largest_nodule_mm``. ``fold`` is the publisher's subset. No patients are published, so each scan counts as one;
    the 888 scans are of LIDC-IDRI, where some patients have two. To keep patients apart in a split, list ``lidc``.

    Source: Setio et al. 2017, doi:10.1016/j.media.2017.06.015.
    """
    fix = "point source.root at the folder that holds annotations.csv and subset0/ to subset9/"
    sizes_mm: dict[str, list[float | None]] = {}
    for row in rows_of(root / "annotations.csv", ("seriesuid", "diameter_mm"), fix):
        sizes_mm.setdefault(row["seriesuid"], []).append(number(row["diameter_mm"]))
    records = []
    for relative in found(root, "**/subset[0-9]/*.mhd", fix):
        series, fold = relative.stem, int(relative.parent.name.removeprefix("subset"))
        nodules = sizes_mm.get(series, [])
        largest = max((mm for mm in nodules if mm is not None), default=None)
        labels = present(nodules=float(len(nodules)), largest_nodule_mm=largest)
        more: dict[str, Any] = {"fold": fold, "hints": {"unit": "HU"}}
        mask = relative.parent.parent / "seg-lungs-LUNA16" / relative.name
        if locate(root, mask)[0].is_file():
            more |= {"mask": mask, "mask_labels": LUNG_LABELS}
        records.append(record_of(root, relative, "metaimage", series, series, "luna16", labels, **more))
    return records


def lidc(root: Path) -> list[Record]:
    """List the CT of LIDC-IDRI, one record a folder of slices below ``LIDC-IDRI-0001`` and so on; no labels.

    Folders of fewer than 10 slices are left out: they hold chest X-rays of the same patients. The readers' marks
    (``.xml``) are not read.

    Source: Armato et al. 2011, doi:10.1118/1.3528204.
    """
    records = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        relative = Path(folder).relative_to(root)
        at = next((i for i, part in enumerate(relative.parts) if re.fullmatch(r"LIDC-IDRI-\d{4}", part)), None)
        slices = [name for name in names if name.lower().endswith(".dcm") and not name.startswith(".")]
        if at is None or len(slices) < MIN_SLICES:
            continue
        trial = Path(*relative.parts[at + 1 :]).as_posix()
        records.append(record_of(root, relative, "dicom", relative.parts[at], trial, "lidc"))
    if not records:
        raise SourceError(
            f"{root}: no LIDC-IDRI-0001/ or such with a folder of {MIN_SLICES} slices (.dcm); point source.root at the "
            "folder that holds those of the patients"
        )
    return records
