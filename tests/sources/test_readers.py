"""All formats: absent, empty and noisy files are refused, and failures of readers are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medssl import sources
from medssl.sources import edf
from medssl.sources.record import BadRecord, Record, Signal, Volume

NAME = "Doe^Jane"  # planted where formats keep a name; must never come out


def record(path: Path, kind: str, **more: Any) -> Record:
    return Record(path=path, format=kind, patient="p1", trial="t1", **more)


def read_signal(path: Path, kind: str, **more: Any) -> Signal:
    signal = sources.read(record(path, kind, **more))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert signal.values.shape[0] == len(signal.channels)
    return signal


def read_volume(path: Path, kind: str, **more: Any) -> Volume:
    volume = sources.read(record(path, kind, **more))
    assert isinstance(volume, Volume)
    assert volume.values.dtype == np.float32
    assert volume.values.flags["C_CONTIGUOUS"]
    return volume


def refusal(path: Path, kind: str, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record(path, kind, **more))
    for private in (NAME, "Jane", f"{path.parent.name}/{path.name}", str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason


SUFFIXES = {
    "wfdb": ".hea",
    "edf": ".edf",
    "bdf": ".bdf",
    "brainvision": ".vhdr",
    "eeglab": ".set",
    "fif": ".fif",
    "dicom": ".dcm",
    "nifti": ".nii.gz",
    "image": ".png",
    "tabular": ".csv",
    "array": ".npy",
    "matlab": ".mat",
    "aecg": ".xml",
    "metaimage": ".mhd",
}


@pytest.mark.parametrize(("kind", "suffix"), SUFFIXES.items())
def test_absent_and_empty_files_are_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"Doe^Jane{suffix}"
    assert refusal(path, kind, hints={"rate_hz": 10}) == "missing_file"
    path.touch()
    assert refusal(path, kind, hints={"rate_hz": 10}) == "unreadable"


@pytest.mark.parametrize(("kind", "suffix"), SUFFIXES.items())
def test_noise_is_refused(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    refusal(path, kind, hints={"rate_hz": 10})


def test_every_format_has_a_reader() -> None:
    assert set(sources.READERS) == set(SUFFIXES)


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("1")
    assert refusal(tmp_path / "a.xyz", "unknown") == "unsupported"


def test_unexpected_failure_keeps_only_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Record) -> Signal:
        raise KeyError(NAME)

    path = tmp_path / "a.edf"
    path.touch()
    monkeypatch.setattr(edf, "read", fail)
    with pytest.raises(BadRecord, match=r"unreadable: the edf reader raised KeyError$"):
        sources.read(record(path, "edf"))


def test_absent_library_is_no_fault_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Record) -> Signal:
        raise ModuleNotFoundError("No module named 'mne'", name="mne")

    path = tmp_path / "a.edf"
    path.touch()
    monkeypatch.setattr(edf, "read", fail)
    with pytest.raises(sources.SourceError, match="needs the package 'mne'; install it"):
        sources.read(record(path, "edf"))
