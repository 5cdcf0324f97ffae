"""Files of a DICOM series: without preamble, of any name, damaged, or no slice at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from medssl.sources import identifiers
from tests.sources import examples_images as examples
from tests.sources.examples_images import header, phantom, write
from tests.sources.test_dicom import read, refusal, series


def unwrapped(image: Dataset, *, implicit: bool, little: bool = True) -> bytes:
    """Return a dataset alone, as networks carry it."""
    buffer = BytesIO()
    meta, image.file_meta, image.preamble = image.file_meta, FileMetaDataset(), None
    pydicom.dcmwrite(buffer, image, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    image.file_meta = meta
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["no preamble", "no zeros", "explicit", "implicit", "big endian"])
def test_files_without_preamble(tmp_path: Path, kind: str) -> None:
    for i, path in enumerate(series(tmp_path)):
        if i < 2:
            continue
        data = path.read_bytes()
        if kind in ("no preamble", "no zeros"):
            path.write_bytes(data[132 if kind == "no preamble" else 128 :])
            continue
        image = pydicom.dcmread(path)
        if kind == "big endian":
            image["PixelData"].value = phantom(seed=i).astype(">i2").tobytes()
        path.write_bytes(unwrapped(image, implicit=kind == "implicit", little=kind != "big endian"))
        assert path.read_bytes()[128:132] != b"DICM"
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.values, [phantom(seed=i) * 2 - 1000 for i in range(5)])
    np.testing.assert_array_equal(read(tmp_path / "IM03").values[0], phantom(seed=3) * 2 - 1000)
    found = identifiers.scan(tmp_path, "dicom")
    assert [kinds is not None and "patient name" in kinds for kinds in found] == [True] * 5


def test_pixels_whose_compression_is_not_stated(tmp_path: Path) -> None:
    image = pydicom.dcmread(examples.dicom_jpeg(tmp_path, 2))
    (tmp_path / "IM7").write_bytes(unwrapped(image, implicit=False))
    assert "compressed, and the file does not say how" in refusal(tmp_path / "IM7")[1]


def test_a_slice_that_is_no_dicom_is_not_dropped(tmp_path: Path) -> None:
    paths = series(tmp_path)
    (tmp_path / "README").write_text("slices")
    (tmp_path / "index.html").write_text("slices")
    assert len(read(tmp_path).values) == 5
    whole = paths[3].read_bytes()
    for damaged in (b"", b"\0" * 5000, b"slices\n", whole[140:]):
        paths[3].write_bytes(damaged)
        reason, detail = refusal(tmp_path)
        assert reason == "unreadable" and "file 4 of 7" in detail


@pytest.mark.parametrize("name", ["{:d}.dcm", "1.2.840.{:d}.{:d}", "3F{:02X}A9", "slice{:d}.IMA", "CT.{:d}"])
def test_names_of_slices(tmp_path: Path, name: str) -> None:
    paths = [tmp_path / (name.format(i, i * 7) if name.count("{") > 1 else name.format(i)) for i in range(9, 14)]
    for i, path in enumerate(paths):
        write(path, header(ImagePositionPatient=[0, 0, 3 * i]), phantom())
    (tmp_path / "README.txt").write_text("slices")
    assert len(read(tmp_path).values) == 5
    paths[2].write_bytes(b"")
    assert refusal(tmp_path)[0] == "unreadable"


def other(path: Path, kind: str) -> None:
    """Write an object without pixels."""
    names = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit")
    names += ("PixelRepresentation", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
    image = header(kind, SeriesInstanceUID="7", **dict.fromkeys(names))
    pydicom.dcmwrite(path, image, enforce_file_format=True)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (uid.XRayRadiationDoseSRStorage, "a report"),
        (uid.GrayscaleSoftcopyPresentationStateStorage, "a presentation state"),
        (uid.EncapsulatedPDFStorage, "document"),
        (uid.RawDataStorage, "raw data"),
        (uid.RTStructureSetStorage, "contours"),
        (uid.KeyObjectSelectionDocumentStorage, "a report"),
        ("1.3.12.2.1107.5.9.1", "no image"),  # Siemens puts these beside MR
    ],
)
def test_objects_beside_slices_are_left_out(tmp_path: Path, kind: str, words: str) -> None:
    series(tmp_path)
    other(tmp_path / "IM99", kind)
    volume = read(tmp_path)
    assert len(volume.values) == 5 and volume.notes == {"left_out": 1}
    reason, detail = refusal(tmp_path / "IM99")
    assert reason == "unsupported" and words in detail


def test_a_segmentation_beside_slices_is_left_out(tmp_path: Path) -> None:
    series(tmp_path)
    image = header(uid.SegmentationStorage, SeriesInstanceUID="7", BitsAllocated=8, BitsStored=8, HighBit=7)
    write(tmp_path / "seg.dcm", image, np.zeros((5, 24, 28)))
    assert read(tmp_path).notes == {"left_out": 1}


@pytest.mark.parametrize("keep", [-600, -1, 900, 300, 140])
def test_a_slice_that_is_cut_off_is_named_by_its_place(tmp_path: Path, keep: int) -> None:
    paths = series(tmp_path)
    paths[3].write_bytes(paths[3].read_bytes()[:keep])
    reason, detail = refusal(tmp_path)
    assert reason == "unreadable" and "(file 4 of 5 in the folder, sorted by name)" in detail
    assert "cut off" in detail or "not DICOM" in detail
    assert "raised" not in detail
    assert "of 5" not in refusal(paths[3])[1]
