"""DICOM images and ECG against files whose every value is known, and files that must be refused."""

from __future__ import annotations

import itertools
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames

from medssl import sources
from medssl.sources import identifiers, jpeg_lossless
from medssl.sources.record import BadRecord, Record, Signal, Volume
from tests.sources import examples_images as examples
from tests.sources.examples_images import (
    LEADS,
    NAME,
    compress,
    ecg_uv,
    enhanced,
    header,
    phantom,
    waveform,
    write,
)


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


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def damage(path: Path, change: Any) -> None:
    """Replace the compressed stream of a file by ``change(stream)``."""
    image = pydicom.dcmread(path)
    stream = next(generate_frames(image.PixelData, number_of_frames=1)).rstrip(b"\0")
    image.PixelData = encapsulate([change(stream)])
    pydicom.dcmwrite(path, image)


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


# --- stored values --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("bits", "signed", "stored"),
    [
        (16, 1, [[-32768, 32767, -1]]),
        (12, 1, [[-2048, 2047, -1]]),
        (12, 0, [[0, 4095, 2048]]),
        (10, 0, [[0, 1023, 512]]),
    ],
)
def test_bits_above_the_highest_are_no_part_of_a_value(
    tmp_path: Path, bits: int, signed: int, stored: list[list[int]]
) -> None:
    overlay = np.array([[0x8000 if bits < 16 else 0, 0, 0]])
    packed = (np.array(stored) & ((1 << bits) - 1)) | overlay
    tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": signed, "Modality": "PT"}
    volume = read(write(tmp_path / "a.dcm", header(RescaleSlope=1, RescaleIntercept=0, **tags), packed))
    np.testing.assert_array_equal(volume.values, [stored])


@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_byte_orders(tmp_path: Path, syntax: str) -> None:
    image = header()
    image.Rows, image.Columns = 24, 28
    little = syntax == uid.ImplicitVRLittleEndian
    image.add_new("PixelData", "OW", phantom().astype("<i2" if little else ">i2").tobytes())
    image.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(tmp_path / "a.dcm", image, enforce_file_format=True, implicit_vr=little, little_endian=little)
    np.testing.assert_array_equal(read(tmp_path / "a.dcm").values[0], phantom() * 2 - 1000)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(
    ("syntax", "bits"),
    [
        (uid.RLELossless, 16),
        (uid.JPEGLossless, 12),
        (uid.JPEGLosslessSV1, 16),
        (uid.JPEGLSLossless, 12),
        (uid.JPEGLSLossless, 16),
        (uid.JPEGLSNearLossless, 12),
        (uid.JPEG2000Lossless, 12),
        (uid.JPEG2000Lossless, 16),
    ],
)
def test_compressed_pixels_are_exact(tmp_path: Path, syntax: str, bits: int, signed: int) -> None:
    if signed and syntax == uid.JPEG2000Lossless:
        pytest.importorskip("openjpeg")  # Pillow writes no signed samples
    if "JPEG-LS" in uid.UID(syntax).name:
        pytest.importorskip("jpeg_ls")
    stored = phantom(64, 80, top=2000) - 1000 * signed
    image = header(PixelRepresentation=signed, BitsStored=bits, HighBit=bits - 1)
    options = {"jls_error": 2} if syntax == uid.JPEGLSNearLossless else {}
    path = compress(tmp_path / "a.dcm", image, stored, syntax, **options)
    expected = np.maximum(stored * 2.0 - 1000, -1024)
    assert np.abs(read(path).values[0] - expected).max() <= (4 if options else 0)


def test_jpeg_2000_of_unsigned_samples_in_a_signed_image(tmp_path: Path) -> None:
    image = header(PixelRepresentation=0, BitsStored=12, HighBit=11)
    path = compress(tmp_path / "a.dcm", image, phantom(64, 80) & 0xFFF, uid.JPEG2000Lossless)
    image = pydicom.dcmread(path)
    image.PixelRepresentation = 1
    pydicom.dcmwrite(path, image)
    # Pillow writes 16 bits for a sample, all of them used here for the sign.
    np.testing.assert_array_equal(read(path).values[0], phantom(64, 80) * 2 - 1000)


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEG2000])
def test_lossy_pixels_are_close(tmp_path: Path, syntax: str) -> None:
    image = header(BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0, RescaleSlope=1, RescaleIntercept=0)
    path = compress(tmp_path / "a.dcm", image, phantom(64, 64, top=255), syntax)
    assert np.abs(read(path).values[0] - phantom(64, 64, top=255)).max() < 12


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("rows_a_part", [0, 5])
def test_lossless_jpeg_predictors_and_restarts(predictor: int, rows_a_part: int) -> None:
    noise = np.random.default_rng(predictor).integers(0, 65536, (12, 9))
    noise[0, :2] = 0, 32768  # the one difference that has no bits
    for values in (noise, phantom()):
        stream = examples.lossless_jpeg(values, predictor=predictor, rows_a_part=rows_a_part)
        np.testing.assert_array_equal(jpeg_lossless.decode(stream), values)


def test_lossless_jpeg_of_another_encoder(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    for bits, top in ((8, 255), (16, 60000)):
        image = header(BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1, PixelRepresentation=0)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(write(tmp_path / "plain.dcm", image, phantom(top=top))))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(tmp_path / "a.dcm"))
        assert writer.Write()
        np.testing.assert_array_equal(read(tmp_path / "a.dcm").values[0], phantom(top=top) * 2 - 1000)


@pytest.mark.parametrize("seed", range(len(examples.COMPRESSED)))
@pytest.mark.parametrize(
    "change", [lambda s: s[: len(s) // 3], lambda s: s[:60] + bytes(len(s) - 60), lambda s: bytes(2)]
)
def test_damaged_streams_are_refused(tmp_path: Path, seed: int, change: Any) -> None:
    path = examples.dicom_jpeg(tmp_path, seed)
    damage(path, change)
    assert refusal(path)[0] == "unreadable"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_stream_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path, seed: int) -> None:
    path = examples.dicom_jpeg(tmp_path, seed)
    rows_columns = b"\0\x18\0\x1c" if seed != 4 else b"\0\0\0\x1c\0\0\0\x18"
    damage(path, lambda s: s.replace(rows_columns, rows_columns.replace(b"\0\x18", b"\xff\xff"), 1))
    assert refusal(path) == ("unreadable", "the compressed image has another size than the header states")


def test_jpeg_of_12_bits_is_unsupported(tmp_path: Path) -> None:
    image = header(BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    path = compress(tmp_path / "a.dcm", image, phantom(top=255), uid.JPEGExtended12Bit)
    damage(path, lambda s: s.replace(b"\x08\0\x18\0\x1c", b"\x0c\0\x18\0\x1c"))
    assert refusal(path)[0] == "unsupported"


@pytest.mark.parametrize("syntax", [uid.HTJ2KLossless, uid.MPEG2MPML, "1.2.840.10008.1.2.4.94"])
def test_other_compressions_are_unsupported(tmp_path: Path, syntax: str) -> None:
    path = examples.dicom_jpeg(tmp_path, 0)
    image = pydicom.dcmread(path)
    image.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(path, image, implicit_vr=False, little_endian=True)
    assert refusal(path)[0] == "unsupported"


def test_deflated_files_are_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = header()
    image.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    write(tmp_path / "a.dcm", image, phantom())
    monkeypatch.setattr(zlib, "decompress", lambda *_: pytest.fail("inflated"))
    assert refusal(tmp_path / "a.dcm")[0] == "unsupported"


def test_an_absent_decoder_is_no_fault_of_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jpeg_ls")
    path = examples.dicom_jpeg(tmp_path, 3)
    monkeypatch.setitem(sys.modules, "jpeg_ls", None)
    with pytest.raises(sources.SourceError, match="needs the package 'pyjpegls'; install it"):
        read(path)


# --- several frames -------------------------------------------------------------------------------------------------
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


# --- ECG ------------------------------------------------------------------------------------------------------------
NUMBERS = {
    "I": 1, "II": 2, "III": 61, "AVR": 62, "AVL": 63, "AVF": 64, "V1": 3, "V2": 4, "V3": 5, "V4": 6, "V5": 7, "V6": 8,
}  # fmt: skip
TWELVE = {name: (f"2:{number}", "MDC") for name, number in NUMBERS.items()}


def test_ecg_sine(tmp_path: Path) -> None:
    signal = read(examples.dicom_waveform(tmp_path, 0))
    assert isinstance(signal, Signal)
    assert (signal.rate_hz, signal.channels, signal.unit) == (250.0, ("I", "II", "V1"), "mV")
    np.testing.assert_allclose(signal.values, ecg_uv() / 1000, atol=1.3e-3)  # half a step of 2.5 uV
    part = read(tmp_path / "a.dcm", start_s=1, end_s=2.5, hints={"unit": "uV"})
    np.testing.assert_allclose(part.values, ecg_uv()[:, 250:625], atol=1.3)
    assert part.unit == "uV"
    assert refusal(tmp_path / "a.dcm", start_s=4)[0] == "too_short"
    assert refusal(tmp_path / "a.dcm", hints={"unit": "mmHg"})[0] == "bad_unit"


def test_ecg_leads(tmp_path: Path) -> None:
    group = waveform(ecg_uv(12), 250, TWELVE)
    assert read(examples.write_ecg(tmp_path / "a.dcm", [group])).channels == tuple(TWELVE)
    odd = {
        "aVR": ("x", "99LOCAL"), "I (Einthoven)": ("", "99LOCAL"), "II": ("2:2", "MDC"), "Lead of Doe^Jane": ("", ""),
        "second II": ("MDC_ECG_LEAD_II", "MDC"),
    }  # fmt: skip
    signal = read(examples.write_ecg(tmp_path / "b.dcm", [waveform(ecg_uv(5), 250, odd)]))
    assert signal.channels == ("AVR", "I", "II", "channel 4")


def test_ecg_group_with_most_leads_then_the_longest(tmp_path: Path) -> None:
    strip = waveform(ecg_uv(1, 10), 250, {"II": ("2:2", "MDC")})
    beat = waveform(ecg_uv(3, 1, 500), 500, LEADS, WaveformOriginality="DERIVED")
    rhythm = waveform(ecg_uv(3, 4, 100), 100, LEADS)
    signal = read(examples.write_ecg(tmp_path / "a.dcm", [strip, beat, rhythm]))
    assert (signal.rate_hz, signal.values.shape) == (100.0, (3, 400))


def test_ecg_units_and_padding(tmp_path: Path) -> None:
    group = waveform(ecg_uv(), 250, LEADS, WaveformPaddingValue=np.int16(-40).tobytes())
    units = [channel.ChannelSensitivityUnitsSequence[0] for channel in group.ChannelDefinitionSequence]
    units[1].CodeValue, units[2].CodeValue = "mV", "mm[Hg]"
    signal = read(examples.write_ecg(tmp_path / "a.dcm", [group]))
    assert signal.channels == ("I", "II")
    np.testing.assert_allclose(signal.values[1, 1:5], ecg_uv()[1, 1:5], atol=1.3)
    assert np.isnan(signal.values[0, 0])  # 0 uV is stored as -40
    for unit in units:
        unit.CodeValue = "mm[Hg]"
    assert refusal(examples.write_ecg(tmp_path / "b.dcm", [group]))[0] == "bad_unit"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"SamplingFrequency": 0}, "no_rate"),
        ({"NumberOfWaveformSamples": 1001}, "unreadable"),
        ({"NumberOfWaveformSamples": 4000000000}, "unreadable"),
        ({"NumberOfWaveformSamples": 0}, "no_samples"),
        ({"NumberOfWaveformChannels": 4}, "unreadable"),
        ({"WaveformBitsAllocated": 8}, "unreadable"),
        ({"WaveformSampleInterpretation": "MB"}, "unsupported"),
    ],
)
def test_ecg_claims_are_checked(tmp_path: Path, tags: dict[str, Any], reason: str) -> None:
    assert refusal(examples.write_ecg(tmp_path / "a.dcm", [waveform(ecg_uv(), 250, LEADS, **tags)]))[0] == reason


def test_ecg_32_bit_and_other_waveforms(tmp_path: Path) -> None:
    group = waveform(ecg_uv(), 250, LEADS, WaveformBitsAllocated=32, WaveformSampleInterpretation="SL")
    group.WaveformData = np.frombuffer(group.WaveformData, "<i2").astype("<i4").tobytes()
    signal = read(examples.write_ecg(tmp_path / "a.dcm", [group], uid.General32bitECGWaveformStorage))
    np.testing.assert_allclose(signal.values, ecg_uv() / 1000, atol=1.3e-3)
    assert refusal(examples.write_ecg(tmp_path / "b.dcm", [group], uid.HemodynamicWaveformStorage))[0] == "unsupported"
    assert refusal(examples.write_ecg(tmp_path / "c.dcm", []))[0] == "no_samples"


def test_nothing_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.dcm", header(), phantom())
    edit(path, NAME.encode(), b"Doe^Jan\xff")
    read(path)
    assert not caplog.text
    assert capfd.readouterr() == ("", "")


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


# --- padding and inverted values ------------------------------------------------------------------------------------
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    ("value", "written", "tags"),
    [
        (63536, 63536, {"PixelRepresentation": 0}),
        (-2000, -2000, {"PixelRepresentation": 1}),
        (-2000, 63536, {"PixelRepresentation": 1}),  # written without sign
        (63536, 63536, {"PixelRepresentation": 0, "BitsStored": 12, "HighBit": 11}),  # in bits that values have not
        (-2000, -2000, {"PixelRepresentation": 1, "BitsStored": 12, "HighBit": 11}),
    ],
)
def test_padding_is_no_measurement(
    tmp_path: Path, modality: str, value: int, written: int, tags: dict[str, Any]
) -> None:
    stored = phantom(top=2000)
    stored[:4] = value
    image = header(Modality=modality, RescaleSlope=1, RescaleIntercept=-24, **tags)
    image.add_new("PixelPaddingValue", "US" if written > 0 else "SS", written)
    volume = read(write(tmp_path / "a.dcm", image, stored))
    real = phantom(top=2000)[4:] - 24
    np.testing.assert_array_equal(volume.values[0, 4:], real)
    assert (volume.values[0, :4] == (-1024 if modality == "CT" else real.min())).all()
    assert volume.notes == {"padding": pytest.approx(4 / 24)}


def test_a_range_of_padding(tmp_path: Path) -> None:
    for value, limit in ((-3000, -2000), (-2000, -3000)):
        stored = phantom()
        stored[0, :3] = -3000, -2500, -2000
        tags = {"Modality": "MR", "PixelPaddingValue": value, "PixelPaddingRangeLimit": limit}
        volume = read(write(tmp_path / "a.dcm", header(**tags), stored))
        assert (volume.values[0, 0, :3] == volume.values.min()).all()
        assert volume.values.min() == phantom()[0, 3:].min() * 2 - 1000 or volume.values.min() >= -1000
        assert volume.notes == {"padding": pytest.approx(3 / stored.size)}


def test_padding_that_is_a_measured_value_too(tmp_path: Path) -> None:
    """Some programs write a padding value of 0 into every header, where 0 HU is water."""
    stored = np.full((24, 28), 40)
    stored[:, 20:] = -900
    stored[10:13, 5:9] = 0  # within the body
    stored[:3, :4] = 0  # reaches the corner
    image = header(PixelPaddingValue=0, RescaleSlope=1, RescaleIntercept=0)
    volume = read(write(tmp_path / "a.dcm", image, stored))
    assert (volume.values[0, 10:13, 5:9] == 0).all() and (volume.values[0, :3, :4] == -1024).all()
    assert volume.notes == {"padding": pytest.approx(12 / 672)}
    assert read(write(tmp_path / "b.dcm", image, np.where(stored, stored, 40))).notes == {}
    assert refusal(write(tmp_path / "c.dcm", image, stored * 0)) == (
        "no_samples",
        "the image holds nothing but padding",
    )


def test_padding_in_compressed_slices_of_a_series(tmp_path: Path) -> None:
    for i in range(3):
        stored = phantom(seed=i, top=2000)
        stored[-2:] = 60000
        tags = {"PixelRepresentation": 0, "PixelPaddingValue": 60000, "ImagePositionPatient": [0, 0, 3 * i]}
        compress(tmp_path / f"{i}.dcm", header(Modality="MR", **tags), stored, uid.JPEGLosslessSV1)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.values[1, :-2], phantom(seed=1, top=2000)[:-2] * 2 - 1000)
    assert (volume.values[:, -2:] == volume.values[:, :-2].min()).all()


@pytest.mark.parametrize(
    ("tags", "inverted"),
    [
        ({"Modality": "MR", "PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"Modality": "MR", "PresentationLUTShape": "INVERSE"}, True),
        ({"Modality": "MR", "PresentationLUTShape": "IDENTITY"}, False),
        ({"Modality": "CT", "PhotometricInterpretation": "MONOCHROME1"}, False),
        ({"Modality": "CT", "PresentationLUTShape": "INVERSE"}, False),
    ],
)
def test_larger_is_brighter(tmp_path: Path, tags: dict[str, str], inverted: bool) -> None:
    volume = read(write(tmp_path / "a.dcm", header(**tags), phantom()))
    plain = phantom() * 2 - 1000
    np.testing.assert_array_equal(volume.values[0], plain.min() + plain.max() - plain if inverted else plain)
    assert volume.notes == ({"inverted": 1} if inverted else {})
    stored = phantom()
    stored[:2] = -2000
    volume = read(write(tmp_path / "a.dcm", header(PixelPaddingValue=-2000, **tags), stored))
    rest = plain[2:]
    np.testing.assert_array_equal(volume.values[0, 2:], rest.min() + rest.max() - rest if inverted else rest)
    assert (volume.values[0, :2] == (-1024 if tags["Modality"] == "CT" else rest.min())).all()


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


# --- files ----------------------------------------------------------------------------------------------------------
def series(folder: Path, count: int = 5, name: str = "IM{:02d}") -> list[Path]:
    return [
        write(folder / name.format(i), header(ImagePositionPatient=[0, 0, 3 * i]), phantom(seed=i))
        for i in range(count)
    ]


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
