"""DICOM images by kind: modality and unit, text that may be burned in, and kinds refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from tests.sources.examples_images import NAME, header, phantom, write
from tests.sources.test_dicom import read, refusal


# --- modality -------------------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")  # of pydicom as it writes small letters
@pytest.mark.parametrize(
    ("kind", "modality", "unit"),
    [
        (uid.CTImageStorage, "CT", "HU"),
        (uid.CTImageStorage, None, "HU"),
        (uid.CTImageStorage, "", "HU"),
        (uid.CTImageStorage, "ct", "HU"),
        (uid.LegacyConvertedEnhancedCTImageStorage, None, "HU"),
        (uid.MRImageStorage, None, "1"),
        (uid.MRImageStorage, "mr", "1"),
        (uid.PositronEmissionTomographyImageStorage, "", "1"),
        (uid.XRayAngiographicImageStorage, None, "1"),
        ("1.3.46.670589.11.0.0.12.1", "CT", "HU"),
    ],
)
def test_the_class_decides_where_no_modality_is_stated(
    tmp_path: Path, kind: str, modality: str | None, unit: str
) -> None:
    volume = read(write(tmp_path / "a.dcm", header(kind, Modality=modality), phantom(top=900)))
    assert volume.unit == unit
    np.testing.assert_array_equal(volume.values[0], phantom(top=900) * 2 - 1000)


def test_without_modality_or_a_known_class(tmp_path: Path) -> None:
    for modality in (None, "", "  "):
        path = write(tmp_path / "a.dcm", header("1.3.46.670589.11.0.0.12.1", Modality=modality), phantom())
        assert refusal(path) == (
            "unsupported", "neither Modality nor SOPClassUID says what the image is; write CT or MR there",
        )  # fmt: skip


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")  # of pydicom as it writes small letters
def test_slices_of_which_some_state_their_modality_in_other_ways(tmp_path: Path) -> None:
    for i, modality in enumerate(("CT", "ct", None, "")):
        write(tmp_path / f"{i}.dcm", header(Modality=modality, ImagePositionPatient=[0, 0, 5 * i]), phantom() + i)
    volume = read(tmp_path)
    assert volume.unit == "HU" and volume.values.shape == (4, 24, 28)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")  # of pydicom as it writes small letters
def test_words_in_small_letters_mean_the_same(tmp_path: Path) -> None:
    small = {"PresentationLUTShape": "inverse", "PixelPresentation": "monochrome", "AnatomicalOrientationType": "biped"}
    stored = phantom(top=900)
    volume = read(write(tmp_path / "a.dcm", header(Modality="mr", **small), stored))
    np.testing.assert_array_equal(volume.values[0], stored.min() * 2 + stored.max() * 2 - 2000 - (stored * 2 - 1000))
    assert volume.notes == {"inverted": 1}


# --- what may identify ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tags", "refused"),
    [
        ({"BurnedInAnnotation": "YES"}, True),
        ({"BurnedInAnnotation": "NO"}, False),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, True),
        ({"SOPClassUID": uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage}, True),
        ({"ConversionType": "WSD"}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"], "ImageOrientationPatient": None}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, False),
        ({"ImageType": "ORIGINAL"}, False),
    ],
)
def test_text_that_may_be_burned_in(tmp_path: Path, tags: dict[str, Any], refused: bool) -> None:
    path = write(tmp_path / "a.dcm", header(**tags), phantom())
    if refused:
        reason, detail = refusal(path)
        assert reason == "unsupported"
        assert "text burned in" in detail
    else:
        read(path)


@pytest.mark.parametrize(("rescale", "refused"), [("HU", False), ("US", False), ("", False), ("Z_EFF", True)])
def test_ct_in_another_unit_is_refused(tmp_path: Path, rescale: str, refused: bool) -> None:
    path = write(tmp_path / "a.dcm", header(RescaleType=rescale), phantom())
    if refused:
        assert refusal(path)[0] == "bad_unit"
    else:
        assert read(path).unit == "HU"


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def test_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.dcm", header(), phantom())
    edit(path, NAME.encode(), b"Doe^Jan\xff")
    read(path)
    assert not caplog.text
    assert capfd.readouterr() == ("", "")


# --- refused by name ------------------------------------------------------------------------------------------------
def siemens(tiles: int, creator: str = "SIEMENS MR HEADER") -> Dataset:
    image = header(Modality="MR")
    block = image.private_block(0x0019, creator, create=True)
    block.add_new(0x0A, "US", tiles)
    return image


def lut() -> Dataset:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [1, 0, 16], b"\0\0"
    return table


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"], "Modality": "MR"}, "convert it with dcm2niix"),
        ({"ModalityLUTSequence": [lut()], "Modality": "MR"}, "Modality LUT"),
        ({"PixelAspectRatio": [2, 1], "PixelSpacing": None}, "PixelAspectRatio"),
        ({"PixelPresentation": "MIXED"}, "colours laid over it"),
        ({"VolumetricProperties": "DISTORTED"}, "distorted"),
        ({"AnatomicalOrientationType": "QUADRUPED"}, "animal"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "in colour; export it in grey"),
        ({"PixelPaddingValue": None, "SOPClassUID": uid.SegmentationStorage}, "name it as the mask"),
        ({"SOPClassUID": uid.ParametricMapStorage}, "map of a parameter"),
        ({"SOPClassUID": uid.RTDoseStorage}, "radiation doses"),
    ],
)
def test_refused_by_name(tmp_path: Path, tags: dict[str, Any], words: str) -> None:
    reason, detail = refusal(write(tmp_path / "a.dcm", header(**tags), phantom()))
    assert reason == "unsupported" and words in detail


def test_what_looks_alike_is_read(tmp_path: Path) -> None:
    for tags in (
        {"PixelAspectRatio": [1, 1], "PixelSpacing": None},
        {"PixelAspectRatio": [2, 1]},  # the spacing says it
        {"PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "AnatomicalOrientationType": "BIPED"},
        {"SOPClassUID": uid.RTImageStorage},
    ):
        np.testing.assert_array_equal(
            read(write(tmp_path / "a.dcm", header(**tags), phantom())).values[0], phantom() * 2 - 1000
        )


def test_a_mosaic_that_lost_its_word(tmp_path: Path) -> None:
    assert "MOSAIC" in refusal(write(tmp_path / "a.dcm", siemens(9), phantom()))[1]
    read(write(tmp_path / "b.dcm", siemens(1), phantom()))
    read(write(tmp_path / "c.dcm", siemens(9, "GEMS_ACQU_01"), phantom()))


def test_slices_of_two_frames_of_reference_or_polarities(tmp_path: Path) -> None:
    for tag, values, words in (
        ("FrameOfReferenceUID", ("1.2", "1.3"), "frames of reference"),
        ("PhotometricInterpretation", ("MONOCHROME1", "MONOCHROME2"), "larger values are brighter"),
    ):
        for i, value in enumerate(values):
            tags = {"ImagePositionPatient": [0, 0, 3 * i], tag: value}
            write(tmp_path / f"{i}.dcm", header(**tags), phantom())
        assert words in refusal(tmp_path)[1]
    for i in range(2):
        tags = {"ImagePositionPatient": [0, 0, 3 * i], "FrameOfReferenceUID": "1.2" if i else None}
        write(tmp_path / f"{i}.dcm", header(**tags), phantom())
    read(tmp_path)
