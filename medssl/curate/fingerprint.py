"""Perceptual hashes: short bit strings that stay equal when an image changes in ways that do not matter.

A hash is uint8, eight bits to the byte; the distance of two is the number of bits that differ. `dhash`, `ahash` and
`phash` are of one image, `dhash3d` of a volume, `signature` and `slice_set` join the hashes of a sample's planes;
`signal_hash` is that of an ECG, PPG or EEG window (`medssl.curate.signal_hash`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import fft

from medssl.curate.signal_hash import signal_hash as signal_hash

ImageHash = Callable[[np.ndarray], np.ndarray]
SLICES = 8  # of a volume in `slice_set`


def dhash(image: np.ndarray) -> np.ndarray:
    """Return the 64-bit difference hash of a grey image as uint8[8], row-major, most significant bit first.

    The image is resized to 9 columns x 8 rows with a Lanczos filter; bit (r, c) says whether pixel (r, c+1) is
    brighter than pixel (r, c). An image that already is 8 x 9 is taken as it is. uint8 images are resized in
    8 bits, bit-identical to the imagehash library; others in float32.

    Args:
        image: (H, W), any real type.

    Raises:
        ValueError: not a 2-D array.

    Source: Wolf et al. 2024 (Less is More), difference hash.
    """
    grid = _shrink(image, 8, 9, "dhash")
    return np.packbits(grid[:, 1:] > grid[:, :-1])


def ahash(image: np.ndarray) -> np.ndarray:
    """Return the 64-bit average hash of a grey image as uint8[8], row-major, most significant bit first.

    The image is resized as by `dhash`, to 8 x 8; bit (r, c) says whether pixel (r, c) is brighter than the mean.
    A constant image hashes to zeros.

    Source: Wolf et al. 2024 (Less is More), section on related hashes; the imagehash library's ``average_hash``.
    """
    grid = _shrink(image, 8, 8, "ahash")
    return np.packbits(grid > grid.mean(dtype=np.float64))  # float64: 64 equal float32 then have exactly their mean


def phash(image: np.ndarray) -> np.ndarray:
    """Return the 64-bit perceptual hash of a grey image as uint8[8], row-major, most significant bit first.

    The image is resized as by `dhash`, to 32 x 32; bit (r, c) says whether the coefficient (r, c) of its discrete
    cosine transform (type II), r, c < 8, exceeds the median of those 64. The mean, (0, 0), is among them.

    Source: Wolf et al. 2024 (Less is More), section on related hashes; the imagehash library's ``phash``.
    """
    grid = _shrink(image, 32, 32, "phash").astype(np.float64)
    waves = fft.dct(fft.dct(grid, axis=0), axis=1)[:8, :8]  # the library's order of axes: rounding decides near-ties
    return np.packbits(waves > np.median(waves))


def _shrink(image: np.ndarray, rows: int, columns: int, name: str) -> np.ndarray:
    """Resize an image to a small grid."""
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"{name}: image of shape {image.shape}; expected (H, W)")
    if image.shape == (rows, columns):
        return image
    grey = Image.fromarray(image if image.dtype == np.uint8 else image.astype(np.float32, copy=False))
    return np.asarray(grey.resize((columns, rows), Image.Resampling.LANCZOS))


def per_slice_minmax(image: np.ndarray) -> np.ndarray:
    """Return an image stretched from its own least and greatest value to 0...255, uint8 (H, W); parity only.

    This is how Less is More exports CT slices before it hashes them. Metal or the table in one slice changes the greys
    of all of it, so prefer a fixed window. Halves round to even, as OpenCV's PNG export does; a constant image, for
    which the release divides by zero, becomes zeros.

    Args:
        image: (H, W), any real type, finite.

    Raises:
        ValueError: not a 2-D array.

    Source: Wolf et al. 2024 (Less is More), the release's export of LIDC-IDRI.
    """
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"per_slice_minmax: image of shape {image.shape}; expected (H, W)")
    image = image.astype(np.float64)  # a difference of int16 may not fit int16
    low, high = image.min(), image.max()
    if low == high:
        return np.zeros(image.shape, np.uint8)
    return np.rint((image - low) / (high - low) * 255).astype(np.uint8)


def dhash3d(volume: np.ndarray) -> np.ndarray:
    """Return a 192-bit difference hash of a volume as uint8[24]: 64 bits for each of the axes D, H and W.

    The volume is averaged over 5 x 5 x 5 equal boxes; a voxel that straddles boxes counts in each by its share. A bit
    says whether a box is brighter than the one before it along the axis, for the first four boxes along the others:
    4 x 4 x 4 bits per axis, row-major, most significant bit first. Whole numbers below 2^53 / volume.size are summed
    exactly, and a constant volume of any type hashes to zeros.

    Args:
        volume: (D, H, W), any real type and size.

    Raises:
        ValueError: not a 3-D array, or empty.

    Source: ours; the difference hash of Wolf et al. 2024 carried over to three axes.
    """
    volume = np.asarray(volume)
    if volume.ndim != 3 or not volume.size:
        raise ValueError(f"dhash3d: volume of shape {volume.shape}; expected (D, H, W)")
    deep, rows, columns = (_boxes(n) for n in volume.shape)
    # Heights above the least, so that equal boxes of padding or air come out as exactly 0 and not as rounding errors.
    low = float(volume.min())
    # Plane by plane: only one is in memory as float64.
    planes = np.stack([rows @ (plane.astype(np.float64) - low) @ columns.T for plane in volume])
    grid = np.tensordot(deep, planes, 1)
    bits = [(np.diff(grid, axis=axis) > 0)[:4, :4, :4] for axis in range(3)]
    return np.packbits(np.stack(bits))


def _boxes(size: int, count: int = 5) -> np.ndarray:
    """Return how much of each pixel lies in each of ``count`` equal boxes, in 1/count pixels: (count, size)."""
    box, pixel = size * np.arange(count)[:, None], count * np.arange(size)
    return np.clip(np.minimum(box + size, pixel + count) - np.maximum(box, pixel), 0, None).astype(np.float64)


def signature(sample: np.ndarray, hash: ImageHash = dhash) -> np.ndarray:
    """Return the hash of one stored image sample: of the image, or of three central planes of the volume, joined.

    Args:
        sample: (1, H, W), hashed as it is, 8 bytes; or (1, D, H, W), 8 bytes for each plane across D, H and W.
        hash: `dhash`, `ahash` or `phash`.

    Raises:
        ValueError: a sample of another shape.
    """
    if sample.ndim not in (3, 4) or len(sample) != 1:
        raise ValueError(f"signature: sample of shape {sample.shape}; expected (1, H, W) or (1, D, H, W)")
    image = sample[0]
    if image.ndim == 2:
        return hash(image)
    d, h, w = (n // 2 for n in image.shape)
    return np.concatenate([hash(plane) for plane in (image[d], image[:, h], image[:, :, w])])


def slice_set(sample: np.ndarray) -> np.ndarray:
    """Return the `dhash` of eight equally spaced slices across D of a stored volume (1, D, H, W), joined: 64 bytes.

    The slices are the central ones of equal parts. A volume of fewer slices repeats some, so that all signatures are
    of equal length.

    Raises:
        ValueError: a sample of another shape.
    """
    if sample.ndim != 4 or len(sample) != 1:
        raise ValueError(f"slice_set: sample of shape {sample.shape}; expected (1, D, H, W)")
    volume = sample[0]
    middle = (2 * np.arange(SLICES) + 1) * len(volume) // (2 * SLICES)
    return np.concatenate([dhash(volume[i]) for i in middle])
