"""Read MetaImage volumes and label maps: a text header ``.mhd`` beside its voxels, or ``.mha`` with both in one file.

The header is parsed here, as the checks are most of what a reader is: what a header claims against what its file can
hold, and the file of voxels in the header's own folder. SimpleITK is 50 MB and follows any file name.

World coordinates are ITK's: x to the patient's left, y to posterior, z to superior. The first three numbers of
``TransformMatrix`` are the direction of the first index axis; ``AnatomicalOrientation`` repeats it and is not read.

Source: https://itk.org/Wiki/ITK/MetaIO/Documentation, and MetaIO as ITK 5.4 reads it where that leaves a choice.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medssl.sources import grid as grids
from medssl.sources import masks, nifti
from medssl.sources.claims import guarded, require_bytes, require_file, require_plain_name
from medssl.sources.record import AIR_HU, BadRecord, Record, Volume, inside

SUFFIXES = (".mhd", ".mha")
MAX_HEADER_BYTES = 65_536
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
# What these keys may say, where they are there. ITK reads past the last three, other programs follow them.
ONLY = {
    "ObjectType": (("image",), "the file holds another object than an image"),
    "NDims": (("3",), "the image does not have 3 dimensions"),
    "ElementNumberOfChannels": (("1",), "the image has several values a voxel"),
    "BinaryData": (("true", "t", "1"), "the voxels are written as text"),
    "DistanceUnits": (("mm", "?"), "distances are in another unit than mm"),
    "ElementToIntensityFunctionSlope": (("1",), "the header scales the voxels, which programs read differently"),
    "ElementToIntensityFunctionOffset": (("0",), "the header scales the voxels, which programs read differently"),
}
BYTE_ORDERS = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
SIZES = ("ElementSpacing", "ElementSize")
DIRECTIONS = ("TransformMatrix", "Rotation", "Orientation")
POSITIONS = ("Origin", "Offset", "Position")


def read(record: Record) -> Volume:
    """Read one image, with the label map of ``record.mask`` (MetaImage or NIfTI) if given; notes as `nifti.read`.

    The unit is ``hints["unit"]``, ``"1"`` by default: MetaImage does not state one. In HU everything below -1024 is set
    to -1024, as in CT from DICOM. Without a matrix the index axes are those of the world; without sizes the spacing is
    NaN.

    Raises:
        BadRecord: ``missing_file``, ``outside_folder`` (voxels in another folder), ``unsupported`` (not 3-D, colour,
            text, scaled, voxels in several files), ``no_samples``, ``bad_mask`` or ``unreadable``.
    """
    values, grid, spacing = stored(record.path)
    with guarded("the MetaImage reader"):
        volume = masks.with_mask(record, values, grid, {}, spacing_mm=spacing)
        if volume.unit == "HU":  # LUNA16 and others hold -2000 or -3024 outside the field of view
            np.maximum(volume.values, np.float32(AIR_HU), out=volume.values)
    return volume


def header(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields of a header (``unreadable`` without one), the last ``ElementDataFile``, and its bytes."""
    with path.open("rb") as file:
        head = file.read(MAX_HEADER_BYTES)
    last = re.search(rb"^[ \t]*ElementDataFile[ \t]*[=:][^\n]*(?:\n|\Z)", head, re.MULTILINE)
    if last is None:
        raise BadRecord("unreadable", "the file does not start with a header of MetaImage")
    # As names of files are decoded, whatever their encoding.
    lines = head[: last.end()].decode("utf-8", "surrogateescape").split("\n")
    found = (re.fullmatch(r"([^=:]*)[=:](.*)", line.strip()) for line in lines)
    return {match[1].strip(): match[2].strip() for match in found if match}, last.end()


def stored(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Return values ``(z, y, x)``, their grid (`medssl.sources.grid`) and spacing in mm, NaN if it is not stated."""
    with guarded("the MetaImage reader"):
        require_file(path)
        fields, end = header(path)
        for name, (allowed, detail) in ONLY.items():
            if re.sub(r"\.0*$", "", fields.get(name, allowed[0]).lower()) not in allowed:
                raise BadRecord("unsupported", detail)
        # In the file x runs fastest, so the axes of the array are z, y, x.
        lengths = _numbers(fields, ("DimSize",), 3)[::-1]
        if min(lengths) < 1:
            raise BadRecord("no_samples", "the image holds no voxel")
        shape = tuple(int(n) for n in lengths)
        directions = np.reshape(_numbers(fields, DIRECTIONS, 9, np.eye(3).ravel()), (3, 3))[::-1].T
        if not np.allclose(directions.T @ directions, np.eye(3), atol=0.01):
            raise BadRecord("unreadable", "the orientation in the header is not usable")
        sizes = np.array(_numbers(fields, SIZES, 3, (1, 1, 1))[::-1])
        if not (sizes > 0).all():
            raise BadRecord("unreadable", "the voxel size in the header is not positive")
        affine = np.eye(4)
        affine[:3, :3] = directions * sizes
        affine[:3, 3] = _numbers(fields, POSITIONS, 3, (0, 0, 0))
        code = TYPES.get(fields.get("ElementType", ""))
        if code is None:
            raise BadRecord("unsupported", "the header states no type of voxels, or one that is no real number")
        orders = {_true(fields[name]) for name in BYTE_ORDERS if name in fields}
        if len(orders) > 1:
            raise BadRecord("unreadable", "the header states two byte orders")
        dtype = np.dtype((">" if True in orders else "<") + code)
        data = _stored(path, fields, end, math.prod(shape) * dtype.itemsize)
        values = np.frombuffer(data, dtype).reshape(shape)
        known = any(name in fields for name in SIZES)
        return values, grids.from_lps(affine), tuple(sizes) if known else (math.nan,) * 3


def _stored(path: Path, fields: dict[str, str], end: int, need: int) -> bytes:
    """Return the ``need`` bytes of the voxels (at least one) of a header that ends at byte ``end``."""
    name = fields["ElementDataFile"]
    if re.match(r"LIST\b", name) or "%" in name:
        raise BadRecord("unsupported", "the voxels are in several files")
    file, first = path, end
    if name.upper() != "LOCAL":
        require_plain_name(name)
        file, first = inside(path.parent / name, path.parent), 0
        if file == path.resolve():  # the words of a header must not become voxels
            raise BadRecord("unreadable", "the header names itself as the file of voxels")
    size = require_file(file)
    packed = _true(fields.get("CompressedData", ""))
    length = need
    if packed:
        length = int(_numbers(fields, ("CompressedDataSize",), 1, (0,))[0]) or size - first
        require_bytes(need, length * nifti.MAX_DEFLATE)
    skipped = int(_numbers(fields, ("HeaderSize",), 1, (0,))[0])
    start = size - length if skipped == -1 else skipped or first
    if start < first:
        raise BadRecord("unreadable", "the header places the voxels outside the file")
    require_bytes(start + length, size)
    if not packed and start + length < size:  # of another type or shape: numbers would be in the wrong places
        raise BadRecord("unreadable", "the header claims less data than the file holds")
    with file.open("rb") as opened:
        opened.seek(start)
        data = opened.read(length)
    if not packed:
        return data
    stream = zlib.decompressobj(zlib.MAX_WBITS + 32)  # zlib or gzip, as MetaIO takes both
    voxels = stream.decompress(data, need)  # no more is inflated
    # Only at its end is the checksum of the stream compared, and nothing left over.
    if len(voxels) < need or not stream.eof:
        raise BadRecord("unreadable", "the compressed data are cut off, or longer than the header claims")
    return voxels


def _true(text: str) -> bool:
    return text[:1] in ("t", "T", "1")


def _numbers(
    fields: dict[str, str], names: tuple[str, ...], count: int, default: Sequence[float] | np.ndarray = ()
) -> list[float]:
    """Return the numbers of the first of ``names`` that is there."""
    words = next((fields[name].split() for name in names if name in fields), default)
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
        raise BadRecord("unreadable", "a field of numbers is absent from the header, or holds others than it should")
    return numbers
