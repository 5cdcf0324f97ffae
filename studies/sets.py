"""Published sets as the study of copies cuts them: read, prepared, and held in memory as a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from medssl import sources
from medssl.config import SignalIngest, VolumeIngest
from medssl.ingest import signals, volumes
from medssl.sources.record import Signal, Volume

Ingest = SignalIngest | VolumeIngest
LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
SCALP = (
    "Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4",
    "T5", "T6", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz",
)  # fmt: skip


class Set(NamedTuple):
    """A published set: modality, source and folder, how it is cut, what its other filter or window is."""

    modality: str
    source: str
    folder: str
    ingest: Ingest
    other: Any
    slices: int = 0  # this many slices of each volume, from its middle outwards
    repeats: int = 1  # copies of each recording, by kind


SETS = {
    "ecg": Set(
        "ecg", "ptbxl", "ecg/ptbxl_500",
        SignalIngest(rate_hz=100, channels=LEADS, unit="mV", window_s=2.5, band_hz=(0.5, 40)), (1, 25),
    ),
    "ecg-single": Set(
        "ecg", "cinc2017", "ecg/cinc2017_af300",
        SignalIngest(rate_hz=100, channels=("ECG",), unit="mV", window_s=5, band_hz=(0.5, 40)), (1, 25),
    ),
    "ppg": Set(
        "ppg", "ppg_bp", "ppg/ppg_bp",
        SignalIngest(rate_hz=125, channels=("PPG",), unit="1", window_s=2, band_hz=(0.5, 10)), (0.4, 8),
    ),
    "ppg-camera": Set(
        "ppg", "welltory", "ppg/welltory",
        SignalIngest(rate_hz=30, channels=("R",), unit="1", window_s=8, band_hz=(0.5, 8)), (0.4, 6), repeats=8,
    ),
    "eeg": Set(
        "eeg", "eegmat", "eeg/eegmat_125hz",
        SignalIngest(rate_hz=100, channels=SCALP, unit="uV", window_s=4, band_hz=(0.5, 45)), (1, 30), repeats=4,
    ),
    "ct": Set(
        "ct", "tcga_lung", "ct/tcga_lung_ct63",
        VolumeIngest(samples="slices", size=(96, 96), spacing_mm=(4, 4), hu_window=(-1000, 1000), unit="HU"),
        (-160, 240), repeats=4,
    ),
    "ct-slices": Set(
        "ct", "luna16_slices", "ct/luna16_slices224",
        VolumeIngest(samples="slices", size=(96, 96)), (0.15, 0.85),
    ),
    "mri": Set(
        "mri", "msd_hippocampus", "mri/msd_hippocampus",
        VolumeIngest(samples="volume", size=(40, 48, 32), spacing_mm=(1, 1, 1)), (0.1, 0.9),
    ),
    "mri-slices": Set(
        "mri", "msd_hippocampus", "mri/msd_hippocampus",
        VolumeIngest(samples="slices", size=(48, 32), spacing_mm=(1, 1)), (0.1, 0.9), 5,
    ),
}  # fmt: skip


@dataclass
class Held:
    """A store in memory; ``origin`` says of each sample its patient, recording, and start (s) or slice."""

    facts: dict[str, Any]
    samples: np.ndarray
    origin: pd.DataFrame

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return samples by position."""
        return self.samples[rows]


class Raw(NamedTuple):
    """A recording and where its first step lies in the published one (s)."""

    patient: str
    record: int
    values: Signal | Volume
    start: float = 0.0
    draw: int = 0  # which of the recording's copies


def load(data: Path, wanted: Set, half: str) -> list[Raw]:
    """Read the recordings of every other patient."""
    records = sources.list_records(wanted.source, data / wanted.folder)
    patients = {p: i for i, p in enumerate(dict.fromkeys(r.patient for r in records))}
    mine = [(i, r) for i, r in enumerate(records) if patients[r.patient] % 2 == (half == "report")]
    raws = [Raw(r.patient, i, sources.read(r)) for i, r in mine]
    if wanted.source == "welltory":  # the finger covers the lens within seconds; that step is no pulse
        raws = [r._replace(values=replace(r.values, values=r.values.values[:, 90:])) for r in raws]  # type: ignore[union-attr, arg-type]
    if not wanted.slices:
        return raws
    out = []
    for raw in raws:  # neighbours two slices apart are the hard negatives
        assert isinstance(raw.values, Volume)
        low, high = np.percentile(raw.values.values, (1, 99.5))
        middle = len(raw.values.values) // 2
        for step in range(wanted.slices):
            at = middle + 2 * (step - wanted.slices // 2)
            one = ((raw.values.values[at : at + 1] - low) / (high - low)).astype(np.float32)
            out.append(Raw(raw.patient, 1000 * raw.record + at, replace(raw.values, values=one)))
    return out


def hold(raws: list[Raw], wanted: Set, ingest: Ingest, only: dict[tuple[int, int], float] | None = None) -> Held:
    """Prepare recordings as ingest does; ``only`` names the one window to keep of each recording by its start."""
    samples, rows = [], []
    for raw in raws:
        if isinstance(raw.values, Signal):
            assert isinstance(ingest, SignalIngest)
            cut, starts, _ = signals.prepare(
                raw.values, rate_hz=ingest.rate_hz, channels=ingest.channels, unit=ingest.unit,
                window_s=ingest.window_s, band_hz=ingest.band_hz,
            )  # fmt: skip
            flat = signals.flat_share(
                raw.values, ingest.channels, starts, rate_hz=ingest.rate_hz, window_s=ingest.window_s
            )
            cut = signals.scale(cut, ingest.normalise)
            starts = starts + raw.start
            keep = flat <= ingest.max_flat
            if only is not None:
                keep &= np.arange(len(starts)) == np.abs(starts - only[raw.record, raw.draw]).argmin()
        else:
            assert isinstance(ingest, VolumeIngest)
            cut = volumes.prepare(
                raw.values, samples=ingest.samples, size=ingest.size, spacing_mm=ingest.spacing_mm,
                hu_window=ingest.hu_window, unit=ingest.unit,
            )  # fmt: skip
            starts, keep = np.zeros(len(cut)), np.ptp(cut.reshape(len(cut), -1), axis=1) > 0
        samples.append(cut[keep])
        rows += [(raw.patient, raw.record, s) for s in starts[keep]]
    facts = {
        "modality": wanted.modality, "shape": list(samples[0].shape[1:]), "unit": ingest.unit,
        "params": ingest.model_dump(mode="json"),
    }  # fmt: skip
    return Held(facts, np.concatenate(samples), pd.DataFrame(rows, columns=["patient", "record", "start"]))
