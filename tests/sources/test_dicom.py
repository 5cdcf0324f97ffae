"""DICOM volumes: the orientation of stacks, tilted stacks and masks, against files whose every value is known."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medssl import sources
from medssl.sources.record import BadRecord, Record
from tests.sources import examples_images as examples
from tests.sources.examples_images import enhanced, header, phantom, write


def read(path: Path, **more: Any) -> Any:
    result = sources.read(Record(path=path, format="dicom", patient="p1", trial="t1", **more))
    assert result.values.dtype == np.float32
    assert result.values.flags["C_CONTIGUOUS"]
    assert "Jane" not in repr(result)
    return result


def refusal(path: Path, **more: Any) -> tuple[str, str]:
    with pytest.raises(BadRecord) as caught:
        sources.read(Record(path=path, format="dicom", patient="p1", trial="t1", **more))
    for private in ("Jane", path.name, str(path.parent)):
        assert private not in str(caught.value)
    return caught.value.reason, caught.value.detail


def series(folder: Path, count: int = 5, name: str = "IM{:02d}") -> list[Path]:
    return [
        write(folder / name.format(i), header(ImagePositionPatient=[0, 0, 3 * i]), phantom(seed=i))
        for i in range(count)
    ]


# --- orientation ----------------------------------------------------------------------------------------------------
SCENE = np.arange(3 * 4 * 5).reshape(3, 4, 5)  # superior, posterior, left
SPACING_MM = {2: 3.0, 1: 0.5, 0: 0.75}  # of z, y, x
# The six ways to name the axes (slices, rows, columns) of an array, each with its eight signs.
AXES = list(itertools.permutations((2, 1, 0)))
SIGNS = list(itertools.product((1, -1), repeat=3))


def turned(axes: tuple[int, ...], signs: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return SCENE as an array whose axes run along ``axes`` with ``signs``, and these directions in x, y, z."""
    values = SCENE.transpose([{2: 0, 1: 1, 0: 2}[axis] for axis in axes])
    values = np.flip(values, [i for i, sign in enumerate(signs) if sign < 0])
    return values, [sign * np.eye(3)[axis] for axis, sign in zip(axes, signs, strict=True)]


@pytest.mark.parametrize("signs", SIGNS, ids=str)
@pytest.mark.parametrize("axes", AXES, ids=str)
@pytest.mark.parametrize("several_frames", [False, True])
def test_all_48_orientations(
    tmp_path: Path, axes: tuple[int, ...], signs: tuple[int, ...], several_frames: bool
) -> None:
    values, (between, down, along) = turned(axes, signs)
    plane = {"ImageOrientationPatient": [*along, *down], "PixelSpacing": [SPACING_MM[axes[1]], SPACING_MM[axes[2]]]}
    positions = [list(between * SPACING_MM[axes[0]] * i + (7, -8, 9)) for i in range(len(values))]
    if several_frames:
        image = enhanced(len(values))
        shared = image.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = plane["ImageOrientationPatient"]
        shared.PixelMeasuresSequence[0].PixelSpacing = plane["PixelSpacing"]
        for own, position in zip(image.PerFrameFunctionalGroupsSequence, positions, strict=True):
            own.PlanePositionSequence[0].ImagePositionPatient = position
            own.PixelValueTransformationSequence[0].RescaleIntercept = -1000
        path = write(tmp_path / "a.dcm", image, values)
    else:
        path = tmp_path
        for i, (position, stored) in enumerate(zip(positions, values, strict=True)):
            write(path / f"{i}", header(**plane, ImagePositionPatient=position), stored)
    volume = read(path)
    np.testing.assert_array_equal(volume.values, SCENE * 2 - 1000)
    np.testing.assert_allclose(volume.spacing_mm, (3.0, 0.5, 0.75), rtol=1e-6)


# --- tilted stacks --------------------------------------------------------------------------------------------------
def tilted(folder: Path, degrees: float, count: int = 16, step_mm: float = 4.0, **tags: Any) -> Path:
    """Write slices turned about the x axis, each ``step_mm`` further along z, with a rod along z through all."""
    angle = np.radians(degrees)
    for k in range(count):
        stored = np.zeros((64, 64), int)
        stored[round(32 / np.cos(angle)) + np.array([[-1], [0], [1]]), 31:34] = 2000
        plane = {"ImageOrientationPatient": [1, 0, 0, 0, np.cos(angle), np.sin(angle)], "PixelSpacing": [1, 1]}
        place = [-32, -32, step_mm * k]
        scale = {"RescaleSlope": 1, "RescaleIntercept": -1000, "SliceThickness": 4}
        write(folder / f"{k}.dcm", header(ImagePositionPatient=place, **plane, **scale, **tags), stored)
    return folder


@pytest.mark.parametrize("degrees", [20, -20, 7.5, 30])
def test_gantry_tilt_is_straightened(tmp_path: Path, degrees: float) -> None:
    volume = read(tilted(tmp_path, degrees))
    angle = np.radians(abs(degrees))
    assert volume.spacing_mm == pytest.approx((4 * np.cos(angle), 1, 1), abs=1e-4)
    assert volume.notes == {"tilt_deg": pytest.approx(abs(degrees), abs=1e-3)}
    shift_mm = 60 * np.sin(angle)
    assert volume.values.shape == (16, 64 + int(np.ceil(shift_mm)), 64)
    weight = (volume.values + 1000).clip(0)
    rows = (weight * np.arange(volume.values.shape[1])[:, None]).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))
    # The rod is straight, shifted by 20.5 mm over the stack at 20 degrees, and 60 mm long.
    np.testing.assert_allclose(np.diff(rows), np.sign(degrees) * shift_mm / 15, atol=2e-3)
    assert np.hypot(15 * volume.spacing_mm[0], rows[-1] - rows[0]) == pytest.approx(60, abs=0.05)
    np.testing.assert_allclose(weight.sum(axis=(1, 2)), 9 * 2000, rtol=1e-3)  # nothing of it is cut off
    assert set(volume.values[0][volume.values[0] < -1000].tolist()) <= {-1024.0}


def test_a_tilt_that_positions_contradict_is_noted(tmp_path: Path) -> None:
    for degrees, stated, conflict in ((20, 20, 0), (20, -20, 0), (0, 20, 1), (20, 0, 1), (0, 0.5, 0)):
        folder = tmp_path / f"{degrees}{stated}"
        folder.mkdir()
        notes = read(tilted(folder, degrees, count=5, GantryDetectorTilt=stated)).notes
        assert notes.get("tilt_conflict", 0) == conflict
        single = read(folder / "0.dcm").notes  # its normal against the long axis of the body
        assert single == ({"tilt_conflict": 1} if conflict else {})


def test_a_tilted_stack_of_frames_and_of_mr(tmp_path: Path) -> None:
    image = enhanced(3, step_mm=2.5)
    for i, own in enumerate(image.PerFrameFunctionalGroupsSequence):
        own.PlanePositionSequence[0].ImagePositionPatient = [0, 0.5 * i, 2.5 * i]  # a row each
        own.PixelValueTransformationSequence[0].RescaleIntercept = -1000
    image.Modality = "MR"
    stored = np.stack([phantom(seed=i) for i in range(3)])
    volume = read(write(tmp_path / "a.dcm", image, stored))
    for i in range(3):
        np.testing.assert_allclose(volume.values[i, i : 24 + i], stored[i] * 2 - 1000, atol=1e-3)
    assert volume.values[0, 25, 0] == volume.values.min() == (stored * 2 - 1000).min()
    assert volume.notes["tilt_deg"] == pytest.approx(np.degrees(np.arctan(0.5 / 2.5)))


@pytest.mark.parametrize(
    ("positions", "detail"),
    [
        ([(0, 0, 0), (3, 0, 2), (0, 0, 4)], "do not lie on a line"),  # the middle one is off to the side
        ([(0, 0, 0), (0, 3, 2), (0, 6, 4)], "more than 45 degrees"),
    ],
)
def test_stacks_that_no_shift_straightens(tmp_path: Path, positions: list[tuple[int, ...]], detail: str) -> None:
    for i, at in enumerate(positions):
        write(tmp_path / f"{i}.dcm", header(ImagePositionPatient=list(at)), phantom())
    assert detail in refusal(tmp_path)[1]


def test_a_tilt_without_pixel_spacing(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"{i}.dcm", header(ImagePositionPatient=[0, i, 2 * i], PixelSpacing=None), phantom())
    assert "no pixel spacing" in refusal(tmp_path)[1]


# --- masks ----------------------------------------------------------------------------------------------------------
def test_masks_of_a_series(tmp_path: Path) -> None:
    (tmp_path / "stack7").mkdir()
    series(tmp_path / "stack7")
    labels = (phantom() > 2000).astype(np.uint8).T[:, :, None] * np.arange(1, 6, dtype=np.uint8)
    affine = np.diag([-0.75, -0.5, 3, 1])
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "same.nii.gz")
    volume = read(tmp_path / "stack7", mask=tmp_path / "same.nii.gz")
    np.testing.assert_array_equal(volume.mask, labels.T)
    assert volume.notes == {"mask_resampled": 0, "mask_outside": 0}
    part = affine.copy()
    part[:3, 3] = affine[:3, :3] @ (2, 3, 1)
    nibabel.save(nibabel.Nifti1Image(labels[2:, 3:, 1:], part), tmp_path / "part.nii.gz")
    volume = read(tmp_path / "stack7", mask=tmp_path / "part.nii.gz")
    expected = labels.T.copy()
    expected[0], expected[:, :3], expected[:, :, :2] = 0, 0, 0
    np.testing.assert_array_equal(volume.mask, expected)
    (tmp_path / "m.mha").write_bytes(
        examples.metaimage_header("LOCAL", labels.T.shape, ElementType="MET_UCHAR", Offset="0 0 0",
                                  ElementSpacing="0.75 0.5 3") + labels.T.tobytes()
    )  # fmt: skip
    np.testing.assert_array_equal(read(tmp_path / "stack7", mask=tmp_path / "m.mha").mask, labels.T)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "eye.nii.gz")
    assert refusal(tmp_path / "stack7", mask=tmp_path / "eye.nii.gz")[0] == "bad_mask"


def test_a_mask_follows_a_tilted_stack(tmp_path: Path) -> None:
    """As dcm2niix converts a segmentation of tilted slices: on their own grid, at an angle."""
    (tmp_path / "stack7").mkdir()
    volume = read(tilted(tmp_path / "stack7", 20))
    angle = np.radians(20)
    lps = np.eye(4)
    lps[:3, :3] = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, 0, 4]]).T
    lps[:3, 3] = -32, -32, 0
    labels = np.zeros((64, 64, 16), np.uint8)
    labels[31:34, round(32 / np.cos(angle)) + np.array([-1, 0, 1])] = 1
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1, -1, 1, 1]) @ lps), tmp_path / "m.nii")
    found = read(tmp_path / "stack7", mask=tmp_path / "m.nii")
    assert found.notes["mask_resampled"] == 1 and found.notes["mask_outside"] == 0
    assert (found.mask == 1).sum() == 9 * 16
    assert volume.values[found.mask == 1].min() > -400  # half of a voxel of rod at least
