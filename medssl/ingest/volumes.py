"""Images and volumes to samples: intensity, spacing, crop, and what the volume itself tells about the body.

Letters: D slices (towards superior), H rows (towards posterior), W columns (towards left).
The same `prepare` serves ingest and the encoder's input contract.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from medssl.sources.record import AIR_HU, BadRecord, Volume

# Tissue by Hounsfield band inside the body (methods: body-composition proxies that need no mask).
HU_BANDS = {"lung": (-1024, -500), "fat": (-190, -30), "soft": (-30, 150), "bone": (200, 4000)}
BODY_HU = -300.0
MAX_VOXELS = 2**28
DARK = 0.1  # of the range of intensities: what is below on average is background
Z_RANGE = 3.0  # standard deviations of the body to either side of its mean that [0, 1] covers
Box = tuple[slice, ...]


def filled(volume: Volume) -> Volume:
    """Return a volume whose voxels without a value, as programs leave around a brain, are background.

    Air in HU, else the smallest value there is. Their share is the note ``missing``, 0 where all have values.

    Raises:
        BadRecord: ``missing_values`` where no voxel has a value.
    """
    known = np.isfinite(volume.values)
    share = 1 - np.count_nonzero(known) / max(known.size, 1)
    notes = {**volume.notes, "missing": float(share)}
    if not share:
        return replace(volume, notes=notes)
    if not known.any():
        raise BadRecord("missing_values", "the volume holds no value")
    background = AIR_HU if volume.unit == "HU" else float(volume.values[known].min())
    return replace(volume, values=np.where(known, volume.values, np.float32(background)), notes=notes)


def rescale(
    values: np.ndarray, hu_window: tuple[float, float] | None, *, normalise: str = "range", unit: str = "HU"
) -> np.ndarray:
    """Return intensities in [0, 1]: a fixed HU window, or the volume's own 1st to 99.5th percentile.

    ``normalise="zscore"`` scales what is left of the values by mean and standard deviation of the body (`body`): 0.5 is
    the mean, and 0 and 1 lie 3 standard deviations off. In units other than HU, a volume without a dark background is
    body throughout, and what is at the lower end of the range, as a background of zeros, becomes 0.

    Raises:
        BadRecord: ``blank`` for a constant volume, ``missing_values`` for one that is not finite.
    """
    bottom, top = values.min(), values.max()
    if not np.isfinite(bottom) or not np.isfinite(top):  # NaN is the smallest and the largest
        raise BadRecord("missing_values", "the volume holds values that are not finite")
    low, high = hu_window or np.percentile(values, (1, 99.5))
    if top <= bottom or high <= low:
        raise BadRecord("blank", "the volume is constant; nothing to learn from")
    background = None
    if normalise == "zscore":
        clipped = np.clip(values, low, high)
        inside = body(clipped, unit)
        if unit != "HU":
            if inside.all() or clipped[~inside].mean() > low + DARK * (high - low):
                inside = np.ones_like(inside)
            else:
                background = clipped <= low
        mean, deviation = (clipped[inside].mean(), clipped[inside].std()) if inside.any() else (0.0, 0.0)
        if deviation <= 0:
            raise BadRecord("blank", "the body has no contrast, or is absent; nothing to learn from")
        values, low, high = clipped, mean - Z_RANGE * deviation, mean + Z_RANGE * deviation
    scaled = (values - low).astype(np.float32, copy=False)
    scaled *= 1 / (high - low)
    np.clip(scaled, 0, 1, out=scaled)
    if background is not None:
        scaled[background] = 0
    return scaled


def respace(values: np.ndarray, spacing: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return ``values`` on a grid of ``target`` mm: Gaussian anti-alias where it gets coarser, then linear."""
    factor = spacing / target
    if np.allclose(factor, 1, atol=1e-3):
        return values
    if np.prod(np.asarray(values.shape) * factor) > MAX_VOXELS:
        raise BadRecord("bad_spacing", "the stated spacing would make a volume of more than 2^28 voxels")
    sigma = np.where(factor < 1, 0.4 * (1 / factor - 1), 0)
    return ndimage.zoom(ndimage.gaussian_filter(values, sigma), factor, order=1, mode="nearest", grid_mode=True)


def crop_or_pad(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the centre of ``values`` with shape ``size``; what is outside becomes 0."""

    def middle(shape: tuple[int, ...]) -> Box:
        taken = np.minimum(values.shape, size)
        return tuple(slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(shape, taken, strict=True))

    out = np.zeros(size, dtype=np.float32)
    out[middle(size)] = values[middle(values.shape)]
    return out


def body(values: np.ndarray, unit: str) -> np.ndarray:
    """Return where ``values`` (D, H, W) is above -300 HU, or in other units above Otsu's threshold (Otsu 1979)."""
    if unit == "HU":
        return values > BODY_HU
    from skimage.filters import threshold_otsu

    return np.asarray(values > threshold_otsu(values))


def foreground(values: np.ndarray, unit: str) -> Box:
    """Return the box around the largest connected part of the `body` in ``values`` (D, H, W), so without the table.

    All of it where there is no body.
    """
    parts, count = ndimage.label(body(values, unit))
    if not count:
        return tuple(slice(0, n) for n in values.shape)
    boxes = ndimage.find_objects(parts)
    return tuple(boxes[int(np.bincount(parts.ravel())[1:].argmax())])


def prepare(volume: Volume, **options: Any) -> np.ndarray:
    """Return the samples of a volume alone; arguments as in `located`."""
    return located(volume, **options)[0]


def located(
    volume: Volume,
    *,
    samples: str,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...] | None,
    hu_window: tuple[float, float] | None,
    unit: str,
    crop: str | None = None,
    normalise: str = "range",
    overlap: float = 0.0,
) -> tuple[np.ndarray, list[Box]]:
    """Cut a volume into samples and say where each lies.

    Args:
        samples: ``volume``, ``slices`` or ``patches``, boxes of ``size`` on a grid that covers all of the volume; the
            grid ends where the volume does, so its last patches overlap more. A volume smaller than a patch is one.
        size: (D, H, W), or (H, W) of slices.
        spacing_mm: of the samples, as many numbers; None: resize to ``size``, or keep the voxels of patches.
        hu_window, normalise: see `rescale`.
        unit: of the cohort.
        crop: ``foreground`` first cuts to the box around the body (`foreground`); of slices, all to the volume's own
            box and none is left out.
        overlap: share of a patch that the next one repeats, at least.

    Returns:
        Samples float32 (N, 1, D, H, W) or (N, 1, H, W), in [0, 1], and the box of each in ``volume.values``.

    Raises:
        BadRecord: ``bad_unit``, ``blank``, ``missing_values``, ``no_spacing`` or ``too_large``.
    """
    if volume.unit != unit:
        raise BadRecord(
            "bad_unit",
            f"volume in '{volume.unit[:8]}'; this cohort holds '{unit}'; set one: unit in the manifest, or in ingest",
        )
    values = rescale(volume.values, hu_window, normalise=normalise, unit=unit)
    box: Box = tuple(slice(0, n) for n in values.shape)
    if crop == "foreground":
        found = foreground(volume.values, unit)
        box = (box[0], *found[1:]) if samples == "slices" else found
    values = values[box]
    spacing = np.asarray(volume.spacing_mm, dtype=float)[-len(size) :]
    if spacing_mm is not None and not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise BadRecord("no_spacing", "the file gives no spacing; set spacing_mm: null to resize instead")

    def fitted(grid: np.ndarray) -> np.ndarray:
        if spacing_mm is not None:
            return respace(grid, spacing, np.asarray(spacing_mm, float))
        return respace(grid, 1 / np.asarray(grid.shape, float), 1 / np.asarray(size, float))

    if samples == "volume":
        return crop_or_pad(fitted(values), size)[None, None], [box]
    if samples == "slices":
        slices = np.stack([crop_or_pad(fitted(image), size) for image in values])
        return slices[:, None], [(slice(d, d + 1), *box[1:]) for d in range(len(slices))]
    if spacing_mm is not None:
        values = fitted(values)
    places = grid_of(values.shape, size, overlap)
    patches = np.empty((len(places), 1, *size), dtype=np.float32)
    for patch, place in zip(patches, places, strict=True):
        patch[0] = crop_or_pad(values[place], size)
    return patches, [_enlarged(place, values.shape, box) for place in places]


def grid_of(shape: tuple[int, ...], size: tuple[int, ...], overlap: float) -> list[Box]:
    """Return boxes of ``size``, evenly spaced, that cover an array of ``shape``; an axis too short has one, cut off.

    Raises:
        BadRecord: ``too_large`` for boxes of more than 2^28 voxels together.
    """
    starts = []
    for have, want in zip(shape, size, strict=True):
        number = 1 + max(0, math.ceil((have - want) / max(1, want * (1 - overlap))))
        starts.append(np.rint(np.linspace(0, max(0, have - want), number)).astype(int).tolist())
    if math.prod(len(axis) for axis in starts) * math.prod(size) > MAX_VOXELS:
        raise BadRecord("too_large", "the patches hold more than 2^28 voxels; take less overlap or a smaller volume")
    return [
        tuple(slice(at, min(at + want, have)) for at, want, have in zip(corner, size, shape, strict=True))
        for corner in itertools.product(*starts)
    ]


def _enlarged(place: Box, shape: tuple[int, ...], box: Box) -> Box:
    """Return a box of a grid of ``shape`` as a box of the volume whose part ``box`` the grid shows, never empty."""
    out = []
    for part, steps, whole in zip(place, shape, box, strict=True):
        voxels = (whole.stop - whole.start) / steps
        first = min(whole.start + round(part.start * voxels), whole.stop - 1)
        out.append(slice(first, max(first + 1, whole.start + round(part.stop * voxels))))
    return tuple(out)


def organ_volumes(volume: Volume, names: dict[int, str]) -> dict[str, float]:
    """Return ``<organ>_ml`` for each label of the mask; an organ that is absent is left out, never 0."""
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    counts = _per_organ(volume, names)
    return {f"{name}_ml": float(counts[value]) * voxel_ml for value, name in names.items() if counts[value]}


def organ_densities(volume: Volume, names: dict[int, str]) -> dict[str, float]:
    """Return ``<organ>_hu``, the mean over each label of the mask, for volumes in HU; as in `organ_volumes`."""
    if volume.mask is None or volume.unit != "HU":
        return {}
    counts, sums = _per_organ(volume, names), _per_organ(volume, names, volume.values.ravel())
    return {f"{name}_hu": float(sums[value] / counts[value]) for value, name in names.items() if counts[value]}


def _per_organ(volume: Volume, names: dict[int, str], weights: np.ndarray | None = None) -> np.ndarray:
    """Return the voxels of each value of the mask, or the sum of their weights; without a mask there are none."""
    mask = np.empty(0, int) if volume.mask is None else volume.mask.ravel()
    return np.bincount(mask.clip(min=0), weights=weights, minlength=max(names, default=0) + 1)


def truncated_organs(volume: Volume, names: dict[int, str]) -> dict[str, bool]:
    """Return for each organ of the mask that is there whether it touches the first or last slice.

    Such an organ may go on outside the volume, and what was measured of it is a part (methods, 3.5).
    """
    if volume.mask is None or not names:
        return {}
    inside, ends = (set(np.unique(part).tolist()) for part in (volume.mask, volume.mask[[0, -1]]))
    return {name: value in ends for value, name in names.items() if value in inside}


def _filled(body: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) with its holes, which nothing connects to the border; faster than SciPy's own."""
    rows, columns = np.flatnonzero(body.any(axis=1)), np.flatnonzero(body.any(axis=0))
    if not len(rows):
        return body
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    label, _ = ndimage.label(np.pad(~body[box], 1, constant_values=True))
    filled = np.zeros_like(body)
    filled[box] = (label != label[0, 0])[1:-1, 1:-1]
    return filled


def _tissues(values: np.ndarray) -> dict[str, float]:
    """Return the share of each HU band among the voxels of a body."""
    return {
        f"{name}_share": np.count_nonzero((values >= low) & (values < high)) / values.size
        for name, (low, high) in HU_BANDS.items()
    }


def composition(volume: Volume) -> list[dict[str, float]]:
    """Return for each slice its tissue shares by HU band, body area and relative position.

    Shares are of the pixels of the body, its holes filled, so that lung counts. A slice without a body lacks them, and
    volumes that are not in HU have the position alone.
    """
    depth = volume.values.shape[0]
    measures: list[dict[str, float]] = []
    for d, image in enumerate(volume.values):
        row = {"position": d / (depth - 1)} if depth > 1 else {}
        if volume.unit == "HU" and (area := np.count_nonzero(inside := _filled(image > BODY_HU))):
            row |= _tissues(image[inside])
            if np.isfinite(volume.spacing_mm[1:]).all():
                row["body_cm2"] = area * volume.spacing_mm[1] * volume.spacing_mm[2] / 100
        measures.append(row)
    return measures


def composition_of(volume: Volume, boxes: list[Box]) -> list[dict[str, float]]:
    """Return for each box its tissue shares, the share of it that is body, and where its centre lies.

    ``position`` runs from the lowest slice (0) to the highest (1), ``position_back`` from front to back and
    ``position_left`` from the right to the left of the patient. Shares as in `composition`.
    """
    names = ("position", "position_back", "position_left")
    in_hu = volume.unit == "HU"
    inside = np.stack([_filled(image > BODY_HU) for image in volume.values]) if in_hu else np.empty(0)
    measures = []
    for box in boxes:
        row = {
            name: (part.start + part.stop - 1) / 2 / max(1, n - 1)
            for name, part, n in zip(names, box, volume.values.shape, strict=True)
        }
        if in_hu:
            row["body_share"] = float(inside[box].mean())
            if row["body_share"]:
                row |= _tissues(volume.values[box][inside[box]])
        measures.append(row)
    return measures
