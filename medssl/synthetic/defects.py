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
# In the order in which `Cohort.corrupt` counts through them.
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
    if kind == "no_rate":
        _remove_rate(path)
    elif kind == "truncated" and modality in ("ecg", "ppg"):
        _halve(path.with_suffix(".dat"))
    elif kind == "truncated" and modality == "eeg":
        # Inside the first data record: readers accept an EDF file that stops between two of them.
        whole = path.read_bytes()
        header = EDF_HEADER_BYTES * (1 + int(whole[252:256]))
        path.write_bytes(whole[: header + round(RATE_HZ["eeg"])])
    elif kind in ("truncated", "empty", "not_an_image"):
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if kind == "truncated":
                _halve(file)
            else:
                file.write_bytes(b"" if kind == "empty" else b"this is a note, not an image\n" * 20)


def _halve(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _remove_rate(path: Path) -> None:
    """Take the rate out of a header: the WFDB record line ends after the channels, EDF's record duration is blank.

    WFDB readers then assume 250 Hz without a word, which is why a careful source looks at the line itself.
    """
    if path.suffix == ".hea":
        lines = path.read_text().splitlines()
        lines[0] = " ".join(lines[0].split()[:2])
        path.write_text("\n".join(lines) + "\n")
    else:
        whole = bytearray(path.read_bytes())
        whole[244:252] = b" " * 8
        path.write_bytes(bytes(whole))
