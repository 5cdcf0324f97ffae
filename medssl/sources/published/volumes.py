"""List public sets of volumes (MRI, CT)."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources.claims import guarded, locate, refused, require_file
from medssl.sources.labels import number
from medssl.sources.published.tables import SEXES, age_of, found, present, record_of, rows_of
from medssl.sources.record import BadRecord, Label, Record, SourceError, inside
from medssl.sources.tables import as_dicts, read_text_table

IXI_SEX = "SEX_ID (1=m, 2=f)"
MAX_REGION_BYTES = 1_000_000
# Columns of OpenBHB's participants.tsv -> measures; volumes are in ml.
OPENBHB_VOLUMES = {"tiv": "tiv_ml", "gmv": "gm_ml", "wmv": "wm_ml", "csfv": "csf_ml"}


def msd_hippocampus(root: Path) -> list[Record]:
    """List the hippocampus MRI of the Medical Segmentation Decathlon, with masks and their volumes in mm3.

    Labels: ``total_volume`` and ``anterior_volume`` in mm3, where ``volumes.csv`` gives them.

    Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
    """
    measures = ("anterior_mm3", "posterior_mm3", "total_mm3")
    if (root / "volumes.csv").is_file():
        rows = rows_of(root / "volumes.csv", ("subject", *measures), "restore volumes.csv or remove it")
    else:
        images = found(root, "imagesTr/*.nii.gz", "point source.root at the folder Task04_Hippocampus")
        rows = [{"subject": image.name.removesuffix(".nii.gz")} for image in images]
    records = []
    for row in rows:
        patient = row["subject"]
        anatomy = {name: value for name in measures if (value := number(row.get(name, ""))) is not None}
        labels = present(total_volume=anatomy.get("total_mm3"), anterior_volume=anatomy.get("anterior_mm3"))
        records.append(
            record_of(
                root, f"imagesTr/{patient}.nii.gz", "nifti", patient, patient, "msd_hippocampus", labels,
                anatomy=anatomy, mask=f"labelsTr/{patient}.nii.gz", mask_labels={1: "anterior", 2: "posterior"},
            )
        )  # fmt: skip
    return records


def msd(root: Path) -> list[Record]:
    """List the training images of any task of the Medical Segmentation Decathlon with their masks.

    ``dataset.json`` names images, masks and organs; CT is in HU. Label ``modality``. The brain and prostate tasks hold
    several contrasts in one file of four axes, which the reader refuses.

    Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
    """
    fix = "point source.root at the folder of one task that holds dataset.json and imagesTr/"
    path = root / "dataset.json"
    try:
        facts: Any = json.loads(path.read_text("utf-8"))
        organs = {int(value): _organ(str(name)) for value, name in facts["labels"].items() if int(value) != 0}
        modality = str(facts["modality"]["0"])
        pairs = [(str(row["image"]), str(row["label"])) for row in facts["training"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(f"{path}: not the description of a task ({type(error).__name__}); {fix}") from None
    records = []
    for image, label in pairs:
        patient = locate(root, image)[0].name.removesuffix(".gz").removesuffix(".nii")
        labels, hints = present(modality=modality), {"unit": "HU"} if modality.upper() == "CT" else {}
        more: dict[str, Any] = {"mask": label, "mask_labels": organs, "hints": hints}
        records.append(record_of(root, image, "nifti", patient, patient, "msd", labels, **more))
    return records


def openbhb(root: Path) -> list[Record]:
    """List OpenBHB: grey matter maps of healthy brains (CAT12, modulated, MNI space, 1.5 mm), arrays (1, 1, X, Y, Z).

    Labels: ``age``, ``sex``, ``site``, ``study``; anatomy: volumes in ml of ``participants.tsv``, and the tables of
    regions beside a map (``*_desc-<atlas>_ROI.npy``), which name neither regions nor units: by position from 1,
    ``<atlas>_<measure>_<region>``, such as ``gm_1_017`` or ``desikan_3_042``. A participant may have several sessions.

    Source: Dufumier et al. 2022, doi:10.1016/j.neuroimage.2022.119637.
    """
    fix = "point source.root at the folder that holds participants.tsv (or train/ and val/) and the .npy files"
    people: dict[str, dict[str, str]] = {}
    for table in found(root, "**/participants.tsv", fix):
        for row in rows_of(root / table, ("participant_id", "age", "sex"), fix):
            people[row["participant_id"].removeprefix("sub-")] = row
    records = []
    for relative in found(root, "**/sub-*_preproc-cat12vbm_desc-gm_T1w.npy", fix):
        entities = dict(re.findall(r"([a-z]+)-([A-Za-z0-9]+)", relative.name))
        patient = entities["sub"]
        row = people.get(patient, {})
        labels = present(
            age=age_of(row.get("age", "")),
            sex=SEXES.get(row.get("sex", "").lower()),
            site=row.get("site") or None,
            study=row.get("study") or None,
        )
        anatomy = {to: ml for name, to in OPENBHB_VOLUMES.items() if (ml := number(row.get(name, ""))) is not None}
        trial = "_".join(f"{key}-{entities[key]}" for key in ("ses", "run") if key in entities) or "vbm"
        more: dict[str, Any] = {"anatomy": anatomy, "hints": {"axes": "RAS", "spacing_mm": (1.5, 1.5, 1.5)}}
        scan = relative.name.partition("_preproc-")[0]
        for table in sorted((root / relative).parent.glob(f"{scan}_preproc-*_ROI.npy")):
            try:
                anatomy |= _regions(table, root)
            except BadRecord as bad:
                more["hints"] = {**refused(bad.reason, bad.detail), **more["hints"]}
        records.append(record_of(root, relative, "array", patient, trial, "openbhb", labels, **more))
    return records


def _regions(path: Path, root: Path) -> dict[str, float]:
    """Return the measures of one table of regions of OpenBHB, an array (1, regions) or (1, measures, regions)."""
    atlas = re.search(r"_desc-([A-Za-z0-9]+)_ROI", path.name)
    if require_file(inside(path, root)) > MAX_REGION_BYTES or atlas is None:
        raise BadRecord("unreadable", "a table of regions is longer than 1 MB, or names no atlas")
    with guarded("NumPy"):
        values = np.load(path, allow_pickle=False)
        if values.ndim not in (2, 3) or len(values) != 1 or values.dtype.kind not in "fiu":
            raise BadRecord("unreadable", "a table of regions is no array (1, regions) or (1, measures, regions)")
        values = values.reshape(-1, values.shape[-1]).astype(float)
    names = _region_names(atlas[1].lower(), *values.shape)
    return {name: value for name, value in zip(names, values.ravel().tolist(), strict=True) if math.isfinite(value)}


@lru_cache(maxsize=16)
def _region_names(atlas: str, measures: int, regions: int) -> list[str]:
    """Return the names of an atlas's measures, once for all records."""
    return [f"{atlas}_{m}_{r:03d}" for m in range(1, measures + 1) for r in range(1, regions + 1)]


def ixi(root: Path) -> list[Record]:
    """List IXI: brain MRI of healthy volunteers of three hospitals, T1, T2, PD and MRA as found.

    Labels: ``age``, ``sex``, ``site``, ``contrast``. Where the workbook has two rows of a volunteer, values on which
    they differ are left out.

    Source: IXI, Imperial College London, https://brain-development.org/ixi-dataset/
    """
    fix = "point source.root at the folder of IXI that holds the .nii.gz files and IXI.xls (or IXI.csv, saved from it)"
    people: dict[str, dict[str, Label]] = {}
    for row in _ixi_rows(root, fix):
        patient = f"IXI{row['IXI_ID'].partition('.')[0].zfill(3)}"
        sex = {"1": "male", "2": "female"}.get(row[IXI_SEX].partition(".")[0])
        labels = present(age=age_of(row["AGE"]), sex=sex)
        before = people.setdefault(patient, labels)
        people[patient] = {name: value for name, value in labels.items() if before.get(name) == value}
    records = []
    for relative in found(root, "**/IXI[0-9]*-*-*-*.nii.gz", fix):
        patient, site, number_, contrast = relative.name.removesuffix(".nii.gz").split("-")[:4]
        if contrast == "DTI":  # each direction is a file of its own
            continue
        known = {**people.get(patient, {}), "site": site, "contrast": contrast}
        records.append(record_of(root, relative, "nifti", patient, f"{number_}-{contrast}", "ixi", known))
    return records


def _ixi_rows(root: Path, fix: str) -> list[dict[str, str]]:
    columns = ("IXI_ID", IXI_SEX, "AGE")
    if (root / "IXI.csv").is_file() or not (root / "IXI.xls").is_file():
        return rows_of(root / "IXI.csv", columns, fix)
    try:
        table = read_text_table(root / "IXI.xls", columns, fix=fix, excel=True)
    except ImportError:  # the old Excel format needs a package of its own
        raise SourceError(f"{root}: reading IXI.xls needs the package xlrd; or save it as IXI.csv") from None
    return as_dicts(table)


def _organ(name: str) -> str:
    """Return a name of a dataset.json as part of a measure's name."""
    return re.sub(r"\W+", "_", name.strip().lower()).strip("_") or "organ"
