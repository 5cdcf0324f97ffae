"""Where each frame of a DICOM image lies, how large its pixels are, and how its stored values become measured ones.

Three ways to say it: in the header (one frame), in functional groups (enhanced CT, MR, PET: shared by all frames or
per frame), or by one position and a step (older files of several frames).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medssl.sources.claims import positive
from medssl.sources.dicom_pixels import frame_count
from medssl.sources.record import BadRecord

FRAME_TAGS = [
    "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices",
    "FrameIncrementPointer", "GridFrameOffsetVector", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
# Functional groups, in the order of the arguments of `_frame`.
GROUPS = (
    "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
)  # fmt: skip
GRID_OFFSETS = 0x3004000C
# Hounsfield units, or a word for "unspecified" that scanners put beside them.
HOUNSFIELD = {"", "HU", "HU_MOD", "US"}


@dataclass(frozen=True)
class Frame:
    """One slice. Directions are unit vectors, x to left, y to back, z up; lengths in mm, NaN where not stated.

    Attributes:
        row, column: directions along a row and along a column.
        at_mm: position of the first pixel, or None.
        spacing_mm: distance between rows and between columns.
        slope, intercept: measured value = slope * stored value + intercept.
        scaled: whether the file states these two, and not for another unit than HU.
    """

    row: np.ndarray
    column: np.ndarray
    at_mm: np.ndarray | None
    spacing_mm: tuple[float, float]
    thickness_mm: float
    slope: float
    intercept: float
    scaled: bool

    @property
    def normal(self) -> np.ndarray:
        """Direction between slices."""
        return np.cross(self.row, self.column)


def frames_of(header: Any) -> list[Frame]:
    """Return the frames of one file in the order of its pixels.

    Raises:
        BadRecord: ``unsupported`` (no orientation, frames that are no stack) or ``unreadable``.
    """
    count = frame_count(header)
    shared, per_frame = header.get("SharedFunctionalGroupsSequence"), header.get("PerFrameFunctionalGroupsSequence")
    if shared or per_frame:
        if per_frame and len(per_frame) != count:
            raise BadRecord("unreadable", "the header describes another number of frames than it states")
        general = shared[0] if shared else {}
        frames = []
        for own in per_frame or [{}] * count:  # a group of the frame comes before a shared one
            groups = [own.get(name) or general.get(name) or [{}] for name in GROUPS]
            frames.append(_frame(*(group[0] for group in groups)))
        return frames
    first = _frame(header, header, header, header)
    if count == 1:
        return [first]
    if first.at_mm is None:
        raise BadRecord("unsupported", "the frames state no position")
    along_mm = _offsets(header, count, first)
    return [replace(first, at_mm=first.at_mm + offset_mm * first.normal) for offset_mm in along_mm]


def _frame(position: Any, orientation: Any, measures: Any, transformation: Any) -> Frame:
    row, column = _directions(orientation.get("ImageOrientationPatient"))
    at = position.get("ImagePositionPatient")
    at_mm = None if not at else np.array(at, dtype=np.float64)
    if at_mm is not None and (at_mm.shape != (3,) or not np.isfinite(at_mm).all()):
        raise BadRecord("unreadable", "the position of a slice is not three numbers")
    slope, intercept = transformation.get("RescaleSlope"), transformation.get("RescaleIntercept")
    scale = 1.0 if slope in (None, "") else float(slope)
    offset = 0.0 if intercept in (None, "") else float(intercept)
    if not np.isfinite([scale, offset]).all():
        raise BadRecord("unreadable", "the rescale slope or intercept is not a finite number")
    stated = slope not in (None, "", 0) and intercept not in (None, "")
    scaled = stated and str(transformation.get("RescaleType") or "").strip().upper() in HOUNSFIELD
    spacing_mm = _pixel_spacing(measures.get("PixelSpacing"))
    thickness_mm = positive(measures.get("SliceThickness")) or float("nan")
    return Frame(row, column, at_mm, spacing_mm, thickness_mm, scale, offset, scaled)


def _directions(given: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors along a row and along a column."""
    if given is None or len(given) != 6:
        raise BadRecord("unsupported", "the image states no orientation")
    row, column = np.array(given[:3], dtype=np.float64), np.array(given[3:], dtype=np.float64)
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if not np.allclose(lengths, 1, atol=1e-2) or not abs(float(row @ column)) <= 1e-2:
        raise BadRecord("unreadable", "the orientation is not two perpendicular unit vectors")
    return row, column


def _pixel_spacing(given: Any) -> tuple[float, float]:
    """Return the distance between rows and between columns in mm, NaN where it is not stated."""
    if given is None or isinstance(given, str) or len(given) != 2:
        return float("nan"), float("nan")
    rows_mm, columns_mm = positive(given[0]), positive(given[1])
    if rows_mm is None or columns_mm is None:
        raise BadRecord("unreadable", "the pixel spacing is not positive")
    return rows_mm, columns_mm


def _offsets(header: Any, count: int, first: Frame) -> np.ndarray:
    """Return the distance of each frame from the first along its normal, in a file without functional groups.

    Source: DICOM PS3.3, C.8.8.3.2 (grid frame offset vector: relative to the first frame, or absolute heights).
    """
    pointer, step_mm = header.get("FrameIncrementPointer"), header.get("SpacingBetweenSlices")
    grid = header.get("GridFrameOffsetVector")
    pointers = [pointer] if isinstance(pointer, int) else list(pointer or [])
    if grid and all(int(tag) == GRID_OFFSETS for tag in pointers):
        at_mm = np.array(grid, dtype=np.float64)
        if at_mm.shape != (count,) or not np.isfinite(at_mm).all():
            raise BadRecord("unreadable", "the header describes another number of frames than it states")
        if at_mm[0] == 0:
            return at_mm
        upright = abs(float(first.normal[2])) > 0.999
        if upright and first.at_mm is not None and abs(at_mm[0] - first.at_mm[2]) < 1e-2:
            return (at_mm - at_mm[0]) * float(np.sign(first.normal[2]))
        raise BadRecord("unsupported", "the offsets of the frames start neither at 0 nor at the first position")
    if not pointers and positive(step_mm):
        return np.arange(count) * float(step_mm)
    raise BadRecord("unsupported", "the frames are no stack of slices (moments or angles); export one file per slice")
