"""What is measured in an image: intensity, texture, what lies where, and the shape of what is bright.

Letters: n images, S their two or three axes of space. Values are those of the store, in [0, 1]: of the Hounsfield
window where there is one, else of each image's own range. Lengths are in mm where the store has a spacing, else in
pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from skimage.feature import graycoprops
from skimage.filters import threshold_otsu

BINS = 32  # of the histogram: 62 HU of a window of 2,000
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
LEVELS = 16  # grey levels of the texture
DISTANCES = (1, 2)  # pixels between the two of a pair
TEXTURE = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
GRID = 6  # cells along each axis, whose means say what lies where


def features(samples: np.ndarray, spacing_mm: Sequence[float] | None) -> np.ndarray:
    """Return features (n, d) of images (n, 1, *S), finite, each of itself alone; ``d`` depends on S.

    Args:
        samples: in [0, 1].
        spacing_mm: along each axis; None where the store has none.
    """
    spacing = np.ones(samples.ndim - 2) if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    # One image at a time: a block of volumes fits in memory once, not several times.
    each = [[intensity(x), layout(x), shape(x, spacing), texture(x)] for x in samples[:, 0]]
    return np.stack([np.concatenate(parts) for parts in each])


def intensity(image: np.ndarray) -> np.ndarray:
    """Return (BINS + 4 + 7,) of an image (S): histogram, mean, SD, skewness, kurtosis and percentiles."""
    flat = image.ravel().astype(np.float64)
    bins = np.clip((flat * BINS).astype(int), 0, BINS - 1)
    histogram = np.bincount(bins, minlength=BINS) / len(flat)
    mean, spread = flat.mean(), flat.std()
    standard = (flat - mean) / max(spread, 1e-6)
    moments = [mean, spread, (standard**3).mean(), (standard**4).mean()]
    return np.concatenate([histogram, moments, np.percentile(flat, PERCENTILES)])


def layout(image: np.ndarray) -> np.ndarray:
    """Return of an image (S) the centre of mass along each axis in [0, 1], and the means of `GRID` cells along each."""
    total = max(image.sum(dtype=np.float64), 1e-6)
    centres, grid = [], image.astype(np.float64)
    for axis, side in enumerate(image.shape):
        others = tuple(a for a in range(image.ndim) if a != axis)
        centres.append(image.sum(others) @ np.linspace(0, 1, side) / total)
        cells = np.array_split(np.arange(side), min(GRID, side))
        grid = np.stack([grid.take(cell, axis=axis).mean(axis=axis) for cell in cells], axis=axis)
    return np.concatenate([centres, grid.ravel()])


def shape(image: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Return, of what is above Otsu's threshold in an image (S) and of what is not blank, size and form.

    Threshold; share; size (mm^2, mm^3); extents and spread along each axis (mm); border (mm, mm^2) and compactness,
    1 for a disc or a ball; mean and SD inside and outside; extents of what is above the darkest value (mm).
    """
    size = float(np.prod(spacing_mm))
    lowest = image.min()
    level = threshold_otsu(image) if image.max() > lowest else lowest
    mask = image > level
    inside, outside = image[mask], image[~mask]
    ndim = image.ndim
    faces = [np.count_nonzero(np.diff(np.pad(mask, 1), axis=a)) * size / spacing_mm[a] for a in range(ndim)]
    border, content = sum(faces), mask.sum() * size
    # Faces along the axes overstate a smooth border by 4 / pi in a plane and 3 / 2 in space.
    smooth = border * (np.pi / 4 if ndim == 2 else 2 / 3)
    ideal = 2 * np.sqrt(np.pi * content) if ndim == 2 else np.cbrt(36 * np.pi * content**2)
    at = np.argwhere(mask) * spacing_mm if mask.any() else np.zeros((1, ndim))
    some = np.argwhere(image > lowest) * spacing_mm if image.max() > lowest else np.zeros((1, ndim))
    return np.array([
        level, mask.mean(), content, *np.ptp(at, axis=0), *at.std(axis=0), border, ideal / max(smooth, 1e-9),
        *((inside.mean(), inside.std()) if inside.size else (0, 0)), outside.mean(), outside.std(),
        *np.ptp(some, axis=0),
    ])  # fmt: skip


def cooccurrence(levels: np.ndarray, axis: int, distance: int) -> np.ndarray:
    """Return how often two grey levels are a distance apart along an axis, (LEVELS, LEVELS), symmetric, sum 1.

    The same as `skimage.feature.graycomatrix`, which knows no volumes.
    """
    count = levels.shape[axis] - distance
    if count <= 0:
        return np.full((LEVELS, LEVELS), 1 / LEVELS**2)
    first, second = levels.take(range(count), axis=axis), levels.take(range(distance, count + distance), axis=axis)
    pairs = np.bincount((first * LEVELS + second).ravel(), minlength=LEVELS**2).reshape(LEVELS, LEVELS).astype(float)
    pairs += pairs.T
    return pairs / pairs.sum()


def texture(image: np.ndarray) -> np.ndarray:
    """Return Haralick's `TEXTURE` of an image (S) at each of `DISTANCES`, the mean over axes, and its range over them.

    Source: Haralick et al. 1973.
    """
    levels = np.clip((image * LEVELS).astype(int), 0, LEVELS - 1)
    offsets = itertools.product(DISTANCES, range(image.ndim))
    matrices = np.stack([cooccurrence(levels, axis, distance) for distance, axis in offsets], axis=-1)
    matrices = matrices.reshape(LEVELS, LEVELS, len(DISTANCES), image.ndim)
    values = np.stack([graycoprops(matrices, name) for name in TEXTURE])
    return np.concatenate([values.mean(axis=2), np.ptp(values, axis=2)]).ravel()
