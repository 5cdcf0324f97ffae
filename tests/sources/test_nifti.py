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
    for frame in (0, 2, "1", 1.0, "1.0", np.int64(2)):
        np.testing.assert_array_equal(read(path, hints={"frame": frame}).values, SCENE + 100 * int(float(frame)))
    for frame in (3, -1, 1.5, "x", "nan", "inf", "3.0"):
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


# --- what a header may say, and names -------------------------------------------------------------------------------
def test_a_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(plain)
    (tmp_path / "c.nii").write_bytes(gzip.compress(plain))
    for name in ("b.nii.gz", "c.nii"):
        np.testing.assert_array_equal(read(tmp_path / name).values, SCENE)
    (tmp_path / "d.nii.gz").write_bytes(gzip.compress(plain)[:-30])
    assert refusal(tmp_path / "d.nii.gz")[1].startswith("the compressed file is cut off")
    (tmp_path / "e.nii.gz").write_bytes(plain[:-3])
    assert refusal(tmp_path / "e.nii.gz")[0] == "unreadable"


def test_pairs_in_capitals_and_without_their_other_half(tmp_path: Path) -> None:
    write(tmp_path / "a.img", kind=nibabel.Nifti1Pair)
    for suffix in ("hdr", "img"):
        (tmp_path / f"a.{suffix}").rename(tmp_path / f"B.{suffix.upper()}")
    for name in ("B.HDR", "B.IMG"):
        np.testing.assert_array_equal(read(tmp_path / name).values, SCENE)
    (tmp_path / "B.IMG").unlink()
    assert "the other file of the pair" in refusal(tmp_path / "B.HDR")[1]


def conflicted(path: Path, sform: np.ndarray, qform: np.ndarray | None, values: np.ndarray) -> Path:
    image = nibabel.Nifti1Image(values, sform)
    image.set_qform(qform, 0 if qform is None else 1)
    image.set_sform(sform, 1)
    nibabel.save(image, path)
    return path


def test_header_conflict(tmp_path: Path) -> None:
    values, affine = stored("LPS")

    def conflict(qform: np.ndarray | None) -> float:
        volume = read(conflicted(tmp_path / "a.nii", affine, qform, values))
        np.testing.assert_array_equal(volume.values, SCENE)  # the sform's order in any case
        np.testing.assert_allclose(volume.spacing_mm, SPACING_MM)
        return volume.notes["header_conflict"]

    moved, near, turned = affine.copy(), affine.copy(), affine.copy()
    moved[0, 3] += 4
    near[:3, 3] += 0.3  # headers round
    turned[0, 0] *= -1
    assert [conflict(q) for q in (affine, near, None, moved, turned)] == [0, 0, 0, 1, 1]
    path = conflicted(tmp_path / "a.nii", affine, None, values)
    patch(path, 80, [1.5, 2.0, 4.0], "<f4")  # pixdim
    assert read(path).notes["header_conflict"] == 1
    patch(path, 80, [1.5, 2.0, 3.001], "<f4")
    assert read(path).notes["header_conflict"] == 0
    path = conflicted(tmp_path / "a.nii", affine, affine, values)
    patch(path, 256, [9.0, 9.0, 9.0], "<f4")  # no quaternion
    assert read(path).notes["header_conflict"] == 1


@pytest.mark.parametrize("unit", ["1", "HU"])
def test_a_tilted_stack_is_straightened(tmp_path: Path, unit: str) -> None:
    values, affine = stored("LPS")
    affine[1, 2] = 1.0  # each slice lies 1 mm, half a row, further to the front
    path = conflicted(tmp_path / "a.nii", affine, None, values)
    volume = read(path, hints={"unit": unit})
    assert volume.values.shape == (3, 5, 5)
    np.testing.assert_array_equal(volume.values[0, 1:], SCENE[0])
    np.testing.assert_array_equal(volume.values[2, :4], SCENE[2])
    np.testing.assert_allclose(volume.values[1, 1:4], (SCENE[1, :3] + SCENE[1, 1:]) / 2)
    np.testing.assert_array_equal(volume.values[2, 4], -1024 if unit == "HU" else 0)
    np.testing.assert_allclose(volume.spacing_mm, SPACING_MM)
    assert volume.notes["tilt_deg"] == pytest.approx(np.degrees(np.arctan(1 / 3)))
    # Labels are never mixed, and follow their own affine.
    mask = conflicted(tmp_path / "m.nii", affine, None, (values % 7).astype(np.int16))
    found = read(path, mask=mask)
    assert found.mask is not None and set(np.unique(found.mask)) <= set(range(7))
    np.testing.assert_array_equal(found.mask[0, 1:], SCENE[0] % 7)
    assert found.notes["mask_resampled"] == 1


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SPR", "IAL"])
def test_mask_on_other_axes_of_the_same_grid(tmp_path: Path, codes: str) -> None:
    def placed(name: str, codes: str, kind: np.ndarray) -> Path:
        values, affine = stored(codes)
        for code in codes:  # all orientations in the same place
            axis = TOWARDS[code][0]
            affine[2 - axis, 3] = 7 + (0 if code in "RAS" else (SCENE.shape[axis] - 1) * SPACING_MM[axis])
        nibabel.save(nibabel.Nifti1Image(values.astype(kind.dtype) % 6, affine), tmp_path / name)
        return tmp_path / name

    volume = read(placed("a.nii", "LPS", SCENE), mask=placed("m.nii.gz", codes, SCENE))
    np.testing.assert_array_equal(volume.mask, SCENE % 6)
    assert volume.notes == {"header_conflict": 0, "mask_resampled": 0, "mask_outside": 0}


def test_masks_that_lie_elsewhere(tmp_path: Path) -> None:
    """The case of a CT in LPS with labels saved under the identity, and labels of a part of the volume."""
    ct, labels = np.full((32, 32, 12), -1000, np.int16), np.zeros((32, 32, 12), np.uint8)
    ct[2:10, 2:10], labels[2:10, 2:10] = 100, 1
    affine = np.diag([-1.0, -1, 2, 1])
    for name, values, at in (("ct.nii", ct, affine), ("same.nii", labels, affine), ("eye.nii", labels, np.eye(4))):
        nibabel.save(nibabel.Nifti1Image(values, at), tmp_path / name)
    part = affine.copy()
    part[:3, 3] = affine[:3, :3] @ (1, 1, 3)
    nibabel.save(nibabel.Nifti1Image(labels[1:12, 1:20, 3:], part), tmp_path / "part.nii")
    flipped = np.diag([1.0, -1, 2, 1])
    flipped[0, 3] = -31
    nibabel.save(nibabel.Nifti1Image(labels[::-1], flipped), tmp_path / "flipped.nii")
    fine = affine @ np.diag([0.5, 0.5, 0.5, 1])
    fine[:3, 3] -= np.array([-0.25, -0.25, 0.5])
    nibabel.save(nibabel.Nifti1Image(labels.repeat(2, 0).repeat(2, 1).repeat(2, 2), fine), tmp_path / "fine.nii")
    assert refusal(tmp_path / "ct.nii", mask=tmp_path / "eye.nii")[0] == "bad_mask"
    for name, resampled in (("same", 0), ("part", 1), ("flipped", 0), ("fine", 1)):
        volume = read(tmp_path / "ct.nii", mask=tmp_path / f"{name}.nii", hints={"unit": "HU"})
        assert volume.mask is not None
        assert set(volume.values[volume.mask == 1]) == {100.0}, name
        assert (volume.mask == 1).sum() == 64 * (9 if name == "part" else 12)
        assert (volume.notes["mask_resampled"], volume.notes["mask_outside"]) == (resampled, 0)
