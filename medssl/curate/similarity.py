"""How alike two images are, other than by hash: structural similarity, mutual information, cosine of embeddings.

Each is of one item against a stack of them, which is what reducing a volume slice by slice asks for. All are symmetric
and larger means more alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from scipy import ndimage, special

Window = Literal["gaussian", "whole"]

SIGMA, RADIUS = 1.5, 5  # the Gaussian window of 11 pixels
K1, K2 = 0.01, 0.03
BLOCK = 1 << 18  # pixels of the stack at work at once: a few float64 arrays of it stay in the cache


def ssim(one: np.ndarray, many: np.ndarray, *, data_range: float, window: Window = "gaussian") -> np.ndarray:
    """Return the structural similarity of one image or volume and each of a stack as (M,), float64 in [-1, 1].

    SSIM = (2 μa μb + C1) (2 σab + C2) / ((μa² + μb² + C1) (σa² + σb² + C2)), C1 = (0.01 L)², C2 = (0.03 L)²,
    with population variances. Gaussian: of the 11-pixel Gaussian window (σ 1.5) about every pixel where it fits, then
    the mean. Whole: one window, the whole image, all pixels alike.

    Args:
        one: (H, W) or (D, H, W), any real type; at least 11 along each axis for the Gaussian window.
        many: (M, H, W) or (M, D, H, W).
        data_range: L, greatest minus least value that the image type allows: 255 for 8-bit images.
        window: "gaussian" or "whole".

    Raises:
        ValueError: shapes that differ or are too small, a data range that is not positive, or an unknown window.

    Source: Wang et al. 2004 (Image quality assessment), eq. 13; as used by Wolf et al. 2024 (Less is More).
    """
    one, many = np.asarray(one), np.asarray(many)
    if one.ndim not in (2, 3) or not one.size or many.shape[1:] != one.shape:
        raise ValueError(f"ssim: images of shape {one.shape} and {many.shape[1:]}; expected equal (H, W) or (D, H, W)")
    if window not in ("gaussian", "whole"):
        raise ValueError(f"ssim: window {window!r}; expected 'gaussian' or 'whole'")
    if window == "gaussian" and min(one.shape) <= 2 * RADIUS:
        raise ValueError(f"ssim: images of shape {one.shape}; the Gaussian window needs at least 11 along each axis")
    if not 0 < data_range < np.inf:
        raise ValueError(f"ssim: data_range {data_range}; expected a positive number")
    measure = _ssim_whole if window == "whole" else _ssim_gaussian
    one = one.astype(np.float64)
    result = np.empty(len(many))
    for part in _blocks(many, one.size):
        result[part] = measure(one, many[part].astype(np.float64), data_range)
    return result


def _ssim_whole(one: np.ndarray, many: np.ndarray, data_range: float) -> np.ndarray:
    one, many = one.ravel(), many.reshape(len(many), -1)
    mean_a, mean_b = one.mean(), many.mean(axis=1)
    a, b = one - mean_a, many - mean_b[:, None]
    return _ssim_of(mean_a, mean_b, a @ a / a.size, np.einsum("mi,mi->m", b, b) / a.size, b @ a / a.size, data_range)


def _ssim_gaussian(one: np.ndarray, many: np.ndarray, data_range: float) -> np.ndarray:
    inside = (..., *one.ndim * (slice(RADIUS, -RADIUS),))  # where the window fits
    axes = tuple(range(-one.ndim, 0))

    def smooth(image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(image, SIGMA, truncate=RADIUS / SIGMA, axes=axes)[inside]

    mean_a, mean_b = smooth(one), smooth(many)
    a, b = smooth(one * one) - mean_a * mean_a, smooth(many * many) - mean_b * mean_b
    return _ssim_of(mean_a, mean_b, a, b, smooth(one * many) - mean_a * mean_b, data_range).mean(axis=axes)


def _ssim_of(
    mean_a: np.ndarray, mean_b: np.ndarray, var_a: np.ndarray, var_b: np.ndarray, cov: np.ndarray, data_range: float
) -> np.ndarray:
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    product, squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    return (2 * product + c1) * (2 * cov + c2) / ((squares + c1) * (var_a + var_b + c2))


def mutual_information(one: np.ndarray, many: np.ndarray, *, bins: int, normalised: bool = False) -> np.ndarray:
    """Return the mutual information, in nats, of one binned image and each of a stack as (M,), float64.

    Args:
        one: bin numbers below ``bins``, any integer type and shape: see `grey_bins`.
        many: (M, ...), the stack.
        bins: 1 to 256.
        normalised: see `mutual_information_of`.

    Raises:
        ValueError: shapes that differ, no pixels, numbers that are no bin, or a number of bins out of range.

    Source: MI = Σ p(i, j) log(p(i, j) / (p(i) p(j))), as used by Wolf et al. 2024 (Less is More).
    """
    one, many = np.asarray(one), np.asarray(many)
    _check_bins(bins)
    if many.shape[1:] != one.shape or not one.size:
        raise ValueError(f"mutual information: images of shape {one.shape} and {many.shape[1:]}; expected equal ones")
    for image in (one, many):
        if image.dtype.kind not in "iu" or (image.size and (image.min() < 0 or image.max() >= bins)):
            raise ValueError(f"mutual information: {image.dtype} values; expected whole numbers from 0 to {bins - 1}")
    row = one.ravel().astype(np.intp) * bins
    result = np.empty(len(many))
    for part in _blocks(many, max(one.size, bins * bins)):
        cell = many[part].reshape(-1, one.size) + row
        cell += np.arange(len(cell))[:, None] * bins**2
        counts = np.bincount(cell.ravel(), minlength=len(cell) * bins**2)
        result[part] = mutual_information_of(counts.reshape(-1, bins, bins), normalised=normalised)
    return result


def mutual_information_of(counts: np.ndarray, *, normalised: bool = False) -> np.ndarray:
    """Return the mutual information, at least 0 nats, of joint counts: of each table if there are several, (...).

    Args:
        counts: (..., I, J), at least 0, each table with a positive sum.
        normalised: return 2 MI / (H(rows) + H(columns)), in [0, 1], instead. A table with one row and one column in
            use, of two constants, gives 1; with one of either, 0.

    Raises:
        ValueError: fewer than two axes, a negative count, or a table without any.
    """
    counts = np.asarray(counts)
    if counts.ndim < 2 or (counts < 0).any() or not (total := counts.sum(axis=(-2, -1), keepdims=True)).all():
        raise ValueError(f"joint counts of shape {counts.shape}; expected (..., I, J), none negative, not all zero")
    rows, columns = (special.entr(counts.sum(axis=axis) / total[..., 0]).sum(axis=-1) for axis in (-1, -2))
    both = rows + columns
    shared = np.maximum(both - special.entr(counts / total).sum(axis=(-2, -1)), 0)
    if not normalised:
        return shared
    constant = both == 0  # exactly: the only probability is exactly 1
    return np.where(constant, 1.0, np.minimum(2 * shared / np.where(constant, 1, both), 1))


def grey_bins(image: np.ndarray, bins: int, *, limits: tuple[float, float]) -> np.ndarray:
    """Return the number of the bin of each grey value as uint8, of the image's shape.

    Args:
        image: any shape and real type, finite.
        bins: equal bins, 1 to 256; a value on an edge belongs to the upper bin, the greatest to the last.
        limits: least and greatest value, beyond which values are clipped.

    Raises:
        ValueError: a number of bins out of range, or limits that do not increase.
    """
    _check_bins(bins)
    low, high = limits
    if not low < high:
        raise ValueError(f"grey_bins: limits {limits}; expected the lower one first")
    number = (np.asarray(image, np.float64) - low) * bins / (high - low)
    return np.clip(number, 0, bins - 1).astype(np.uint8)


def _check_bins(bins: int) -> None:
    if not 1 <= bins <= 256:
        raise ValueError(f"mutual information: {bins} bins; expected 1 to 256")


def cosine(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Return the cosine of the angle between one vector (d,) and each of a stack (M, d) as (M,), in [-1, 1].

    A vector of length zero has cosine 0 with any. Computed in the type of the vectors, in float32 at least.

    Raises:
        ValueError: other shapes.
    """
    one, many = np.asarray(one), np.asarray(many)
    if one.ndim != 1 or many.ndim != 2 or many.shape[1] != len(one):
        raise ValueError(f"cosine: vectors of shape {one.shape} and {many.shape}; expected (d,) and (M, d)")
    kind = np.result_type(one, many, np.float32)
    one, many = one.astype(kind, copy=False), many.astype(kind, copy=False)
    lengths = np.sqrt(np.einsum("md,md->m", many, many)) * np.sqrt(one @ one)
    return np.clip(many @ one / np.where(lengths == 0, 1, lengths), -1, 1)


def _blocks(many: np.ndarray, item: int) -> Iterator[slice]:
    """Cut a stack of items of so many values into blocks of at most BLOCK values, or of one item."""
    step = max(1, BLOCK // item)
    for start in range(0, len(many), step):
        yield slice(start, start + step)
