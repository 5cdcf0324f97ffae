"""NumPy arrays: values, the rule that tells signals from volumes, and what must be refused."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medssl import sources
from medssl.sources import arrays
from medssl.sources.record import BadRecord, Record, Signal, Volume

RATE_HZ = 100.0
TIME_S = np.arange(500) / RATE_HZ
SINES = np.stack([np.sin(2 * np.pi * 1.5 * TIME_S), 0.4 * np.cos(2 * np.pi * 5 * TIME_S)])
SCENE = np.arange(3 * 4 * 5).reshape(3, 4, 5)  # superior, posterior, left


def record(path: Path, hints: dict[str, Any] | None = None, **more: Any) -> Record:
    return Record(path, "array", "p", "t", hints=hints or {}, **more)


def read_signal(path: Path, *, start_s: float | None = None, end_s: float | None = None, **hints: Any) -> Signal:
    signal = sources.read(record(path, {"rate_hz": RATE_HZ, **hints}, start_s=start_s, end_s=end_s))
    assert isinstance(signal, Signal)
    assert signal.values.dtype == np.float32
    assert signal.values.flags["C_CONTIGUOUS"] and not isinstance(signal.values, np.memmap)
    return signal


def read_volume(path: Path, *, mask: Path | None = None, **hints: Any) -> Volume:
    volume = sources.read(record(path, hints, mask=mask))
    assert isinstance(volume, Volume)
    assert volume.values.dtype == np.float32
    assert volume.values.flags["C_CONTIGUOUS"]
    return volume


def refusal(path: Path, hints: dict[str, Any] | None = None, **more: Any) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record(path, hints, **more))
    for private in ("Jane", path.name, str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason


def write(path: Path, array: np.ndarray, **others: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez_compressed(path, data=array, **others)
    else:
        np.save(path, array, allow_pickle=True)
    return path


SUFFIXES = pytest.mark.parametrize("suffix", [".npy", ".npz"])


# --- signals --------------------------------------------------------------------------------------------------------
@SUFFIXES
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_signal_either_way_round(tmp_path: Path, suffix: str, dtype: str, order: Any) -> None:
    for values in (SINES, SINES.T):
        path = write(tmp_path / f"a{suffix}", np.asarray(values, dtype=dtype, order=order))
        signal = read_signal(path, columns="I;II", unit="mV")
        np.testing.assert_allclose(signal.values, SINES, atol=1e-3)
        assert (signal.rate_hz, signal.channels, signal.unit) == (100.0, ("I", "II"), "mV")
    assert read_signal(path).channels == ("channel 1", "channel 2")
    np.testing.assert_allclose(read_signal(path, columns="II=2").values, SINES[1:], atol=1e-3)
    part = read_signal(path, start_s=1.0, end_s=2.5)
    np.testing.assert_allclose(part.values, SINES[:, 100:250], atol=1e-3)


@SUFFIXES
def test_one_axis_and_axes_of_length_one(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", (1000 * SINES[0]).astype(np.int16))
    assert read_signal(path).channels == ("signal",)
    assert read_signal(path, channel="PPG").channels == ("PPG",)
    assert refusal(path) == "no_rate"
    path = write(tmp_path / f"b{suffix}", SINES[np.newaxis])
    np.testing.assert_allclose(read_signal(path).values, SINES, atol=1e-6)


def test_time_is_the_longer_axis_unless_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    assert read_signal(path).values.shape == (2, 3)
    np.testing.assert_array_equal(read_signal(path, axis="0").values, [[0, 3], [1, 4], [2, 5]])
    square = write(tmp_path / "b.npy", np.arange(4.0).reshape(2, 2))
    assert refusal(square, {"rate_hz": 10}) == "unsupported"
    np.testing.assert_array_equal(read_signal(square, axis=1).values, [[0, 1], [2, 3]])
    assert refusal(square, {"rate_hz": 10, "axis": "time"}) == "unsupported"


def test_only_the_part_is_read_from_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    whole = np.lib.format.open_memmap(path, "w+", np.float32, (2, 200_000_000))  # 1.6 GB, all hole
    whole[:, 100:200] = SINES[:, 100:200]
    whole.flush()
    tracemalloc.start()
    part = read_signal(path, start_s=1, end_s=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(part.values, SINES[:, 100:200], atol=1e-6)
    assert peak < 10e6


def test_missing_and_infinite_values_are_nan(tmp_path: Path) -> None:
    values = SINES.copy()
    values[0, :3] = np.nan, np.inf, 1e300
    read = read_signal(write(tmp_path / "a.npy", values)).values
    assert np.argwhere(np.isnan(read)).tolist() == [[0, 0], [0, 1], [0, 2]]


@SUFFIXES
@pytest.mark.parametrize(
    ("hints", "more", "reason"),
    [
        ({"rate_hz": 0}, {}, "no_rate"),
        ({"rate_hz": 100, "columns": "I"}, {}, "missing_channel"),
        ({"rate_hz": 100, "columns": "I=3"}, {}, "missing_channel"),
        ({"rate_hz": 100}, {"start_s": 5.0}, "too_short"),
        ({"rate_hz": 100, "index": 2}, {}, "no_samples"),
        ({"rate_hz": 100, "index": "x"}, {}, "no_samples"),
        ({"rate_hz": 100, "index": 0.5}, {}, "no_samples"),
        ({"rate_hz": 100, "index": "-1"}, {}, "no_samples"),
    ],
)
def test_signal_refusals(tmp_path: Path, suffix: str, hints: dict[str, Any], more: dict[str, Any], reason: str) -> None:
    assert refusal(write(tmp_path / f"a{suffix}", SINES), hints, **more) == reason


# --- volumes --------------------------------------------------------------------------------------------------------
@SUFFIXES
def test_without_a_rate_it_is_a_volume(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", SCENE.astype(np.int16))
    volume = read_volume(path, unit="HU", spacing_mm=(3, 2, 1))
    np.testing.assert_array_equal(volume.values, SCENE)
    assert (volume.spacing_mm, volume.unit, volume.mask) == ((3, 2, 1), "HU", None)
    assert read_volume(path, spacing_mm=[2]).spacing_mm == (2, 2, 2)
    assert np.isnan(read_volume(path).spacing_mm).all()
    assert refusal(path, {"spacing_mm": (1, 0, 1)}) == "unreadable"
    slice_ = write(tmp_path / f"b{suffix}", SCENE[0].astype(np.uint8))
    volume = read_volume(slice_, spacing_mm=(0.5, 0.7))
    np.testing.assert_array_equal(volume.values, SCENE[:1])
    np.testing.assert_array_equal(volume.spacing_mm, (np.nan, 0.5, 0.7))


def test_axes_of_a_volume(tmp_path: Path) -> None:
    for axes, array in {
        "RAS": SCENE[:, ::-1, ::-1].transpose(2, 1, 0),
        "LPS": SCENE.transpose(2, 1, 0),
        "IPL": SCENE[::-1],
    }.items():
        path = write(tmp_path / f"{axes}.npy", np.ascontiguousarray(array))
        np.testing.assert_array_equal(read_volume(path, axes=axes).values, SCENE)
    for wrong in ("RAR", "RA", "XYZ"):
        assert refusal(path, {"axes": wrong}) == "unsupported"


def test_mask_beside_a_volume(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npy", SCENE.astype(np.float32))
    labels = (SCENE % 3).astype(np.uint8)
    for mask in (write(tmp_path / "m.npy", labels), write(tmp_path / "m.npz", labels)):
        np.testing.assert_array_equal(read_volume(path, mask=mask).mask, labels)
    affine = np.diag([-1.0, -1, 1, 1])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(labels.transpose(2, 1, 0)), affine), tmp_path / "m.nii")
    np.testing.assert_array_equal(read_volume(path, mask=tmp_path / "m.nii").mask, labels)
    assert refusal(path, mask=write(tmp_path / "n.npy", labels[1:])) == "bad_mask"
    assert refusal(path, mask=write(tmp_path / "o.npy", SCENE / 2)) == "bad_mask"
    assert refusal(path, mask=tmp_path / "none.npy") == "missing_file"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((20, 20, 3), np.uint8),  # colours
        np.zeros((2, 3, 4, 5), np.float32),
        np.zeros((3, 4), bool),
        np.zeros((3, 4), complex),
        np.zeros((3, 4), "datetime64[s]"),
        np.array([["Jane"] * 4] * 3),
        np.zeros(3, [("x", "f4")]),
        np.zeros(3, [("naïve λ", "f4")]),
        np.array([{"name": "Jane"}] * 3, object),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
@SUFFIXES
@pytest.mark.filterwarnings("ignore:Stored array in format 3.0:UserWarning")
def test_what_is_no_array_of_real_numbers(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    assert refusal(write(tmp_path / f"a{suffix}", array), {"variable": "data"}) == "unsupported"


def test_empty_arrays(tmp_path: Path) -> None:
    for shape in ((0,), (3, 0), (0, 4, 5)):
        assert refusal(write(tmp_path / "a.npy", np.zeros(shape)), {"rate_hz": 1}) == "no_samples"
        assert refusal(write(tmp_path / "a.npz", np.zeros(shape)), {"variable": "data"}) == "no_samples"


# --- one recording a row --------------------------------------------------------------------------------------------
@SUFFIXES
def test_index_takes_one_row(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / f"a{suffix}", SCENE.astype(np.uint8))
    unpacked = []
    plain = arrays.member
    monkeypatch.setattr(arrays, "member", lambda *a, **k: unpacked.append(a) or plain(*a, **k))
    for row in range(3):
        np.testing.assert_array_equal(read_volume(path, index=row).values, SCENE[row][np.newaxis])
    assert len(unpacked) == (1 if suffix == ".npz" else 0)
    assert read_signal(path, index="2.0").values.shape == (4, 5)
    assert refusal(path, {"index": 3}) == "no_samples"
    assert refusal(path, {"index": 0.5}) == "no_samples"


# --- claims ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", ["(9999999999999, 500)", "(2, 501)", "(2, 400)", "(-2, 500)", "(2, -1)"])
@SUFFIXES
def test_claims_are_checked(tmp_path: Path, suffix: str, shape: str) -> None:
    path = write(tmp_path / "a.npy", SINES)
    data = path.read_bytes()
    header, body = data[10:128], data[128:]
    assert b"(2, 500), " in header
    header = header.replace(b"(2, 500), ", f"{shape}, ".encode()).rstrip()
    path.write_bytes(data[:10] + header.ljust(117) + b"\n" + body)
    if suffix == ".npz":
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.write(path, "data.npy")
        path = tmp_path / "a.npz"
    assert refusal(path, {"rate_hz": 1}) == "unreadable"


@SUFFIXES
@pytest.mark.parametrize("keep", [3, 20, 100, 130, -1])
def test_truncated(tmp_path: Path, suffix: str, keep: int) -> None:
    path = write(tmp_path / f"a{suffix}", SINES)
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path, {"rate_hz": 1}) == "unreadable"


# --- the manifest's hints -------------------------------------------------------------------------------------------
def test_manifest_hints_reach_the_readers(tmp_path: Path) -> None:
    write(tmp_path / "a.npz", SINES, more=SINES)
    write(tmp_path / "b.npy", SCENE.astype(np.int16))
    (tmp_path / "c.csv").write_text("lead1,lead2\n1,2\n")
    (tmp_path / "manifest.csv").write_text(
        "path,patient,trial,rate_hz,variable,columns,axis,index,spacing_mm\n"
        "a.npz,p,1,100,more,I;II,1,,\n"
        "b.npy,p,2,,,,,1,0.5x0.7\n"
        "b.npy,p,3,,,,,,1;2;3\n"
        "c.csv,p,4,10,,II=lead2,,,\n"
        "b.npy,p,5,,,,,,1xtwo\n"
        "b.npy,p,6,,,,,,1x1x1x1\n"
        "../b.npy,p,7,,,,,,0\n"
    )
    records = sources.list_records("manifest", tmp_path)
    first, second, third, fourth = (sources.read(r) for r in records[:4])
    assert isinstance(first, Signal) and first.channels == ("I", "II")
    assert isinstance(second, Volume) and second.spacing_mm[1:] == (0.5, 0.7)
    np.testing.assert_array_equal(second.values, SCENE[1:2])
    assert isinstance(third, Volume) and third.spacing_mm == (1, 2, 3)
    assert isinstance(fourth, Signal) and fourth.channels == ("II",)
    reasons = []
    for late in records[4:]:
        with pytest.raises(BadRecord) as caught:
            sources.read(late)
        reasons.append(caught.value.reason)
    assert reasons == ["unreadable", "unreadable", "outside_folder"]


# --- what to save instead -------------------------------------------------------------------------------------------
def detail(path: Path, hints: dict[str, Any] | None = None) -> str:
    with pytest.raises(BadRecord) as caught:
        sources.read(record(path, {"variable": "data", **(hints or {})}))
    return caught.value.detail


@SUFFIXES
@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4), complex), "numpy.abs"),
        (np.zeros((3, 4), bool), "astype('uint8')"),
        (np.array([[1, 2], [3]], object), "unequal length"),
        (np.array([["1", "2"]]), "astype(float)"),
        (np.array([[b"1", b"2"]]), "astype(float)"),
        (np.zeros((3, 4), "timedelta64[s]"), "durations"),
        (np.zeros(3, [("x", "f4")]), "table with names"),
        (np.ma.masked_greater(SINES, 0.5).toflex(), "numpy.ma.filled"),
    ],
    ids=lambda value: value.dtype.str if isinstance(value, np.ndarray) else "",
)
def test_a_refusal_says_what_to_save(tmp_path: Path, suffix: str, array: np.ndarray, words: str) -> None:
    path = write(tmp_path / f"a{suffix}", array)
    assert words in detail(path) and words in detail(path, {"rate_hz": 100})


def test_masked_arrays(tmp_path: Path) -> None:
    masked = np.ma.masked_greater(SINES, 0.5)
    np.savez(tmp_path / "a.npz", data=masked.filled())  # NumPy puts 1e20 where values are masked
    assert "numpy.ma.filled" in detail(tmp_path / "a.npz", {"rate_hz": 100})
    np.savez(tmp_path / "b.npz", data=np.ma.masked_greater(SCENE.astype(np.float32), 50).filled())
    assert "numpy.ma.filled" in detail(tmp_path / "b.npz")
    masked.dump(tmp_path / "c.npy")
    assert "numpy.save" in detail(tmp_path / "c.npy", {"rate_hz": 100})
    np.save(tmp_path / "d.npy", masked.filled(np.nan))
    np.testing.assert_array_equal(np.isnan(read_signal(tmp_path / "d.npy").values), masked.mask)


@SUFFIXES
def test_masks_of_true_and_false(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "a.npy", SCENE.astype(np.float32))
    volume = read_volume(path, mask=write(tmp_path / f"m{suffix}", SCENE > 30))
    assert volume.mask is not None and volume.mask.dtype == np.int32 and volume.notes == {}
    np.testing.assert_array_equal(volume.mask, SCENE > 30)
    axes = read_volume(write(tmp_path / "b.npy", SCENE[::-1]), mask=tmp_path / f"m{suffix}", axes="IPL")
    np.testing.assert_array_equal(axes.mask, (SCENE > 30)[::-1])
