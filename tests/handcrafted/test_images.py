"""Discs, balls and textures of known measures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kurtosis, skew
from skimage.feature import graycomatrix, graycoprops

from medssl.handcrafted import images


def ball(ndim: int, radius: float, side: int = 64) -> np.ndarray:
    at = np.stack(np.meshgrid(*[np.arange(side) - side / 2] * ndim, indexing="ij"))
    return (0.2 + 0.6 * (np.square(at).sum(axis=0) <= radius**2)).astype(np.float32)


@pytest.mark.parametrize(("ndim", "content"), [(2, np.pi * 20**2), (3, 4 / 3 * np.pi * 20**3)])
def test_shape_of_a_ball(ndim: int, content: float) -> None:
    spacing = np.full(ndim, 2.0)
    _, share, size, *rest = images.shape(ball(ndim, 20), spacing)
    extents, spread, rest = rest[:ndim], rest[ndim : 2 * ndim], rest[2 * ndim :]
    assert share == pytest.approx(content / 64**ndim, rel=0.02)
    assert size == pytest.approx(content * 2**ndim, rel=0.02)
    assert extents == pytest.approx([80.0] * ndim)
    assert spread == pytest.approx([40 / np.sqrt(ndim + 2)] * ndim, rel=0.02)  # of a uniform ball
    border, compact, inside, inside_sd, outside, outside_sd, *blank = rest
    surface = {2: 8 * 40, 3: 6 * np.pi * 40**2}[ndim]  # seen along the axes
    assert border == pytest.approx(surface, rel=0.05)
    assert compact == pytest.approx(1, abs=0.05)
    assert [inside, inside_sd, outside, outside_sd] == pytest.approx([0.8, 0, 0.2, 0], abs=1e-4)
    assert blank == extents


def test_spacing_along_each_axis() -> None:
    image = ball(2, 20)
    one, two = images.shape(image, np.array([1.0, 1.0])), images.shape(image, np.array([1.0, 3.0]))
    assert two[2] == pytest.approx(3 * one[2])
    assert two[3:5] == pytest.approx(one[3:5] * (1, 3))
    assert two[7] == pytest.approx(2 * one[7])  # half of the faces are three times as long


def test_pairs_of_grey_levels_as_scikit_image_has_them() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((20, 30)) ** 2
    levels = np.clip((image * images.LEVELS).astype(int), 0, images.LEVELS - 1)
    for axis, angle in ((0, np.pi / 2), (1, 0.0)):
        for distance in images.DISTANCES:
            theirs = graycomatrix(
                levels.astype(np.uint8), [distance], [angle], levels=images.LEVELS, symmetric=True, normed=True
            )
            assert images.cooccurrence(levels, axis, distance) == pytest.approx(theirs[:, :, 0, 0])
    theirs = graycomatrix(
        levels.astype(np.uint8), [1, 2], [0.0, np.pi / 2], levels=images.LEVELS, symmetric=True, normed=True
    )
    expected = np.stack([graycoprops(theirs, name) for name in images.TEXTURE])
    got = images.texture(image)
    assert got == pytest.approx(np.concatenate([expected.mean(axis=2), np.ptp(expected, axis=2)]).ravel())


def test_texture_of_a_volume_sees_its_third_axis() -> None:
    layers = np.tile(np.array([0.1, 0.9])[:, None, None], (8, 16, 16)).astype(np.float32)  # (16, 16, 16)
    got = images.texture(layers).reshape(2, len(images.TEXTURE), 2)
    contrast = 13**2  # levels 1 and 14 apart, along one axis of three
    assert got[:, 0, 0] == pytest.approx([contrast / 3, contrast])
    assert got[:, 0, 1] == pytest.approx([0, 0])  # two layers on it is the same again


def test_intensity() -> None:
    rng = np.random.default_rng(0)
    for values in (rng.random((5, 6, 7)), rng.random((9, 40)) ** 3):
        row = images.intensity(values)
        histogram = np.histogram(values, bins=images.BINS, range=(0, 1))[0] / values.size
        assert row[: images.BINS] == pytest.approx(histogram)
        moments = [values.mean(), values.std(), skew(values, axis=None), kurtosis(values, axis=None, fisher=False)]
        assert row[images.BINS : images.BINS + 4] == pytest.approx(moments)
        assert row[-7:] == pytest.approx(np.percentile(values, images.PERCENTILES))


def test_layout() -> None:
    image = np.zeros((12, 18), np.float32)
    image[11, 0] = 1
    got = images.layout(image)
    assert got[:2].tolist() == [1.0, 0.0]
    grid = got[2:].reshape(6, 6)
    assert grid[5, 0] == pytest.approx(1 / 6)
    assert grid.sum() == pytest.approx(1 / 6)
    assert images.layout(np.ones((4, 5, 9), np.float32)).shape == (3 + 4 * 5 * 6,)


@pytest.mark.parametrize("shape", [(24, 20), (6, 7, 8)])
def test_an_image_stands_alone(shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).random((7, 1, *shape), dtype=np.float32)
    samples[3] = 0.5  # a blank one
    whole = images.features(samples, None)
    assert np.isfinite(whole).all()
    assert np.array_equal(whole, np.concatenate([images.features(s[None], None) for s in samples]))
