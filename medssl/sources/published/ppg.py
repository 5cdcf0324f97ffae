"""List public sets of pulse waves (photoplethysmograms, PPG)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from medssl.sources.labels import number
from medssl.sources.published.tables import SEXES, age_of, comments, field, found, listed, present, record_of, rows_of
from medssl.sources.record import Record, SourceError
from medssl.sources.tables import as_dicts, read_text_table

# Names of the original workbook -> names of labels.csv.
PPG_BP_COLUMNS = {
    "subject_ID": "subject_id", "Sex(M/F)": "sex", "Age(year)": "age_years", "Height(cm)": "height_cm",
    "Weight(kg)": "weight_kg", "BMI(kg/m^2)": "bmi",
    "Systolic Blood Pressure(mmHg)": "sbp_mmhg", "Diastolic Blood Pressure(mmHg)": "dbp_mmhg",
    "Heart Rate(b/m)": "heart_rate_bpm", "Hypertension": "hypertension", "Diabetes": "diabetes",
}  # fmt: skip


def ppg_bp(root: Path) -> list[Record]:
    """List PPG-BP: three finger PPG pieces of 2.1 s at 1000 Hz per patient.

    Labels: ``hypertension`` (four classes), ``hypertensive`` (stage 1 or 2: yes), ``sbp_120`` (systolic pressure of 120
    mmHg or more: yes; the label of PaPaGei), ``age``, ``sex``, ``heart_rate``, ``sbp``, ``dbp``, ``height`` in cm,
    ``weight`` in kg, ``bmi``, ``diabetes``. ``fold`` is 0, 1, 2 for PaPaGei's train, val, test; 14 patients have none.

    Source: Liang et al. 2018, doi:10.1038/sdata.2018.20.
    """
    fix = "point source.root at the folder that holds labels.csv or 'PPG-BP dataset.xlsx', and signals/"
    workbook = root / "PPG-BP dataset.xlsx"
    if workbook.is_file() and not (root / "labels.csv").is_file():
        table = read_text_table(workbook, tuple(PPG_BP_COLUMNS), fix=fix, header=1, excel=True)
        rows = as_dicts(table.rename(columns=PPG_BP_COLUMNS))
    else:
        rows = rows_of(root / "labels.csv", tuple(PPG_BP_COLUMNS.values()), fix)
    parts = json.loads(Path(__file__).with_name("ppg_bp_papagei.json").read_text("utf-8"))
    folds = {subject: fold for fold, part in enumerate(("train", "val", "test")) for subject in parts[part]}
    records = []
    for row in rows:
        subject, sbp = number(row["subject_id"]), number(row["sbp_mmhg"])
        stage = row["hypertension"].strip()
        labels = present(
            hypertension=stage or None,
            hypertensive=("yes" if stage.startswith("Stage") else "no") if stage else None,
            sbp_120=None if sbp is None else "yes" if sbp >= 120 else "no",
            age=number(row["age_years"]),
            sex=SEXES.get(row["sex"].strip().lower()),
            heart_rate=number(row["heart_rate_bpm"]),
            sbp=sbp,
            dbp=number(row["dbp_mmhg"]),
            height=number(row["height_cm"]),
            weight=number(row["weight_kg"]),
            bmi=number(row["bmi"]),
            diabetes="yes" if "diabetes" in row["diabetes"].lower() else "no",
        )
        patient, hints = row["subject_id"], {"rate_hz": 1000.0, "channel": "PPG", "unit": "1"}
        more: dict[str, Any] = {"fold": None if subject is None else folds.get(int(subject)), "hints": hints}
        for trial in ("1", "2", "3"):
            file = f"signals/{patient}_{trial}.txt"
            records.append(record_of(root, file, "tabular", patient, trial, "ppg_bp", labels, **more))
    return records


def welltory(root: Path) -> list[Record]:
    """List Welltory: phone-camera PPG (R, G, B) of about 30 Hz in uneven steps, on an even grid of 30 Hz.

    Label ``heart_rate`` in beats per minute, from the RR intervals in ms of the chest strap. Which folders share a
    volunteer is not published: each folder counts as one patient.

    Source: Neshitov et al. 2021, doi:10.3390/s21206798.
    """
    names = sorted(folder.name for folder in root.glob("subject_*") if folder.is_dir())
    if not names:
        raise SourceError(f"{root}: no folder subject_NN; point source.root at the folder of the Welltory set")
    hints = {"time_column": "time", "time_unit": "ms", "columns": ("R", "G", "B"), "rate_hz": 30.0, "unit": "1"}
    records = []
    for name in names:
        rr_ms = [value for word in comments(root, f"{name}/RR.txt").split() if (value := number(word)) and value > 0]
        labels = present(heart_rate=60_000 * len(rr_ms) / sum(rr_ms) if rr_ms else None)
        records.append(record_of(root, f"{name}/PPG.csv", "tabular", name, name, "welltory", labels, hints=hints))
    return records


def bidmc(root: Path, source: str = "bidmc", unit: str = "1") -> list[Record]:
    """List the PPG (``PLETH``) and respiration (``RESP``) of BIDMC: 8 min of intensive care at 125 Hz, 53 records.

    Labels ``age``, ``sex``. The published channel names may end in a comma (``PLETH,``). Each record counts as one
    patient unless its note or header names the MIMIC-II subject it was taken from; then that is the patient.

    Source: Pimentel et al. 2017, doi:10.1109/TBME.2016.2613124; PhysioNet doi:10.13026/C2208R.
    """
    records = []
    for name in listed(root, "point source.root at the folder of bidmc 1.0.0 that holds RECORDS and bidmc01.hea"):
        match = re.fullmatch(r"bidmc(\d\d)", name)
        if not match:  # bidmc01n holds numbers of the monitor at 1 Hz
            continue
        note = comments(root, f"bidmc_csv/bidmc_{match[1]}_Fix.txt")
        text = note + "\n" + comments(root, f"{name}.hea")
        sex = field(text, "Gender") or field(text, "Sex")
        labels = present(age=age_of(field(text, "Age")), sex=SEXES.get(sex.lower()))
        subject = re.search(r"\bs\d{5}\b", text)
        patient = subject[0] if subject else name
        records.append(record_of(root, f"{name}.hea", "wfdb", patient, name, source, labels, hints={"unit": unit}))
    return records


def bidmc_ecg(root: Path) -> list[Record]:
    """List the ECG (``II``, ``V``, ``AVR``) of BIDMC in mV; all else as `bidmc`."""
    return bidmc(root, "bidmc_ecg", "mV")


def ppg_dalia(root: Path) -> list[Record]:
    """List PPG-DaLiA: wrist PPG at 64 Hz over hours of daily life, 15 volunteers; labels ``age``, ``sex``.

    Read are the sensor's own tables, ``S1/S1_E4/BVP.csv``: unzip each ``S1_E4.zip`` into a folder of its name. The
    ``.pkl`` files are pickles, which run code when opened: they are never read, so neither are the heart rates and
    activities in them.

    Source: Reiss et al. 2019, doi:10.3390/s19143079.
    """
    fix = "point source.root at PPG_FieldStudy and unzip each SN/SN_E4.zip into SN/SN_E4/"
    records = []
    for relative in found(root, "S*/S*_E4/BVP.csv", fix):
        patient = relative.parts[0]
        text = comments(root, f"{patient}/{patient}_quest.csv")
        labels = present(age=age_of(field(text, "AGE")), sex=SEXES.get(field(text, "GENDER").lower()))
        # Two lines come before the values: when it began, and the rate.
        hints = {"rate_hz": 64.0, "skip_lines": 2, "channel": "PPG", "unit": "1"}
        records.append(record_of(root, relative, "tabular", patient, "E4", "ppg_dalia", labels, hints=hints))
    return records
