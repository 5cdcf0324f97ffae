"""One small good recording of every EEG format, for tests that damage it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import edfio
import numpy as np

NAME = "Doe^Jane"  # planted where formats keep a name; must never come out
RATE_HZ = 64
CHANNELS = ("Fp1", "Fp2")
LENGTH_S = 6


def waves(seed: int) -> np.ndarray:
    """Return waves of 50 uV with a little noise, (C, T) in uV."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(LENGTH_S * RATE_HZ) / RATE_HZ
    phases = rng.uniform(0, 2 * np.pi, len(CHANNELS))
    return 50 * np.sin(2 * np.pi * 3 * time_s + phases[:, None]) + rng.normal(0, 2, (len(CHANNELS), len(time_s)))


def edf(folder: Path, seed: int) -> Path:
    path = folder / "a.edf"
    signals = [
        edfio.EdfSignal(row, RATE_HZ, label=f"EEG {name}", physical_dimension="uV", physical_range=(-200, 200))
        for row, name in zip(waves(seed), CHANNELS, strict=True)
    ]
    edfio.Edf(signals, data_record_duration=1).write(path)
    return path


def bdf(folder: Path, seed: int) -> Path:
    path = folder / "a.bdf"
    signals = [
        edfio.BdfSignal(row, RATE_HZ, label=f"EEG {name}", physical_dimension="uV", physical_range=(-200, 200))
        for row, name in zip(waves(seed), CHANNELS, strict=True)
    ]
    edfio.Bdf(signals, data_record_duration=1).write(path)
    return path


def annotate(path: Path, texts: list[bytes], kind: str) -> Path:
    """Write ``texts`` into the last channel of an EDF or BDF file, one a block, and ``kind`` (``+C``, ``+D``)."""
    data = bytearray(path.read_bytes())
    count, sample_bytes = int(data[252:256]), 3 if data[0] == 255 else 2
    fields = data[256 + 216 * count : 256 + 224 * count]
    sizes = [int(fields[i : i + 8]) * sample_bytes for i in range(0, 8 * count, 8)]
    assert len(data) == 256 * (count + 1) + len(texts) * sum(sizes)
    assert all(len(text) <= sizes[-1] for text in texts)
    data[192:197] = (b"BDF" if sample_bytes == 3 else b"EDF") + kind.encode()
    for i, text in enumerate(texts, start=1):
        end = 256 * (count + 1) + i * sum(sizes)
        data[end - sizes[-1] : end] = text.ljust(sizes[-1], b"\0")
    path.write_bytes(data)
    return path


def edf_gaps(folder: Path, seed: int) -> Path:
    path = folder / "a.edf"
    signals = [
        edfio.EdfSignal(row, RATE_HZ, label=f"EEG {name}", physical_dimension="uV", physical_range=(-200, 200))
        for row, name in zip(waves(seed), CHANNELS, strict=True)
    ]
    slow = edfio.EdfSignal(waves(seed)[0, ::2], RATE_HZ / 2, label="EOG", physical_dimension="uV")
    room = [edfio.EdfAnnotation(0, None, 50 * " ")]
    patient = edfio.Patient(name=NAME)
    edfio.Edf([*signals, slow], patient=patient, data_record_duration=1, annotations=room).write(path)
    onsets = ("+0.5", "+1.5", "+2.5", "+4.25", "+5.25", "+60.5")
    return annotate(path, [f"{t}\x14\x14\0{t}\x151\x14{NAME}\x14\0".encode() for t in onsets], "+D")


def brainvision(folder: Path, seed: int) -> Path:
    import pybv

    names = list(CHANNELS)
    pybv.write_brainvision(
        data=waves(seed) * 1e-6, sfreq=RATE_HZ, ch_names=names, fname_base="a", folder_out=str(folder), overwrite=True
    )
    return folder / "a.vhdr"


def eeglab(folder: Path, seed: int) -> Path:
    import scipy.io

    fields = {
        "setname": "x",
        "nbchan": 2.0,
        "trials": 1.0,
        "pnts": float(LENGTH_S * RATE_HZ),
        "srate": float(RATE_HZ),
        "data": waves(seed).astype(np.float32),
        "chanlocs": np.array([(name, "EEG") for name in CHANNELS], dtype=[("labels", "O"), ("type", "O")]),
        "event": np.array([(1.0, "mark")], dtype=[("latency", "O"), ("type", "O")]),
    }
    scipy.io.savemat(folder / "a.set", {"EEG": fields}, do_compression=bool(seed % 2), appendmat=False)
    return folder / "a.set"


def fif(folder: Path, seed: int) -> Path:
    import mne

    raw = mne.io.RawArray(waves(seed) * 1e-6, mne.create_info(list(CHANNELS), RATE_HZ, "eeg"), verbose="error")
    path = folder / "a_raw.fif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.save(path, overwrite=True, verbose="error")
    return path


EXAMPLES: dict[str, Callable[[Path, int], Path]] = {
    "edf": edf,
    "bdf": bdf,
    "edf-gaps": edf_gaps,
    "brainvision": brainvision,
    "eeglab": eeglab,
    "fif": fif,
}
