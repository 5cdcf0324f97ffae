"""Read NIfTI-1 and NIfTI-2 volumes and organ label maps: ``.nii``, ``.nii.gz``, or a pair ``.hdr`` and ``.img``."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from medssl.sources.claims import guarded, require_bytes, require_file
from medssl.sources.record import BadRecord, Record, Volume, inside

# Deflate cannot shrink more than 1032 times; anything beyond is a header that lies.
MAX_DEFLATE = 1040
HEADER_BYTES = 540  # of NIfTI-2, the longer one
MM = {"mm": 1.0, "unknown": 1.0, "meter": 1000.0, "micron": 1e-3}


def read(record: Record) -> Volume:
    """Read one NIfTI file, with its label map if ``record.mask`` names one.

    The unit is ``hints["unit"]``, ``"1"`` by default: NIfTI does not state one. Values are scaled as the header
    says. Orientation and voxel size come from the sform, from the qform where there is none. Of a file with several
    frames (time, b-values) ``hints["frame"]``, counted from 0, chooses one.

    Raises:
        BadRecord: ``missing_file``, ``unsupported`` (not 3-D, several frames and no hint, colour, complex, Analyze,
            no orientation), ``no_samples``, ``bad_mask`` or ``unreadable``.
    """
    values, spacing = _load(record.path, record.hints.get("frame"))
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


def _load(path: Path, frame: Any = None) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return values on axes superior, posterior, left and the spacing of these axes in mm."""
    import nibabel

    with guarded("nibabel"):
        image = _open(path)
        shape = image.shape
        # Asked of the opened image: nibabel sets a code it does not know to 0, and then guesses which side is left.
        if not any(int(image.header[key]) for key in ("qform_code", "sform_code")):
            raise BadRecord("unsupported", "the header states no orientation (qform and sform codes are 0)")
        orientation = nibabel.orientations.io_orientation(image.affine)
        if np.isnan(orientation).any():
            raise BadRecord("unreadable", "the orientation in the header is not usable")
        # Reordering the array ourselves: nibabel's own canonical image refuses int64 data.
        chosen = (slice(None),) * 3 + (_frame(shape, frame),) + (0,) * (len(shape) - 4)
        values = np.asarray(image.dataobj[chosen[: len(shape)]])
        if np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float32, copy=False)
        values = nibabel.orientations.apply_orientation(values, orientation)
        # From the affine, not the header's own list of sizes: where the two differ, this one has the directions.
        zooms = np.empty(3)
        zooms[orientation[:, 0].astype(int)] = nibabel.affines.voxel_sizes(image.affine)
        zooms *= MM[image.header.get_xyzt_units()[0]]
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        raise BadRecord("unreadable", "the voxel size in the header is not positive")
    # Right, anterior, superior -> superior, posterior, left.
    values = values.transpose(2, 1, 0)[:, ::-1, ::-1]
    return values, (float(zooms[2]), float(zooms[1]), float(zooms[0]))


def _open(path: Path) -> Any:
    """Return the nibabel image of a file whose header is consistent with its size."""
    import nibabel

    size = require_file(path)
    if path.suffix.lower() == ".gz":
        return _open_gz(path, size)
    if path.suffix.lower() in (".hdr", ".img"):
        parts = [path.with_suffix(suffix) for suffix in (".hdr", ".img")]
        sizes = [require_file(inside(part, path.parent)) for part in parts]
        header_file, size = parts[0], sizes[1]
    else:
        header_file = path
    with header_file.open("rb") as file:
        header = _header(file.read(HEADER_BYTES))
    require_bytes(_claimed(header), size)
    return nibabel.load(path)  # type: ignore[attr-defined, unused-ignore]


def _open_gz(path: Path, size: int) -> Any:
    """Return the image of a compressed file, of which no more is inflated than its header asks for."""
    import nibabel

    with gzip.open(path) as file:
        head = file.read(HEADER_BYTES)
        header = _header(head)
        claimed = _claimed(header)
        require_bytes(claimed, size * MAX_DEFLATE)
        data = head + file.read(max(0, claimed - len(head)))
        file.read(1)  # at the end of the file its checksum is compared
    require_bytes(claimed, len(data))
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    return kind.from_bytes(data)


def _header(head: bytes) -> Any:
    """Return the header in the first bytes of a file, or refuse what has no place in a `Volume`."""
    import nibabel

    kinds = [k for k in (nibabel.Nifti1Header, nibabel.Nifti2Header) if k.may_contain_header(head)]
    if not kinds or len(head) < kinds[0].sizeof_hdr:
        # Analyze 7.5 looks the same but for the magic word, and does not say which side is left.
        raise BadRecord("unsupported", "the file is not NIfTI-1 or NIfTI-2")
    header = kinds[0](head[: kinds[0].sizeof_hdr], check=False)
    shape, dtype = header.get_data_shape(), header.get_data_dtype()
    if len(shape) < 3 or any(n != 1 for n in shape[4:]):
        raise BadRecord("unsupported", f"the image has {len(shape)} dimensions; 3 are needed, or 4 and a frame")
    if dtype.kind not in "iuf":
        raise BadRecord("unsupported", "the image holds colours or complex numbers")
    if min(shape) < 1:
        raise BadRecord("no_samples", "the image holds no voxel")
    return header


def _claimed(header: Any) -> int:
    """Return the number of bytes from the start of the data file to the end of the last voxel."""
    offset = float(header["vox_offset"])
    if not 0 <= offset < 2**62:
        raise BadRecord("unreadable", "the header places the voxels outside the file")
    # Python's integers: a product of corrupt sizes passes 2**63.
    voxels = 1
    for length in header.get_data_shape():
        voxels *= int(length)
    return int(offset) + voxels * int(header.get_data_dtype().itemsize)


def _frame(shape: tuple[int, ...], hint: Any) -> int:
    """Return the index of the frame to read."""
    count = shape[3] if len(shape) > 3 else 1
    if hint is None:
        if count > 1:
            raise BadRecord("unsupported", "the image has several frames; hints['frame'] chooses one, counted from 0")
        return 0
    try:
        frame = int(hint)
    except (TypeError, ValueError):
        raise BadRecord("unsupported", "the frame to read is not a whole number") from None
    if frame != float(hint) or not 0 <= frame < count:
        raise BadRecord("unsupported", "the image has no frame of the number asked for")
    return frame
