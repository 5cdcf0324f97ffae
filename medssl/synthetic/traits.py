"""Who the synthetic patients are: the traits that labels tell, and the identity that must never leave the raw files."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

import numpy as np

# The place of a modality in this tuple seeds its generators: append, never reorder.
MODALITIES = ("ecg", "ppg", "eeg", "ct", "mri")
AGE_YEARS = (20.0, 85.0)
BIRTH_DATE = date(1947, 12, 31)
STUDY_DATE = date(2019, 2, 28)
HOSPITAL = "PLANTEDHOSPITAL"
# Streams of one seed that belong to no patient; patients count from 0, so these start far above.
BLOCK_STREAM = 1_000_000
DEFECT_STREAM = 2_000_000


@dataclass(frozen=True)
class Traits:
    """What the recordings of one patient carry, and the identifiers in their headers, paths and manifest."""

    modality: str
    patient: int  # index from 0
    age_years: float  # in `AGE_YEARS`
    male: bool
    disease: bool  # the planted one of the modality

    @property
    def age_share(self) -> float:
        """Age mapped to 0 (youngest) .. 1 (oldest)."""
        low, high = AGE_YEARS
        return (self.age_years - low) / (high - low)

    @property
    def sex(self) -> str:
        """Sex as written in the manifest."""
        return "male" if self.male else "female"

    @property
    def patient_id(self) -> str:
        """The source's patient identifier, also part of every path."""
        return f"PLANTED-DOE-{self.modality.upper()}-{self.patient + 1:04d}"

    @property
    def name(self) -> str:
        """Patient name in DICOM order, family name first."""
        return f"PLANTEDNAME^{self.modality.upper()}"

    @property
    def mrn(self) -> str:
        """Medical record number."""
        return f"PLANTEDMRN{self.patient + 1:04d}"


@dataclass(frozen=True)
class Recording:
    """One trial before it is written: ``(C, T)`` or ``(D, H, W)``, a mask, and what the generator alone knows."""

    values: np.ndarray
    labels: dict[str, str]
    anatomy: dict[str, float] = field(default_factory=dict)
    mask: np.ndarray | None = None


def patient_rng(seed: int, modality: str, *stream: int) -> np.random.Generator:
    """Return the generator of one patient (``stream`` = patient) or trial (patient, trial); independent of order."""
    return np.random.default_rng([seed, MODALITIES.index(modality), *stream])


def draw(seed: int, modality: str, patient: int) -> Traits:
    """Return the traits of one patient.

    Each block of four patients holds all combinations of sex and disease in random order, so that a cohort of a
    few patients still has both classes.
    """
    block, place = divmod(patient, 4)
    combination = int(patient_rng(seed, modality, BLOCK_STREAM + block).permutation(4)[place])
    age_years = round(float(patient_rng(seed, modality, patient).uniform(*AGE_YEARS)), 1)
    return Traits(modality, patient, age_years, male=combination % 2 == 1, disease=combination >= 2)


def planted_identifiers(modality: str) -> list[str]:
    """Return the strings whose presence in any output shows that an identifier left the raw files of ``modality``.

    Every planted name, number, path and institution contains the first one; the dates stand in the forms in which
    WFDB, EDF, DICOM and NIfTI headers spell them.

    Raises:
        ValueError: unknown modality.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality '{modality}' is unknown; allowed: {', '.join(MODALITIES)}")
    some = draw(0, modality, 0)
    names = ["PLANTED", some.patient_id.rsplit("-", 1)[0], some.name.split("^")[0], "PLANTEDMRN", HOSPITAL]
    more = {"ecg": ("%d/%m/%Y",), "ppg": ("%d/%m/%Y",), "eeg": ("%d-%b-%Y",)}
    spellings = ("%Y%m%d", *more.get(modality, ()))
    return names + [day.strftime(form).upper() for day in (BIRTH_DATE, STUDY_DATE) for form in spellings]
