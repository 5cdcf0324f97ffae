"""Hashes against golden values and the library they must equal."""

from __future__ import annotations

from collections.abc import Callable

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medssl.curate.fingerprint import ahash, dhash, dhash3d, per_slice_minmax, phash, signature, slice_set

r, c = np.mgrid[0:8, 0:9]
GRID = (37 * r + 11 * c**2 + 5 * r * c) % 97
r, c = np.mgrid[0:64, 0:80]
PICTURE = ((3 * r**2 + 5 * r * c + 7 * c) // 11 % 256).astype(np.uint8)
THEIRS = {dhash: imagehash.dhash, ahash: imagehash.average_hash, phash: imagehash.phash}

Hash = Callable[[np.ndarray], np.ndarray]


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


def test_l1_average() -> None:
    grid = GRID[:, :8]
    assert grid.mean() == 48.296875
    first = ahash(grid)
    assert first.dtype == np.uint8
    assert first.tobytes().hex() == "0d72c83dc3ba44bb"
    assert np.bitwise_count(first).sum() == 32
    assert bits(first, ahash(3 * grid - 8)) == 0
    assert bits(first, ahash(-grid)) == 64


def test_golden() -> None:
    assert dhash(PICTURE).tobytes().hex() == "fec23b4ba1c406a9"
    assert ahash(PICTURE).tobytes().hex() == "037fcfbfffffffff"
    assert phash(PICTURE).tobytes().hex() == "8001071f3f3f7e78"
    y, x = np.mgrid[0:32, 0:32]
    grid = (37 * y + 11 * x**2 + 5 * y * x) % 97
    assert phash(grid).dtype == np.uint8
    assert phash(grid).tobytes().hex() == "b8aa3e833e5d3151"


@pytest.mark.parametrize("ours", THEIRS)
@pytest.mark.parametrize("shape", [(64, 64), (33, 70), (512, 96), (8, 9), (9, 8), (8, 8), (32, 32), (5, 4)])
def test_equals_imagehash(ours: Hash, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        theirs = THEIRS[ours](Image.fromarray(image)).hash
        assert np.array_equal(ours(image), np.packbits(theirs))
        assert np.array_equal(ours(image[::-1].T), ours(np.ascontiguousarray(image[::-1].T)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [0, 7, 0.1, 100])
def test_constant(dtype: type, value: float) -> None:
    image = np.full((33, 70), value, dtype)
    assert not dhash(image).any() and not ahash(image).any()
    assert not dhash3d(np.full((7, 13, 9), value, dtype)).any()
    assert phash(image).tolist() == [128 * bool(image.any()), *[0] * 7]  # the mean and nothing else


def test_phash_is_of_low_frequencies() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((32, 32))
    i, k = np.arange(32), np.arange(8)[:, None]
    waves = np.cos(np.pi * k * (2 * i + 1) / 64)
    low = waves @ image @ waves.T
    assert np.array_equal(phash(image), np.packbits(low > np.median(low)))
    checks = np.indices((32, 32)).sum(0) % 2  # the highest frequency of all
    assert bits(phash(image), phash(image + 0.001 * checks)) == 0


def test_per_slice_minmax() -> None:
    image = np.array([[-1000, 32767, 0], [15883, -999, 15884]], np.int16)
    exported = per_slice_minmax(image)
    assert exported.dtype == np.uint8
    assert exported.tolist() == [[0, 255, 8], [127, 0, 128]]
    assert per_slice_minmax(np.array([[0, 1, 3, 510]])).tolist() == [[0, 0, 2, 255]]  # 0.5 and 1.5 round to even
    assert per_slice_minmax(PICTURE).tolist() == PICTURE.tolist()
    assert not per_slice_minmax(np.full((4, 5), 7.5)).any()
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        per_slice_minmax(np.zeros((2, 4, 5)))


def slow_dhash3d(volume: np.ndarray) -> np.ndarray:
    """Repeat each voxel five times along each axis, so that boxes need no shares; then bit by bit."""
    d, h, w = volume.shape
    fine = volume.repeat(5, 0).repeat(5, 1).repeat(5, 2)
    g = fine.reshape(5, d, 5, h, 5, w).sum((1, 3, 5))
    cells = [(i, j, k) for i in range(4) for j in range(4) for k in range(4)]
    steps = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    return np.packbits([g[i + a, j + b, k + e] > g[i, j, k] for a, b, e in steps for i, j, k in cells])


@settings(deadline=None, max_examples=20)
@given(shape=st.tuples(*3 * [st.integers(1, 13)]), seed=st.integers(0, 99))
def test_dhash3d_equals_slow(shape: tuple[int, int, int], seed: int) -> None:
    volume = np.random.default_rng(seed).integers(-1000, 1000, shape, dtype=np.int16)
    hashed = dhash3d(volume)
    assert hashed.dtype == np.uint8 and hashed.shape == (24,)
    assert np.array_equal(hashed, slow_dhash3d(volume.astype(np.int64)))
    assert np.array_equal(hashed, dhash3d(volume * 2.0 + 5))


def test_dhash3d() -> None:
    z, y, x = np.mgrid[0:11, 0:14, 0:17]
    volume = (37 * z + 11 * y**2 + 5 * x * y + 3 * x * z) % 97
    golden = "eb7b54814beeb000fb6b56a94970be20baa95aa46b26961d"
    assert dhash3d(volume).tobytes().hex() == golden
    for axis, ramp in enumerate((z, y, x)):
        assert np.array_equal(dhash3d(ramp), np.repeat(255 * (np.arange(3) == axis), 8))
    rng = np.random.default_rng(0)
    noise = rng.random((20, 20, 20))
    smooth = np.sin(np.linspace(0, 6, 20))[:, None, None] * np.cos(np.linspace(0, 5, 20))[:, None]
    assert bits(dhash3d(smooth + 1e-3 * noise), dhash3d(smooth + 1e-3 * noise + 1e-6 * rng.random((20, 20, 20)))) < 6
    with pytest.raises(ValueError, match=r"expected \(D, H, W\)"):
        dhash3d(np.zeros((1, 4, 4, 4)))
    with pytest.raises(ValueError, match=r"expected \(D, H, W\)"):
        dhash3d(np.zeros((0, 4, 4)))


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


@pytest.mark.parametrize("hash", THEIRS)
def test_signature_of_other_hashes(hash: Hash) -> None:
    volume = np.random.default_rng(0).random((1, 10, 12, 14))
    assert np.array_equal(signature(volume[:, 5], hash), hash(volume[0, 5]))
    planes = (volume[0, 5], volume[0, :, 6], volume[0, :, :, 7])
    assert np.array_equal(signature(volume, hash), np.concatenate([hash(plane) for plane in planes]))


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (8, range(8)),
        (16, [1, 3, 5, 7, 9, 11, 13, 15]),
        (10, [0, 1, 3, 4, 5, 6, 8, 9]),
        (2, [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_slice_set(depth: int, expected: list[int]) -> None:
    volume = np.random.default_rng(0).random((1, depth, 9, 11))
    assert np.array_equal(slice_set(volume), np.concatenate([dhash(volume[0, i]) for i in expected]))


def test_wrong_shape() -> None:
    for hash in THEIRS:
        with pytest.raises(ValueError, match=r"expected \(H, W\)"):
            hash(np.zeros((1, 8, 9)))
    for sample in (np.zeros((8, 9)), np.zeros((2, 8, 9)), np.zeros((1, 2, 8, 9, 9))):
        with pytest.raises(ValueError, match=r"expected \(1, H, W\)"):
            signature(sample)
    for sample in (np.zeros((1, 8, 9)), np.zeros((2, 4, 8, 9))):
        with pytest.raises(ValueError, match=r"expected \(1, D, H, W\)"):
            slice_set(sample)
