"""Similarities against known answers, slow loops and the libraries they must equal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from medssl.curate.similarity import BLOCK, cosine, grey_bins, mutual_information, mutual_information_of, ssim

X = np.arange(16).reshape(4, 4)
SEEDS = st.integers(0, 1000)


def test_l7() -> None:
    a, b = np.full((16, 12), 100, np.uint8), np.full((16, 12), 110, np.uint8)
    for window in ("gaussian", "whole"):
        assert ssim(a, b[None], data_range=255, window=window) == pytest.approx([0.995476], abs=1e-6)
    for other, expected in ((X[::-1], -0.873427), (X + 1, 0.992219), (2 * X, 0.640317)):
        many = ssim(X, np.stack([other, X]), data_range=15, window="whole")
        assert many == pytest.approx([expected, 1], abs=1e-6)


def slow_ssim(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """Window by window, with the 11 x 11 weights of the paper."""
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11].astype(float), b[y : y + 11, x : x + 11].astype(float)
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
            cov = (weights * (p - mp) * (q - mq)).sum()
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(24, 31), (11, 11), (13, 12, 14)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_ssim_equals_scikit_image_and_slow(shape: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 256, shape).astype(dtype)
    many = np.stack([one, 255 - one, one // 2, np.full(shape, 9), rng.integers(0, 256, shape)]).astype(dtype)
    for window in ("gaussian", "whole"):
        values = ssim(one, many, data_range=255, window=window)
        assert values.shape == (5,) and values.dtype == np.float64
        pairs = [ssim(one, other[None], data_range=255, window=window)[0] for other in many]
        assert values == pytest.approx(pairs, abs=1e-10)
        assert values[0] == pytest.approx(1)
        assert values[1] < 0
    theirs = [
        structural_similarity(
            one.astype(float),
            other.astype(float),
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for other in many
    ]
    assert ssim(one, many, data_range=255) == pytest.approx(theirs, abs=1e-10)
    if len(shape) == 2:
        slow = [slow_ssim(one, other, 255) for other in many]
        assert ssim(one, many, data_range=255) == pytest.approx(slow, abs=1e-10)


def test_ssim_whole_equals_slow() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 5, 6, 7))
    c1, c2 = 0.01**2, 0.03**2
    cov = ((a - a.mean()) * (b - b.mean())).mean()
    slow = (2 * a.mean() * b.mean() + c1) * (2 * cov + c2)
    slow /= (a.mean() ** 2 + b.mean() ** 2 + c1) * (a.var() + b.var() + c2)
    assert ssim(a, b[None], data_range=1, window="whole") == pytest.approx([slow])


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, gain=st.floats(0.01, 100))
def test_ssim_properties(seed: int, gain: float) -> None:
    a, b = np.random.default_rng(seed).random((2, 12, 13))
    for window in ("gaussian", "whole"):
        value = ssim(a, b[None], data_range=1, window=window)
        assert -1 <= value[0] < 1
        assert ssim(b, a[None], data_range=1, window=window) == pytest.approx(value)
        assert ssim(gain * a, gain * b[None], data_range=gain, window=window) == pytest.approx(value)


def test_blocks_do_not_show() -> None:
    rng = np.random.default_rng(0)
    size = 160  # ten images to a block
    many = rng.integers(0, 8, (23, size, size), dtype=np.uint8)
    assert BLOCK // size**2 == 10
    whole = ssim(many[0], many, data_range=7, window="whole")
    assert whole == pytest.approx([ssim(many[0], b[None], data_range=7, window="whole")[0] for b in many])
    shared = mutual_information(many[0], many, bins=8)
    assert shared == pytest.approx([mutual_info_score(many[0].ravel(), b.ravel()) for b in many], abs=1e-12)
    assert ssim(many[0], many[:0], data_range=7).shape == (0,)
    assert mutual_information(many[0], many[:0], bins=8).shape == (0,)


def test_ssim_errors() -> None:
    image = np.zeros((12, 12))
    for one, many in ((image, image), (image, np.zeros((2, 12, 11))), (image[0], image), (image[:0], image[None, :0])):
        with pytest.raises(ValueError, match=r"expected equal \(H, W\)"):
            ssim(one, many, data_range=1)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(X, X[None], data_range=15)
    with pytest.raises(ValueError, match="expected 'gaussian' or 'whole'"):
        ssim(image, image[None], data_range=1, window="box")  # type: ignore[arg-type]
    for data_range in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive"):
            ssim(image, image[None], data_range=data_range)


def test_l8() -> None:
    tables = np.array([[[2, 0], [0, 2]], [[1, 1], [1, 1]], [[3, 1], [1, 3]]])
    shared, normalised = [0.693147, 0, 0.130812], [1, 0, 0.188722]
    assert mutual_information_of(tables) == pytest.approx(shared, abs=1e-6)
    assert mutual_information_of(tables, normalised=True) == pytest.approx(normalised, abs=1e-6)
    assert [mutual_information_of(t) for t in tables] == pytest.approx(shared, abs=1e-6)
    assert [mutual_information_of(t, normalised=True) for t in tables] == pytest.approx(normalised, abs=1e-6)
    x, y = np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 0, 1, 1, 2, 2, 3, 0])
    assert mutual_information(x, y[None], bins=4) == pytest.approx([1.147601], abs=1e-6)


def slow_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    pairs = list(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    n, total = len(pairs), 0.0
    for i, j in set(pairs):
        both = pairs.count((i, j)) / n
        total += both * math.log(both / (np.mean(a == i) * np.mean(b == j)))
    return total


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, bins=st.integers(1, 9), pixels=st.integers(1, 40), count=st.integers(1, 5))
def test_mutual_information(seed: int, bins: int, pixels: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    one = rng.integers(0, bins, pixels, dtype=np.uint8)
    many = np.where(rng.random((count, pixels)) < 0.5, one, rng.integers(0, bins, (count, pixels))).astype(np.uint8)
    shared = mutual_information(one, many, bins=bins)
    assert shared.shape == (count,)
    assert (shared >= 0).all()
    assert shared == pytest.approx([slow_mutual_information(one, b) for b in many], abs=1e-12)
    assert shared == pytest.approx([mutual_information(b, one[None], bins=bins)[0] for b in many], abs=1e-12)
    normalised = mutual_information(one, many, bins=bins, normalised=True)
    assert ((normalised >= 0) & (normalised <= 1)).all()
    assert mutual_information(one, one[None], bins=bins, normalised=True) == pytest.approx([1])
    # Names of grey levels do not matter.
    order = rng.permutation(bins).astype(np.uint8)
    assert mutual_information(one, order[many], bins=bins) == pytest.approx(shared, abs=1e-12)


def test_normalised_equals_sklearn() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, (20, 20))
    b = np.where(rng.random((20, 20)) < 0.6, a, 0)  # unequal entropies: the kind of mean shows
    expected = normalized_mutual_info_score(a.ravel(), b.ravel(), average_method="arithmetic")
    assert mutual_information(a, b[None], bins=6, normalised=True) == pytest.approx([expected])


def test_constant_images() -> None:
    image = grey_bins(np.random.default_rng(0).random((5, 7)), 8, limits=(0, 1))
    flat = np.full_like(image, 3)
    assert mutual_information(flat, flat[None] + 1, bins=8, normalised=True) == 1
    assert mutual_information(flat, image[None], bins=8, normalised=True) == pytest.approx([0], abs=1e-12)
    assert mutual_information(image, flat[None], bins=8, normalised=True) == pytest.approx([0], abs=1e-12)
    assert mutual_information(flat, flat[None], bins=8) == 0
    assert mutual_information_of(np.array([[0, 0], [0, 35]]), normalised=True) == 1


def test_grey_bins() -> None:
    assert grey_bins(np.array([-4, -3, -2, -1, 0]), 4, limits=(-4, 0)).tolist() == [0, 1, 2, 3, 3]
    assert grey_bins(np.array([-2000.0, -1000, -1, 0, 999, 1000, 3000]), 2, limits=(-1000, 1000)).tolist() == [
        *[0, 0, 0, 1, 1, 1, 1]
    ]
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(grey_bins(levels, 256, limits=(0, 255)), levels)
    image = np.random.default_rng(0).normal(size=(30, 20))
    counts = np.histogram(image, 16)[0]
    whole = (image.min(), image.max())
    assert np.bincount(grey_bins(image, 16, limits=whole).ravel()).tolist() == counts.tolist()
    for bins in (0, 257):
        with pytest.raises(ValueError, match="1 to 256"):
            grey_bins(image, bins, limits=(0, 1))
    with pytest.raises(ValueError, match="lower one first"):
        grey_bins(image, 4, limits=(1, 1))


def test_mutual_information_errors() -> None:
    one = np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="expected equal"):
        mutual_information(one, one, bins=4)
    with pytest.raises(ValueError, match="expected equal"):
        mutual_information(one, one.T[None], bins=4)
    for many in (one[None] + 4, one[None].astype(np.int8) - 1, one[None].astype(float)):
        with pytest.raises(ValueError, match="from 0 to 3"):
            mutual_information(one, many, bins=4)
    for counts in ([1, 2], [[0, 0], [0, 0]], [[1, -1], [2, 3]]):
        with pytest.raises(ValueError, match="joint counts"):
            mutual_information_of(np.array(counts))


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, size=st.integers(1, 20), dtype=st.sampled_from(["int8", "float16", "float32", "float64"]))
def test_cosine(seed: int, size: int, dtype: str) -> None:
    vectors = np.random.default_rng(seed).integers(-9, 10, (6, size)).astype(dtype)
    vectors[2] = 0
    one, values = vectors[0], cosine(vectors[0], vectors)
    assert values.shape == (6,) and (abs(values) <= 1).all()
    for other, value in zip(vectors.astype(float), values, strict=True):
        lengths = math.hypot(*one.astype(float)) * math.hypot(*other)
        assert value == pytest.approx(other @ one / lengths if lengths else 0, abs=1e-6)


def test_cosine_errors() -> None:
    for one, many in (
        (np.zeros(3), np.zeros((2, 4))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((1, 3)), np.zeros((2, 3))),
    ):
        with pytest.raises(ValueError, match=r"expected \(d,\) and \(M, d\)"):
            cosine(one, many)
