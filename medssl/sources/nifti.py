"""Read NIfTI volumes and organ label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources.claims import guarded, require_bytes, require_file
from medssl.sources.record import BadRecord, Record, Volume

# Deflate cannot shrink more than 1032 times; anything beyond is a header that lies.
MAX_DEFLATE = 1040
MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 1e-3}


def read(record: Record) -> Volume:
    """Read one 3-D NIfTI file, with its label map if ``record.mask`` names one.

    The unit is ``hints["unit"]``, ``"1"`` by default: NIfTI does not state one.

    Raises:
        BadRecord: ``missing_file``, ``unsupported`` (not 3-D, colour, no orientation), ``bad_mask`` or
            ``unreadable``.
    """
    values, spacing = _load(record.path)
    values = np.ascontiguousarray(values, dtype=np.float32)
    mask = None if record.mask is None else load_mask(record.mask, values.shape)
    return Volume(values, spacing, str(record.hints.get("unit", "1")), mask)


def load_mask(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return a label map as int32 on axes superior, posterior, left.

    Raises:
        BadRecord: ``bad_mask`` if its shape is not ``shape`` or a value is no integer; as `read` otherwise.
    """
    values, _ = _load(path)
    if values.shape != shape:
        raise BadRecord("bad_mask", "the mask and the volume differ in shape")
    # Labels stored with a scale come back as 2.9999; truncation would move them to another organ.
    rounded = np.rint(values)
    if not np.all(np.isfinite(values)) or np.max(np.abs(values - rounded), initial=0) > 0.01:
        raise BadRecord("bad_mask", "the mask holds values that are not integers")
    return np.ascontiguousarray(rounded, dtype=np.int32)


def _load(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return values on axes superior, posterior, left and the spacing of these axes in mm."""
    import nibabel

    size = require_file(path)
    with guarded("nibabel"):
        image: Any = nibabel.load(path)  # type: ignore[attr-defined, unused-ignore]
        _check_header(image, path, size)
        orientation = nibabel.orientations.io_orientation(image.affine)
        if np.isnan(orientation).any():
            raise BadRecord("unreadable", "the orientation in the header is not usable")
        # Reordering the array ourselves: nibabel's own canonical image refuses int64 data.
        values = np.asarray(image.dataobj)
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32, copy=False)
        values = nibabel.orientations.apply_orientation(values, orientation)
        zooms = np.empty(3)
        zooms[orientation[:, 0].astype(int)] = image.header.get_zooms()[:3]
        zooms *= MM[image.header.get_xyzt_units()[0]] if hasattr(image.header, "get_xyzt_units") else 1.0
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        raise BadRecord("unreadable", "the voxel size in the header is not positive")
    # Right, anterior, superior -> superior, posterior, left.
    values = values.transpose(2, 1, 0)[:, ::-1, ::-1]
    return values, (float(zooms[2]), float(zooms[1]), float(zooms[0]))


def _check_header(image: Any, path: Path, size: int) -> None:
    """Refuse what has no place in a `Volume`, and sizes that the file cannot hold."""
    shape, dtype = image.shape, image.get_data_dtype()
    if len(shape) != 3:
        raise BadRecord("unsupported", f"the image has {len(shape)} dimensions; 3 are needed")
    if dtype.kind not in "iuf":
        raise BadRecord("unsupported", "the image holds colours or complex numbers")
    if min(shape) < 1:
        raise BadRecord("no_samples", "the image holds no voxel")
    ratio = MAX_DEFLATE if path.suffix == ".gz" else 1
    require_bytes(np.prod(shape, dtype=np.float64) * dtype.itemsize, size * ratio)
    codes = [int(image.header[key]) for key in ("qform_code", "sform_code") if key in image.header]
    if codes and not any(codes):  # readers then guess which side is left
        raise BadRecord("unsupported", "the header states no orientation (qform and sform codes are 0)")
