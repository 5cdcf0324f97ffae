"""FIF: values against sines that are known, skips, parts in several files, and what must be refused."""

from __future__ import annotations

import gzip
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from tests.sources.test_eeg import RATE_HZ, SECRET, SINES, read, refusal


def raw_array(kinds: tuple[str, ...] = ("eeg", "ecg"), values: np.ndarray = SINES) -> mne.io.RawArray:
    names = ["EEG Fp1", "ECG", "x", "y"][: len(kinds)]
    info = mne.create_info(names, RATE_HZ, list(kinds))
    info["subject_info"] = {"his_id": SECRET, "last_name": SECRET}
    info["description"] = info["experimenter"] = SECRET
    info["bads"] = names[:1]
    raw = mne.io.RawArray(values * 1e-6, info, verbose="error")
    raw.set_annotations(mne.Annotations([1.0], [1.0], [f"BAD {SECRET}"]))
    return raw


def write_fif(path: Path, raw: mne.io.RawArray | None = None, **more: Any) -> Path:
    (raw or raw_array()).save(path, verbose="error", **more)
    return path


@pytest.mark.parametrize("suffix", [".fif", ".fif.gz"])
def test_fif_sine(tmp_path: Path, suffix: str) -> None:
    path = write_fif(tmp_path / f"smith_raw{suffix}")
    signal = read(path)
    np.testing.assert_allclose(signal.values, SINES, atol=1e-3)
    assert (signal.rate_hz, signal.channels, signal.unit) == (200.0, ("Fp1", "ECG"), "uV")
    np.testing.assert_array_equal(read(path, start_s=1.5, end_s=2.5).values, signal.values[:, 300:500])
    np.testing.assert_allclose(read(path, hints={"unit": "mV"}).values, signal.values / 1000, rtol=1e-6)
    assert refusal(path, start_s=10.0) == "too_short"


@pytest.mark.parametrize("fmt", ["short", "int", "single", "double"])
def test_fif_numbers(tmp_path: Path, fmt: str) -> None:
    path = write_fif(tmp_path / "smith_raw.fif", fmt=fmt)
    reference = mne.io.read_raw_fif(path, verbose="error").get_data() * 1e6
    np.testing.assert_allclose(read(path).values, reference, rtol=1e-5, atol=1e-5)


def test_fif_keeps_voltages(tmp_path: Path) -> None:
    raw = raw_array(("eeg", "bio", "stim", "mag"), np.concatenate([SINES, SINES]))
    signal = read(write_fif(tmp_path / "a_raw.fif", raw))
    assert signal.channels == ("Fp1", "ECG")
    np.testing.assert_allclose(signal.values, SINES, atol=1e-3)
    assert refusal(write_fif(tmp_path / "smith_raw.fif", raw_array(("mag", "stim")))) == "bad_unit"


def test_fif_projectors_and_long_names(tmp_path: Path) -> None:
    raw = raw_array(("eeg", "eeg"))
    raw.rename_channels({"ECG": "a name of more than fifteen letters"})
    raw.set_eeg_reference(projection=True, verbose="error")
    signal = read(write_fif(tmp_path / "smith_raw.fif", raw))
    assert signal.channels == ("Fp1", "a name of more than fifteen letters")
    np.testing.assert_allclose(signal.values, SINES, atol=1e-3)  # the projector is not applied


def test_fif_skips_are_nan(tmp_path: Path) -> None:
    raw = raw_array()
    raw.set_annotations(mne.Annotations([4.0], [2.0], ["BAD_ACQ_SKIP"]))
    path = write_fif(tmp_path / "smith_raw.fif", raw, buffer_size_sec=1.0)  # mne writes skips for it
    signal = read(path)
    gone = np.isnan(signal.values)
    np.testing.assert_array_equal(gone, np.isin(np.arange(2000), np.arange(800, 1200))[None].repeat(2, axis=0))
    np.testing.assert_allclose(signal.values[~gone], SINES[~gone], atol=1e-3)
    np.testing.assert_array_equal(read(path, start_s=5.5, end_s=7.0).values, signal.values[:, 1100:1400])
    assert refusal(patch_tag(path, 301, 4, 1_000_000_000)) == "unsupported"


def split(folder: Path) -> tuple[Path, np.ndarray]:
    """Write a recording in parts of 2 MB."""
    values = np.random.default_rng(0).normal(0, 20, (2, 700_000))
    path = folder / "smith_raw.fif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw_array(values=values).save(path, split_size="4MB", buffer_size_sec=10, verbose="error")
    assert len(list(folder.glob("*.fif"))) == 2
    return path, values


def test_fif_parts(tmp_path: Path) -> None:
    path, values = split(tmp_path)
    np.testing.assert_allclose(read(path).values, values, atol=1e-3)
    part = tmp_path / "smith_raw-1.fif"
    part.rename(tmp_path / "elsewhere.fif")
    assert refusal(path) == "missing_file"
    inner = tmp_path / "set"
    inner.mkdir()
    path.rename(inner / path.name)
    (inner / part.name).symlink_to(tmp_path / "elsewhere.fif")
    assert refusal(inner / path.name) == "outside_folder"


@pytest.mark.parametrize("name", [b"/tmp/mith_raw-1.fif", b"../smith_raw-1.fif", b"..\\smith_raw-1.fif"])
def test_fif_parts_must_not_lead_outside(tmp_path: Path, name: bytes) -> None:
    path, _ = split(tmp_path)
    data = path.read_bytes()
    plain = b"smith_raw-1.fif"
    at = data.rindex(plain) - 16
    head = struct.unpack(">iIii", data[at : at + 16])
    longer = struct.pack(">iIii", *head[:2], len(name), head[3]) + name
    path.write_bytes(data[:at] + longer + data[at + 16 + len(plain) :])
    assert refusal(path) == "outside_folder"


def test_fif_parts_in_a_circle(tmp_path: Path) -> None:
    path, _ = split(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"smith_raw-1.fif", b"smith_raw.fif\0\0"))
    refusal(path)
    part = tmp_path / "smith_raw-1.fif"
    part.unlink()
    path.write_bytes(data)
    os.link(path, part)  # the second part is the first again, under the name of the second
    assert refusal(path) == "unreadable"


def patch_tag(path: Path, kind: int, field: int, value: int) -> Path:
    """Write ``value`` into field 0-3 of the header of the first tag of ``kind``, 4 for its contents."""
    data, at = bytearray(path.read_bytes()), 0
    while struct.unpack(">i", data[at : at + 4])[0] != kind:
        at += 16 + struct.unpack(">i", data[at + 8 : at + 12])[0]
    data[at + 4 * field : at + 4 * field + 4] = struct.pack(">i", value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (300, 2, 2**31 - 1),  # size of a buffer
        (300, 2, -5),
        (300, 3, 36),  # next tag: backwards, which never ends
        (200, 4, 2**31 - 1),  # channels
        (200, 4, 0),
        (203, 0, 9999),  # one channel described less
        (101, 4, 50),  # where the directory is said to be
        (100, 0, 7),  # no FIF file
    ],
)
def test_fif_claims_are_checked(tmp_path: Path, kind: int, field: int, value: int) -> None:
    assert refusal(patch_tag(write_fif(tmp_path / "smith_raw.fif"), kind, field, value)) == "unreadable"


@pytest.mark.parametrize("keep", [0, 10, 1000, 8000, -1, -20, -16])
def test_fif_cut_off(tmp_path: Path, keep: int) -> None:
    path = write_fif(tmp_path / "smith_raw.fif")
    data = path.read_bytes()[:keep]
    path.write_bytes(data)
    if keep == -16:  # only the tag that says that nothing follows
        assert read(path).values.shape == (2, 2000)
        return
    assert refusal(path) == "unreadable"
    zipped = tmp_path / "smith_raw.fif.gz"
    zipped.write_bytes(gzip.compress(data))
    assert refusal(zipped) == "unreadable"


def test_fif_with_a_directory(tmp_path: Path) -> None:
    path = write_fif(tmp_path / "smith_raw.fif")
    data, at, tags = bytearray(path.read_bytes()[:-16]), 0, []
    while at < len(data):
        tags.append((*struct.unpack(">iIi", data[at : at + 12]), at))
        at += 16 + tags[-1][2]
    data[36 + 16 : 36 + 20] = struct.pack(">i", at)
    table = b"".join(struct.pack(">iIii", *tag) for tag in tags)
    head = struct.pack(">iIii", 102, 32, len(table), -1)
    path.write_bytes(data + head + table)
    np.testing.assert_allclose(read(path).values, SINES, atol=1e-3)
    wrong = table.replace(struct.pack(">iI", 300, 4), struct.pack(">iI", 300, 5), 1)
    path.write_bytes(data + head + wrong)
    assert refusal(path) == "unreadable"


def test_fif_epochs_are_refused(tmp_path: Path) -> None:
    raw = raw_array()
    raw.set_annotations(None)
    epochs = mne.EpochsArray(raw.get_data()[None, :, :400], raw.info, verbose="error")
    epochs.save(tmp_path / "smith-epo.fif", verbose="error")
    assert refusal(tmp_path / "smith-epo.fif") == "unsupported"
