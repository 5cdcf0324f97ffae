"""Make one synthetic cohort: recordings in real formats, a manifest, and the defects that real archives contain.

What is planted where stands in ``data/README.md``; the strengths are constants of `signals` and `volumes`.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medssl.config import SIGNALS, Cohort
from medssl.synthetic import defects, signals, volumes, write
from medssl.synthetic.traits import DEFECT_STREAM, MODALITIES, Identity, Traits, draw, patient_rng

# Streams of one patient. Not 0: NumPy pads a short seed with zeros, so (patient, 0) would repeat (patient,).
FINGERPRINT = 1
FIRST_TRIAL = 2
DISEASE = {False: "no", True: "yes"}
MASK_LABELS = {"ct": volumes.CT_LABELS, "mri": volumes.MRI_LABELS}

Row = dict[str, str]


@dataclass(frozen=True)
class Recording:
    """What one trial of a patient is before it is written."""

    values: np.ndarray
    labels: dict[str, str]
    anatomy: dict[str, float]
    mask: np.ndarray | None = None


def recordings(modality: str, traits: Traits, seed: int, trials: int) -> list[Recording]:
    """Return the trials of one patient, the same ones whatever else is made."""
    rng = patient_rng(seed, modality, traits.patient, FINGERPRINT)
    trial_rngs = [patient_rng(seed, modality, traits.patient, FIRST_TRIAL + k) for k in range(trials)]
    if modality in SIGNALS:
        generate = {"ecg": signals.ecg, "ppg": signals.ppg, "eeg": signals.eeg}[modality]
        return [Recording(t.values, {"state": t.state}, {}) for t in generate(traits, rng, trial_rngs)]
    phantom = {"ct": volumes.ct, "mri": volumes.mri}[modality](traits, rng, trial_rngs[0])
    return [Recording(phantom.values, phantom.labels, phantom.anatomy, phantom.mask)]


class _Builder:
    """Files and manifest rows of one cohort, with the next free trial number of each patient."""

    def __init__(self, modality: str, seed: int, root: Path, trials: int) -> None:
        self.modality, self.seed, self.root, self.trials = modality, seed, root, trials
        self.rows: list[Row] = []
        self.made: dict[int, int] = {}
        self.first_row: dict[int, Row] = {}

    def next_trial(self, patient: int) -> str:
        self.made[patient] = self.made.get(patient, 0) + 1
        return f"{self.made[patient]:02d}"

    def path(self, patient: int, trial: str) -> Path:
        """Return the path of a recording relative to the cohort."""
        name = ("series-" if self.modality == "ct" else "trial-") + trial + write.SUFFIX[self.modality]
        return Path("records") / Identity(self.modality, patient).patient_id / name

    def write(self, traits: Traits, trial: str, values: np.ndarray) -> Path:
        path = self.path(traits.patient, trial)
        write.record(self.modality, self.root / path, values, traits, f"{self.seed} {path.as_posix()}")
        return path

    def row(self, traits: Traits, trial: str, path: Path, recording: Recording, mask: str) -> Row:
        row = {
            "path": path.as_posix(),
            "patient": Identity(self.modality, traits.patient).patient_id,
            "trial": trial,
            "label_age": f"{traits.age_years:.1f}",
            "label_sex": traits.sex,
            "label_disease": DISEASE[traits.disease],
            **{f"label_{name}": value for name, value in recording.labels.items()},
            "anat_age_years": f"{traits.age_years:.1f}",
            **{f"anat_{name}": f"{value:.1f}" for name, value in recording.anatomy.items()},
        }
        if self.modality in MASK_LABELS:
            row["mask"] = mask
        return row

    def patient(self, patient: int) -> None:
        """Add the good recordings of one patient."""
        traits = draw(self.seed, self.modality, patient)
        for recording in recordings(self.modality, traits, self.seed, self.trials):
            trial = self.next_trial(patient)
            path = self.write(traits, trial, recording.values)
            mask = self._write_mask(path, recording, patient)
            self.rows.append(self.row(traits, trial, path, recording, mask))
            self.first_row.setdefault(patient, self.rows[-1])

    def _write_mask(self, path: Path, recording: Recording, patient: int) -> str:
        if recording.mask is None:
            return ""
        mask = path.with_name(f"mask-{path.stem.split('-')[-1]}.nii")
        spacing_mm = volumes.CT_SPACING_MM if self.modality == "ct" else volumes.MRI_SPACING_MM
        write.nifti(self.root / mask, recording.mask, Identity(self.modality, patient), spacing_mm=spacing_mm)
        return mask.as_posix()

    def exact_duplicate(self, patient: int, owner: int) -> None:
        """List the first recording of ``patient`` again: as another trial, or as a recording of ``owner``."""
        row = dict(self.first_row[patient])
        if owner != patient:
            other = self.first_row[owner]
            keep = ("path", "mask", "label_state", "label_contrast")
            row = {name: row[name] if name in keep else other[name] for name in row}
        self.rows.append({**row, "trial": self.next_trial(owner)})

    def near_duplicate(self, patient: int, rng: np.random.Generator) -> None:
        """Write the first recording of ``patient`` a second time, almost the same."""
        traits = draw(self.seed, self.modality, patient)
        recording = recordings(self.modality, traits, self.seed, 1)[0]
        trial = self.next_trial(patient)
        path = self.write(traits, trial, defects.near_copy(self.modality, recording.values, rng))
        row = {**self.first_row[patient], "path": path.as_posix(), "trial": trial}
        self.rows.append(row)

    def corrupt(self, patient: int, kind: str) -> None:
        """Write one more recording of ``patient`` that no reader can use."""
        traits = draw(self.seed, self.modality, patient)
        trial = self.next_trial(patient)
        path = self.path(patient, trial)
        if kind != "missing":
            recording = recordings(self.modality, traits, self.seed, 1)[0]
            self.write(traits, trial, defects.shorten(self.modality, recording.values, kind))
            defects.damage(self.modality, self.root / path, kind)
        self.rows.append({**self.first_row[patient], "path": path.as_posix(), "trial": trial})


def make(modality: str, cohort: Cohort, out: Path, seed: int) -> None:
    """Write a synthetic cohort into the folder ``out``; the same arguments give the same bytes.

    ``out`` gets ``manifest.csv``, for CT and MRI ``mask_labels.csv``, and the files under ``records/``. A former
    synthetic cohort there is replaced. CT and MRI have one trial per patient whatever ``cohort.trials`` says.

    Raises:
        ValueError: unknown modality.
        FileExistsError: ``out`` holds something that is not a synthetic cohort.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality '{modality}' is unknown; allowed: {', '.join(MODALITIES)}")
    _refuse_foreign(out)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    builder = _Builder(modality, seed, part, cohort.trials)
    for patient in range(cohort.patients):
        builder.patient(patient)
    _plant_defects(builder, cohort)
    _write_table(part / "manifest.csv", builder.rows)
    if modality in MASK_LABELS:
        labels = [{"value": str(value), "name": name} for value, name in MASK_LABELS[modality].items()]
        _write_table(part / "mask_labels.csv", labels)
    if out.exists():
        shutil.rmtree(out)
    part.rename(out)


def _plant_defects(builder: _Builder, cohort: Cohort) -> None:
    """Spread the defects over patients: no patient has a second one before each has one."""
    rng = patient_rng(builder.seed, builder.modality, DEFECT_STREAM)
    order = rng.permutation(cohort.patients)
    total = cohort.exact_duplicates + cohort.near_duplicates + cohort.corrupt
    victims = [int(order[k % cohort.patients]) for k in range(total)]
    for k in range(cohort.exact_duplicates):
        # The last of several is listed under another patient, which only a check across patients can find.
        crossed = k == cohort.exact_duplicates - 1 and k > 0 and cohort.patients > 1
        patient = victims.pop(0)
        owner = int(order[(k + 1) % cohort.patients]) if crossed else patient
        builder.exact_duplicate(patient, owner)
    for _ in range(cohort.near_duplicates):
        builder.near_duplicate(victims.pop(0), rng)
    for k in range(cohort.corrupt):
        builder.corrupt(victims.pop(0), defects.kind_of(builder.modality, k))


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _refuse_foreign(out: Path) -> None:
    """Protect real data: only an empty folder or one that this module made may be replaced."""
    if not out.exists():
        return
    manifest = out / "manifest.csv"
    if any(out.iterdir()) and not (manifest.is_file() and "PLANTED-DOE-" in manifest.read_text()):
        raise FileExistsError(f"{out}: holds files that are not a synthetic cohort; choose an empty folder")
