"""Read organ label maps, NIfTI or MetaImage, onto the grid of their volume; compare them with the table of names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from medssl.sources import grid as grids
from medssl.sources.claims import guarded
from medssl.sources.record import AIR_HU, BadRecord, Record, Volume

MAX_ROUNDING = 0.01  # labels stored with a scale come back as 2.9999
PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif"}


def with_mask(
    record: Record, values: np.ndarray, grid: np.ndarray, notes: Mapping[str, float], *,
    unit: str | None = None, spacing_mm: tuple[float, ...] | None = None, placed: bool = True,
) -> Volume:  # fmt: skip
    """Return values as float32 on the axes of a `Volume`, with the label map ``record.mask`` if given.

    Args:
        values: ``(slices, rows, columns)``; those that no slice of a tilted stack covers become air in HU, the lowest
            value otherwise.
        grid: of these values; see `medssl.sources.grid`.
        unit: of the values; by default ``hints["unit"]``, else ``"1"``.
        spacing_mm: as of `medssl.sources.grid.upright`.
        placed: whether the grid says where the values are, and not only which way they face.
    """
    unit = unit or str(record.hints.get("unit", "1"))
    fill = AIR_HU if unit == "HU" else None
    values, grid, spacing, tilt = grids.upright(values, grid, spacing_mm=spacing_mm, fill=fill)
    values = np.require(values, np.float32, ["C", "W"])
    mask, fit = load(record.mask, values.shape, grid if placed else None)
    return Volume(values, spacing, unit, mask, {**notes, **tilt, **fit})


def load(
    path: Path | None, shape: tuple[int, ...], grid: np.ndarray | None
) -> tuple[np.ndarray | None, dict[str, float]]:
    """Return a label map as int32 on axes superior, posterior, left, and notes.

    Args:
        path: MetaImage by its suffix, otherwise NIfTI; None where there is no label map.
        shape: of the volume.
        grid: of the volume, None where it has no place of its own; see `medssl.sources.grid.fitted`.

    Raises:
        BadRecord: ``bad_mask`` if it does not belong to the volume or a value is no integer; as its reader otherwise.
    """
    from medssl.sources import metaimage, nifti

    if path is None:
        return None, {}
    suffix = path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        raise BadRecord("bad_mask", "the mask is JPEG, which changes labels; save it as PNG, of a volume as NIfTI")
    if suffix in PICTURES:
        detail = "the mask is a picture and its volume is none; save it as NIfTI (.nii.gz) with the same affine"
        raise BadRecord("bad_mask", detail)
    with named():
        stored, own = (metaimage if suffix in metaimage.SUFFIXES else nifti).stored(path)[:2]
    with guarded("the reader of masks"):
        values, own, _ = grids.oriented(stored, own, (0.0, 0.0, 0.0))
        labels, notes = grids.fitted(whole(values), own, shape, grid)
    return np.ascontiguousarray(labels), notes


@contextmanager
def named() -> Iterator[None]:
    """Say in a refusal that it is about the mask, not its volume."""
    try:
        yield
    except BadRecord as error:
        if error.reason == "bad_mask":
            raise
        raise BadRecord(error.reason, f"of the mask: {error.detail}") from None


def against_names(labels: np.ndarray, names: Mapping[int, str]) -> dict[str, float]:
    """Return how a label map fits the table that names its values: notes, none without a table.

    ``mask_unnamed`` is the share of the voxels above or below 0 whose value has no name: they are not measured.
    ``mask_absent`` is the number of names without a voxel: an organ that is not there, or a table of another numbering.
    """
    values = [value for value in names if value != 0]
    if not values:
        return {}
    labelled = known = 0
    present: set[int] = set()
    for image in labels:  # a slice at a time: most voxels are 0, and to sort them all takes long
        found = image[image != 0]
        fit = found[np.isin(found, values)]
        labelled, known = labelled + found.size, known + fit.size
        present.update(np.unique(fit).tolist())
    unnamed = 1 - known / labelled if labelled else 0.0
    return {"mask_unnamed": unnamed, "mask_absent": float(len(values) - len(present))}


def whole(values: np.ndarray) -> np.ndarray:
    """Return labels as int32, or refuse values that are no integers, or too large, as ``bad_mask``."""
    if values.dtype.kind == "b":
        return values.astype(np.int32)
    rounded = values if values.dtype.kind in "iu" else np.rint(values)
    near = rounded is values or (np.isfinite(values).all() and np.abs(values - rounded).max(initial=0) <= MAX_ROUNDING)
    limits = np.iinfo(np.int32)
    if not near or (values.size and not limits.min <= rounded.min() <= rounded.max() <= limits.max):
        raise BadRecord("bad_mask", "the mask holds values that are not integers")
    return np.asarray(rounded, dtype=np.int32)
