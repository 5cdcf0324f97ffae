"""Images and volumes to samples: intensity, spacing, crop, and what the volume itself tells about the body.

Letters: D slices (towards superior), H rows (towards posterior), W columns (towards left).
The same `prepare` serves ingest and the encoder's input contract.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from medssl.sources.record import BadRecord, Volume

# Tissue by Hounsfield band inside the body (methods: body-composition proxies that need no mask).
HU_BANDS = {"lung": (-1024, -500), "fat": (-190, -30), "soft": (-30, 150), "bone": (200, 4000)}
BODY_HU = -300.0
MAX_VOXELS = 2**28


def rescale(values: np.ndarray, hu_window: tuple[float, float] | None) -> np.ndarray:
    """Return intensities in [0, 1]: a fixed HU window, or the volume's own 1st to 99.5th percentile.

    Raises:
        BadRecord: ``blank`` for a constant volume, ``missing_values`` for one that is not finite.
    """
    if not np.isfinite(values).all():
        raise BadRecord("missing_values", "the volume holds values that are not finite")
    if hu_window is None:
        low, high = np.percentile(values, (1, 99.5))
    else:
        low, high = hu_window
    if values.max() <= values.min() or high <= low:
        raise BadRecord("blank", "the volume is constant; nothing to learn from")
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


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
    out = np.zeros(size, dtype=np.float32)
    source, target = [], []
    for have, want in zip(values.shape, size, strict=True):
        take = min(have, want)
        source.append(slice((have - take) // 2, (have - take) // 2 + take))
        target.append(slice((want - take) // 2, (want - take) // 2 + take))
    out[tuple(target)] = values[tuple(source)]
    return out


def foreground(values: np.ndarray, unit: str) -> tuple[slice, ...]:
    """Return the box around the body in ``values`` (D, H, W); all of it where there is no body.

    The body is the largest connected part above -300 HU, which leaves out the table, or in other units above Otsu's
    threshold (Otsu 1979).
    """
    if unit == "HU":
        bright = values > BODY_HU
    else:
        from skimage.filters import threshold_otsu

        bright = values > threshold_otsu(values)
    parts, count = ndimage.label(bright)
    if not count:
        return tuple(slice(0, n) for n in values.shape)
    boxes = ndimage.find_objects(parts)
    return tuple(boxes[int(np.bincount(parts.ravel())[1:].argmax())])


def prepare(
    volume: Volume,
    *,
    samples: str,
    size: tuple[int, ...],
    spacing_mm: tuple[float, ...] | None,
    hu_window: tuple[float, float] | None,
    unit: str,
    crop: str | None = None,
) -> np.ndarray:
    """Cut a volume into samples float32 (N, 1, D, H, W) or, for ``samples="slices"``, (N, 1, H, W), in [0, 1].

    ``crop="foreground"`` first cuts to the box around the body (`foreground`); of slices, all to the volume's own box
    and none is left out.

    Raises:
        BadRecord: ``bad_unit``, ``blank``, ``missing_values`` or ``no_spacing``.
    """
    if volume.unit != unit:
        raise BadRecord("bad_unit", f"volume in '{volume.unit[:8]}'; this cohort holds '{unit}'")
    values = rescale(volume.values, hu_window)
    if crop == "foreground":
        box = foreground(volume.values, unit)
        values = values[box] if samples == "volume" else values[:, *box[1:]]
    grids = [values] if samples == "volume" else list(values)
    spacing = np.asarray(volume.spacing_mm, dtype=float)[-len(size) :]
    if spacing_mm is not None and not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise BadRecord("no_spacing", "the file gives no spacing; set spacing_mm: null to resize instead")
    out = []
    for grid in grids:
        if spacing_mm is None:
            fitted = respace(grid, 1 / np.asarray(grid.shape, float), 1 / np.asarray(size, float))
        else:
            fitted = respace(grid, spacing, np.asarray(spacing_mm, float))
        out.append(crop_or_pad(fitted, size))
    return np.stack(out)[:, None]


def organ_volumes(volume: Volume, names: dict[int, str]) -> dict[str, float]:
    """Return ``<organ>_ml`` for each label of the mask; an organ that is absent is left out, never 0."""
    if volume.mask is None or not names:
        return {}
    voxel_ml = float(np.prod(volume.spacing_mm)) / 1000
    counts = np.bincount(volume.mask.ravel().clip(min=0), minlength=max(names) + 1)
    return {f"{name}_ml": float(counts[value]) * voxel_ml for value, name in names.items() if counts[value]}


def organ_densities(volume: Volume, names: dict[int, str]) -> dict[str, float]:
    """Return ``<organ>_hu``, the mean over each label of the mask, for volumes in HU; as in `organ_volumes`."""
    if volume.mask is None or not names or volume.unit != "HU":
        return {}
    labels = volume.mask.ravel().clip(min=0)
    counts = np.bincount(labels, minlength=max(names) + 1)
    sums = np.bincount(labels, weights=volume.values.ravel(), minlength=max(names) + 1)
    return {f"{name}_hu": float(sums[value] / counts[value]) for value, name in names.items() if counts[value]}


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


def composition(volume: Volume) -> list[dict[str, float]]:
    """Return for each slice its tissue shares by HU band, body area and relative position.

    Shares are of the pixels of the body, its holes filled, so that lung counts. A slice without a body lacks them, and
    volumes that are not in HU have the position alone.
    """
    depth = volume.values.shape[0]
    measures: list[dict[str, float]] = []
    for d, image in enumerate(volume.values):
        row = {"position": d / (depth - 1)} if depth > 1 else {}
        if volume.unit == "HU":
            body = _filled(image > BODY_HU)
            area = int(np.count_nonzero(body))
            if area:
                inside = image[body]
                for name, (low, high) in HU_BANDS.items():
                    row[f"{name}_share"] = float(((inside >= low) & (inside < high)).mean())
                if np.isfinite(volume.spacing_mm[1:]).all():
                    row["body_cm2"] = area * volume.spacing_mm[1] * volume.spacing_mm[2] / 100
        measures.append(row)
    return measures
