"""BrainVision, EEGLAB and FIF alike: absent, empty and noisy files are refused; infinite values are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl import sources
from medssl.sources import electrodes
from medssl.sources.record import BadRecord, Record, Signal

RATE_HZ = 200
TIME_S = np.arange(10 * RATE_HZ) / RATE_HZ
SINES = np.stack([100 * np.sin(2 * np.pi * 5 * TIME_S), 40 * np.cos(2 * np.pi * 2 * TIME_S)])  # uV
SECRET = "Doe_Jane"
FORMATS = {".vhdr": "brainvision", ".set": "eeglab", ".fif": "fif", ".gz": "fif"}


def read(path: Path, **more: Any) -> Signal:
    signal = sources.read(Record(path, FORMATS[path.suffix], "p", "t", **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert SECRET not in repr(signal)
    return signal


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path, FORMATS[path.suffix], "p", "t", **more))
    for private in (SECRET, "smith", str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("suffix", FORMATS)
def test_absent_empty_and_noise(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"smith{suffix}"
    assert refusal(path) == "missing_file"
    path.touch()
    assert refusal(path) == "unreadable"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert refusal(path) == "unreadable"


def test_infinite_values_are_missing() -> None:
    values = electrodes.as_float32(np.array([1.0, np.inf, 1e300, np.nan]))
    np.testing.assert_array_equal(values, np.array([1, np.nan, np.nan, np.nan], dtype=np.float32))
