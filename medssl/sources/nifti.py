"""Read NIfTI-1 and NIfTI-2 volumes and organ label maps: ``.nii``, ``.nii.gz``, or a pair ``.hdr`` and ``.img``."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources import grid as grids
from medssl.sources import masks
from medssl.sources.claims import counted, guarded, require_bytes, require_file
from medssl.sources.record import BadRecord, Record, Volume, inside

# Deflate cannot shrink more than 1032 times; anything beyond is a header that lies.
MAX_DEFLATE = 1040
HEADER_BYTES = 540  # of NIfTI-2, the longer one
GZIP = b"\x1f\x8b"
MAX_SIZE_ERROR = 0.01  # of a voxel size stated twice
MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 1e-3}


def read(record: Record) -> Volume:
    """Read one NIfTI file, with the label map of ``record.mask`` (NIfTI or MetaImage) if given.

    The unit is ``hints["unit"]``, ``"1"`` by default: NIfTI does not state one. Values are scaled as the header
    says. Orientation and voxel size come from the sform, from the qform where there is none. Axes at other than right
    angles, as of a stack from a tilted gantry, are straightened (`medssl.sources.grid`); what no slice covers is air in
    HU, the lowest value otherwise. Of a file with several frames (time, b-values) ``hints["frame"]``, counted from 0,
    chooses one. Whether a file is compressed is asked of the file, not of its name.

    Notes: ``header_conflict`` is 1 where the qform, or the list of voxel sizes, differs from the sform that is read.
    ``tilt_deg``, ``mask_resampled`` and ``mask_outside``: see `medssl.sources.grid`.

    Raises:
        BadRecord: ``missing_file``, ``unsupported`` (not 3-D, several frames and no hint, colour, complex, Analyze,
            no orientation), ``no_samples``, ``bad_mask`` or ``unreadable``.
    """
    values, grid, conflict = stored(record.path, record.hints.get("frame"))
    with guarded("nibabel"):
        return masks.with_mask(record, values, grid, {"header_conflict": float(conflict)})


def stored(path: Path, frame: Any = None) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return values ``(k, j, i)``, their grid (`medssl.sources.grid`), and whether the header contradicts itself."""
    import nibabel

    with guarded("nibabel"):
        image = _open(path)
        shape = image.shape
        # Asked of the opened image: nibabel sets a code it does not know to 0, and then guesses which side is left.
        if not any(int(image.header[key]) for key in ("qform_code", "sform_code")):
            raise BadRecord("unsupported", "the header states no orientation (qform and sform codes are 0)")
        affine = image.affine
        if not np.isfinite(affine).all():
            raise BadRecord("unreadable", "the orientation in the header is not usable")
        zooms = nibabel.affines.voxel_sizes(affine)
        if not (np.isfinite(zooms).all() and (zooms > 0).all()):
            raise BadRecord("unreadable", "the voxel size in the header is not positive")
        conflict = _conflict(image.header, affine, shape[:3])
        affine = affine.copy()
        affine[:3] *= MM[image.header.get_xyzt_units()[0]]
        # Reordering the array ourselves: nibabel's own canonical image refuses int64 data.
        chosen = (slice(None),) * 3 + (_frame(shape, frame),) + (0,) * (len(shape) - 4)
        values = np.asarray(image.dataobj[chosen[: len(shape)]])
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32, copy=False)
    return values.T, grids.from_ras(affine)[:, [2, 1, 0, 3]], conflict


def _conflict(header: Any, affine: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Tell whether the header says in another of its ways that voxels lie elsewhere, or have another size."""
    import nibabel

    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=float))
    if not np.allclose(nibabel.affines.voxel_sizes(affine), sizes, rtol=MAX_SIZE_ERROR):
        return True
    # Its quaternion may be damaged where the sform is not.
    with contextlib.suppress(nibabel.spatialimages.HeaderDataError, ValueError):
        other = header.get_qform(coded=True)[0]
        return other is not None and grids.apart(affine, other, shape)
    return True


def _open(path: Path) -> Any:
    """Return the nibabel image of a file whose header is consistent with its size."""
    import nibabel

    size = require_file(path)
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP
    if zipped:
        return _open_gz(path, size)
    header_file, suffix = path, path.suffix
    if suffix.lower() in (".hdr", ".img"):
        parts = [path.with_suffix(end.upper() if suffix.isupper() else end) for end in (".hdr", ".img")]
        for part in parts:
            if not part.is_file():
                raise BadRecord("missing_file", f"the other file of the pair, {part.suffix}, is not beside this one")
        sizes = [require_file(inside(part, path.parent)) for part in parts]
        header_file, size = parts[0], sizes[1]
    with header_file.open("rb") as file:
        kind, claimed = _layout(file.read(HEADER_BYTES))
    require_bytes(claimed, size)
    if suffix.lower() != ".gz":
        return nibabel.load(path)  # type: ignore[attr-defined, unused-ignore]
    with path.open("rb") as file:  # nibabel goes by the name
        return kind.from_bytes(file.read(claimed))


def _open_gz(path: Path, size: int) -> Any:
    """Return the image of a compressed file, of which no more is inflated than its header asks for."""
    try:
        with gzip.open(path) as file:
            head = file.read(HEADER_BYTES)
            kind, claimed = _layout(head)
            require_bytes(claimed, size * MAX_DEFLATE)
            data = head + file.read(max(0, claimed - len(head)))
            file.read(1)  # at the end of the file its checksum is compared
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise BadRecord("unreadable", "the compressed file is cut off or damaged; copy or download it again") from None
    require_bytes(claimed, len(data))
    return kind.from_bytes(data)


def _layout(head: bytes) -> tuple[Any, int]:
    """Return nibabel's class for the ``head`` of a file, and the bytes of data to the end of its last voxel."""
    import nibabel

    kinds = [k for k in (nibabel.Nifti1Image, nibabel.Nifti2Image) if k.header_class.may_contain_header(head)]
    if not kinds or len(head) < kinds[0].header_class.sizeof_hdr:
        # Analyze 7.5 looks the same but for the magic word, and does not say which side is left.
        raise BadRecord("unsupported", "the file is not NIfTI-1 or NIfTI-2; convert it to .nii.gz")
    header = kinds[0].header_class(head[: kinds[0].header_class.sizeof_hdr], check=False)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if len(shape) < 3 or any(n != 1 for n in shape[4:]):
        raise BadRecord("unsupported", f"the image has {len(shape)} dimensions; 3 are needed, or 4 and a frame")
    if dtype.kind not in "iuf":
        raise BadRecord("unsupported", "the image holds colours or complex numbers")
    if min(shape) < 1:
        raise BadRecord("no_samples", "the image holds no voxel")
    offset = float(header["vox_offset"])
    if not 0 <= offset < 2**62:
        raise BadRecord("unreadable", "the header places the voxels outside the file")
    # Python's integers: a product of corrupt sizes passes 2**63.
    return kinds[0], int(offset) + math.prod(map(int, shape)) * int(dtype.itemsize)


def _frame(shape: tuple[int, ...], hint: Any) -> int:
    count = shape[3] if len(shape) > 3 else 1
    if hint is None and count > 1:
        raise BadRecord("unsupported", "the image has several frames; hints['frame'] chooses one, counted from 0")
    frame = counted(0 if hint is None else hint, count)
    if frame is None:
        raise BadRecord("unsupported", f"frame is not a whole number from 0 to {count - 1}, the last of the image")
    return frame
