"""DICOM pixels: byte orders, compressions, padding and inverted values, against arrays that are known."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from medssl import sources
from medssl.sources import jpeg_lossless
from tests.sources import examples_images as examples
from tests.sources.examples_images import compress, header, phantom, write
from tests.sources.test_dicom import read, refusal


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


def damage(path: Path, change: Any) -> None:
    """Replace the compressed stream of a file by ``change(stream)``."""
    image = pydicom.dcmread(path)
    stream = next(generate_frames(image.PixelData, number_of_frames=1)).rstrip(b"\0")
    image.PixelData = encapsulate([change(stream)])
    pydicom.dcmwrite(path, image)


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
