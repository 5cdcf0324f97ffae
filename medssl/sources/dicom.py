"""Read CT, MR and other slices from DICOM: one file, the folder of one series, or a file of several frames.

ECG waveforms of DICOM are read too (`medssl.sources.dicom_waveform`); the class of the file decides. Compressions:
see `medssl.sources.dicom_pixels`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources import dicom_waveform
from medssl.sources.claims import guarded, require_file
from medssl.sources.dicom_frames import FRAME_TAGS, Frame, frames_of
from medssl.sources.dicom_pixels import PIXEL_TAGS, check_claims, check_syntax, read_frames
from medssl.sources.nifti import load_mask
from medssl.sources.record import AIR_HU, BadRecord, Record, Signal, Volume, inside

# Only these elements are ever parsed: an allow-list, because lists of identifying elements are never complete. The
# sequences among them hold more, which is never looked at.
HEADER_TAGS = [
    "Modality", "SeriesInstanceUID", "SOPClassUID", "BurnedInAnnotation", "ImageType", "ConversionType",
    *FRAME_TAGS, *PIXEL_TAGS,
]  # fmt: skip
DEFER_BYTES = 4096
# Secondary captures, single and multi-frame: pictures of a screen or of paper.
CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
# Largest difference between distances of neighbouring slices, as a share of the usual distance.
UNEVEN = 0.1


def read(record: Record) -> Volume | Signal:
    """Read one image, series or ECG; images with the NIfTI label map of ``record.mask`` if given.

    CT is in HU with everything below -1024 (padding outside the field of view) set to -1024; other modalities
    have unit ``"1"``. Files of a folder may come in any order; slices are sorted by position. A file of several
    frames is read where they are one stack of slices.

    Raises:
        BadRecord: ``missing_file``, ``bad_unit`` (CT without rescale to HU), ``bad_mask``, ``unsupported`` (frames
            that are no stack, colour, text burned in or perhaps so, no orientation, uneven slices, a compression
            that is not read), ``no_samples`` or ``unreadable`` (several series, cut off); for an ECG as
            `dicom_waveform.read`.
        ImportError: the decoder of a compression is not installed.
    """
    import pydicom

    files = _files(record.path)
    with guarded("pydicom"):
        syntaxes = [str(pydicom.filereader.read_file_meta_info(f).TransferSyntaxUID) for f in files]
    for syntax in set(syntaxes):  # before the rest is parsed: a deflated file may fill the memory
        check_syntax(syntax)
    with guarded("pydicom"):
        # One pass over each file; what is large is left there until it is asked for.
        headers = [pydicom.dcmread(f, specific_tags=HEADER_TAGS, defer_size=DEFER_BYTES) for f in files]
        if len(files) == 1 and str(headers[0].get("SOPClassUID")) in dicom_waveform.CLASSES:
            return dicom_waveform.read(record)
        for file, syntax, header in zip(files, syntaxes, headers, strict=True):
            _check_header(header)
            check_claims(header, syntax, require_file(file))
        frames = [frames_of(header) for header in headers]
        values, distance_mm = _stack(headers, frames)
    first = frames[0][0]
    ct = headers[0].Modality == "CT"
    if ct:
        np.maximum(values, AIR_HU, out=values)
    values, spacing = _to_superior_posterior_left(
        values, (first.normal, first.column, first.row), spacing_mm=(distance_mm, *first.spacing_mm)
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


def _check_header(header: Any) -> None:
    """Refuse one file by what it is, before its pixels are read."""
    kind = str(header.get("SOPClassUID", ""))
    if kind.startswith("1.2.840.10008.5.1.4.1.1.9."):
        raise BadRecord("unsupported", "the file holds a waveform that is no ECG, or is one of several files")
    if str(header.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        raise BadRecord("unsupported", "the image is marked as having text burned in, which may identify a person")
    image_type = header.get("ImageType") or []
    words = {str(word).strip().upper() for word in ([image_type] if isinstance(image_type, str) else image_type)}
    placed = any(
        header.get(name)
        for name in ("ImageOrientationPatient", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    )
    captured = kind == CAPTURES or kind.startswith(f"{CAPTURES}.") or header.get("ConversionType")
    if captured or words & {"SCREEN SAVE", "SCREENSAVE"} or ("SECONDARY" in words and not placed):
        raise BadRecord("unsupported", "the image is a secondary capture, which may have text burned in")
    if header.Modality == "RTDOSE":
        raise BadRecord("unsupported", "the file holds radiation doses, not an image")


def _stack(headers: list[Any], frames: list[list[Frame]]) -> tuple[np.ndarray, float]:
    """Return the measured values of all frames, sorted along their normal, and the distance between them in mm."""
    flat = [frame for of_file in frames for frame in of_file]
    _check_series(headers, flat)
    order, distance_mm = _sort(flat, several_files=len(headers) > 1)
    place = np.argsort(order)  # of each frame in the stack
    values = np.empty((len(flat), int(headers[0].Rows), int(headers[0].Columns)), dtype=np.float32)
    done = 0
    for header in headers:
        for stored in read_frames(header):
            frame = flat[done]
            if frame.slope != 1:  # that of most CT
                stored = stored * np.float32(frame.slope)
            np.add(stored, np.float32(frame.intercept), out=values[place[done]], casting="same_kind")
            done += 1
        del header.PixelData
    return values, distance_mm


def _check_series(headers: list[Any], frames: list[Frame]) -> None:
    """Refuse slices that do not belong to one volume."""
    if len({str(h.SeriesInstanceUID) for h in headers}) != 1:
        raise BadRecord("unreadable", "the folder mixes several series; give one folder per series")
    if len({(h.Rows, h.Columns, h.Modality) for h in headers}) != 1:
        raise BadRecord("unreadable", "the slices differ in size or orientation")
    turned = np.array([[*frame.row, *frame.column] for frame in frames])
    if not np.allclose(turned, turned[0], atol=1e-3):
        raise BadRecord("unreadable", "the slices differ in size or orientation")
    spacing_mm = np.array([frame.spacing_mm for frame in frames])
    if not np.allclose(spacing_mm, spacing_mm[0], rtol=1e-3, equal_nan=True):
        raise BadRecord("unreadable", "the slices differ in pixel spacing")
    if headers[0].Modality == "CT" and not all(frame.scaled for frame in frames):
        raise BadRecord("bad_unit", "the CT image states no rescale slope and intercept to Hounsfield units")


def _sort(frames: list[Frame], *, several_files: bool) -> tuple[np.ndarray, float]:
    """Return the order of frames along their normal and their distance in mm."""
    if len(frames) == 1:
        return np.array([0]), frames[0].thickness_mm
    if any(frame.at_mm is None for frame in frames):
        raise BadRecord("unreadable", "a slice states no position")
    # File names and instance numbers may run either way or restart; the position cannot.
    along_mm = np.array([frame.at_mm @ frames[0].normal for frame in frames if frame.at_mm is not None])
    order = np.argsort(along_mm, kind="stable")
    steps_mm = np.diff(along_mm[order])
    usual_mm = float(np.median(steps_mm))
    if steps_mm.min() < 1e-3:
        if several_files:
            raise BadRecord("unreadable", "two slices lie at the same position")
        raise BadRecord("unsupported", "frames lie at the same position; export one file per echo, moment or stack")
    if np.abs(steps_mm - usual_mm).max() > UNEVEN * usual_mm:
        raise BadRecord("unsupported", "the slices are not evenly spaced; one may be missing")
    return order, usual_mm


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
