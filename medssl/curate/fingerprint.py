"""Perceptual hashes: short bit strings that stay equal when an image changes in ways that do not matter."""

from __future__ import annotations

import numpy as np
from PIL import Image


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
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"dhash: image of shape {image.shape}; expected (H, W)")
    if image.shape != (8, 9):
        grey = Image.fromarray(image if image.dtype == np.uint8 else image.astype(np.float32))
        image = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS))
    return np.packbits(image[:, 1:] > image[:, :-1])


def signature(sample: np.ndarray) -> np.ndarray:
    """Return the hash of one stored image sample.

    Args:
        sample: (1, H, W), hashed as it is, 8 bytes; or (1, D, H, W), its three central planes, 24 bytes.
    """
    image = sample[0]
    if image.ndim == 2:
        return dhash(image)
    d, h, w = (n // 2 for n in image.shape)
    return np.concatenate([dhash(image[d]), dhash(image[:, h]), dhash(image[:, :, w])])
