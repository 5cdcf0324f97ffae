"""List public sets of single slices and small pictures."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from zipfile import BadZipFile

from medssl.sources.claims import locate
from medssl.sources.labels import number
from medssl.sources.published.tables import SEXES, found, present, record_of, rows_of
from medssl.sources.record import BadRecord, Label, Record, SourceError

ORGANS = (
    *("bladder", "femur_left", "femur_right", "heart", "kidney_left", "kidney_right"),
    *("liver", "lung_left", "lung_right", "pancreas", "spleen"),
)
# The grey sets of MedMNIST and their classes in order; the others are in colour.
MEDMNIST = {
    "chestmnist": ("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
                   "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
    "octmnist": ("choroidal_neovascularization", "diabetic_macular_edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal_or_benign"),
    "organamnist": ORGANS, "organcmnist": ORGANS, "organsmnist": ORGANS,
}  # fmt: skip


def luna16_slices(root: Path) -> list[Record]:
    """List chest CT slices of LUNA16 as PNG: no labels, no spacing, no Hounsfield units.

    Source: Setio et al. 2017, doi:10.1016/j.media.2017.06.015.
    """
    fix = "point source.root at the folder that holds index.csv and png/"
    records = []
    for row in rows_of(root / "index.csv", ("file", "series_uid", "slice_index"), fix):
        anatomy = present(slice_index=number(row["slice_index"]))
        series, trial = row["series_uid"], row["slice_index"]
        records.append(record_of(root, f"png/{row['file']}", "image", series, trial, "luna16_slices", anatomy=anatomy))
    return records


def tcga_lung(root: Path) -> list[Record]:
    """List single chest CT slices of TCGA-LUAD and TCGA-LUSC as DICOM; labels ``contrast``, ``sex``, ``age``.

    Age is a measure too (``age_years``), for recipes that weigh pairs by it.

    Source: The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2016.JGNIHEP5 and doi:10.7937/K9/TCIA.2016.TYGKKFMQ.
    """
    fix = "point source.root at the folder that holds labels.csv and dicom/"
    records = []
    for row in rows_of(root / "labels.csv", ("file", "patient_id", "contrast", "age_years", "sex", "series_uid"), fix):
        age = number(row["age_years"])
        labels = present(
            contrast={"1": "yes", "0": "no"}.get(row["contrast"]), sex=SEXES.get(row["sex"].lower()), age=age
        )
        patient, series, anatomy = row["patient_id"], row["series_uid"], {} if age is None else {"age_years": age}
        file = f"dicom/{row['file']}"
        records.append(record_of(root, file, "dicom", patient, series, "tcga_lung", labels, anatomy=anatomy))
    return records


def covid_ct(root: Path) -> list[Record]:
    """List COVID-CT: CT slices cut out of papers as 8 bit pictures; label ``covid`` (yes, no).

    Patients are not known for all: the pictures of one preprint, or of one series of the others, count as one. Many of
    the pictures are stored in colour. The folders CT_COVID and CT_NonCOVID may lie anywhere below ``root``, and so may
    Data-split: with it ``fold`` is 0, 1, 2 for the publisher's train, val, test, which are by picture and divide some
    of these patients (``split.publisher_parts: as_published``).

    Raises:
        SourceError: no pictures, or a picture in two of the publisher's parts.

    Source: Zhao et al. 2020, arXiv:2003.13865.
    """
    fix = "unzip CT_COVID.zip and CT_NonCOVID.zip and point source.root at the folder that holds both"
    records = []
    for folder, covid in (("CT_COVID", "yes"), ("CT_NonCOVID", "no")):
        folds = _covid_ct_folds(root, folder)
        pictures = found(root, f"**/{folder}/*.[pPjJ][nNpP]*[gG]", fix)
        # A published picture that is not there is a record that will be refused, not a smaller test set in silence.
        absent = sorted(folds.keys() - {_composed(picture.name) for picture in pictures})
        for relative in (*pictures, *(pictures[0].parent / name for name in absent)):
            # 2020.01.24.919183-p27-132.png: preprint, page, picture. 1%0.jpg: series and slice.
            preprint = re.match(r"\d{4}\.\d\d\.\d\d\.\d+", relative.stem)
            who = preprint[0] if preprint else relative.stem.partition("%")[0]
            patient, fold = f"{folder}/{who}", folds.get(_composed(relative.name))
            labels = present(covid=covid)
            records.append(record_of(root, relative, "image", patient, relative.stem, "covid_ct", labels, fold=fold))
    return records


def _covid_ct_folds(root: Path, folder: str) -> dict[str, int]:
    """Return the publisher's fold of each picture of a folder; none without the lists of Data-split."""
    folds: dict[str, int] = {}
    for fold, part in enumerate(("train", "val", "test")):
        # Data-split/COVID/trainCT_COVID.txt: a name a line.
        for path in sorted(root.glob(f"**/{folder.removeprefix('CT_')}/{part}{folder}.txt")):
            try:
                lines = path.read_text("utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                raise SourceError(f"{path}: not readable ({type(error).__name__}); download Data-split again") from None
            for name in filter(None, (_composed(line.strip()) for line in lines)):
                if folds.setdefault(name, fold) != fold:
                    raise SourceError(f"{path}: names a picture that another part names too; download Data-split again")
    return folds


def _composed(name: str) -> str:
    """Return a file name in one Unicode form: file systems differ in theirs."""
    return unicodedata.normalize("NFC", name)


def medmnist(root: Path) -> list[Record]:
    """List the grey sets of MedMNIST that lie in the folder (``pneumoniamnist.npz`` and so on), one record an image.

    Label of the set's own name, such as ``pneumoniamnist``: a class, or for ``chestmnist`` all findings (``none``
    without any). ``fold`` is 0, 1, 2 for the publisher's train, val, test. No patients are published, though several
    images may be of one: the publisher's folds keep these together, a split by record may not.

    Source: Yang et al. 2023, doi:10.1038/s41597-022-01721-8.
    """
    from medssl.sources.arrays import member

    records = []
    fix = "point source.root at the folder of the .npz files of MedMNIST, as downloaded"
    for relative in found(root, "*mnist*.npz", fix):
        name = relative.stem.partition("_")[0]  # pneumoniamnist_224.npz holds larger pictures
        if name not in MEDMNIST:
            continue
        path, hints = locate(root, relative)
        for fold, part in enumerate(("train", "val", "test")):
            try:
                given = [] if hints else member(path, f"{part}_labels").tolist()
                labels = [_classes(MEDMNIST[name], row) for row in given]
            except (BadRecord, OSError, ValueError, IndexError, TypeError, BadZipFile) as error:
                raise SourceError(f"{path}: {part}_labels cannot be read ({type(error).__name__}); {fix}") from None
            for row, label in enumerate(labels):
                where = {"variable": f"{part}_images", "index": row}
                who = f"{part}{row:06d}"
                patient, known = f"{relative.stem}/{who}", {name: label}
                records.append(Record(path, "array", patient, who, "medmnist", known, fold=fold, hints=where))
    if not records:
        raise SourceError(f"{root}: no grey set of MedMNIST; listed are {', '.join(MEDMNIST)}")
    return records


def _classes(names: tuple[str, ...], values: list[int]) -> Label:
    """Return the class, or the findings where there is a 0 or 1 for each of ``names``."""
    if len(values) == 1:
        return names[values[0]]
    return tuple(name for name, value in zip(names, values, strict=True) if value) or ("none",)
