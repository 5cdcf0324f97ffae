"""Read greyscale PNG and TIFF slices."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from medssl.sources.claims import guarded, require_file
from medssl.sources.record import BadRecord, Record, Volume

GREY = {"L", "I;16", "I;16L", "I;16B", "I"}


def read(record: Record) -> Volume:
    """Read one 8 or 16 bit greyscale picture as a volume of one slice, values as stored, unit ``"1"``.

    ``hints["spacing_mm"]`` is one number for both axes of the picture, two for its rows and columns, or three
    with the slice thickness first; NaN without it. Text inside the file is never read.

    Raises:
        BadRecord: ``missing_file``, ``unsupported`` (colour, several pages) or ``unreadable``.
    """
    from PIL import Image

    spacing = _spacing(record.hints.get("spacing_mm"))
    require_file(record.path)
    with guarded("Pillow"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # within the guard only
        with Image.open(record.path) as picture:
            if picture.mode not in GREY:
                raise BadRecord("unsupported", "the picture is not 8 or 16 bit greyscale")
            if getattr(picture, "n_frames", 1) != 1:
                raise BadRecord("unsupported", "the picture has several pages; store one slice per file")
            values = np.asarray(picture, dtype=np.float32)
    return Volume(values[np.newaxis].copy(), spacing, str(record.hints.get("unit", "1")))


def _spacing(hint: Any) -> tuple[float, float, float]:
    """Return ``(D, H, W)`` spacing in mm from a hint of one to three numbers."""
    if hint is None:
        return (float("nan"),) * 3
    given = np.atleast_1d(np.asarray(hint, dtype=np.float64)).ravel()
    if given.size not in (1, 2, 3) or not (given > 0).all():
        raise BadRecord("unreadable", "spacing_mm is not one to three positive numbers")
    padded = {1: [np.nan, given[0], given[0]], 2: [np.nan, *given], 3: list(given)}[given.size]
    return float(padded[0]), float(padded[1]), float(padded[2])
