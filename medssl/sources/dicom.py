"""Read CT and MR images from DICOM: one file, or the folder of one series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources.claims import guarded, positive, require_bytes, require_file
from medssl.sources.nifti import load_mask
from medssl.sources.record import BadRecord, Record, Volume, inside

# Only these elements are ever parsed: an allow-list, because lists of identifying elements are never complete.
GEOMETRY = [
    "Modality", "SeriesInstanceUID", "SOPClassUID", "BurnedInAnnotation", "SliceThickness",
    "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
]  # fmt: skip
PIXELS = [*GEOMETRY, "PixelData", "PlanarConfiguration", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]
AIR_HU = -1024.0
MAX_COMPRESSION = 1000
# Largest difference between distances of neighbouring slices, as a share of the usual distance.
UNEVEN = 0.1


def read(record: Record) -> Volume:
    """Read one image or series, with the NIfTI label map of ``record.mask`` if given.

    CT is in HU with everything below -1024 (padding outside the field of view) set to -1024; other modalities
    have unit ``"1"``. Files of a folder may come in any order; slices are sorted by position.

    Raises:
        BadRecord: ``missing_file``, ``bad_unit`` (CT without rescale), ``bad_mask``, ``unsupported`` (several
            frames, colour, text burned in, no orientation, uneven slices) or ``unreadable`` (several series, cut off).
    """
    import pydicom

    files = _files(record.path)
    with guarded("pydicom"):
        headers = [pydicom.dcmread(f, stop_before_pixels=True, specific_tags=GEOMETRY) for f in files]
        for file, header in zip(files, headers, strict=True):
            _check_header(header, require_file(file))
        _check_series(headers)
        row, column, normal = _directions(headers[0])
        order, distance_mm = _sort(headers, normal)
        values = np.empty((len(files), int(headers[0].Rows), int(headers[0].Columns)), dtype=np.float32)
        for target, index in zip(values, order, strict=True):
            target[:] = _pixels(files[index])
    ct = headers[0].Modality == "CT"
    if ct:
        np.maximum(values, AIR_HU, out=values)
    rows_mm, columns_mm = _pixel_spacing(headers[0])
    values, spacing = _to_superior_posterior_left(
        values, (normal, column, row), spacing_mm=(distance_mm, rows_mm, columns_mm)
    )
    mask = None if record.mask is None else load_mask(record.mask, values.shape)
    return Volume(values, spacing, "HU" if ct else "1", mask)


def _files(path: Path) -> list[Path]:
    """Return the DICOM files of a record, without other files of its folder (readme, index)."""
    if not path.is_dir():
        require_file(path)
        if not _has_preamble(path):
            raise BadRecord("unreadable", "the file is not DICOM")
        return [path]
    found = []
    for file in sorted(path.iterdir()):
        if not file.is_file() or file.name.startswith(".") or file.name.upper() == "DICOMDIR":
            continue
        inside(file, path)
        if _has_preamble(file):
            found.append(file)
        elif file.suffix.lower() == ".dcm":
            raise BadRecord("unreadable", "a file of the series is empty or not DICOM")
    if not found:
        raise BadRecord("missing_file", "the folder holds no DICOM file")
    return found


def _has_preamble(path: Path) -> bool:
    """Tell whether a file starts as DICOM files do."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _check_header(header: Any, size: int) -> None:
    """Refuse one file by what it claims, before its pixels are read."""
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise BadRecord("unsupported", "the file holds several frames; export one file per slice")
    if int(header.get("SamplesPerPixel") or 1) != 1 or header.PhotometricInterpretation not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise BadRecord("unsupported", "the image is in colour")
    if header.get("BurnedInAnnotation") == "YES":
        raise BadRecord("unsupported", "the image is marked as having text burned in, which may identify a person")
    if header.Modality == "CT" and not (header.get("RescaleSlope") and header.get("RescaleIntercept") is not None):
        raise BadRecord("bad_unit", "the CT image states no rescale slope and intercept, so no Hounsfield units")
    ratio = MAX_COMPRESSION if header.file_meta.TransferSyntaxUID.is_compressed else 1
    require_bytes(int(header.Rows) * int(header.Columns) * int(header.BitsAllocated) / 8, size * ratio)


def _check_series(headers: list[Any]) -> None:
    """Refuse slices that do not belong to one volume."""
    if len({str(h.SeriesInstanceUID) for h in headers}) != 1:
        raise BadRecord("unreadable", "the folder mixes several series; give one folder per series")
    first = headers[0]
    for header in headers[1:]:
        same = (header.Rows, header.Columns, header.Modality) == (first.Rows, first.Columns, first.Modality)
        if not same or not np.allclose(header.ImageOrientationPatient, first.ImageOrientationPatient, atol=1e-3):
            raise BadRecord("unreadable", "the slices differ in size or orientation")
        if not np.allclose(_pixel_spacing(header), _pixel_spacing(first), rtol=1e-3, equal_nan=True):
            raise BadRecord("unreadable", "the slices differ in pixel spacing")


def _directions(header: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unit vectors along a row, along a column and between slices, x to left, y to back, z up."""
    given = header.get("ImageOrientationPatient")
    if given is None or len(given) != 6:
        raise BadRecord("unsupported", "the image states no orientation")
    row, column = np.array(given[:3], dtype=np.float64), np.array(given[3:], dtype=np.float64)
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if not np.allclose(lengths, 1, atol=1e-2) or abs(float(row @ column)) > 1e-2:
        raise BadRecord("unreadable", "the orientation is not two perpendicular unit vectors")
    return row, column, np.cross(row, column)


def _sort(headers: list[Any], normal: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the order of slices along ``normal`` and their distance in mm."""
    if len(headers) == 1:
        return np.array([0]), positive(headers[0].get("SliceThickness")) or float("nan")
    # File names and instance numbers may run either way or restart; the position cannot.
    at_mm = np.array([np.array(h.ImagePositionPatient, dtype=np.float64) @ normal for h in headers])
    order = np.argsort(at_mm, kind="stable")
    steps_mm = np.diff(at_mm[order])
    usual_mm = float(np.median(steps_mm))
    if steps_mm.min() < 1e-3:
        raise BadRecord("unreadable", "two slices lie at the same position")
    if np.abs(steps_mm - usual_mm).max() > UNEVEN * usual_mm:
        raise BadRecord("unsupported", "the slices are not evenly spaced; one may be missing")
    return order, usual_mm


def _pixel_spacing(header: Any) -> tuple[float, float]:
    """Return the distance between rows and between columns in mm, NaN where it is not stated."""
    given = header.get("PixelSpacing")
    if given is None or len(given) != 2:
        return float("nan"), float("nan")
    rows_mm, columns_mm = positive(given[0]), positive(given[1])
    if rows_mm is None or columns_mm is None:
        raise BadRecord("unreadable", "the pixel spacing is not positive")
    return rows_mm, columns_mm


def _pixels(path: Path) -> np.ndarray:
    """Return the rescaled values of one file."""
    import pydicom

    image = pydicom.dcmread(path, specific_tags=PIXELS)
    slope, intercept = image.get("RescaleSlope"), image.get("RescaleIntercept")
    try:
        stored = image.pixel_array.astype(np.float32)
    except (NotImplementedError, RuntimeError) as error:
        if image.file_meta.TransferSyntaxUID.is_compressed:
            detail = f"the compressed pixels raised {type(error).__name__}; a decoder may not be installed"
            raise BadRecord("unsupported", detail) from None
        raise
    return stored * np.float32(1 if slope is None else slope) + np.float32(intercept or 0)


def _to_superior_posterior_left(
    values: np.ndarray, directions: tuple[np.ndarray, ...], *, spacing_mm: tuple[float, ...]
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Reorder and flip the axes of ``values``, whose ``directions`` are in DICOM's x left, y back, z up."""
    nearest = [int(np.argmax(np.abs(direction))) for direction in directions]
    if sorted(nearest) != [0, 1, 2]:
        raise BadRecord("unsupported", "the slices are too oblique to name their axes")
    if len(values) == 1 and nearest[0] != 2:
        raise BadRecord("unsupported", "the single slice is not axial")
    order = [nearest.index(axis) for axis in (2, 1, 0)]
    backwards = tuple(
        i for i, (old, axis) in enumerate(zip(order, (2, 1, 0), strict=True)) if directions[old][axis] < 0
    )
    turned = np.ascontiguousarray(np.flip(values.transpose(order), axis=backwards))
    return turned, (spacing_mm[order[0]], spacing_mm[order[1]], spacing_mm[order[2]])
