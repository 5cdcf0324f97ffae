"""Stored pixels of DICOM images: which compressions are read, and checks of each stream before it is decoded.

===================================== ================================== ==========================================
transfer syntax                       decoder (licence)                  samples
===================================== ================================== ==========================================
implicit, explicit, big endian        pydicom (MIT)                      8, 16, 32 bit
RLE                                   pydicom                            8, 16 bit
JPEG baseline, extended               Pillow (MIT-CMU)                   8 bit
JPEG lossless, all predictors         `medssl.sources.jpeg_lossless`     2 to 16 bit
JPEG-LS, lossless and near-lossless   pyjpegls (MIT)                     2 to 16 bit
JPEG 2000, lossless and lossy         Pillow                             up to 16 bit
===================================== ================================== ==========================================

Refused as ``unsupported``: 12-bit JPEG extended and high-throughput JPEG 2000 (no decoder that is safe to call),
deflated files (their size is unknown until they fill the memory), video. GDCM decodes more, but a damaged stream of
almost any kind ends the whole process (3.2.6: abort or segmentation fault), so it is never called.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from medssl.sources import jpeg_lossless
from medssl.sources.claims import require_bytes
from medssl.sources.record import BadRecord

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"}
RLE = "1.2.840.10008.1.2.5"
JPEG = {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
JPEG_LOSSLESS = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
# Transfer syntax -> pydicom's name of the decoder and the module that it needs.
DECODERS = {
    RLE: ("pydicom", "pydicom"),
    **dict.fromkeys(JPEG | JPEG_2000, ("pillow", "PIL")),
    **dict.fromkeys(JPEG_LS, ("pyjpegls", "jpeg_ls")),
}
# Largest ratio of pixels to file. RLE stores 128 equal bytes in two; an empty picture may shrink more in JPEG 2000.
MAX_COMPRESSION = {RLE: 64}
MAX_OTHER_COMPRESSION = 1000
UNDEFINED_LENGTH = 0xFFFFFFFF
# Pixels. Smaller tiles are legal in JPEG 2000, never used, and take minutes to decode.
MIN_TILE = 1024

PIXEL_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "PlanarConfiguration", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "FloatPixelData", "DoubleFloatPixelData", "PixelPaddingValue",
    "PixelPaddingRangeLimit",
]  # fmt: skip
REQUIRED = [
    "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
]  # fmt: skip


def check_syntax(syntax: str) -> None:
    """Refuse a transfer syntax without decoder: ``unsupported``, or `ImportError` for one that is not installed."""
    if syntax in NATIVE | JPEG_LOSSLESS:
        return
    if syntax not in DECODERS:
        raise BadRecord("unsupported", "the file's compression is not read; see medssl.sources.dicom_pixels")
    plugin, module = DECODERS[syntax]
    try:
        importlib.import_module(module)
    except ImportError:
        raise ImportError(f"this compression needs {plugin}", name=plugin) from None


def frame_count(header: Any) -> int:
    """Return the number of frames that a header states, 1 where it states none."""
    stated = header.get("NumberOfFrames")
    count = 1 if stated is None or stated == "" else int(stated)
    if count < 1:
        raise BadRecord("no_samples", "the header states no frame")
    return count


def check_claims(header: Any, syntax: str, size: int) -> None:
    """Refuse colour, odd sample layouts, and more pixels than ``size`` bytes can hold."""
    if "FloatPixelData" in header or "DoubleFloatPixelData" in header:
        raise BadRecord("unsupported", "the pixels are floating point numbers; export them as integers or as NIfTI")
    missing = [name for name in REQUIRED if header.get(name) is None] + ["PixelData"] * ("PixelData" not in header)
    if missing:
        raise BadRecord("unreadable", f"the file holds no {missing[0]}; it may be cut off: copy or export it again")
    shown = str(header.PhotometricInterpretation).strip().upper()
    if int(header.get("SamplesPerPixel") or 1) != 1 or shown not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadRecord("unsupported", "the image is in colour; export it in grey")
    allocated, stored, high = int(header.BitsAllocated), int(header.BitsStored), int(header.HighBit)
    if allocated not in (8, 16, 32):
        raise BadRecord("unsupported", "the image has neither 8, 16 nor 32 bits for a pixel")
    if not 1 <= stored <= high + 1 <= allocated or header.PixelRepresentation not in (0, 1):
        raise BadRecord("unreadable", "the bits of a pixel contradict each other")
    rows, columns, frames = int(header.Rows), int(header.Columns), frame_count(header)
    if rows < 1 or columns < 1:
        raise BadRecord("no_samples", "the image holds no pixel")
    ratio = 1 if syntax in NATIVE else MAX_COMPRESSION.get(syntax, MAX_OTHER_COMPRESSION)
    require_bytes(rows * columns * frames * allocated / 8, size * ratio)
    require_bytes(frames, size / 8)  # so many bytes frame even an empty stream
    pixels = header.get_item("PixelData", keep_deferred=True)
    length = getattr(pixels, "length", None)
    if length == UNDEFINED_LENGTH and syntax in NATIVE:
        raise BadRecord("unreadable", "the pixels are compressed, and the file does not say how; export it again")
    if length is not None and length != UNDEFINED_LENGTH and pixels.value_tell + length > size:
        raise BadRecord("unreadable", "the file is cut off within its pixels; copy or export it again")


def read_frames(image: Any) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield of each frame the stored values as integers ``(rows, columns)``, and where they are padding or None.

    Args:
        image: dataset with `PIXEL_TAGS`.

    Raises:
        BadRecord: ``unreadable`` for a stream that is damaged, cut off or not of the size in the header;
            ``unsupported`` for 12-bit JPEG extended.
    """
    from pydicom.pixels import get_decoder

    decoded: Iterator[np.ndarray]
    syntax, count, signed = image.file_meta.TransferSyntaxUID, frame_count(image), image.PixelRepresentation == 1
    stored, high = int(image.BitsStored), int(image.HighBit)
    padding = _padding(image)
    streams = [] if syntax in NATIVE else _streams(image, count)
    coded = bool(streams) and syntax != RLE  # with a header of its own, which states the bits of a sample
    precisions = [_precision(stream, syntax, image) for stream in streams] if coded else [0] * count
    if syntax in JPEG_LOSSLESS:
        decoded = (jpeg_lossless.decode(stream) for stream in streams)
    elif streams:
        decoded = (_decode(stream, image) for stream in streams)
    else:
        # With the bits that no value has: padding may be in them.
        options: dict[str, Any] = {"raw": True, "correct_unused_bits": False}
        decoded = (frame for frame, _ in get_decoder(syntax).iter_array(image, **options))
    for precision, frame in zip(precisions, decoded, strict=True):
        if frame.shape != (image.Rows, image.Columns):
            raise jpeg_lossless.damaged()
        bits, top = (precision, precision - 1) if coded else (stored, high)
        # JPEG 2000 carries the sign.
        values = frame if syntax in JPEG_2000 else _own_bits(frame, bits, top, signed)
        if padding is None:
            yield values, None
            continue
        # Padding may use bits that values do not: -2000 in an image of 12 bits without sign.
        bits = 8 * frame.dtype.itemsize
        lowest = -(1 << (stored - 1)) if signed else 0
        beyond = padding[0] < lowest or padding[1] >= lowest + (1 << stored)
        yield values, _padded(_own_bits(frame, bits, bits - 1, signed) if beyond else values, padding)


def _padding(image: Any) -> tuple[int, int] | None:
    """Return the lowest and the highest value that stand for no measurement, or None."""
    value = image.get("PixelPaddingValue")
    if value in (None, ""):
        return None
    limit = image.get("PixelPaddingRangeLimit")
    bits, signed = int(image.BitsAllocated), image.PixelRepresentation == 1
    ends = []
    for end in (value, value if limit in (None, "") else limit):
        if not isinstance(end, int):
            raise BadRecord("unreadable", "the padding value in the header is not a whole number")
        wrapped = end % (1 << bits)  # written with or without sign, whatever the pixels have
        ends.append(wrapped - (1 << bits) if signed and wrapped >> (bits - 1) else wrapped)
    return min(ends), max(ends)


def _padded(values: np.ndarray, padding: tuple[int, int]) -> np.ndarray | None:
    """Return where a frame holds padding, None for nowhere.

    Some programs write a padding value, often 0, that is a measured one too. Padding fills a picture up to a rectangle,
    so such values are padding where they reach the border without a gap.
    """
    found = (values >= padding[0]) & (values <= padding[1])
    if not found.any():
        return None
    others = values[~found]
    if others.size and others.min() < padding[0] and others.max() > padding[1]:
        parts, _ = ndimage.label(found)
        edges = (parts[0], parts[-1], parts[:, 0], parts[:, -1])
        outer = np.unique(np.concatenate(edges))
        found = np.isin(parts, outer[outer > 0])
    return found


def _decode(stream: bytes, image: Any) -> np.ndarray:
    """Return one frame; whatever the offsets of the file say, exactly the stream that was checked is decoded."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    syntax = image.file_meta.TransferSyntaxUID
    image.NumberOfFrames, image.PixelData = 1, encapsulate([stream])
    options = {"raw": True, "decoding_plugin": DECODERS[syntax][0], "correct_unused_bits": syntax != RLE}
    frame: np.ndarray = get_decoder(syntax).as_array(image, **options)[0]
    return frame


def _streams(image: Any, count: int) -> list[bytes]:
    from pydicom.encaps import generate_frames

    offsets = image.get("ExtendedOffsetTable"), image.get("ExtendedOffsetTableLengths")
    extended = offsets if all(offsets) else None
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):  # used here, and only here
        if name in image:
            delattr(image, name)
    streams = list(generate_frames(image.PixelData, number_of_frames=count, extended_offsets=extended))
    if len(streams) < count:
        raise BadRecord("unreadable", "the file holds fewer frames than its header states")
    return streams[:count]


def _precision(stream: bytes, syntax: str, image: Any) -> int:
    """Return the bits of a sample in one stream, whose own header must agree with that of the file.

    Decoders trust the stream: one that claims 65535 rows would take memory for them whatever the file says.
    """
    if syntax in JPEG_2000:
        at = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
        size = stream[at + 4 : at + 43]
        if at < 0 or len(size) < 39:
            raise jpeg_lossless.damaged()
        right, bottom, left, top, *tile, components, precision = struct.unpack(">8IHB", size[4:])
        rows, columns, precision = bottom - top, right - left, (precision & 127) + 1
    else:
        frames = [body for marker, body, _ in jpeg_lossless.segments(stream) if marker in jpeg_lossless.FRAMES]
        if len(frames) != 1 or len(frames[0]) < 6:
            raise jpeg_lossless.damaged()
        precision, rows, columns, components = struct.unpack(">B2HB", frames[0][:6])
    if (rows, columns) != (image.Rows, image.Columns):
        raise BadRecord("unreadable", "the compressed image has another size than the header states")
    if syntax in JPEG_2000:
        tile_w, tile_h, tile_x, tile_y = tile
        if tile_x > left or tile_y > top or tile_w * tile_h < min(rows * columns, MIN_TILE):
            raise jpeg_lossless.damaged()
    if components != 1:
        raise BadRecord("unsupported", "the compressed image has several components")
    if syntax in JPEG and precision != 8:
        raise BadRecord("unsupported", "the image is JPEG with more than 8 bits and lossy, which has no safe decoder")
    if not 1 <= precision <= min(16, image.BitsAllocated):
        raise jpeg_lossless.damaged()
    if syntax in JPEG_LS:
        _check_end(stream)
    return precision


def _check_end(stream: bytes) -> None:
    """Refuse a JPEG-LS stream whose first marker after the scan header is not the end: CharLS may then hang."""
    start = max(end for _, _, end in jpeg_lossless.segments(stream))
    data = np.frombuffer(stream.rstrip(b"\0")[start:], dtype=np.uint8)
    markers = np.flatnonzero((data[:-1] == 0xFF) & (data[1:] >= 0x80))
    if not markers.size or markers[0] != data.size - 2 or data[-1] != jpeg_lossless.END:
        raise jpeg_lossless.damaged()


def _own_bits(frame: np.ndarray, stored: int, high: int, signed: bool) -> np.ndarray:
    """Return the value in bits ``high - stored + 1`` to ``high`` of each pixel, the highest one being the sign.

    Bits above may hold an overlay drawn over the picture, and decoders leave the sign of short samples out.
    """
    bits = 8 * frame.dtype.itemsize
    if high >= bits:
        raise jpeg_lossless.damaged()
    kind = np.dtype(f"{'i' if signed else 'u'}{frame.dtype.itemsize}")
    native = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("=")).view(kind)
    return (native << (bits - 1 - high)) >> (bits - stored)
