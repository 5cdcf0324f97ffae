"""EEGLAB: values against mne, data in the file and beside it, and what must be refused."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import h5py
import mne
import numpy as np
import pytest
import scipy.io

from medssl.sources import matfile
from tests.sources.test_eeg import RATE_HZ, SECRET, SINES, read, refusal


def structure(**more: Any) -> dict[str, Any]:
    types = [("labels", "O"), ("type", "O")]
    fields = {
        "setname": SECRET,
        "subject": SECRET,
        "nbchan": 2.0,
        "trials": 1.0,
        "pnts": 2000.0,
        "srate": 200.0,
        "data": SINES.astype(np.float32),
        "chanlocs": np.array([("FP1", "EEG"), ("Cz", "")], dtype=types),
        "event": np.array([(1.0, SECRET)], dtype=[("latency", "O"), ("type", "O")]),
        "etc": {"nested": {"deep": np.zeros((2, 3))}, "none": np.zeros((0, 0))},
    }
    return {**fields, **more}


def write_eeglab(path: Path, *, compress: bool = False, wrapped: bool = True, **more: Any) -> Path:
    fields = structure(**more)
    variables = {"EEG": fields} if wrapped else fields
    scipy.io.savemat(path, variables, do_compression=compress, appendmat=False)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_eeglab_sine(tmp_path: Path, compress: bool, wrapped: bool) -> None:
    path = write_eeglab(tmp_path / "smith.set", compress=compress, wrapped=wrapped)
    signal = read(path)
    np.testing.assert_allclose(signal.values, SINES, atol=1e-4)
    assert (signal.rate_hz, signal.channels, signal.unit) == (200.0, ("Fp1", "Cz"), "uV")
    np.testing.assert_array_equal(read(path, start_s=1.5, end_s=2.5).values, signal.values[:, 300:500])
    assert refusal(path, end_s=-1.0) == "too_short"


def test_eeglab_same_as_mne(tmp_path: Path) -> None:
    import eeglabio

    path = tmp_path / "smith.set"
    eeglabio.raw.export_set(
        path, SINES * 1e-6, RATE_HZ, ["Fp1", "Cz"], annotations=[[SECRET], np.array([1.0]), np.array([0.5])]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = mne.io.read_raw_eeglab(path, verbose="error").get_data() * 1e6
    signal = read(path)
    np.testing.assert_allclose(signal.values, reference, atol=1e-4)
    np.testing.assert_allclose(signal.values, SINES, atol=1e-3)
    assert signal.channels == ("Fp1", "Cz")


def write_fdt(folder: Path, name: str = "smith.fdt") -> Path:
    (folder / "smith.fdt").write_bytes(SINES.T.astype("<f4").tobytes())
    return write_eeglab(folder / "smith.set", data=name)


@pytest.mark.parametrize("name", ["smith.fdt", "before_renaming.fdt"])
def test_eeglab_data_beside(tmp_path: Path, name: str) -> None:
    path = write_fdt(tmp_path, name)
    np.testing.assert_allclose(read(path).values, SINES, atol=1e-4)
    np.testing.assert_allclose(read(path, start_s=1.5, end_s=2.5).values, SINES[:, 300:500], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../smith.fdt", "outside_folder"),
        ("/etc/passwd", "outside_folder"),
        ("C:\\smith.fdt", "outside_folder"),
        ("smith.dat", "unsupported"),
    ],
)
def test_eeglab_data_beside_is_checked(tmp_path: Path, name: str, reason: str) -> None:
    assert refusal(write_fdt(tmp_path, name)) == reason


def test_eeglab_data_beside_is_whole(tmp_path: Path) -> None:
    path = write_fdt(tmp_path)
    data = tmp_path / "smith.fdt"
    data.write_bytes(data.read_bytes()[:-4])
    assert refusal(path) == "unreadable"
    data.unlink()
    assert refusal(path) == "missing_file"
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x.fdt").write_bytes(SINES.T.astype("<f4").tobytes())
    inner = tmp_path / "set"
    inner.mkdir()
    (inner / "smith.fdt").symlink_to(tmp_path / "far" / "x.fdt")
    assert refusal(write_eeglab(inner / "smith.set", data="smith.fdt")) == "outside_folder"


def test_eeglab_types_of_channels(tmp_path: Path) -> None:
    types = [("labels", "O"), ("type", "O")]
    located = np.array([("ECG", "ECG"), ("Air", "RESP")], dtype=types)
    assert read(write_eeglab(tmp_path / "a.set", chanlocs=located)).channels == ("ECG",)
    located = np.array([("Status", ""), ("Air", "RESP")], dtype=types)
    assert refusal(write_eeglab(tmp_path / "smith.set", chanlocs=located)) == "bad_unit"
    assert read(write_eeglab(tmp_path / "b.set", chanlocs=np.zeros((0, 0)))).channels == ("channel 1", "channel 2")


def test_eeglab_unit_is_what_the_user_says(tmp_path: Path) -> None:
    path = write_eeglab(tmp_path / "smith.set", data=SINES / 1000)
    signal = read(path, hints={"unit": "mV"})
    np.testing.assert_allclose(signal.values, SINES / 1000, atol=1e-6)
    assert signal.unit == "mV"
    assert refusal(path, hints={"unit": "mmHg"}) == "bad_unit"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"trials": 10.0}, "unsupported"),
        ({"srate": 0.0}, "no_rate"),
        ({"srate": 1e300}, "no_rate"),
        ({"pnts": 0.0}, "no_samples"),
        ({"pnts": 1e15}, "unreadable"),
        ({"pnts": np.nan}, "unreadable"),
        ({"nbchan": 3.0}, "unreadable"),
        ({"nbchan": 3.0, "chanlocs": np.zeros((0, 0))}, "unreadable"),
        ({"data": SINES.T}, "unreadable"),
        ({"data": SINES * 1j}, "unreadable"),
        ({"srate": "200"}, "unreadable"),
    ],
)
def test_eeglab_claims_are_checked(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    assert refusal(write_eeglab(tmp_path / "smith.set", **more)) == reason


def test_eeglab_several_recordings(tmp_path: Path) -> None:
    one = structure()
    many = np.array([tuple(one.values())] * 2, dtype=[(name, "O") for name in one])
    scipy.io.savemat(tmp_path / "smith.set", {"EEG": many}, appendmat=False)
    assert refusal(tmp_path / "smith.set") == "unsupported"


def test_eeglab_absurd_size_of_a_structure_takes_no_memory(tmp_path: Path) -> None:
    path = write_eeglab(tmp_path / "smith.set")
    data = path.read_bytes()
    one = struct.pack("<6I", 5, 8, 1, 1, 0, 0)[:16]  # dimensions 1 x 1: the first are those of EEG
    absurd = struct.pack("<4I", 5, 8, 2**30, 2**30)
    path.write_bytes(data.replace(one, absurd, 1))
    assert refusal(path) == "unreadable"


def test_eeglab_bomb_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_eeglab(tmp_path / "smith.set", compress=True, data=np.zeros((2, 2000)))
    assert read(path).values.shape == (2, 2000)
    monkeypatch.setattr(matfile, "MAX_COMPRESSION", 1)
    assert refusal(path) == "unreadable"


@pytest.mark.parametrize("keep", [0, 100, 130, 1000, -8])
def test_eeglab_cut_off(tmp_path: Path, keep: int) -> None:
    path = write_eeglab(tmp_path / "smith.set")
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path) == "unreadable"


def write_hdf5(path: Path, *, wrapped: bool = True, **more: Any) -> Path:
    """Write what MATLAB writes as version 7.3: transposed arrays, texts as uint16, structures as references."""

    def text(group: h5py.Group, name: str, value: str) -> h5py.Dataset:
        stored = group.create_dataset(name, data=np.array([[ord(c)] for c in value], dtype=np.uint16))
        stored.attrs["MATLAB_class"] = np.bytes_("char")
        return stored

    fields = structure(**more)
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("EEG") if wrapped else file
        for name in ("nbchan", "trials", "pnts", "srate"):
            group[name] = np.array([[fields[name]]])
        text(group, "subject", SECRET)
        if isinstance(fields["data"], str):
            text(group, "data", fields["data"])
        else:
            group.create_dataset("data", data=fields["data"].T, compression="gzip")
        located, texts = group.create_group("chanlocs"), file.create_group("#refs#")
        for key in ("labels", "type"):
            refs = [text(texts, f"{key}{i}", value or " ").ref for i, value in enumerate(fields["chanlocs"][key])]
            located.create_dataset(key, data=np.array(refs, dtype=h5py.ref_dtype)[:, None], dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return path


@pytest.mark.parametrize("wrapped", [False, True])
def test_eeglab_hdf5(tmp_path: Path, wrapped: bool) -> None:
    path = write_hdf5(tmp_path / "smith.set", wrapped=wrapped)
    signal = read(path)
    np.testing.assert_allclose(signal.values, SINES, atol=1e-4)
    assert (signal.rate_hz, signal.channels, signal.unit) == (200.0, ("Fp1", "Cz"), "uV")
    np.testing.assert_array_equal(read(path, start_s=1.5, end_s=2.5).values, signal.values[:, 300:500])


def test_eeglab_hdf5_with_data_beside(tmp_path: Path) -> None:
    write_fdt(tmp_path)
    np.testing.assert_allclose(read(write_hdf5(tmp_path / "smith.set", data="smith.fdt")).values, SINES, atol=1e-4)
    assert refusal(write_hdf5(tmp_path / "smith.set", data="../smith.fdt")) == "outside_folder"


def test_eeglab_hdf5_must_not_lead_outside(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = SINES.T
    raw = tmp_path / "raw.bin"
    raw.write_bytes(SINES.T.astype("<f8").tobytes())
    path = write_hdf5(tmp_path / "smith.set")
    with h5py.File(path, "r+") as file:
        del file["EEG/data"]
        file["EEG/data"] = h5py.ExternalLink("other.h5", "/data")
    assert refusal(path) == "outside_folder"
    with h5py.File(path, "r+") as file:
        del file["EEG/data"]
        file["EEG"].create_dataset("data", (2000, 2), "<f8", external=[(str(raw), 0, 32000)])
    assert refusal(path) == "outside_folder"
    with h5py.File(path, "r+") as file:
        del file["EEG/data"]
        layout = h5py.VirtualLayout((2000, 2), "<f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", (2000, 2))
        file["EEG"].create_virtual_dataset("data", layout)
    assert refusal(path) == "outside_folder"
    with h5py.File(path, "r+") as file:
        del file["EEG"]
        file["EEG"] = h5py.ExternalLink("other.h5", "/")
    assert refusal(path) == "outside_folder"


def test_eeglab_hdf5_claims_are_checked(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "smith.set", pnts=4e6)
    with h5py.File(path, "r+") as file:
        del file["EEG/data"]
        file["EEG"].create_dataset("data", (4_000_000, 2), "<f8", chunks=(1000, 2))  # nothing is stored
    assert refusal(path) == "unreadable"
    assert refusal(write_hdf5(tmp_path / "b.set", trials=5.0)) == "unsupported"
