"""Difference hashes against golden values and the library they must equal."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image

from medssl.curate.fingerprint import dhash, signature

r, c = np.mgrid[0:8, 0:9]
GRID = (37 * r + 11 * c**2 + 5 * r * c) % 97


def bits(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.bitwise_count(a ^ b).sum())


def test_l1_golden() -> None:
    assert GRID[0].tolist() == [0, 11, 44, 2, 79, 81, 8, 54, 25]
    first = dhash(GRID)
    assert first.dtype == np.uint8
    assert first.tobytes().hex() == "dacc95ca8c549955"
    assert np.bitwise_count(first).sum() == 31


def test_l1_changes() -> None:
    first = dhash(GRID)
    spot = GRID.copy()
    spot[3, 4] += 60
    assert bits(first, dhash(spot)) == 2
    assert bits(first, dhash(2 * GRID + 5)) == 0
    assert bits(first, dhash(-GRID)) == 63
    assert not dhash(np.full((8, 9), 7)).any()
    assert not dhash(np.full((40, 30), 7, np.uint8)).any()


@pytest.mark.parametrize("shape", [(64, 64), (33, 70), (512, 96), (8, 9), (9, 8), (5, 4)])
def test_equals_imagehash(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        theirs = imagehash.dhash(Image.fromarray(image)).hash
        assert np.array_equal(dhash(image), np.packbits(theirs))


def test_real_values_hash_like_their_picture() -> None:
    y, x = np.mgrid[0:64, 0:64]
    image = np.sin(x / 9) * np.cos(y / 7)
    assert bits(dhash(image), dhash(100 * image - 40)) == 0
    assert bits(dhash(image), dhash(image[:, ::-1])) > 20


def test_signature() -> None:
    rng = np.random.default_rng(0)
    image, volume = rng.random((1, 20, 24)), rng.random((1, 10, 12, 14))
    assert np.array_equal(signature(image), dhash(image[0]))
    planes = [dhash(volume[0, 5]), dhash(volume[0, :, 6]), dhash(volume[0, :, :, 7])]
    assert np.array_equal(signature(volume), np.concatenate(planes))
    changed = volume.copy()
    changed[0, :, :, 7] = rng.random((10, 12))
    assert not np.array_equal(signature(changed)[16:], signature(volume)[16:])


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        dhash(np.zeros((1, 8, 9)))
