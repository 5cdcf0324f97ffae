"""BrainVision: values against sines that are known, the files a header names, and what must be refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pybv
import pytest

from medssl.sources import brainvision
from tests.sources.test_eeg import RATE_HZ, SECRET, SINES, read, refusal


def write_brainvision(folder: Path, **more: Any) -> Path:
    names = ["FP1", "Cz-REF"]
    events = [{"onset": 10, "description": SECRET, "type": "Comment"}]
    options = {"data": SINES * 1e-6, "sfreq": RATE_HZ, "ch_names": names, "fname_base": "smith", "events": events}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of channels that are no voltage
        pybv.write_brainvision(**{**options, "folder_out": str(folder), **more})
    return folder / "smith.vhdr"


def edit(path: Path, old: str, new: str) -> Path:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    return path


@pytest.mark.parametrize("fmt", ["binary_float32", "binary_int16"])
def test_brainvision_sine(tmp_path: Path, fmt: str) -> None:
    path = write_brainvision(tmp_path, fmt=fmt, resolution=0.01)
    signal = read(path)
    np.testing.assert_allclose(signal.values, SINES, atol=0.01)
    assert (signal.rate_hz, signal.channels, signal.unit) == (200.0, ("Fp1", "Cz"), "uV")
    reference = mne.io.read_raw_brainvision(path, verbose="error").get_data() * 1e6
    np.testing.assert_allclose(signal.values, reference, atol=1e-4)


def test_brainvision_part_and_unit(tmp_path: Path) -> None:
    path = write_brainvision(tmp_path)
    whole = read(path).values
    np.testing.assert_array_equal(read(path, start_s=1.5, end_s=2.5).values, whole[:, 300:500])
    np.testing.assert_allclose(read(path, hints={"unit": "mV"}).values, whole / 1000, rtol=1e-6)
    assert refusal(path, start_s=10.0) == "too_short"


@pytest.mark.parametrize(("kind", "dtype"), [("INT_16", "i2"), ("INT_32", "i4"), ("IEEE_FLOAT_32", "f4")])
@pytest.mark.parametrize("orientation", ["MULTIPLEXED", "VECTORIZED"])
def test_brainvision_layouts(tmp_path: Path, kind: str, dtype: str, orientation: str) -> None:
    path = write_brainvision(tmp_path, fmt="binary_int16", resolution=0.01)
    edit(edit(path, "INT_16", kind), "MULTIPLEXED", orientation)
    stored = np.round(SINES / 0.01)
    stored = stored.T if orientation == "MULTIPLEXED" else stored
    (tmp_path / "smith.eeg").write_bytes(np.ascontiguousarray(stored).astype("<" + dtype).tobytes())
    np.testing.assert_allclose(read(path).values, SINES, atol=0.006)
    np.testing.assert_allclose(read(path, start_s=2, end_s=3).values, SINES[:, 400:600], atol=0.006)


def test_brainvision_keeps_voltages(tmp_path: Path) -> None:
    path = write_brainvision(tmp_path, unit=["mV", "C"], resolution=0.01)
    assert read(path).channels == ("Fp1",)
    np.testing.assert_allclose(read(path).values, SINES[:1], atol=0.01)
    edit(path, "mV", "S")
    assert refusal(path) == "bad_unit"


def test_brainvision_unit_may_be_absent(tmp_path: Path) -> None:
    path = write_brainvision(tmp_path)
    whole = read(path).values
    text = path.read_text("utf-8").replace(",µV", "")
    path.write_text(text, "utf-8")
    np.testing.assert_array_equal(read(path).values, whole)


def test_brainvision_in_a_windows_code_page(tmp_path: Path) -> None:
    path = write_brainvision(tmp_path)
    whole = read(path).values
    path.write_bytes(path.read_text("utf-8").replace("UTF-8", "ANSI").encode("latin-1"))
    np.testing.assert_array_equal(read(path).values, whole)


@pytest.mark.parametrize(
    ("unit", "factor"), [("nV", 1e-3), ("uV", 1), ("μV", 1), ("ÂµV", 1), ("UV", 1), ("mV", 1e3), ("V", 1e6)]
)
def test_brainvision_every_unit_of_voltage(tmp_path: Path, unit: str, factor: float) -> None:
    path = write_brainvision(tmp_path)
    in_uv = read(path).values
    text = path.read_text("utf-8").replace("µV", unit, 1)
    path.write_text(text, "utf-8")
    values = read(path).values
    np.testing.assert_allclose(values[0], in_uv[0] * factor, rtol=1e-6)
    np.testing.assert_array_equal(values[1], in_uv[1])


def test_brainvision_pieces_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_brainvision(tmp_path)
    whole = read(path).values
    monkeypatch.setattr(brainvision, "PIECE_VALUES", 1000)
    np.testing.assert_array_equal(read(path).values, whole)
    np.testing.assert_array_equal(read(path, start_s=1.23, end_s=8.9).values, whole[:, 246:1780])


@pytest.mark.parametrize("markers", [None, b"", "Brain Vision\nMk1=Comment,Müller,x".encode("cp1252")])
def test_brainvision_needs_no_markers(tmp_path: Path, markers: bytes | None) -> None:
    path = write_brainvision(tmp_path)
    (tmp_path / "smith.vmrk").unlink()
    if markers is not None:
        (tmp_path / "smith.vmrk").write_bytes(markers)
    assert read(path).values.shape == (2, 2000)


@pytest.mark.parametrize("sign", ["=", " : "])
@pytest.mark.parametrize("key", ["DataFile=smith.eeg", "MarkerFile=smith.vmrk"])
@pytest.mark.parametrize(
    "target", ["../smith.eeg", "/etc/passwd", "sub/smith.eeg", "..\\smith.eeg", "C:smith.eeg", ".."]
)
def test_brainvision_header_must_not_lead_outside(tmp_path: Path, key: str, target: str, sign: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    path = edit(write_brainvision(folder), key, f"{key.split('=')[0]}{sign}{target}")
    assert refusal(path) == "outside_folder"


def test_brainvision_name_hidden_by_a_code_page(tmp_path: Path) -> None:
    path = edit(write_brainvision(tmp_path), "MarkerFile=smith.vmrk", "MarkerFile=+AC4ALgAv-smith.vmrk")  # ../
    assert refusal(edit(path, "Codepage=UTF-8", "Codepage=utf-7")) == "unsupported"


def test_brainvision_link_must_not_lead_outside(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    path = write_brainvision(folder)
    (folder / "smith.eeg").rename(tmp_path / "elsewhere.eeg")
    (folder / "smith.eeg").symlink_to(tmp_path / "elsewhere.eeg")
    assert refusal(path) == "outside_folder"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Brain Vision Data Exchange Header", "Some Header", "unreadable"),
        ("NumberOfChannels=2", "NumberOfChannels=999999999", "unreadable"),
        ("NumberOfChannels=2", "NumberOfChannels=0", "no_samples"),
        ("NumberOfChannels=2", "NumberOfChannels=2\nNumberOfChannels=2", "unreadable"),
        ("NumberOfChannels=2", "NumberOfChannels=2\nDataPoints=2001", "unreadable"),
        ("NumberOfChannels=2", "NumberOfChannels=2\nSegmentationType=MARKERBASED", "unsupported"),
        ("NumberOfChannels=2", "NumberOfChannels=2\nDataType=FREQUENCYDOMAIN", "unsupported"),
        ("SamplingInterval=5000", "SamplingInterval=0", "no_rate"),
        ("SamplingInterval=5000", "SamplingInterval=1e-30", "no_rate"),
        ("SamplingInterval=5000", "Other=1", "no_rate"),
        ("DataFormat=BINARY", "DataFormat=ASCII", "unsupported"),
        ("IEEE_FLOAT_32", "IEEE_FLOAT_64", "unsupported"),
        ("IEEE_FLOAT_32", "UINT_16", "unsupported"),
        ("[Binary Infos]", "[Binary Infos]\nUseBigEndianOrder=YES", "unsupported"),
        ("MULTIPLEXED", "SHUFFLED", "unsupported"),
        ("Common Infos", "Other Infos", "unreadable"),
        ("Ch2=", "Ch3=", "unreadable"),
        ("Ch2=Cz-REF", "Ch2=FP1", "unsupported"),
        ("DataFile=smith.eeg", "DataFile=other.eeg", "missing_file"),
        ("DataFile=smith.eeg", "DataFile=", "unreadable"),
    ],
)
def test_brainvision_claims_are_checked(tmp_path: Path, old: str, new: str, reason: str) -> None:
    assert refusal(edit(write_brainvision(tmp_path), old, new)) == reason


def test_brainvision_cut_off(tmp_path: Path) -> None:
    path = write_brainvision(tmp_path)
    data = tmp_path / "smith.eeg"
    data.write_bytes(data.read_bytes()[:-3])
    assert refusal(path) == "unreadable"
    data.write_bytes(b"")
    assert refusal(path) == "unreadable"
    path.write_bytes(b"x" * 1_000_001)
    assert refusal(path) == "unreadable"
