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
from collections.abc import Iterator
from typing import Any

import numpy as np

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
# Pixels. Smaller tiles are legal in JPEG 2000, never used, and take minutes to decode.
MIN_TILE = 1024

PIXEL_TAGS = [
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "PlanarConfiguration", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]  # fmt: skip


def check_syntax(syntax: str) -> None:
    """Refuse a transfer syntax that has no decoder here.

    Raises:
        BadRecord: ``unsupported``.
        ImportError: its decoder is not installed.
    """
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
    if int(header.get("SamplesPerPixel") or 1) != 1 or header.PhotometricInterpretation not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise BadRecord("unsupported", "the image is in colour")
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


def read_frames(image: Any) -> Iterator[np.ndarray]:
    """Yield the stored values of each frame of a dataset with `PIXEL_TAGS` as integers ``(rows, columns)``.

    Raises:
        BadRecord: ``unreadable`` for a stream that is damaged, cut off or not of the size in the header;
            ``unsupported`` for 12-bit JPEG extended.
    """
    from pydicom.pixels import get_decoder

    decoded: Iterator[np.ndarray]
    syntax, count, signed = image.file_meta.TransferSyntaxUID, frame_count(image), image.PixelRepresentation == 1
    stored, high = int(image.BitsStored), int(image.HighBit)
    streams = [] if syntax in NATIVE else _streams(image, count)
    precisions = [0 if syntax in NATIVE or syntax == RLE else _precision(s, syntax, image) for s in streams]
    if syntax in JPEG_LOSSLESS:
        decoded = (jpeg_lossless.decode(stream) for stream in streams)
    elif streams:
        decoded = (_decode(stream, image) for stream in streams)
    else:
        decoded = (frame for frame, _ in get_decoder(syntax).iter_array(image, raw=True))
    for index, frame in enumerate(decoded):
        if frame.shape != (image.Rows, image.Columns):
            raise jpeg_lossless.damaged()
        if not streams or syntax == RLE:
            yield _own_bits(frame, stored, high, signed)
        elif syntax in JPEG_2000:  # its streams carry the sign
            yield frame
        else:
            yield _own_bits(frame, precisions[index], precisions[index] - 1, signed)


def _decode(stream: bytes, image: Any) -> np.ndarray:
    """Return one frame; whatever the offsets of the file say, exactly the stream that was checked is decoded."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    syntax = image.file_meta.TransferSyntaxUID
    image.NumberOfFrames, image.PixelData = 1, encapsulate([stream])
    frame: np.ndarray = get_decoder(syntax).as_array(image, raw=True, decoding_plugin=DECODERS[syntax][0])[0]
    return frame


def _streams(image: Any, count: int) -> list[bytes]:
    """Return the compressed stream of each frame."""
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
        right, bottom, left, top, tile_w, tile_h, tile_x, tile_y = (
            int.from_bytes(size[4 + 4 * i : 8 + 4 * i], "big") for i in range(8)
        )
        rows, columns, components = bottom - top, right - left, int.from_bytes(size[36:38], "big")
        precision = (size[38] & 127) + 1
    else:
        frames = [body for marker, body, _ in jpeg_lossless.segments(stream) if marker in jpeg_lossless.FRAMES]
        if len(frames) != 1 or len(frames[0]) < 6:
            raise jpeg_lossless.damaged()
        body = frames[0]
        precision, components = body[0], body[5]
        rows, columns = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if (rows, columns) != (image.Rows, image.Columns):
        raise BadRecord("unreadable", "the compressed image has another size than the header states")
    if syntax in JPEG_2000 and (tile_x > left or tile_y > top or tile_w * tile_h < min(rows * columns, MIN_TILE)):
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
