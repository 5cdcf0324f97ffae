"""Make one synthetic cohort: recordings in real formats, a manifest, and the defects that real archives contain.

What is planted where stands in ``data/README.md``; the strengths are constants of `signals` and `volumes`.
"""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from medssl.config import Synthetic
from medssl.synthetic import defects, signals, volumes, write
from medssl.synthetic.traits import DEFECT_STREAM, MODALITIES, Recording, Traits, draw, patient_rng

# Streams of one patient. Not 0: NumPy pads a short seed with zeros, so (patient, 0) would repeat (patient,).
FINGERPRINT = 1
FIRST_TRIAL = 2
GENERATORS = {"ecg": signals.ecg, "ppg": signals.ppg, "eeg": signals.eeg, "ct": volumes.ct, "mri": volumes.mri}
MASK_LABELS = {"ct": volumes.CT_LABELS, "mri": volumes.MRI_LABELS}

Row = dict[str, str]


def recordings(traits: Traits, seed: int, trials: int) -> list[Recording]:
    """Return the trials of one patient, the same ones whatever else is made; of CT and MRI one."""
    rng, *trial_rngs = (
        patient_rng(seed, traits.modality, traits.patient, stream)
        for stream in (FINGERPRINT, *range(FIRST_TRIAL, FIRST_TRIAL + trials))
    )
    return GENERATORS[traits.modality](traits, rng, trial_rngs)


class _Builder:
    """Files and manifest rows of one cohort."""

    def __init__(self, modality: str, seed: int, root: Path, trials: int) -> None:
        self.modality, self.seed, self.root, self.trials = modality, seed, root, trials
        self.rows: list[Row] = []
        self.made: Counter[str] = Counter()  # trials, by patient
        self.first_row: dict[int, Row] = {}

    def next_trial(self, patient_id: str) -> str:
        self.made[patient_id] += 1
        return f"{self.made[patient_id]:02d}"

    def place(self, traits: Traits) -> tuple[str, Path]:
        """Return the next trial of a patient and the path of its recording relative to the cohort."""
        trial = self.next_trial(traits.patient_id)
        name = ("series-" if self.modality == "ct" else "trial-") + trial + write.SUFFIX[self.modality]
        return trial, Path("records") / traits.patient_id / name

    def write(self, path: Path, values: np.ndarray, traits: Traits) -> None:
        write.record(self.root / path, values, traits, entropy=f"{self.seed} {path.as_posix()}")

    def patient(self, patient: int) -> None:
        """Add the good recordings of one patient."""
        traits = draw(self.seed, self.modality, patient)
        age = f"{traits.age_years:.1f}"
        for recording in recordings(traits, self.seed, self.trials):
            trial, path = self.place(traits)
            self.write(path, recording.values, traits)
            row = {
                "path": path.as_posix(),
                "patient": traits.patient_id,
                "trial": trial,
                "label_age": age,
                "label_sex": traits.sex,
                "label_disease": "yes" if traits.disease else "no",
                **{f"label_{name}": value for name, value in recording.labels.items()},
                "anat_age_years": age,
                **{f"anat_{name}": f"{value:.1f}" for name, value in recording.anatomy.items()},
            }
            if recording.mask is not None:
                mask = path.with_name(f"mask-{trial}.nii")
                write.nifti(self.root / mask, recording.mask, traits)
                row["mask"] = mask.as_posix()
            self.rows.append(row)
            self.first_row.setdefault(patient, row)

    def exact_duplicate(self, patient: int, owner: int) -> None:
        """List the first recording of ``patient`` again: as another trial, or as a recording of ``owner``."""
        row, other = self.first_row[patient], self.first_row[owner]
        own = ("path", "mask", "label_state", "label_contrast")
        row = {name: (row if name in own else other)[name] for name in row}
        self.rows.append({**row, "trial": self.next_trial(row["patient"])})

    def again(self, patient: int, change: Callable[[np.ndarray], np.ndarray] | None) -> Path:
        """List the first recording of ``patient`` as one more trial, and write it changed; None writes nothing."""
        traits = draw(self.seed, self.modality, patient)
        trial, path = self.place(traits)
        self.rows.append({**self.first_row[patient], "path": path.as_posix(), "trial": trial})
        if change is not None:
            self.write(path, change(recordings(traits, self.seed, 1)[0].values), traits)
        return self.root / path


def make(modality: str, cohort: Synthetic, out: Path, seed: int) -> None:
    """Write a synthetic cohort into the folder ``out``; the same arguments give the same bytes.

    ``out`` gets ``manifest.csv``, for CT and MRI ``mask_labels.csv``, and the files under ``records/``. A former
    synthetic cohort there is replaced. CT and MRI have one trial per patient whatever ``cohort.trials`` says.

    Raises:
        ValueError: unknown modality.
        FileExistsError: ``out`` holds something that is not a synthetic cohort.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality '{modality}' is unknown; allowed: {', '.join(MODALITIES)}")
    manifest = out / "manifest.csv"
    ours = manifest.is_file() and "PLANTED-DOE-" in manifest.read_text()
    if out.exists() and any(out.iterdir()) and not ours:
        raise FileExistsError(f"{out}: holds files that are not a synthetic cohort; choose an empty folder")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    builder = _Builder(modality, seed, part, cohort.trials)
    for patient in range(cohort.patients):
        builder.patient(patient)
    _plant_defects(builder, cohort)
    pd.DataFrame(builder.rows).to_csv(part / "manifest.csv", index=False, lineterminator="\n")
    if modality in MASK_LABELS:
        labels = pd.DataFrame(MASK_LABELS[modality].items(), columns=["value", "name"])
        labels.to_csv(part / "mask_labels.csv", index=False, lineterminator="\n")
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)


def _plant_defects(builder: _Builder, cohort: Synthetic) -> None:
    """Spread the defects over patients: no patient has a second one before each has one."""
    modality = builder.modality
    rng = patient_rng(builder.seed, modality, DEFECT_STREAM)
    order = rng.permutation(cohort.patients).tolist()
    victims = itertools.cycle(order)
    for k in range(cohort.exact_duplicates):
        # The last of several is listed under another patient, which only a check across patients can find.
        crossed = 0 < k == cohort.exact_duplicates - 1
        patient = next(victims)
        builder.exact_duplicate(patient, order[(k + 1) % cohort.patients] if crossed else patient)
    for _ in range(cohort.near_duplicates):
        builder.again(next(victims), partial(defects.near_copy, modality, rng=rng))
    for k in range(cohort.corrupt):
        kind = defects.kind_of(modality, k)
        absent = kind == "missing"
        path = builder.again(next(victims), None if absent else partial(defects.shorten, modality, kind=kind))
        if not absent:
            defects.damage(modality, path, kind)
