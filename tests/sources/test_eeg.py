"""BrainVision, EEGLAB and FIF: values against mne, files they name, and what must be refused."""

from __future__ import annotations

import gzip
import os
import struct
import warnings
from pathlib import Path
from typing import Any

import h5py
import mne
import numpy as np
import pybv
import pytest
import scipy.io

from medssl import sources
from medssl.sources import brainvision, electrodes, matfile
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


# --- BrainVision ----------------------------------------------------------------------------------------------------
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


# --- EEGLAB ---------------------------------------------------------------------------------------------------------
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


# --- FIF ------------------------------------------------------------------------------------------------------------
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


# --- every format ---------------------------------------------------------------------------------------------------
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
