"""Small good recordings of the image formats and of DICOM ECG, one function a format."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

NAME = "Doe^Jane"  # planted where formats keep a name; must never come out
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ECG_RATE_HZ = 250
LEADS = {"I": ("2:1", "MDC"), "II": ("5.6.3-9-2", "SCPECG"), "V1": ("MDC_ECG_LEAD_V1", "MDC")}


def phantom(rows: int = 24, columns: int = 28, *, seed: int = 0, top: int = 4000) -> np.ndarray:
    """Return a smooth picture with noise and one bright corner, from 0 to ``top``."""
    y, x = np.mgrid[:rows, :columns]
    noise = np.random.default_rng(seed).integers(0, 30, (rows, columns))
    values = 1000 * (1 + np.sin(x / 5)) + 20 * y + noise
    values[:4, :3] = 3000
    return np.asarray(np.rint(values / values.max() * top).astype(np.int64))


def lossless_jpeg(values: np.ndarray, *, predictor: int = 1, precision: int = 16, rows_a_part: int = 0) -> bytes:
    """Encode as ITU-T T.81 Annex H with one code of five bits for each of the 17 lengths: slow, and obvious."""
    rows, columns = values.shape
    parts, bits = [], ""
    for y in range(rows):
        fresh = rows_a_part and y % rows_a_part == 0
        if fresh and y:
            parts.append(bits)
            bits = ""
        for x in range(columns):
            top = y == 0 or fresh
            left = int(values[y, x - 1]) if x else 0
            above = 0 if top else int(values[y - 1, x])
            corner = int(values[y - 1, x - 1]) if x and not top else 0
            guesses = {
                1: left, 2: above, 3: corner, 4: left + above - corner, 5: left + (above - corner) // 2,
                6: above + (left - corner) // 2, 7: (left + above) // 2,
            }  # fmt: skip
            guess = (left if x else 1 << (precision - 1)) if top else (guesses[predictor] if x else above)
            difference = (int(values[y, x]) - guess) & 0xFFFF
            difference -= 0x10000 if difference > 0x8000 else 0
            size = abs(difference).bit_length()
            bits += f"{size:05b}"
            if 0 < size < 16:
                bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    parts.append(bits)
    coded = b""
    for i, part in enumerate(parts):
        padded = part + "1" * (-len(part) % 8)
        data = bytes(int(padded[k : k + 8], 2) for k in range(0, len(padded), 8)).replace(b"\xff", b"\xff\0")
        coded += (bytes((0xFF, 0xD0 + (i - 1) % 8)) if i else b"") + data
    counts = bytes(17 if length == 5 else 0 for length in range(1, 17))
    table = b"\0" + counts + bytes(range(17))
    frame = bytes((precision, *rows.to_bytes(2, "big"), *columns.to_bytes(2, "big"), 1, 1, 0x11, 0))
    interval = (rows_a_part * columns).to_bytes(2, "big")
    scan = bytes((1, 1, 0, predictor, 0, 0))
    segments = [(0xC4, table), (0xC3, frame), *([(0xDD, interval)] if rows_a_part else []), (0xDA, scan)]
    heads = b"".join(bytes((0xFF, m)) + (len(body) + 2).to_bytes(2, "big") + body for m, body in segments)
    return b"\xff\xd8" + heads + coded + b"\xff\xd9"


def header(kind: str = uid.CTImageStorage, **tags: Any) -> Dataset:
    """Return a header that names a patient, without pixels; a tag of None is left out."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = kind
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=[str(tags)])
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.PatientName, image.PatientID, image.StudyDate = NAME, "Jane", "20010203"
    image.Modality, image.SeriesInstanceUID = "CT", "1.2.3"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.RescaleSlope, image.RescaleIntercept = 2, -1000
    image.PixelSpacing, image.SliceThickness = [0.5, 0.75], 5
    image.ImagePositionPatient, image.ImageOrientationPatient = [0, 0, 0], list(AXIAL)
    for name, value in tags.items():
        if value is not None:
            setattr(image, name, value)
        elif name in image:
            delattr(image, name)
    return image


def write(path: Path, image: Dataset, stored: np.ndarray) -> Path:
    """Write ``(rows, columns)`` or ``(frames, rows, columns)`` uncompressed."""
    image.Rows, image.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        image.NumberOfFrames = len(stored)
    data = stored.astype("<i2" if image.BitsAllocated == 16 else "u1").tobytes()
    image.add_new("PixelData", "OW", data + b"\0" * (len(data) % 2))
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    return path


def compress(path: Path, image: Dataset, stored: np.ndarray, syntax: str, **options: Any) -> Path:
    """Write one frame in one of the compressed transfer syntaxes."""
    write(path, image, stored)
    if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        wrapped = stored & ((1 << image.BitsStored) - 1)
        image.PixelData = encapsulate([lossless_jpeg(wrapped, precision=image.BitsStored, **options)])
    elif syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        stream = BytesIO()
        Image.fromarray(stored.astype(np.uint8)).save(stream, "JPEG", quality=95)
        image.PixelData = encapsulate([stream.getvalue()])
    elif syntax in (uid.JPEG2000Lossless, uid.JPEG2000) and not image.PixelRepresentation:
        stream = BytesIO()
        picture = Image.fromarray(stored.astype(np.uint8 if image.BitsAllocated == 8 else np.uint16))
        picture.save(stream, "JPEG2000", no_jp2=True, irreversible=syntax == uid.JPEG2000, num_resolutions=3)
        image.PixelData = encapsulate([stream.getvalue()])
    else:
        plugin = {uid.RLELossless: "pydicom"}.get(syntax, "pyjpegls" if "JPEG-LS" in uid.UID(syntax).name else "")
        image.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False, **options)
    image.file_meta.TransferSyntaxUID = syntax
    image["PixelData"].VR, image["PixelData"].is_undefined_length = "OB", True
    pydicom.dcmwrite(path, image, enforce_file_format=True)
    return path


def enhanced(count: int, step_mm: float = 2.5, **tags: Any) -> Dataset:
    """Return the header of an enhanced CT whose geometry is only in functional groups."""
    plain = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope")
    image = header(uid.EnhancedCTImageStorage, **dict.fromkeys((*plain, "RescaleIntercept")), **tags)
    measures, orientation, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 5
    orientation.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = []
    for i in range(count):
        position, own = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, step_mm * i]
        values = Dataset()
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 2, -1000 + i, "HU"
        own.PlanePositionSequence, own.PixelValueTransformationSequence = [position], [values]
        image.PerFrameFunctionalGroupsSequence.append(own)
    return image


def waveform(values_uv: np.ndarray, rate_hz: float, leads: dict[str, tuple[str, str]], **more: Any) -> Dataset:
    """Return one multiplex group ``(C, T)``: 16 bit, 2.5 uV a step, baseline 100 uV."""
    group = Dataset()
    group.WaveformOriginality, group.SamplingFrequency = "ORIGINAL", rate_hz
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = values_uv.shape
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.ChannelDefinitionSequence = []
    for name, (code, scheme) in leads.items():
        source, unit, channel = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = code, scheme, f"Lead {name}"
        unit.CodeValue, unit.CodingSchemeDesignator = "uV", "UCUM"
        channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = [source], [unit]
        channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = 1.25, 2
        channel.ChannelBaseline, channel.ChannelLabel, channel.WaveformBitsStored = 100, NAME, 16
        group.ChannelDefinitionSequence.append(channel)
    for name, value in more.items():
        setattr(group, name, value)
    stored = np.rint((values_uv - 100) / 2.5).astype("<i2")
    group.add_new("WaveformData", "OW", stored.T.tobytes())
    return group


def write_ecg(path: Path, groups: list[Dataset], kind: str = uid.TwelveLeadECGWaveformStorage) -> Path:
    ecg = Dataset()
    ecg.file_meta = FileMetaDataset()
    ecg.SOPClassUID = ecg.file_meta.MediaStorageSOPClassUID = kind
    ecg.SOPInstanceUID = ecg.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=[str(len(groups))])
    ecg.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ecg.PatientName, ecg.PatientID, ecg.Modality, ecg.WaveformSequence = NAME, "Jane", "ECG", groups
    pydicom.dcmwrite(path, ecg, enforce_file_format=True)
    return path


def dicom(folder: Path, seed: int) -> Path:
    return write(folder / "a.dcm", header(), phantom(seed=seed))


def dicom_series(folder: Path, seed: int) -> Path:
    (folder / "series").mkdir()
    for i in range(3):
        write(folder / "series" / f"{i}.dcm", header(ImagePositionPatient=[0, 0, -3 * i]), phantom(seed=seed + i))
    return folder / "series"


COMPRESSED = (
    uid.RLELossless, uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless,
)  # fmt: skip


def dicom_jpeg(folder: Path, seed: int) -> Path:
    """The seed chooses the compression."""
    syntax = COMPRESSED[seed % len(COMPRESSED)]
    if syntax == uid.JPEGBaseline8Bit:
        image = header(BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
        return compress(folder / "a.dcm", image, phantom(seed=seed, top=255), syntax)
    return compress(folder / "a.dcm", header(PixelRepresentation=0), phantom(seed=seed), syntax)


def dicom_multiframe(folder: Path, seed: int) -> Path:
    return write(folder / "a.dcm", enhanced(3), np.stack([phantom(seed=seed + i) for i in range(3)]))


def ecg_uv(count: int = 3, length_s: float = 4.0, rate_hz: float = ECG_RATE_HZ) -> np.ndarray:
    """Return sines of 300, 600, ... uV at 5 Hz."""
    time_s = np.arange(round(length_s * rate_hz)) / rate_hz
    return np.stack([300 * (i + 1) * np.sin(2 * np.pi * 5 * time_s) for i in range(count)])


def dicom_waveform(folder: Path, seed: int) -> Path:
    return write_ecg(folder / "a.dcm", [waveform(ecg_uv() + seed % 7, ECG_RATE_HZ, LEADS)])


def nifti(folder: Path, seed: int, kind: Any = nibabel.Nifti1Image, name: str = "a.nii.gz") -> Path:
    values = np.stack([phantom(seed=seed + i) for i in range(3)], axis=-1).astype(np.int16)
    image = kind(values, np.diag([-0.5, 0.75, 3, 1]))
    image.header["descrip"] = NAME.encode()
    nibabel.save(image, folder / name)
    return folder / name


def nifti2(folder: Path, seed: int) -> Path:
    return nifti(folder, seed, nibabel.Nifti2Image, "a.nii")


def metaimage_header(file: str, shape: tuple[int, ...], **more: object) -> bytes:
    """Return the header of 16-bit voxels ``(z, y, x)`` with 0.5 x 0.75 x 3 mm as ITK writes it; None drops a key."""
    fields: dict[str, object] = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False,
        "CompressedData": False, "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "-12.5 3 -70",
        "AnatomicalOrientation": "RAI", "ElementSpacing": "0.5 0.75 3", "PatientName": NAME,
        "DimSize": " ".join(map(str, shape[::-1])), "ElementType": "MET_SHORT",
    }  # fmt: skip
    fields |= more | {"ElementDataFile": file}
    return "".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None).encode()


def metaimage(folder: Path, seed: int) -> Path:
    values = np.stack([phantom(seed=seed + i) for i in range(3)]).astype("<i2")
    (folder / "a.raw").write_bytes(values.tobytes())
    (folder / "a.mhd").write_bytes(metaimage_header("a.raw", values.shape))
    return folder / "a.mhd"


def metaimage_packed(folder: Path, seed: int) -> Path:
    values = np.stack([phantom(seed=seed + i) for i in range(3)]).astype("<i2")
    packed = zlib.compress(values.tobytes())
    head = metaimage_header("LOCAL", values.shape, CompressedData=True, CompressedDataSize=len(packed))
    (folder / "a.mha").write_bytes(head + packed)
    return folder / "a.mha"


def image_png(folder: Path, seed: int) -> Path:
    Image.fromarray(phantom(seed=seed).astype(np.uint16)).save(folder / "a.png")
    return folder / "a.png"


def image_tiff(folder: Path, seed: int) -> Path:
    pages = [Image.fromarray(phantom(seed=seed + i).astype(np.uint16)) for i in range(2)]
    # Plain and compressed files go through different code of Pillow.
    compression = (None, "tiff_lzw", "tiff_deflate", "packbits")[seed % 4]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:], compression=compression)
    return folder / "a.tif"


def image_jpeg(folder: Path, seed: int) -> Path:
    grey = Image.fromarray(phantom(seed=seed, top=255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x013B] = 1 + seed % 8, NAME
    grey.convert(("L", "RGB", "CMYK")[seed % 3]).save(folder / "a.jpg", exif=exif)
    return folder / "a.jpg"


def image_palette(folder: Path, seed: int) -> Path:
    colours = np.stack([phantom(seed=seed + i, top=255) for i in range(3)], axis=-1).astype(np.uint8)
    Image.fromarray(colours).quantize(32).save(folder / "a.png", transparency=seed % 32)
    return folder / "a.png"


EXAMPLES: dict[str, Callable[[Path, int], Path]] = {
    "dicom": dicom,
    "dicom-series": dicom_series,
    "dicom-jpeg": dicom_jpeg,
    "dicom-multiframe": dicom_multiframe,
    "dicom-waveform": dicom_waveform,
    "nifti": nifti,
    "nifti2": nifti2,
    "metaimage": metaimage,
    "metaimage-packed": metaimage_packed,
    "image-png": image_png,
    "image-tiff": image_tiff,
    "image-jpeg": image_jpeg,
    "image-palette": image_palette,
}
