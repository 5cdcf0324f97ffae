"""DICOM images and ECG against files whose every value is known, and files that must be refused."""

from __future__ import annotations

import itertools
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames

from medssl import sources
from medssl.sources import jpeg_lossless
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
