"""List public sets of EEG."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.sources.claims import locate
from medssl.sources.labels import number
from medssl.sources.published.tables import SEXES, found, present, record_of, rows_of
from medssl.sources.record import Record

# Rechtschaffen & Kales' stages, of which the AASM joins 3 and 4.
STAGES = {"W": "wake", "1": "n1", "2": "n2", "3": "n3", "4": "n3", "R": "rem"}
# Of CBraMod's parts of EEGMAT, the first subject that validates and the first that tests.
EEGMAT_PARTS = (28, 32)
# Run of EEGMMIDB -> task and whether the movement was imagined; runs 3 to 14 are three rounds of four.
MOVEMENTS = (("fists_one", "no"), ("fists_one", "yes"), ("fists_feet", "no"), ("fists_feet", "yes"))
RUNS = {1: ("eyes_open", None), 2: ("eyes_closed", None), **dict(enumerate(3 * MOVEMENTS, start=3))}
# Task -> what its annotations T0, T1 and T2 stand for.
MOVES = {"fists_one": ("rest", "left_fist", "right_fist"), "fists_feet": ("rest", "both_fists", "both_feet")}


def eegmat(root: Path) -> list[Record]:
    """List EEG during mental arithmetic: 60 s of rest and of task per patient.

    Labels: ``condition`` (rest, mental_arithmetic), ``count_quality`` (good, bad), ``age``, ``sex``. ``fold`` is 0, 1,
    2 for the train, val, test of CBraMod (Wang et al. 2025, arXiv:2412.07236), by subject.

    Source: Zyma et al. 2019, doi:10.3390/data4010014.
    """
    fix = "point source.root at the folder of eegmat that holds subject-info.csv and Subject00_1.edf"
    records = []
    for row in rows_of(root / "subject-info.csv", ("Subject", "Age", "Gender", "Count quality"), fix):
        about = present(
            sex=SEXES.get(row["Gender"].lower()),
            age=number(row["Age"]),
            count_quality={"1": "good", "0": "bad"}.get(row["Count quality"]),
        )
        subject = number(row["Subject"].removeprefix("Subject"))
        fold = None if subject is None else sum(subject >= first for first in EEGMAT_PARTS)
        for trial, condition in (("1", "rest"), ("2", "mental_arithmetic")):
            file, labels = f"{row['Subject']}_{trial}.edf", {"condition": condition, **about}
            records.append(record_of(root, file, "edf", row["Subject"], trial, "eegmat", labels, fold=fold))
    return records


def eegmmidb(root: Path) -> list[Record]:
    """List EEG of motor movement and imagery: 109 volunteers, 64 channels at 160 Hz, 14 runs of one or two minutes.

    Labels: ``task`` (eyes_open, eyes_closed, fists_one: left or right fist, fists_feet: both fists or both feet),
    ``imagined`` (yes, no), and of each window ``movement`` (rest, left_fist, right_fist, both_fists, both_feet), which
    changes every four seconds. Patients 88, 92 and 100 were recorded at 128 Hz.

    Source: Schalk et al. 2004, doi:10.1109/TBME.2004.827072; PhysioNet doi:10.13026/C28G6P.
    """
    fix = "point source.root at the folder of eegmmidb 1.0.0 that holds S001/S001R01.edf"
    records = []
    for relative in found(root, "S[0-9][0-9][0-9]/S[0-9][0-9][0-9]R[0-9][0-9].edf", fix):
        patient, run = relative.stem[:4], int(relative.stem[5:])
        task, imagined = RUNS.get(run, (None, None))
        labels = present(task=task, imagined=imagined)
        events = {f"T{i}": ("movement", name) for i, name in enumerate(MOVES.get(task or "", ()))}
        record = record_of(root, relative, "edf", patient, relative.stem[4:], "eegmmidb", labels, event_labels=events)
        records.append(replace(record, events=record.path if events else None))
    return records


def sleep_edf(root: Path) -> list[Record]:
    """List Sleep-EDF Expanded: whole nights of Fpz-Cz, Pz-Oz and EOG at 100 Hz, one or two per patient.

    ``SC4011E0`` is night 1 of patient 01 of the cassette study, ``ST7022J0`` night 2 of patient 02 of the telemetry
    study; the two studies share no patients. Labels: ``study``, ``night``, and of each window ``stage`` (wake, n1, n2,
    n3, rem; none while the patient moved or nobody scored) where the night's ``*-Hypnogram.edf`` is there: take windows
    of 30 s, as the stages are. The workbooks of ages are not read.

    Source: Kemp et al. 2000, doi:10.1109/10.867928; PhysioNet doi:10.13026/C2X676.
    """
    fix = "point source.root at the folder of sleep-edfx 1.0.0 that holds sleep-cassette/ or sleep-telemetry/"
    records = []
    for relative in found(root, "**/S[CT][0-9]*-PSG.edf", fix):
        name = relative.name.removesuffix("-PSG.edf")
        match = re.fullmatch(r"(S[CT])[47](\d\d)(\d)\w\d", name)
        if not match:
            continue
        labels = present(study={"SC": "cassette", "ST": "telemetry"}[match[1]], night=float(match[3]))
        scoring: dict[str, Any] = {}
        # The letters after the night say who scored it.
        for scored in sorted((root / relative).parent.glob(f"{name[:7]}*-Hypnogram.edf"))[:1]:
            events, hints = locate(root, relative.with_name(scored.name))
            stages = {f"Sleep stage {text}": ("stage", stage) for text, stage in STAGES.items()}
            scoring = {"events": events, "event_labels": stages, "hints": hints}
        records.append(record_of(root, relative, "edf", match[1] + match[2], name, "sleep_edf", labels, **scoring))
    return records
