"""Read organ label maps, NIfTI or MetaImage, onto the grid of their volume."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medssl.sources import grid as grids
from medssl.sources.claims import guarded
from medssl.sources.record import BadRecord

MAX_ROUNDING = 0.01  # labels stored with a scale come back as 2.9999


def load(path: Path, shape: tuple[int, ...], grid: np.ndarray | None) -> tuple[np.ndarray, dict[str, float]]:
    """Return a label map as int32 on axes superior, posterior, left, and notes.

    Args:
        path: MetaImage by its suffix, otherwise NIfTI.
        shape: of the volume.
        grid: of the volume, None where it has no place of its own; see `medssl.sources.grid.fitted`.

    Raises:
        BadRecord: ``bad_mask`` if it does not belong to the volume or a value is no integer; as its reader otherwise.
    """
    from medssl.sources import metaimage, nifti

    reader = metaimage if path.suffix.lower() in metaimage.SUFFIXES else nifti
    stored, own = reader.stored(path)[:2]
    with guarded("the reader of masks"):
        values, own, _ = grids.oriented(stored, own, (0.0, 0.0, 0.0))
        labels, notes = grids.fitted(whole(values), own, shape, grid)
    return np.ascontiguousarray(labels), notes


def whole(values: np.ndarray) -> np.ndarray:
    """Return labels as int32.

    Raises:
        BadRecord: ``bad_mask`` for values that are no integers, or too large.
    """
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    rounded = values if values.dtype.kind in "iu" else np.rint(values)
    near = rounded is values or (np.isfinite(values).all() and np.abs(values - rounded).max(initial=0) <= MAX_ROUNDING)
    limits = np.iinfo(np.int32)
    if not near or (values.size and not limits.min <= rounded.min() <= rounded.max() <= limits.max):
        raise BadRecord("bad_mask", "the mask holds values that are not integers")
    return np.asarray(rounded, dtype=np.int32)
