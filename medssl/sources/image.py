"""Read pictures of slices (PNG, JPEG, TIFF, BMP), and stacks of slices in one TIFF, in grey.

================================== =================================================================================
picture                            values
================================== =================================================================================
8, 16 or 32 bit grey, TIFF floats  as stored, with the sign that a TIFF states (SampleFormat)
1, 2 or 4 bit grey                 spread over 0 to 255
TIFF that shows 0 white            turned, so that larger is brighter: 255 - x, or 65535 - x of 16 bits; floats are
                                   mirrored within their range, over all pages
colour (RGB, palette, CMYK, YCbCr) luminance as Pillow converts it (ITU-R 601-2), 0 to 255; exactly the grey of what
                                   is grey in content. 16 bits a colour are read as 8
transparency                       is ignored: the value is what the picture has there
================================== =================================================================================

Notes: ``colour``, the share of pixels that are truly coloured, 0 for grey content; where they are not 0,
``transparent``, the share of pixels that are not opaque, ``narrowed``, 1 for a picture of 16 bits read as 8, and
``inverted``, 1 for a TIFF that shows 0 white.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources import grid as grids
from medssl.sources import masks
from medssl.sources.claims import guarded, require_bytes, require_file
from medssl.sources.record import BadRecord, Record, Volume

FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
# Why a file that Pillow does not know is refused.
NO_PICTURE = "the file is no picture in PNG, JPEG, TIFF or BMP; save it as PNG"
OF_TIFF = (
    "the TIFF is damaged, or its pixels are of a kind or byte order that is not read (such as 64 bits, half floats "
    "or numbers with sign that show 0 white); save it with 8 or 16 bits of grey or floats of 32 bits, 0 as black"
)
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
# Bits and sample format of a TIFF -> type of the numbers that Pillow returns as others of the same bytes.
TYPES = {(8, 2): np.int8, (32, 1): np.uint32}
# libtiff hands out bytes in the order of the machine; for these Pillow turns them all the same.
TURNED_TWICE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
SPREAD = {"L;2": 85, "L;4": 17}  # what Pillow multiplies grey of few bits by
GREY = {"L", "I;16", "I;16L", "I;16B", "I", "F"}
COLOUR = {"1", "LA", "PA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
# Grey levels between the largest and the smallest of red, green and blue: JPEG leaves grey content within 3, prints
# and screens tint it a little more.
MAX_TINT = 16
# Deflate, and the other compressions of TIFF on real pictures, cannot shrink more.
MAX_COMPRESSION = 1040
BITS = {"1": 1, "P": 1}  # at least, of a pixel; 8 or more in the others
# One page; larger pictures are whole-slide scans or bombs (a file of 100 kB can honestly hold 100 million pixels).
MAX_PIXELS = 1 << 26


def read(record: Record) -> Volume:
    """Read one picture as a volume of one slice, unit ``"1"``, with the label map ``record.mask`` if given.

    The pages of a TIFF are the slices, from the first at the bottom to the last. ``hints["spacing_mm"]`` is one
    number for both axes of the picture, two for its rows and columns, or three with the distance of slices first;
    NaN without it. Nothing is taken from EXIF or comments but which side is up: a picture is read as it is shown.

    A mask is a picture too, whose grey values or palette numbers are the labels, or NIfTI or MetaImage of the same
    shape.

    Raises:
        BadRecord: ``missing_file``, ``unsupported`` (animations, more than 64 million pixels, pages of several sizes
            or kinds, colour spaces beyond the table), ``bad_mask`` or ``unreadable``.
    """
    spacing = grids.stated_spacing(record.hints.get("spacing_mm"))
    pages, notes = _read(record.path, labels=False)
    values = pages.astype(np.float32)
    return Volume(values, spacing, str(record.hints.get("unit", "1")), _mask(record.mask, values.shape), notes)


def _mask(path: Path | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if path is None or path.suffix.lower() not in (".png", ".tif", ".tiff", ".bmp"):
        return masks.load(path, shape, None)[0]
    with masks.named():
        labels = masks.whole(_read(path, labels=True)[0])
    if labels.shape != shape:
        raise BadRecord("bad_mask", "the mask and the picture differ in size")
    return labels


def _read(path: Path, *, labels: bool) -> tuple[np.ndarray, dict[str, float]]:
    """Return the pages ``(D, H, W)`` of a picture as shown, in grey or as labels, and notes."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    size = require_file(path)
    # Opened here: of a path, Pillow 13 maps plain TIFFs into memory, and garbles those that lie on their side.
    with guarded("Pillow"), path.open("rb") as file:
        try:
            picture = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            file.seek(0)
            raise BadRecord("unreadable", OF_TIFF if file.read(4) in TIFF_STARTS else NO_PICTURE) from None
        # A PNG with several frames is an animation; its later frames are drawn over one another. Those of a JPEG (MPO)
        # are previews.
        pages = int(getattr(picture, "n_frames", 1))
        if pages != 1 and picture.format == "PNG":
            raise BadRecord("unsupported", "the picture is an animation; store one slice per file")
        tiff = picture.format == "TIFF"
        pages = pages if tiff else 1
        (width, height), mode = picture.size, picture.mode
        if width * height > MAX_PIXELS:
            raise BadRecord("unsupported", "the picture has more than 64 million pixels")
        require_bytes(pages * width * height * BITS.get(mode, 8) / 8, size * MAX_COMPRESSION)
        shown, seen, kinds = [], [], set()
        for page in range(pages):
            picture.seek(page)
            if picture.mode not in GREY | COLOUR:
                raise BadRecord("unsupported", "the picture is neither grey nor RGB, palette or CMYK; save it as RGB")
            # Asked before the pixels are decoded, which forgets it.
            raw = _raw_mode(picture)
            inverse, kind = _of_tiff(picture) if tiff else (False, None)
            kinds.add((picture.size, picture.mode, inverse, kind))
            if len(kinds) > 1:
                raise BadRecord("unsupported", "the pages of the picture differ in size or kind")
            narrowed = mode not in GREY and ";16" in raw
            upright = picture if tiff else ImageOps.exif_transpose(picture)  # Pillow turns a TIFF itself
            if labels:
                if mode not in GREY | {"1", "P"}:
                    raise BadRecord("bad_mask", "the mask is a picture in colour; store labels as grey values")
                if inverse:
                    raise BadRecord("bad_mask", "the mask is a TIFF that shows 0 white; save it with 0 as black")
                shown.append(np.asarray(upright) // SPREAD.get(raw[:3], 1) if mode == "L" else np.asarray(upright))
            else:
                shown.append(np.asarray(upright if mode in GREY else upright.convert("RGB").convert("L")))
                seen.append({**_colours(upright), "narrowed": float(narrowed), "inverted": float(inverse)})
        notes = {name: float(np.mean([one[name] for one in seen])) for name in (seen[0] if seen else ())}
        values = np.stack(shown)
        values = values if kind is None else values.view(kind)
        if inverse and mode in GREY - {"L"}:  # others Pillow turns
            values = np.nanmin(values) + np.nanmax(values) - values if mode == "F" else 65535 - values
    return values, {name: share for name, share in notes.items() if share or name == "colour"}


def _of_tiff(picture: Any) -> tuple[bool, Any]:
    """Return whether a page shows 0 white, and the type of its numbers if not Pillow's; mend how it will be decoded."""
    tags, raw = picture.tag_v2, _raw_mode(picture)
    if PHOTOMETRIC not in tags:
        raise BadRecord("unsupported", "the TIFF does not say whether 0 is black or white; save it again, or as PNG")
    if picture.tile[0].codec_name == "libtiff" and raw in TURNED_TWICE:
        picture.tile = [tile._replace(args=(TURNED_TWICE[raw], *tile.args[1:])) for tile in picture.tile]
    bits, signed = (int(np.ravel(tags.get(tag, 1))[0]) for tag in (BITS_PER_SAMPLE, SAMPLE_FORMAT))
    return tags[PHOTOMETRIC] == 0, TYPES.get((bits, signed)) if picture.mode in ("L", "I") else None


def _raw_mode(picture: Any) -> str:
    """Return how the file stores pixels, by Pillow's name."""
    args = picture.tile[0][3] if picture.tile else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _colours(picture: Any) -> dict[str, float]:
    """Return which share of the pixels is coloured, and which is not opaque."""
    coloured = transparent = 0.0
    if picture.mode in COLOUR - {"1", "LA"}:
        channels = np.asarray(picture.convert("RGB"))
        coloured = float((channels.max(axis=-1) - channels.min(axis=-1) > MAX_TINT).mean())
    if picture.has_transparency_data and picture.mode in COLOUR | {"L"}:
        transparent = float((np.asarray(picture.convert("RGBA").getchannel("A")) < 255).mean())
    return {"colour": coloured, "transparent": transparent}
