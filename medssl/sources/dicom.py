"""Read CT, MR and other slices from DICOM: one file, the folder of one series, or a file of several frames.

ECG waveforms of DICOM are read too (`medssl.sources.dicom_waveform`); the class of the file decides. Compressions:
see `medssl.sources.dicom_pixels`. What decides where a voxel lies and what its value is:

Honoured
    Place: ImagePositionPatient, ImageOrientationPatient, PixelSpacing (in the header, or in functional groups, shared
    or per frame), SliceThickness of a single slice, SpacingBetweenSlices and GridFrameOffsetVector of older stacks of
    frames. Slices that follow one another at an angle to their normal (a tilted gantry) are shifted onto a rectangular
    grid, note ``tilt_deg``; where GantryDetectorTilt says otherwise by more than a degree, ``tilt_conflict`` is 1.
    Value: BitsAllocated, BitsStored, HighBit, PixelRepresentation (overlays in higher bits are cut off),
    RescaleSlope, RescaleIntercept and RescaleType, of each slice or frame. PixelPaddingValue and
    PixelPaddingRangeLimit: padding becomes -1024 HU in CT, the lowest measured value otherwise; note ``padding`` is its
    share. PhotometricInterpretation MONOCHROME1 or PresentationLUTShape INVERSE, outside CT: values are mirrored within
    their range, so that larger is brighter; note ``inverted``.
    Kind: Modality, or SOPClassUID where it is empty; ImageType. Objects beside slices that are no images (reports,
    presentation states, segmentations, doses) are left out, note ``left_out`` is their number; alone they are refused
    by name.
Refused
    Several SeriesInstanceUID, FrameOfReferenceUID, sizes, orientations or spacings in one folder; positions that are
    equal, uneven, or off a line; a single slice that is not axial; no orientation; AnatomicalOrientationType QUADRUPED;
    PixelAspectRatio other than 1:1 without PixelSpacing; Siemens MOSAIC (ImageType, or the private number of tiles);
    VolumetricProperties DISTORTED or MIXED; ModalityLUTSequence; CT without rescale to HU; colour, PixelPresentation
    other than MONOCHROME; FloatPixelData, DoubleFloatPixelData; what may have text burned in (BurnedInAnnotation,
    ConversionType, secondary captures); neither Modality nor SOPClassUID.
Irrelevant
    How a picture is shown: windows, VOI and presentation tables, shutters, overlays, RecommendedDisplay tags. Places
    said again or elsewhere: SliceLocation, InstanceNumber, file names, PatientPosition, PatientOrientation, table and
    isocentre, SliceThickness and SpacingBetweenSlices of a series (positions decide), ImagerPixelSpacing (on the
    detector). Quantities beyond the rescaled value: RealWorldValueMapping, Units and decay of PET, private scales,
    LossyImageCompression. Everything about the person, the site and the time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medssl.sources import dicom_waveform, masks
from medssl.sources import grid as grids
from medssl.sources.claims import guarded, require_file
from medssl.sources.dicom_files import listed, naming, parse, transfer_syntax
from medssl.sources.dicom_frames import FRAME_TAGS, Frame, frames_of
from medssl.sources.dicom_kinds import KIND_TAGS, check_kind, is_inverse, modality, other_than_image
from medssl.sources.dicom_pixels import PIXEL_TAGS, check_claims, check_syntax, read_frames
from medssl.sources.record import AIR_HU, BadRecord, Record, Signal, Volume

# Only these elements are ever parsed: an allow-list, because lists of identifying elements are never complete. The
# sequences among them hold more, which is never looked at.
HEADER_TAGS = [
    "SeriesInstanceUID", "FrameOfReferenceUID", "GantryDetectorTilt", "PresentationLUTShape",
    *KIND_TAGS, *FRAME_TAGS, *PIXEL_TAGS,
]  # fmt: skip
# Largest difference between distances of neighbouring slices, as a share of the usual distance.
UNEVEN = 0.1
MAX_TILT_ERROR_DEG = 1.0
HALF_PIXEL_MM = 0.5  # how far a slice may lie off the line of the others where pixels have no size


def read(record: Record) -> Volume | Signal:
    """Read one image, series or ECG; images with the label map (NIfTI or MetaImage) of ``record.mask`` if given.

    CT is in HU with everything below -1024 (padding outside the field of view) set to -1024; other modalities
    have unit ``"1"``. Files of a folder may come in any order; slices are sorted by position. A file of several
    frames is read where they are one stack of slices. What else decides place and value: see the module.

    Raises:
        BadRecord: ``missing_file``, ``bad_unit`` (CT without rescale to HU), ``bad_mask``, ``unsupported`` (frames
            that are no stack, colour, text burned in or perhaps so, no orientation, uneven slices, a compression
            that is not read), ``no_samples`` or ``unreadable`` (several series, cut off); for an ECG as
            `dicom_waveform.read`.
        ImportError: the decoder of a compression is not installed.
    """
    files, count = listed(record.path)
    opened: list[tuple[int, Any, str, int]] = []  # number of the file, header, transfer syntax, bytes
    for number, file in files:
        with naming(number, count):
            syntax = transfer_syntax(file)
            check_syntax(syntax)  # before the rest is parsed: a deflated file may fill the memory
            opened.append((number, parse(file, syntax, HEADER_TAGS), syntax, require_file(file)))
    if len(opened) == 1 and str(opened[0][1].get("SOPClassUID")) in dicom_waveform.CLASSES:
        return dicom_waveform.read(record)
    with guarded("pydicom"):
        images = [one for one in opened if other_than_image(one[1]) is None] or opened[:1]
    frames: list[list[Frame]] = []
    for number, header, syntax, size in images:
        with naming(number, count), guarded("pydicom"):
            check_kind(header)
            check_claims(header, syntax, size)
            frames.append(frames_of(header))
    headers = [header for _, header, _, _ in images]
    with guarded("pydicom"):
        flat = [frame for of_file in frames for frame in of_file]
        _check_series(headers, flat)
        order, grid, spacing_mm, notes = _placed(flat, headers)
        values = _stack(images, frames, order, count)
        notes |= _clean(values, headers)
        if left_out := len(opened) - len(images):
            notes["left_out"] = float(left_out)
        unit = "HU" if modality(headers[0]) == "CT" else "1"
        placed = bool(np.isfinite(spacing_mm).all()) and flat[0].at_mm is not None
        return masks.with_mask(record, values, grid, notes, unit=unit, spacing_mm=spacing_mm, placed=placed)


def _check_series(headers: list[Any], frames: list[Frame]) -> None:
    """Refuse slices that do not belong to one volume."""
    if len({str(h.get("SeriesInstanceUID")) for h in headers}) != 1:
        raise BadRecord("unreadable", "the folder mixes several series; give one folder per series")
    if len({str(h.FrameOfReferenceUID) for h in headers if h.get("FrameOfReferenceUID")}) > 1:
        raise BadRecord("unreadable", "the slices have several frames of reference; give one folder for each")
    if len({is_inverse(h) for h in headers}) != 1:
        raise BadRecord("unreadable", "in some slices larger values are brighter, in others darker")
    turned = np.array([[*frame.row, *frame.column] for frame in frames])
    sizes = {(h.Rows, h.Columns, modality(h)) for h in headers}
    if len(sizes) != 1 or not np.allclose(turned, turned[0], atol=1e-3):
        raise BadRecord("unreadable", "the slices differ in size or orientation")
    spacing_mm = np.array([frame.spacing_mm for frame in frames])
    if not np.allclose(spacing_mm, spacing_mm[0], rtol=1e-3, equal_nan=True):
        raise BadRecord("unreadable", "the slices differ in pixel spacing")
    if modality(headers[0]) == "CT" and not all(frame.scaled for frame in frames):
        raise BadRecord("bad_unit", "the CT image states no rescale slope and intercept to Hounsfield units")


def _placed(
    frames: list[Frame], headers: list[Any]
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...], dict[str, float]]:
    """Return the order of frames along their normal, their grid, the spacing of its axes in mm, and notes."""
    first = frames[0]
    nearest = {int(np.argmax(np.abs(direction))) for direction in (first.normal, first.column, first.row)}
    if len(nearest) < 3:
        raise BadRecord("unsupported", "the slices are too oblique to name their axes")
    if len(frames) == 1 and np.argmax(np.abs(first.normal)) != 2:
        raise BadRecord("unsupported", "the single slice is not axial")
    order, step_mm, distance_mm = _sort(frames, several_files=len(headers) > 1)
    spacing_mm = (distance_mm, *first.spacing_mm)
    rows_mm, columns_mm = np.where(np.isfinite(first.spacing_mm), first.spacing_mm, 1.0)
    affine = np.eye(4)  # without sizes or a position its directions alone are used
    affine[:3, :3] = np.stack([step_mm, first.column * rows_mm, first.row * columns_mm], axis=1)
    at_mm = frames[order[0]].at_mm
    affine[:3, 3] = 0 if at_mm is None else at_mm
    # Of a single slice it is the turn about the table; its normal then differs from the patient's long axis.
    along = step_mm if len(frames) > 1 else np.array([0.0, 0.0, 1.0])
    cosine = abs(float(first.normal @ along)) / float(np.linalg.norm(along))
    tilt_deg = math.degrees(math.acos(min(1.0, cosine)))
    if tilt_deg > MAX_TILT_ERROR_DEG and len(frames) > 1 and not np.isfinite(first.spacing_mm).all():
        raise BadRecord("unsupported", "the slices are tilted, and no pixel spacing is stated to straighten them by")
    stated = headers[0].get("GantryDetectorTilt")
    conflict = stated not in (None, "") and abs(abs(float(stated)) - tilt_deg) > MAX_TILT_ERROR_DEG
    return order, grids.from_lps(affine), spacing_mm, {"tilt_conflict": 1.0} if conflict else {}


def _sort(frames: list[Frame], *, several_files: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the order of frames along their normal, the step from one to the next, and their distance, in mm."""
    normal = frames[0].normal
    if len(frames) == 1:
        thickness_mm = frames[0].thickness_mm
        return np.array([0]), normal * (thickness_mm if np.isfinite(thickness_mm) else 1.0), thickness_mm
    if any(frame.at_mm is None for frame in frames):
        raise BadRecord("unreadable", "a slice states no position")
    # File names and instance numbers may run either way or restart; the position cannot.
    at_mm = np.array([frame.at_mm for frame in frames])
    along_mm = at_mm @ normal
    order = np.argsort(along_mm, kind="stable")
    at_mm, along_mm = at_mm[order], along_mm[order]
    steps_mm = np.diff(along_mm)
    usual_mm = float(np.median(steps_mm))
    if steps_mm.min() < 1e-3:
        if several_files:
            detail = "two slices lie at the same position; give one folder for each echo, phase or repeat"
            raise BadRecord("unreadable", detail)
        raise BadRecord("unsupported", "frames lie at the same position; export one file per echo, moment or stack")
    if np.abs(steps_mm - usual_mm).max() > UNEVEN * usual_mm:
        raise BadRecord("unsupported", "the slices are not evenly spaced; one may be missing")
    way_mm = at_mm[-1] - at_mm[0]
    line_mm = at_mm[0] + np.outer((along_mm - along_mm[0]) / (along_mm[-1] - along_mm[0]), way_mm)
    half_mm = np.nan_to_num(np.array(frames[0].spacing_mm).min() / 2, nan=HALF_PIXEL_MM)
    if np.linalg.norm(at_mm - line_mm, axis=1).max() > half_mm:
        raise BadRecord("unsupported", "the slices do not lie on a line: their corners are shifted against one another")
    return order, way_mm / (len(frames) - 1), usual_mm


def _stack(images: list[Any], frames: list[list[Frame]], order: np.ndarray, count: int) -> np.ndarray:
    """Return the measured values of all frames in ``order``, NaN where they are padding."""
    place = iter(np.argsort(order))  # of each frame in the stack
    first = images[0][1]
    values = np.empty((len(order), int(first.Rows), int(first.Columns)), dtype=np.float32)
    for (number, header, *_), of_file in zip(images, frames, strict=True):
        with naming(number, count), guarded("pydicom"):
            for frame, (stored, padded) in zip(of_file, read_frames(header), strict=True):
                if frame.slope != 1:  # that of most CT
                    stored = stored * np.float32(frame.slope)
                slice_ = values[next(place)]
                np.add(stored, np.float32(frame.intercept), out=slice_, casting="same_kind")
                if padded is not None:
                    slice_[padded] = np.nan
            del header.PixelData
    return values


def _clean(values: np.ndarray, headers: list[Any]) -> dict[str, float]:
    """Replace padding and turn inverted values, in place; return notes."""
    notes = {}
    ct = modality(headers[0]) == "CT"
    padded = np.isnan(values) if any(h.get("PixelPaddingValue") is not None for h in headers) else None
    if padded is not None and padded.all():
        raise BadRecord("no_samples", "the image holds nothing but padding")
    if not ct and is_inverse(headers[0]):
        np.subtract(np.nanmin(values) + np.nanmax(values), values, out=values)
        notes["inverted"] = 1.0
    if padded is not None and padded.any():
        values[padded] = AIR_HU if ct else np.nanmin(values)
        notes["padding"] = float(padded.mean())
    if ct:
        np.maximum(values, AIR_HU, out=values)
    return notes
