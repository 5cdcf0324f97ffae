"""DICOM files of several frames: their places and rescale, compressed frames, and frames that are no stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from medssl.sources.record import Volume
from tests.sources import examples_images as examples
from tests.sources.examples_images import enhanced, header, phantom, write
from tests.sources.test_dicom import read, refusal


def test_enhanced_ct_has_its_own_rescale_for_each_frame(tmp_path: Path) -> None:
    stored = np.stack([phantom(seed=i) for i in range(3)])
    volume = read(write(tmp_path / "a.dcm", enhanced(3, step_mm=-2.5), stored))
    assert isinstance(volume, Volume)
    expected = stored * 2 - 1000 + np.arange(3)[:, None, None]
    np.testing.assert_array_equal(volume.values, expected[::-1])
    assert (volume.spacing_mm, volume.unit) == ((2.5, 0.5, 0.75), "HU")


@pytest.mark.parametrize("seed", range(len(examples.COMPRESSED)))
def test_compressed_frames(tmp_path: Path, seed: int) -> None:
    (tmp_path / "one").mkdir()
    streams = []
    for i in range(3):
        one = pydicom.dcmread(examples.dicom_jpeg(tmp_path / "one", seed + i * len(examples.COMPRESSED)))
        streams.append(next(generate_frames(one.PixelData, number_of_frames=1)))
    singles = [read(tmp_path / "one" / "a.dcm").values[0]]
    names = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "Rows", "Columns")
    image = enhanced(3, **{name: one[name].value for name in names})
    image.NumberOfFrames, image.file_meta.TransferSyntaxUID = 3, one.file_meta.TransferSyntaxUID
    image.add_new("PixelData", "OB", encapsulate(streams))
    image["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(tmp_path / "a.dcm", image, enforce_file_format=True)
    values = read(tmp_path / "a.dcm").values
    assert values.shape == (3, 24, 28)
    np.testing.assert_array_equal(values[2], singles[0] + 2)
    image.PixelData = encapsulate(streams[:2])
    pydicom.dcmwrite(tmp_path / "a.dcm", image, enforce_file_format=True)
    assert refusal(tmp_path / "a.dcm")[0] == "unreadable"


@pytest.mark.parametrize(
    ("tags", "order"),
    [
        ({"SpacingBetweenSlices": 2}, (0, 1, 2)),
        ({"GridFrameOffsetVector": [0, 2, 4], "FrameIncrementPointer": 0x3004000C}, (0, 1, 2)),
        ({"GridFrameOffsetVector": [4, 2, 0], "ImagePositionPatient": [0, 0, 4]}, (2, 1, 0)),
        ({"GridFrameOffsetVector": [0, -2, -4]}, (2, 1, 0)),
    ],
)
def test_older_stacks_of_frames(tmp_path: Path, tags: dict[str, Any], order: tuple[int, ...]) -> None:
    stored = np.stack([phantom(seed=i) for i in range(3)])
    volume = read(write(tmp_path / "a.dcm", header(**tags), stored))
    np.testing.assert_array_equal(volume.values, stored[list(order)] * 2 - 1000)
    assert volume.spacing_mm == (2, 0.5, 0.75)


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, "unsupported"),
        ({"SpacingBetweenSlices": 2, "FrameIncrementPointer": 0x00181063}, "unsupported"),  # a film
        ({"SpacingBetweenSlices": -2}, "unsupported"),
        ({"GridFrameOffsetVector": [0, 1]}, "unreadable"),
        ({"GridFrameOffsetVector": [5, 6, 7]}, "unsupported"),
        ({"GridFrameOffsetVector": [0, 1, 5]}, "unsupported"),
        ({"GridFrameOffsetVector": [0, 0, 0]}, "unsupported"),
        ({"SpacingBetweenSlices": 2, "ImagePositionPatient": None}, "unsupported"),
        ({"SpacingBetweenSlices": 2, "Modality": "RTDOSE"}, "unsupported"),
        ({"SpacingBetweenSlices": 2, "PerFrameFunctionalGroupsSequence": [Dataset()] * 2}, "unreadable"),
    ],
)
def test_frames_that_are_no_stack(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    assert refusal(write(tmp_path / "a.dcm", header(**tags), np.zeros((3, 4, 5))))[0] == reason


def test_frames_of_two_orientations_or_spacings(tmp_path: Path) -> None:
    image = enhanced(2)
    turned = Dataset()
    turned.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    image.PerFrameFunctionalGroupsSequence[1].PlaneOrientationSequence = [turned]
    assert (
        refusal(write(tmp_path / "a.dcm", image, np.zeros((2, 4, 5))))[1] == "the slices differ in size or orientation"
    )
    image = enhanced(2)
    wide = Dataset()
    wide.PixelSpacing = [1, 1]
    image.PerFrameFunctionalGroupsSequence[0].PixelMeasuresSequence = [wide]
    assert refusal(write(tmp_path / "b.dcm", image, np.zeros((2, 4, 5))))[1] == "the slices differ in pixel spacing"


@pytest.mark.parametrize("frames", [0, -1, 60000])
def test_number_of_frames_is_checked(tmp_path: Path, frames: int) -> None:
    path = write(tmp_path / "a.dcm", header(SpacingBetweenSlices=1), np.zeros((10, 4, 5)))
    image = pydicom.dcmread(path)
    image.NumberOfFrames = frames
    pydicom.dcmwrite(path, image)
    assert refusal(path)[0] == ("unreadable" if frames > 0 else "no_samples")


def test_more_frames_than_the_file_has_room_for(tmp_path: Path) -> None:
    image = pydicom.dcmread(examples.dicom_jpeg(tmp_path, 4))
    image.Rows = image.Columns = 1
    image.NumberOfFrames, image.SpacingBetweenSlices = 60000, 1
    pydicom.dcmwrite(tmp_path / "a.dcm", image)
    assert refusal(tmp_path / "a.dcm")[1].startswith("the header claims more data")
