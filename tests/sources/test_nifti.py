"""NIfTI files whose every value is known, and files that must be refused."""

from __future__ import annotations

import gzip
import itertools
import tracemalloc
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medssl import sources
from medssl.sources.record import BadRecord, Record, Volume
from tests.sources import examples_images as examples

SCENE = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(np.int16)  # superior, posterior, left
SPACING_MM = (3.0, 2.0, 1.5)  # of the axes of SCENE
TOWARDS = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
CODES = ["".join(code) for code in itertools.permutations("SIPALR", 3) if len({TOWARDS[c][0] for c in code}) == 3]
KINDS: dict[str, Any] = {"nifti1": nibabel.Nifti1Image, "nifti2": nibabel.Nifti2Image}


def read(path: Path, **more: Any) -> Volume:
    volume = sources.read(Record(path=path, format="nifti", patient="p1", trial="t1", **more))
    assert isinstance(volume, Volume)
    assert volume.values.dtype == np.float32
    assert volume.values.flags["C_CONTIGUOUS"]
    return volume


def refusal(path: Path, **more: Any) -> tuple[str, str]:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path=path, format="nifti", patient="p1", trial="t1", **more))
    assert "Jane" not in str(caught.value) and path.name not in str(caught.value)
    return caught.value.reason, caught.value.detail


def stored(codes: str) -> tuple[np.ndarray, np.ndarray]:
    """Return SCENE as an array whose axes point to ``codes``, and its affine."""
    values = SCENE.transpose([TOWARDS[c][0] for c in codes])
    values = np.flip(values, [i for i, c in enumerate(codes) if TOWARDS[c][1] < 0])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for i, c in enumerate(codes):
        axis = TOWARDS[c][0]
        affine[2 - axis, i] = SPACING_MM[axis] * (1 if c in "RAS" else -1)
    affine[:3, 3] = 7, -8, 9
    return np.ascontiguousarray(values), affine


def write(path: Path, codes: str = "RAS", kind: Any = nibabel.Nifti1Image, values: np.ndarray | None = None) -> Path:
    scene, affine = stored(codes)
    image = kind(scene if values is None else values, affine, dtype=None if values is None else values.dtype)
    image.header["descrip"] = b"Doe^Jane"
    nibabel.save(image, path)
    return path


def patch(path: Path, at: int, value: Any, kind: str) -> None:
    """Overwrite one field of a header."""
    data = bytearray(path.read_bytes())
    raw = np.array(value, dtype=kind).tobytes()
    data[at : at + len(raw)] = raw
    path.write_bytes(data)


def test_there_are_48_orientations() -> None:
    assert len(CODES) == 48


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("kind", KINDS)
def test_all_48_orientations(tmp_path: Path, codes: str, kind: str) -> None:
    volume = read(write(tmp_path / "a.nii", codes, KINDS[kind]))
    np.testing.assert_array_equal(volume.values, SCENE)
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr", "a.img"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_and_pairs(tmp_path: Path, name: str, kind: str) -> None:
    pair = {"nifti1": nibabel.Nifti1Pair, "nifti2": nibabel.Nifti2Pair}
    path = write(tmp_path / name, kind=pair[kind] if name[-3:] in ("hdr", "img") else KINDS[kind])
    np.testing.assert_array_equal(read(path).values, SCENE)


def test_pair_needs_both_files_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    path = write(tmp_path / "set" / "a.img", kind=nibabel.Nifti1Pair)
    path.rename(tmp_path / "b.img")
    assert refusal(path.with_suffix(".hdr"))[0] == "missing_file"
    path.symlink_to(tmp_path / "b.img")
    assert refusal(path.with_suffix(".hdr"))[0] == "outside_folder"


def test_analyze_does_not_say_which_side_is_left(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(SCENE, np.eye(4)), tmp_path / "a.img")
    assert refusal(tmp_path / "a.img")[0] == "unsupported"


def test_scale(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(SCENE, stored("RAS")[1])
    nibabel.save(nibabel.Nifti1Image(stored("RAS")[0], image.affine), tmp_path / "a.nii")
    patch(tmp_path / "a.nii", 112, [0.5, -3], "<f4")
    np.testing.assert_array_equal(read(tmp_path / "a.nii").values, SCENE * 0.5 - 3)
    patch(tmp_path / "a.nii", 112, [0, 100], "<f4")  # a slope of 0 means that there is no scale
    np.testing.assert_array_equal(read(tmp_path / "a.nii").values, SCENE)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_types(tmp_path: Path, dtype: str) -> None:
    values = stored("RAS")[0].astype(dtype)
    np.testing.assert_array_equal(read(write(tmp_path / "a.nii.gz", values=values)).values, SCENE)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_colour_and_complex_are_refused(tmp_path: Path, dtype: Any) -> None:
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), dtype=dtype), np.eye(4))
    nibabel.save(image, tmp_path / "a.nii")
    assert refusal(tmp_path / "a.nii")[0] == "unsupported"


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_frames(tmp_path: Path, name: str) -> None:
    scene = stored("LPS")[0]
    path = write(tmp_path / name, "LPS", values=np.stack([scene, scene + 100, scene + 200], axis=-1))
    assert refusal(path) == ("unsupported", "the image has several frames; hints['frame'] chooses one, counted from 0")
    for frame in (0, 2, "1"):
        np.testing.assert_array_equal(read(path, hints={"frame": frame}).values, SCENE + 100 * int(frame))
    for frame in (3, -1, 1.5, "x", "nan"):
        assert refusal(path, hints={"frame": frame})[0] == "unsupported"


@pytest.mark.parametrize("more", [(1,), (1, 1)])
def test_a_single_frame_needs_no_hint(tmp_path: Path, more: tuple[int, ...]) -> None:
    scene = stored("RAS")[0]
    np.testing.assert_array_equal(
        read(write(tmp_path / "a.nii", values=scene.reshape(scene.shape + more))).values, SCENE
    )


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5, 1, 3)])
def test_other_dimensions_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(write(tmp_path / "a.nii", values=np.zeros(shape, np.int16)))[0] == "unsupported"


def test_sform_comes_before_qform(tmp_path: Path) -> None:
    values, affine = stored("LPS")
    image = nibabel.Nifti1Image(values, affine)
    image.set_qform(np.diag([9.0, 9, 9, 1]), 1)
    image.set_sform(affine, 1)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read(tmp_path / "a.nii").values, SCENE)
    np.testing.assert_allclose(read(tmp_path / "a.nii").spacing_mm, SPACING_MM)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "b.nii")
    np.testing.assert_array_equal(read(tmp_path / "b.nii").values, SCENE)


@pytest.mark.parametrize("code", [0, 30000])
def test_without_orientation(tmp_path: Path, code: int) -> None:
    image = nibabel.Nifti1Image(*stored("RAS"))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "a.nii")
    patch(tmp_path / "a.nii", 254, code, "<i2")  # nibabel takes an unknown code for 0
    assert refusal(tmp_path / "a.nii")[0] == "unsupported"


def test_metres_become_mm(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(*stored("RAS"))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read(tmp_path / "a.nii").spacing_mm, np.array(SPACING_MM) * 1000)


def test_a_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii")
    data = path.read_bytes()
    bomb = tmp_path / "bomb.nii.gz"
    bomb.write_bytes(gzip.compress(data + bytes(50_000_000)))
    tracemalloc.start()
    np.testing.assert_array_equal(read(bomb).values, SCENE)  # no more is read than the header asks for
    patch(path, 42, [30000] * 3, "<i2")
    bomb.write_bytes(gzip.compress(path.read_bytes() + bytes(1_000_000)))
    tracemalloc.reset_peak()
    assert refusal(bomb)[0] == "unreadable"
    patch(path, 42, [40] * 3, "<i2")  # possible for the file, not for what it holds
    bomb.write_bytes(gzip.compress(path.read_bytes()))
    assert refusal(bomb)[0] == "unreadable"
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("offset", [-1, 1e9, np.nan, np.inf])
@pytest.mark.parametrize("zipped", [False, True])
def test_place_of_the_voxels_is_checked(tmp_path: Path, offset: float, zipped: bool) -> None:
    path = write(tmp_path / "a.nii")
    patch(path, 108, offset, "<f4")
    if zipped:
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert refusal(tmp_path / ("a.nii.gz" if zipped else "a.nii"))[0] == "unreadable"


def test_damage_within_a_compressed_file_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", values=np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # the checksum
    path.write_bytes(data)
    assert refusal(path)[0] == "unreadable"


def test_blocked_gzip(tmp_path: Path) -> None:
    data = write(tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz").values, SCENE)


@pytest.mark.parametrize("name", ["nifti", "nifti2"])
def test_examples(tmp_path: Path, name: str) -> None:
    volume = read(examples.EXAMPLES[name](tmp_path, 3))
    assert volume.spacing_mm == (3, 0.75, 0.5)
    np.testing.assert_array_equal(volume.values[0, ::-1, ::], examples.phantom(seed=3).T)
