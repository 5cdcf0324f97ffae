"""Damage that real archives contain: near copies, and recordings that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.config import SIGNALS
from medssl.synthetic import signals

NEAR_GAIN = 2.0
NEAR_OFFSET = {"ecg": 0.1, "ppg": 0.5, "eeg": 20.0}  # in the unit of the modality
NEAR_NOISE_HU = 1.0
NEAR_NOISE_SHARE = 0.003  # of the largest value of an MRI
SHORT_S = 0.5
RATE_HZ = {"ecg": signals.ECG_RATE_HZ, "ppg": signals.PPG_RATE_HZ, "eeg": signals.EEG_RATE_HZ}
# In the order in which `Synthetic.corrupt` counts through them.
SIGNAL_KINDS = ("truncated", "no_rate", "too_short", "missing")
IMAGE_KINDS = ("truncated", "empty", "not_an_image", "missing")
EDF_HEADER_BYTES = 256  # per file and again per channel


def kind_of(modality: str, index: int) -> str:
    """Return the damage of the corrupt record number ``index``."""
    kinds = SIGNAL_KINDS if modality in SIGNALS else IMAGE_KINDS
    return kinds[index % len(kinds)]


def near_copy(modality: str, values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a second export of the same recording: other gain and offset (signals), faint noise (images)."""
    if modality in SIGNALS:
        return NEAR_GAIN * values + NEAR_OFFSET[modality]
    if modality == "ct":
        return np.clip(np.rint(values + NEAR_NOISE_HU * rng.standard_normal(values.shape)), -1024, 3071)
    noise = NEAR_NOISE_SHARE * values.max() * rng.standard_normal(values.shape)
    return np.asarray(values + noise, dtype=np.float32)


def shorten(modality: str, values: np.ndarray, kind: str) -> np.ndarray:
    """Return the samples to write before `damage`: all of them, or half a second."""
    return values[:, : int(SHORT_S * RATE_HZ[modality])] if kind == "too_short" else values


def damage(modality: str, path: Path, kind: str) -> None:
    """Damage the written recording ``path`` in place (``missing`` and ``too_short`` need nothing here)."""
    if kind == "no_rate" and modality == "eeg":
        whole = path.read_bytes()  # EDF's record duration becomes blank
        path.write_bytes(whole[:244] + b" " * 8 + whole[252:])
    elif kind == "no_rate":
        # The record line ends after the channels. WFDB readers then assume 250 Hz without a word, which is why a
        # careful source looks at the line itself.
        first, rest = path.read_text().split("\n", 1)
        path.write_text(" ".join(first.split()[:2]) + "\n" + rest)
    elif kind == "truncated" and modality == "eeg":
        # Inside the first data record: readers accept an EDF file that stops between two of them.
        whole = path.read_bytes()
        header = EDF_HEADER_BYTES * (1 + int(whole[252:256]))
        path.write_bytes(whole[: header + round(RATE_HZ["eeg"])])
    elif kind in ("truncated", "empty", "not_an_image"):
        data = path.with_suffix(".dat") if modality in ("ecg", "ppg") else path
        for file in sorted(data.iterdir()) if data.is_dir() else [data]:
            whole = file.read_bytes()
            note = b"" if kind == "empty" else b"this is a note, not an image\n" * 20
            file.write_bytes(whole[: len(whole) // 2] if kind == "truncated" else note)
