"""DICOM, NIfTI and pictures against files written here, whose every value is known; and files that must be refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.sources.test_readers import NAME, read_volume, refusal

# --- DICOM ----------------------------------------------------------------------------------------------------------
AXIAL = (1, 0, 0, 0, 1, 0)


def write_dicom(path: Path, stored: np.ndarray, **tags: Any) -> Path:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = Dataset()
    image.file_meta = meta
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.PatientName, image.PatientID = NAME, "Jane"
    image.Modality, image.SeriesInstanceUID = "CT", "1.2.3"
    image.Rows, image.Columns = stored.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.RescaleSlope, image.RescaleIntercept = 2, -1000
    image.PixelSpacing, image.SliceThickness = [0.5, 0.75], 5
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], list(AXIAL)
    image.PixelData = stored.astype("<i2").tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    return path


SCENE = np.arange(3 * 4 * 5).reshape(3, 4, 5)  # superior, posterior, left


def write_series(folder: Path, orientation: tuple[float, ...] = AXIAL, *, step_mm: float = 2.5, **tags: Any) -> Path:
    """Write SCENE in scanner axes ``orientation``, file names running against the position."""
    folder.mkdir(exist_ok=True)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    axes = [np.cross(row, column), column, row]
    world = [2 - int(np.argmax(np.abs(axis))) for axis in axes]  # z, y, x -> axis of SCENE
    values = SCENE.transpose(world)
    for i, axis in enumerate(axes):
        if axis.sum() < 0:
            values = np.flip(values, i)
    for d in np.random.default_rng(0).permutation(len(values)):
        position = [float(v) for v in axes[0] * (step_mm * d - 40)]
        name = f"{len(values) - d:03d}"
        more = {"ImagePositionPatient": position, "ImageOrientationPatient": list(orientation), **tags}
        write_dicom(folder / name, values[d], InstanceNumber=int(7 - d), **more)
    return folder


def test_dicom_single_slice(tmp_path: Path) -> None:
    stored = np.array([[0, 100, -2000], [500, 700, -12]])
    volume = read_volume(write_dicom(tmp_path / "a.dcm", stored), "dicom")
    np.testing.assert_array_equal(volume.values, [[[-1000, -800, -1024], [0, 400, -1024]]])
    assert (volume.spacing_mm, volume.unit, volume.mask) == ((5.0, 0.5, 0.75), "HU", None)


@pytest.mark.parametrize(
    ("orientation", "spacing"),
    [
        (AXIAL, (2.5, 0.5, 0.75)),
        ((-1, 0, 0, 0, -1, 0), (2.5, 0.5, 0.75)),  # prone
        ((-1, 0, 0, 0, 1, 0), (2.5, 0.5, 0.75)),  # normal points down
        ((0, -1, 0, 1, 0, 0), (2.5, 0.75, 0.5)),  # lying on the side
        ((1, 0, 0, 0, 0, -1), (0.5, 2.5, 0.75)),  # coronal
        ((0, 1, 0, 0, 0, -1), (0.5, 0.75, 2.5)),  # sagittal
    ],
)
def test_dicom_series_in_any_order_and_orientation(
    tmp_path: Path, orientation: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    folder = write_series(tmp_path / "series", orientation)
    (folder / "readme.txt").write_text("not an image")
    volume = read_volume(folder, "dicom")
    np.testing.assert_array_equal(volume.values, SCENE * 2 - 1000)
    assert volume.spacing_mm == pytest.approx(spacing)


def test_dicom_with_mask(tmp_path: Path) -> None:
    labels = (SCENE % 3).astype(np.uint8)
    mask = write_nifti(tmp_path / "mask.nii.gz", labels, "LPS", (2.5, 0.5, 0.75), first=(-40, 0, 0))
    volume = read_volume(write_series(tmp_path / "series"), "dicom", mask=mask)
    assert volume.mask is not None
    np.testing.assert_array_equal(volume.mask, labels)
    elsewhere = write_nifti(tmp_path / "other.nii.gz", labels, "LPS", (2.5, 0.5, 0.75), first=(40, 0, 0))
    assert refusal(tmp_path / "series", "dicom", mask=elsewhere) == "bad_mask"


def test_dicom_mr_has_no_hounsfield_units(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm",
        np.array([[-3000, 5]]),
        Modality="MR",
        RescaleSlope=None,
        RescaleIntercept=None,
        SliceThickness=None,
        PixelSpacing=None,
    )
    volume = read_volume(path, "dicom")
    np.testing.assert_array_equal(volume.values, [[[-3000, 5]]])
    assert volume.unit == "1"
    assert np.isnan(volume.spacing_mm).all()


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"RescaleSlope": None}, "bad_unit"),
        ({"ImageOrientationPatient": None}, "unsupported"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "unsupported"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "unreadable"),
        ({"NumberOfFrames": 2}, "unsupported"),
        ({"PhotometricInterpretation": "RGB"}, "unsupported"),
        ({"BurnedInAnnotation": "YES"}, "unsupported"),
        ({"Rows": 60000, "Columns": 60000}, "unreadable"),
        ({"PixelSpacing": [0, 1]}, "unreadable"),
    ],
)
def test_dicom_claims_are_checked(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((2, 3)), **tags)
    assert refusal(path, "dicom") == reason


@pytest.mark.parametrize("keep", [100, 140, 400, -2])
def test_dicom_truncated(tmp_path: Path, keep: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((8, 8)))
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path, "dicom") == "unreadable"


def test_dicom_folder_must_be_one_even_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series")
    write_dicom(folder / "other", SCENE[0], SeriesInstanceUID="1.2.4", ImagePositionPatient=[0, 0, 40])
    assert refusal(folder, "dicom") == "unreadable"
    (folder / "other").unlink()
    write_dicom(folder / "far", SCENE[0], ImagePositionPatient=[0, 0, 40])
    assert refusal(folder, "dicom") == "unsupported"
    (folder / "far").unlink()
    write_dicom(folder / "twice", SCENE[0], ImagePositionPatient=[0, 0, -40])
    assert refusal(folder, "dicom") == "unreadable"
    (folder / "twice").unlink()
    write_dicom(folder / "wide", SCENE[0], ImagePositionPatient=[0, 0, -42.5], PixelSpacing=[1, 1])
    assert refusal(folder, "dicom") == "unreadable"
    (tmp_path / "none").mkdir()
    assert refusal(tmp_path / "none", "dicom") == "missing_file"


# --- NIfTI ----------------------------------------------------------------------------------------------------------
def write_nifti(
    path: Path,
    scene: np.ndarray,
    codes: str,
    spacing: tuple[float, ...] = (3.0, 2.0, 1.0),
    first: tuple[float, ...] = (7, -8, 9),
) -> Path:
    """Write ``scene`` (superior, posterior, left) with array axes that point to ``codes``, such as RAS.

    Its first voxel lies ``first`` mm towards superior, posterior, left, whatever the axes.
    """
    towards = {"S": (0, 1), "I": (0, -1), "P": (1, 1), "A": (1, -1), "L": (2, 1), "R": (2, -1)}
    world = {0: 2, 1: 1, 2: 0}  # axis of scene -> row of the affine
    values = scene.transpose([towards[c][0] for c in codes])
    values = np.flip(values, [i for i, c in enumerate(codes) if towards[c][1] < 0])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for i, c in enumerate(codes):
        axis = towards[c][0]
        affine[world[axis], i] = spacing[axis] * (1 if c in "RAS" else -1)
        at = first[axis] + (0 if towards[c][1] > 0 else (scene.shape[axis] - 1) * spacing[axis])
        affine[world[axis], 3] = at if axis == 0 else -at
    image = nibabel.Nifti1Image(np.ascontiguousarray(values), affine)
    image.header["descrip"] = NAME.encode()
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SPL", "PIR", "ASL"])
def test_nifti_orientation(tmp_path: Path, codes: str) -> None:
    scene = SCENE.astype(np.float32)
    labels = (SCENE % 4).astype(np.uint8)
    mask = write_nifti(tmp_path / "mask.nii", labels, "RAS")
    volume = read_volume(write_nifti(tmp_path / "a.nii.gz", scene, codes), "nifti", mask=mask)
    np.testing.assert_array_equal(volume.values, scene)
    np.testing.assert_array_equal(volume.mask, labels)
    assert volume.mask is not None
    assert volume.mask.dtype == np.int32
    assert volume.spacing_mm == pytest.approx((3.0, 2.0, 1.0))
    assert volume.unit == "1"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_nifti_types(tmp_path: Path, dtype: type) -> None:
    path = write_nifti(tmp_path / "a.nii", SCENE.astype(dtype), "RAS")
    np.testing.assert_array_equal(read_volume(path, "nifti", hints={"unit": "HU"}).values, SCENE)


def test_nifti_scaled_labels_are_rounded(tmp_path: Path) -> None:
    image = nibabel.load(write_nifti(tmp_path / "m.nii", (SCENE % 3).astype(np.float64), "RAS"))
    image = nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.99999, image.affine)
    nibabel.save(image, tmp_path / "m.nii.gz")
    path = write_nifti(tmp_path / "a.nii", SCENE.astype(np.float32), "RAS")
    np.testing.assert_array_equal(read_volume(path, "nifti", mask=tmp_path / "m.nii.gz").mask, SCENE % 3)


def test_nifti_bad_masks(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", SCENE.astype(np.float32), "RAS")
    small = write_nifti(tmp_path / "small.nii", SCENE[1:].astype(np.uint8), "RAS")
    far = write_nifti(tmp_path / "far.nii", SCENE.astype(np.uint8), "RAS", first=(7, 80, 9))
    halves = write_nifti(tmp_path / "halves.nii", (SCENE / 2).astype(np.float32), "RAS")
    resampled = read_volume(path, "nifti", mask=small)  # it begins where the volume does
    np.testing.assert_array_equal(resampled.mask, np.concatenate([SCENE[1:], 0 * SCENE[:1]]))
    assert resampled.notes["mask_resampled"] == 1
    assert refusal(path, "nifti", mask=far) == "bad_mask"
    assert refusal(path, "nifti", mask=halves) == "bad_mask"
    assert refusal(path, "nifti", mask=tmp_path / "none.nii") == "missing_file"


def test_nifti_refuses_time_and_missing_orientation(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2, 2), np.float32), np.eye(4)), tmp_path / "four.nii")
    assert refusal(tmp_path / "four.nii", "nifti") == "unsupported"
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "lost.nii")
    assert refusal(tmp_path / "lost.nii", "nifti") == "unsupported"


def test_nifti_truncated_and_absurd(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(9, 9, 9)).astype(np.float32)
    path = write_nifti(tmp_path / "a.nii", noise, "RAS")
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert refusal(path, "nifti") == "unreadable"
    zipped = tmp_path / "b.nii.gz"
    zipped.write_bytes(gzip.compress(data)[:-50])
    assert refusal(zipped, "nifti") == "unreadable"
    absurd = bytearray(data)
    absurd[42:48] = np.array([32000] * 3, "<i2").tobytes()  # 131 TB of float32
    path.write_bytes(absurd)
    assert refusal(path, "nifti") == "unreadable"
    zipped.write_bytes(gzip.compress(absurd))
    assert refusal(zipped, "nifti") == "unreadable"


# --- pictures -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dtype", "suffix"), [(np.uint8, ".png"), (np.uint16, ".png"), (np.uint16, ".tif")])
def test_image(tmp_path: Path, dtype: type, suffix: str) -> None:
    values = (np.arange(12).reshape(3, 4) * (np.iinfo(dtype).max // 11)).astype(dtype)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(values).save(path)
    volume = read_volume(path, "image", hints={"spacing_mm": (0.5, 0.7)})
    np.testing.assert_array_equal(volume.values, values[None])
    np.testing.assert_array_equal(volume.spacing_mm, (np.nan, 0.5, 0.7))
    assert volume.unit == "1"
    np.testing.assert_array_equal(read_volume(path, "image").spacing_mm, [np.nan] * 3)


def test_image_refusals(tmp_path: Path) -> None:
    Image.new("LAB", (4, 3)).save(tmp_path / "lab.tif")
    assert refusal(tmp_path / "lab.tif", "image") == "unsupported"
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert refusal(path, "image") == "unreadable"
