"""Read greyscale PNG and TIFF slices, and stacks of slices in one TIFF."""

from __future__ import annotations

from typing import Any

import numpy as np

from medssl.sources.claims import guarded, require_bytes, require_file
from medssl.sources.record import BadRecord, Record, Volume

GREY = {"L", "I;16", "I;16L", "I;16B", "I"}
# Deflate, and the other compressions of TIFF on real pictures, cannot shrink more.
MAX_COMPRESSION = 1040
# One page; larger pictures are whole-slide scans or bombs (a file of 100 kB can honestly hold 100 million pixels).
MAX_PIXELS = 1 << 26


def read(record: Record) -> Volume:
    """Read one 8 or 16 bit greyscale picture as a volume of one slice, values as stored, unit ``"1"``.

    The pages of a TIFF are the slices, from the first at the bottom to the last. ``hints["spacing_mm"]`` is one
    number for both axes of the picture, two for its rows and columns, or three with the distance of slices first;
    NaN without it. Nothing is taken from EXIF or comments but, in a TIFF, which side is up.

    Raises:
        BadRecord: ``missing_file``, ``unsupported`` (colour, more than 64 million pixels, pages of several sizes) or
            ``unreadable``.
    """
    from PIL import Image

    spacing = _spacing(record.hints.get("spacing_mm"))
    size = require_file(record.path)
    with guarded("Pillow"), Image.open(record.path, formats=("PNG", "TIFF")) as picture:
        # A PNG with several frames is an animation; its later frames are drawn over one another.
        pages = int(getattr(picture, "n_frames", 1))
        if pages != 1 and picture.format != "TIFF":
            raise BadRecord("unsupported", "the picture is an animation; store one slice per file")
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise BadRecord("unsupported", "the picture has more than 64 million pixels")
        require_bytes(pages * width * height, size * MAX_COMPRESSION)
        shown = []
        for page in range(pages):
            picture.seek(page)
            if picture.mode not in GREY:
                raise BadRecord("unsupported", "the picture is not 8 or 16 bit greyscale")
            if picture.size != (width, height):
                raise BadRecord("unsupported", "the pages of the picture differ in size")
            # As displayed: where the TIFF says it is turned, its sides are not those of its header.
            shown.append(np.asarray(picture))
        values = np.stack(shown).astype(np.float32)
    return Volume(values, spacing, str(record.hints.get("unit", "1")))


def _spacing(hint: Any) -> tuple[float, float, float]:
    """Return ``(D, H, W)`` spacing in mm from a hint of one to three numbers."""
    if hint is None:
        return (float("nan"),) * 3
    try:
        given = np.atleast_1d(np.asarray(hint, dtype=np.float64)).ravel()
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.size not in (1, 2, 3) or not (np.isfinite(given) & (given > 0)).all():
        raise BadRecord("unreadable", "spacing_mm is not one to three positive numbers")
    padded = {1: [np.nan, given[0], given[0]], 2: [np.nan, *given], 3: list(given)}[given.size]
    return float(padded[0]), float(padded[1]), float(padded[2])
