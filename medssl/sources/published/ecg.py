"""List public sets of ECG."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from medssl.sources.labels import number
from medssl.sources.published.tables import SEXES, age_of, comments, field, found, listed, present, record_of, rows_of
from medssl.sources.record import Record
from medssl.sources.tables import read_text_table

RHYTHMS = {"N": "normal", "A": "af", "O": "other", "~": "noisy"}
# "Reason for admission" in the headers of PTB, without its bracket (NYHA class of a heart failure).
ADMISSIONS = {
    "myocardial infarction", "healthy control", "cardiomyopathy", "heart failure", "bundle branch block", "dysrhythmia",
    "hypertrophy", "valvular heart disease", "myocarditis", "stable angina", "unstable angina", "palpitation",
}  # fmt: skip
# SNOMED CT codes that the challenges of 2020 and 2021 score -> their abbreviation; 2020 scores 27 of them.
SNOMED = {
    "164889003": "AF", "164890007": "AFL", "6374002": "BBB", "426627000": "Brady", "733534002": "CLBBB",
    "713427006": "CRBBB", "270492004": "IAVB", "713426002": "IRBBB", "39732003": "LAD", "445118002": "LAnFB",
    "164909002": "LBBB", "251146004": "LQRSV", "698252002": "NSIVCB", "426783006": "NSR", "284470004": "PAC",
    "10370003": "PR", "365413008": "PRWP", "427172004": "PVC", "164947007": "LPR", "111975006": "LQT",
    "164917005": "QAb", "47665007": "RAD", "59118001": "RBBB", "427393009": "SA", "426177001": "SB",
    "427084000": "STach", "63593006": "SVPB", "164934002": "TAb", "59931005": "TInv", "17338001": "VPB",
}  # fmt: skip
# Two records of MIT-BIH come from one person, a man whose tape was digitised twice.
MITBIH_TWICE = {"202": "201"}


def ptbxl(root: Path, file: str = "filename_lr", source: str = "ptbxl") -> list[Record]:
    """List PTB-XL at 100 Hz: 12-lead ECG of 10 s, patients, ten folds; `ptbxl_500` lists it at 500 Hz.

    Labels: ``superclass`` (diagnostic superclasses), ``norm`` (normal, abnormal), ``age`` in years (the set
    writes 300 for everyone above 89; 90 here), ``sex``.

    Source: Wagner et al. 2020, doi:10.1038/s41597-020-0495-6.
    """
    fix = "point source.root at the folder of PTB-XL that holds ptbxl_database.csv and scp_statements.csv"
    columns = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", file)
    rows = rows_of(root / "ptbxl_database.csv", columns, fix)
    statements = rows_of(root / "scp_statements.csv", ("diagnostic", "diagnostic_class"), fix)
    classes = {
        next(iter(row.values())): row["diagnostic_class"]  # the first column, the codes, has no name
        for row in statements
        if number(row["diagnostic"]) == 1 and row["diagnostic_class"]
    }
    records = []
    for row in rows:
        age = number(row["age"])
        labels = present(
            age=90.0 if age is not None and age > 89 else age,
            sex={"0": "male", "1": "female"}.get(row["sex"].removesuffix(".0")),
        )
        superclass = tuple(sorted({classes[code] for code in _codes(row["scp_codes"]) if code in classes}))
        if superclass:
            labels["superclass"] = superclass
            labels["norm"] = "normal" if superclass == ("NORM",) else "abnormal"
        fold = number(row["strat_fold"])
        fold = None if fold is None else int(fold)
        patient = row["patient_id"].removesuffix(".0")  # the set writes them as floats
        records.append(record_of(root, row[file] + ".hea", "wfdb", patient, row["ecg_id"], source, labels, fold=fold))
    return records


def ptbxl_500(root: Path) -> list[Record]:
    """List PTB-XL at 500 Hz; all else as `ptbxl`."""
    return ptbxl(root, "filename_hr", "ptbxl_500")


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
        labels = present(rhythm=rhythm, af=af)
        records.append(record_of(root, f"{name}.hea", "wfdb", name, name, "cinc2017", labels))
    return records


def ptbdb(root: Path) -> list[Record]:
    """List the PTB Diagnostic ECG Database: 15 leads (12 and Frank's x, y, z) at 1000 Hz, one to five per patient.

    Labels from the headers: ``diagnosis`` (the reason for admission), ``mi`` (infarction or healthy control, absent for
    all others), ``age``, ``sex``.

    Source: Bousseljot et al. 1995, doi:10.1515/bmte.1995.40.s1.317; PhysioNet doi:10.13026/C28C71.
    """
    fix = "point source.root at the folder of ptbdb 1.0.0 that holds RECORDS and patient001/"
    records = []
    for name in listed(root, fix):
        patient, _, trial = name.partition("/")
        text = comments(root, f"{name}.hea")
        reason = field(text, "Reason for admission").partition("(")[0].strip().lower()
        labels = present(
            diagnosis=reason if reason in ADMISSIONS else None,
            mi={"myocardial infarction": "yes", "healthy control": "no"}.get(reason),
            age=age_of(field(text, "age")),
            sex=SEXES.get(field(text, "sex").lower()),
        )
        records.append(record_of(root, f"{name}.hea", "wfdb", patient, trial or name, "ptbdb", labels))
    return records


def cinc2020(root: Path) -> list[Record]:
    """List the training data of the CinC challenge 2020: 12-lead ECG of six collections; see `cinc2021`.

    Source: Perez Alday et al. 2020, doi:10.1088/1361-6579/abc960.
    """
    return cinc2021(root, "cinc2020")


def cinc2021(root: Path, source: str = "cinc2021") -> list[Record]:
    """List the training data of the CinC challenge 2021: 12-lead ECG of eight collections.

    Labels: ``dx`` (all diagnoses: the challenge's abbreviation for those it scores, the SNOMED code for others),
    ``age``, ``sex``, ``collection`` (the folder it came from, where the challenge's own folders are kept).

    No patients are published: each record counts as one. PTB-XL and PTB are among the collections, whose patients have
    several records, so a split of this set may divide a patient; and the set must not be joined with these two.

    Source: Reyna et al. 2021, doi:10.23919/CinC53138.2021.9662687.
    """
    records = []
    for relative in found(root, "**/*.hea", "point source.root at the folder of the challenge's training data"):
        text = comments(root, relative)
        codes = [code.strip() for code in field(text, "Dx").split(",")]
        # g1, g2, ... are mere parts of a collection.
        above = [part for part in relative.parts[:-1] if not (part[:1] == "g" and part[1:].isdecimal())]
        labels = present(
            dx=tuple(sorted({SNOMED.get(code, code) for code in codes if code.isdecimal()})) or None,
            age=age_of(field(text, "Age")),
            sex=SEXES.get(field(text, "Sex").lower()),
            collection=above[-1] if above and above[-1] not in ("training", "WFDB") else None,
        )
        records.append(record_of(root, relative, "wfdb", relative.stem, relative.stem, source, labels))
    return records


def mitbih(root: Path) -> list[Record]:
    """List the MIT-BIH Arrhythmia Database: 48 half hours of two leads at 360 Hz; labels ``age``, ``sex``.

    The leads differ between records (MLII and V1 in most). Beats are annotated in files that are not read.
    Records 201 and 202 are one patient.

    Source: Moody and Mark 2001, doi:10.1109/51.932724; PhysioNet doi:10.13026/C2F305.
    """
    records = []
    for name in listed(root, "point source.root at the folder of mitdb 1.0.0 that holds RECORDS and 100.hea"):
        words = [*comments(root, f"{name}.hea").split(), "", ""]  # 69 M 1085 1629 x1
        labels = present(age=age_of(words[0]), sex=SEXES.get(words[1].lower()))
        records.append(record_of(root, f"{name}.hea", "wfdb", MITBIH_TWICE.get(name, name), name, "mitbih", labels))
    return records


def _codes(text: str) -> list[str]:
    """Return the SCP codes of a Python dictionary written as text; none if it is no such text."""
    try:
        codes: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [str(code) for code in codes] if isinstance(codes, dict) else []
