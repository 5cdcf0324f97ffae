"""List public sets in the layout their owners publish, with their labels and their patients.

Each function takes the folder of one set. A row of a label table gives a record even where its file is absent
(reading it then says ``missing_file``); files without a row are left out.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from medssl.sources.claims import locate
from medssl.sources.manifest import as_dicts, number, read_text_table
from medssl.sources.record import Label, Record, SourceError

RHYTHMS = {"N": "normal", "A": "af", "O": "other", "~": "noisy"}
SEXES = {"m": "male", "male": "male", "f": "female", "female": "female"}
PPG_BP_TRIALS = ("1", "2", "3")
# Names of the original workbook -> names of labels.csv.
PPG_BP_COLUMNS = {
    "subject_ID": "subject_id", "Sex(M/F)": "sex", "Age(year)": "age_years", "BMI(kg/m^2)": "bmi",
    "Systolic Blood Pressure(mmHg)": "sbp_mmhg", "Diastolic Blood Pressure(mmHg)": "dbp_mmhg",
    "Heart Rate(b/m)": "heart_rate_bpm", "Hypertension": "hypertension", "Diabetes": "diabetes",
}  # fmt: skip


def ptbxl(root: Path) -> list[Record]:
    """List PTB-XL at 100 Hz: 12-lead ECG of 10 s, patients, ten folds.

    Labels: ``superclass`` (diagnostic superclasses), ``norm`` (normal, abnormal), ``age`` in years (the set
    writes 300 for everyone above 89; 90 here), ``sex``.

    Source: Wagner et al. 2020, doi:10.1038/s41597-020-0495-6.
    """
    fix = "point source.root at the folder of PTB-XL that holds ptbxl_database.csv and scp_statements.csv"
    columns = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr")
    rows = _rows(root / "ptbxl_database.csv", columns, fix)
    # Its first column, the codes, has no name.
    statements = read_text_table(root / "scp_statements.csv", ("diagnostic", "diagnostic_class"), fix=fix)
    classes = {
        code: superclass
        for code, flag, superclass in zip(
            statements.iloc[:, 0], statements["diagnostic"], statements["diagnostic_class"], strict=True
        )
        if number(flag) == 1 and superclass
    }
    records = []
    for row in rows:
        age = number(row["age"])
        labels = _present(
            age=90.0 if age is not None and age > 89 else age,
            sex={"0": "male", "1": "female"}.get(row["sex"].removesuffix(".0")),
        )
        superclass = tuple(sorted({classes[code] for code in _codes(row["scp_codes"]) if code in classes}))
        if superclass:
            labels["superclass"] = superclass
            labels["norm"] = "normal" if superclass == ("NORM",) else "abnormal"
        fold = number(row["strat_fold"])
        path, hints = locate(root, row["filename_lr"] + ".hea")
        records.append(
            Record(
                path=path,
                format="wfdb",
                patient=row["patient_id"].removesuffix(".0"),  # the set writes them as floats
                trial=row["ecg_id"],
                source="ptbxl",
                labels=labels,
                fold=None if fold is None else int(fold),
                hints=hints,
            )
        )
    return records


def cinc2017(root: Path) -> list[Record]:
    """List the CinC 2017 challenge: one-lead ECG; labels ``rhythm`` and ``af`` (absent for noisy records).

    No patients are published: each record counts as one.

    Source: Clifford et al. 2017, doi:10.22489/CinC.2017.065-469.
    """
    fix = "point source.root at the folder that holds REFERENCE.csv and the .hea files"
    rows = read_text_table(root / "REFERENCE.csv", ("name", "label"), fix=fix, header=None)
    records = []
    for name, label in zip(rows["name"], rows["label"], strict=True):
        rhythm = RHYTHMS.get(label.strip())
        af = None if rhythm in (None, "noisy") else "af" if rhythm == "af" else "not_af"
        path, hints = locate(root, f"{name}.hea")
        records.append(Record(path, "wfdb", name, name, "cinc2017", _present(rhythm=rhythm, af=af), hints=hints))
    return records


def ppg_bp(root: Path) -> list[Record]:
    """List PPG-BP: three finger PPG pieces of 2.1 s at 1000 Hz per patient.

    Labels: ``hypertension`` (four classes), ``hypertensive`` (stage 1 or 2: yes), ``age``, ``sex``,
    ``heart_rate``, ``sbp``, ``dbp``, ``bmi``, ``diabetes``.

    Source: Liang et al. 2018, doi:10.1038/sdata.2018.20.
    """
    fix = "point source.root at the folder that holds labels.csv or 'PPG-BP dataset.xlsx', and signals/"
    columns = tuple(PPG_BP_COLUMNS.values())
    workbook = root / "PPG-BP dataset.xlsx"
    if workbook.is_file() and not (root / "labels.csv").is_file():
        table = read_text_table(workbook, tuple(PPG_BP_COLUMNS), fix=fix, header=1, excel=True)
        rows = as_dicts(table.rename(columns=PPG_BP_COLUMNS))
    else:
        rows = _rows(root / "labels.csv", columns, fix)
    records = []
    for row in rows:
        stage = row["hypertension"].strip()
        labels = _present(
            hypertension=stage or None,
            hypertensive=("yes" if stage.startswith("Stage") else "no") if stage else None,
            age=number(row["age_years"]),
            sex=SEXES.get(row["sex"].strip().lower()),
            heart_rate=number(row["heart_rate_bpm"]),
            sbp=number(row["sbp_mmhg"]),
            dbp=number(row["dbp_mmhg"]),
            bmi=number(row["bmi"]),
            diabetes="yes" if "diabetes" in row["diabetes"].lower() else "no",
        )
        for trial in PPG_BP_TRIALS:
            path, hints = locate(root, f"signals/{row['subject_id']}_{trial}.txt")
            hints = {**hints, "rate_hz": 1000.0, "channel": "PPG", "unit": "1"}
            records.append(Record(path, "tabular", row["subject_id"], trial, "ppg_bp", labels, hints=hints))
    return records


def welltory(root: Path) -> list[Record]:
    """List Welltory: phone-camera PPG (R, G, B) of about 30 Hz in uneven steps, on an even grid of 30 Hz.

    Label ``heart_rate`` in beats per minute, from the chest strap. Which folders share a volunteer is not
    published: each folder counts as one patient.

    Source: Neshitov et al. 2021, doi:10.3390/s21206798.
    """
    folders = [folder for folder in sorted(_root(root).glob("subject_*")) if folder.is_dir()]
    if not folders:
        raise SourceError(f"{root}: no folder subject_NN; point source.root at the folder of the Welltory set")
    columns = {"time_column": "time", "time_unit": "ms", "columns": ("R", "G", "B"), "rate_hz": 30.0, "unit": "1"}
    records = []
    for folder in folders:
        path, hints = locate(root, f"{folder.name}/PPG.csv")
        labels = _present(heart_rate=_heart_rate(folder / "RR.txt"))
        records.append(
            Record(path, "tabular", folder.name, folder.name, "welltory", labels, hints={**hints, **columns})
        )
    return records


def eegmat(root: Path) -> list[Record]:
    """List EEG during mental arithmetic: 60 s of rest and of task per patient.

    Labels: ``condition`` (rest, mental_arithmetic), ``count_quality`` (good, bad), ``age``, ``sex``.

    Source: Zyma et al. 2019, doi:10.3390/data4010014.
    """
    fix = "point source.root at the folder that holds labels.csv and the .edf files"
    records = []
    for row in _rows(root / "labels.csv", ("file", "subject", "condition", "age", "gender", "count_quality"), fix):
        labels = _present(
            condition=row["condition"] or None,
            sex=SEXES.get(row["gender"].lower()),
            age=number(row["age"]),
            count_quality={"1": "good", "0": "bad"}.get(row["count_quality"]),
        )
        path, hints = locate(root, row["file"])
        trial = Path(row["file"]).stem.rpartition("_")[2]
        records.append(Record(path, "edf", row["subject"], trial, "eegmat", labels, hints=hints))
    return records


def msd_hippocampus(root: Path) -> list[Record]:
    """List the hippocampus MRI of the Medical Segmentation Decathlon, with masks and their volumes in mm3.

    Labels: ``total_volume`` and ``anterior_volume`` in mm3, where ``volumes.csv`` gives them.

    Source: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
    """
    measures = ("anterior_mm3", "posterior_mm3", "total_mm3")
    if (root / "volumes.csv").is_file():
        rows = _rows(root / "volumes.csv", ("subject", *measures), "restore volumes.csv or remove it")
    else:
        names = [p.name for p in sorted(_root(root).glob("imagesTr/*.nii.gz")) if not p.name.startswith(".")]
        if not names:
            raise SourceError(f"{root}: no imagesTr/*.nii.gz; point source.root at the folder Task04_Hippocampus")
        rows = [{"subject": name.removesuffix(".nii.gz")} for name in names]
    records = []
    for row in rows:
        patient = row["subject"]
        anatomy = {name: value for name in measures if (value := number(row.get(name, ""))) is not None}
        path, hints = locate(root, f"imagesTr/{patient}.nii.gz")
        mask, mask_hints = locate(root, f"labelsTr/{patient}.nii.gz")
        records.append(
            Record(
                path=path,
                format="nifti",
                patient=patient,
                trial=patient,
                source="msd_hippocampus",
                labels=_present(total_volume=anatomy.get("total_mm3"), anterior_volume=anatomy.get("anterior_mm3")),
                anatomy=anatomy,
                mask=mask,
                mask_labels={1: "anterior", 2: "posterior"},
                hints=hints or mask_hints,
            )
        )
    return records


def luna16_slices(root: Path) -> list[Record]:
    """List chest CT slices of LUNA16 as PNG: no labels, no spacing, no Hounsfield units.

    Source: Setio et al. 2017, doi:10.1016/j.media.2017.06.015.
    """
    fix = "point source.root at the folder that holds index.csv and png/"
    records = []
    for row in _rows(root / "index.csv", ("file", "series_uid", "slice_index"), fix):
        at = number(row["slice_index"])
        path, hints = locate(root, f"png/{row['file']}")
        anatomy = {} if at is None else {"slice_index": at}
        records.append(
            Record(path, "image", row["series_uid"], row["slice_index"], "luna16_slices", anatomy=anatomy, hints=hints)
        )
    return records


def tcga_lung(root: Path) -> list[Record]:
    """List single chest CT slices of TCGA-LUAD and TCGA-LUSC as DICOM; labels ``contrast``, ``sex``, ``age``.

    Source: The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2016.JGNIHEP5 and doi:10.7937/K9/TCIA.2016.TYGKKFMQ.
    """
    fix = "point source.root at the folder that holds labels.csv and dicom/"
    records = []
    for row in _rows(root / "labels.csv", ("file", "patient_id", "contrast", "age_years", "sex", "series_uid"), fix):
        labels = _present(
            contrast={"1": "yes", "0": "no"}.get(row["contrast"]),
            sex=SEXES.get(row["sex"].lower()),
            age=number(row["age_years"]),
        )
        path, hints = locate(root, f"dicom/{row['file']}")
        records.append(Record(path, "dicom", row["patient_id"], row["series_uid"], "tcga_lung", labels, hints=hints))
    return records


def _root(root: Path) -> Path:
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; set source.root to the folder of the data set")
    return root


def _rows(path: Path, columns: tuple[str, ...], fix: str) -> list[dict[str, str]]:
    return as_dicts(read_text_table(path, columns, fix=fix))


def _present(**labels: Label | None) -> dict[str, Label]:
    """Return the labels that have a value."""
    return {name: value for name, value in labels.items() if value is not None}


def _codes(text: str) -> list[str]:
    """Return the SCP codes of a Python dictionary written as text; none if it is no such text."""
    try:
        codes: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(code) for code in codes] if isinstance(codes, dict) else []


def _heart_rate(path: Path) -> float | None:
    """Return the mean rate in beats per minute from RR intervals in ms, or None without usable intervals."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return None
    rr_ms = [value for word in text.split() if (value := number(word)) and value > 0]
    return 60_000 * len(rr_ms) / sum(rr_ms) if rr_ms else None
