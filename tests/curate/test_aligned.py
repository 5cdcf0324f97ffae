"""Aligned correlation against known answers and slow loops; what remains of copies and of look-alikes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medssl.curate import aligned

AMPLITUDE, CENTRE, WIDTH = (0.15, -0.1, 1, -0.2, 0.3), (-0.2, -0.03, 0, 0.03, 0.25), (0.025, 0.01, 0.012, 0.012, 0.05)


def toy(beats: list[float], last: float = 0.3) -> np.ndarray:
    """Return 3 s of ECG at 100 Hz with beats at the times given."""
    t = np.arange(300) / 100
    waves = zip((*AMPLITUDE[:-1], last), CENTRE, WIDTH, strict=True)
    return sum(a * np.exp(-((t - b - c) ** 2) / (2 * w**2)) for a, c, w in waves for b in beats)[None]


REGULAR = [0.8 * k for k in range(-1, 5)]
A = toy([b + 0.10 for b in REGULAR])
B = toy([b + 0.47 for b in REGULAR])
C = toy([b + 0.10 for b in REGULAR], last=-0.3)
D = toy([-0.9, 0.1, 0.7, 1.7, 2.3, 3.3, 3.9])


def slow(one: np.ndarray, other: np.ndarray, share: float) -> dict[tuple[int, ...], float]:
    """Return the correlation of the overlap, centred by channel, at every shift that leaves enough."""
    shape, size = one.shape[1:], other.shape[1:]
    least = share * min(np.prod(shape), np.prod(size))
    out = {}
    for lag in np.ndindex(*(n + k for n, k in zip(shape, size, strict=True))):
        lag = tuple(int(x - n) for x, n in zip(lag, shape, strict=True))
        start = [max(0, -x) for x in lag]
        stop = [min(n, k - x) for n, k, x in zip(shape, size, lag, strict=True)]
        if any(b <= a for a, b in zip(start, stop, strict=True)):
            continue
        x = one[(slice(None), *(slice(a, b) for a, b in zip(start, stop, strict=True)))]
        y = other[(slice(None), *(slice(a + d, b + d) for a, b, d in zip(start, stop, lag, strict=True)))]
        if x[0].size < least - 1e-9:
            continue
        x, y = (v.reshape(len(v), -1) - v.reshape(len(v), -1).mean(1, keepdims=True) for v in (x, y))
        out[lag] = float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    return out


def test_l9_known_answers() -> None:
    share = 220 / 300  # |lag| <= 80 steps
    assert np.corrcoef(A[0], B[0])[0, 1] == pytest.approx(-0.0978, abs=5e-5)
    value, lag = aligned.best(A, B, min_overlap=share)
    assert value == pytest.approx(1, abs=5e-5)
    assert lag == pytest.approx((37,), abs=0.01)
    for other, at_zero, highest in ((C, 0.5284, 0.5301), (D, 0.5250, 0.6806)):
        every = slow(A, other, share)
        assert every[0,] == pytest.approx(at_zero, abs=5e-5)
        assert max(every.values()) == pytest.approx(highest, abs=5e-5)
        assert aligned.best(A, other, min_overlap=share)[0] == pytest.approx(highest, abs=5e-4)  # between steps
    assert aligned.best(A, 3 * A + 2)[0] == pytest.approx(1, abs=1e-5)


def test_polarity_counts() -> None:
    assert aligned.best(A, -A)[0] < 0.3


@pytest.mark.parametrize(
    ("shape", "other", "share"),
    [
        ((40,), (40,), 0.6),
        ((40,), (27,), 0.5),
        ((12, 10), (12, 10), 0.7),
        ((9, 11), (12, 8), 0.6),
        ((6, 7, 5),) * 2 + (0.7,),
    ],
)
def test_equals_a_slow_loop(
    shape: tuple[int, ...], other: tuple[int, ...], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aligned, "MIN_ENERGY", 0)
    rng = np.random.default_rng(0)
    one = rng.standard_normal((2, *shape)) + 50  # an offset that single precision must not lose the rest in
    many = 3 * rng.standard_normal((4, 2, *other)) - 20
    first = aligned.spectra(one[None], other=other, min_overlap=share)
    second = aligned.spectra(many, other=shape, min_overlap=share)
    value, lags = aligned.correlate(first, second)
    for i in range(4):
        wanted = slow(one, many[i], share)
        nearest = tuple(int(n) for n in np.rint(lags[i]))
        # Between steps a parabola may rise above the loop's best, never fall below it.
        assert value[i] >= max(wanted.values()) - 1e-4
        assert wanted[nearest] >= max(wanted.values()) - 0.25
        assert (np.abs(lags[i] - nearest) <= 0.5).all()
    back, reverse = aligned.correlate(second, first.take(np.zeros(4, int)))
    assert np.allclose(back, value, atol=1e-4)
    assert np.allclose(reverse, -lags, atol=1e-2)


@pytest.mark.parametrize("shift", [(7,), (3, -4), (2, -1, 1)])
def test_finds_a_shift(shift: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    size = {1: 80, 2: 32, 3: 16}[len(shift)]
    wide = ndimage.gaussian_filter(rng.standard_normal((1, *(size + 20 for _ in shift))), [0, *(1.5 for _ in shift)])
    here = wide[(0, *(slice(10, 10 + size) for _ in shift))][None]
    there = wide[(0, *(slice(10 - s, 10 - s + size) for s in shift))][None]
    value, lag = aligned.best(here, 2 * there + 5)
    assert value == pytest.approx(1, abs=1e-3)
    assert lag == pytest.approx(shift, abs=0.05)


def test_half_a_step_costs_little() -> None:
    t = np.arange(200.0)
    wave = lambda by: np.exp(-((t - 90 - by) ** 2) / 18)[None] - 0.5 * np.exp(-((t - 120 - by) ** 2) / 50)[None]  # noqa: E731
    value, lag = aligned.best(wave(0.0), wave(4.5))
    assert value > 0.999
    assert lag == pytest.approx((4.5,), abs=0.05)


def test_a_constant_sample_is_like_nothing() -> None:
    rng = np.random.default_rng(2)
    one = aligned.spectra(rng.standard_normal((1, 1, 50)))
    assert aligned.correlate(one, aligned.spectra(np.full((2, 1, 50), 1000.1)))[0].tolist() == [-1, -1]


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="on both sides"):
        aligned.frame((10,), (10, 10))
    with pytest.raises(ValueError, match=r"min_overlap is 1\.2"):
        aligned.frame((10,), min_overlap=1.2)
    with pytest.raises(ValueError, match="prepare each with"):
        aligned.correlate(aligned.spectra(np.zeros((1, 1, 10))), aligned.spectra(np.zeros((1, 1, 12))))
    with pytest.raises(ValueError, match="too few to fit"):
        aligned.explain(A, B, 295)


def test_explain_undoes_a_filter_but_no_other_rhythm() -> None:
    rng = np.random.default_rng(3)
    x = ndimage.gaussian_filter1d(rng.standard_normal((3, 400)), 2)
    smoother = 2 * ndimage.gaussian_filter1d(x, 1) + 3
    between = (smoother[:, :-1] + smoother[:, 1:]) / 2
    assert aligned.explain(x, x, 0) < 1e-5
    # Undoing the filter needs more than is there to undo it with, so a little stays; without taps a lot does.
    assert aligned.explain(x[:, 5:], between, 5, taps=4) < 0.01 < aligned.explain(x[:, 5:], between, 5, taps=0)
    noisy = x + 0.1 * x.std() * rng.standard_normal(x.shape)
    assert aligned.explain(x, noisy, 0, taps=0) == pytest.approx(0.01, rel=0.1)
    assert aligned.explain(A, D, 0, taps=4) > 0.1
    assert aligned.explain(np.zeros((1, 50)), np.zeros((1, 50)), 0) == 1


def test_explain_equals_least_squares() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 2, 60))
    y = y + np.roll(x, 3, axis=1)
    rows = np.concatenate([[[x[c, t + k] for k in (-1, 0, 1)] for t in range(1, 56)] for c in range(2)])
    target = np.concatenate([y[c, 4:59] for c in range(2)])
    centre = lambda v: np.concatenate([h - h.mean(axis=0) for h in np.split(v, 2)])  # noqa: E731
    rows, target = centre(rows), centre(target)
    left = target - rows @ np.linalg.lstsq(rows, target, rcond=None)[0]
    assert aligned._unexplained(x, y, 1, 56, 3, 1) == pytest.approx((left @ left) / (target @ target), abs=1e-5)


@pytest.mark.parametrize("axes", [2, 3])
def test_register_finds_shift_and_zoom(axes: int) -> None:
    rng = np.random.default_rng(5)
    size = {2: 48, 3: 20}[axes]
    one = ndimage.gaussian_filter(rng.standard_normal((1, *(size,) * axes)), [0, *(2.5,) * axes])
    scale, offset = np.array([1.04, 0.97, 1.0])[:axes], np.array([-1.3, 1.1, 0.4])[:axes]
    # The second shows at scale * x + offset what the first shows at x.
    grid = np.stack(np.meshgrid(*(np.arange(size),) * axes, indexing="ij"))
    back = (grid - offset.reshape(-1, *(1,) * axes)) / scale.reshape(-1, *(1,) * axes)
    other = 3 * ndimage.map_coordinates(one[0], back, order=3, mode="nearest")[None] + 7
    fit = aligned.register(one, other, scale=np.ones(axes), offset=np.zeros(axes))
    assert fit.correlation > 0.998
    assert fit.scale == pytest.approx(scale, abs=0.01)
    assert fit.offset == pytest.approx(offset, abs=0.2)
    noise = ndimage.gaussian_filter(rng.standard_normal(one.shape), [0, *(2.5,) * axes])
    assert aligned.register(one, noise, scale=np.ones(axes), offset=np.zeros(axes)).correlation < 0.9


def test_register_forgives_a_letter() -> None:
    rng = np.random.default_rng(6)
    one = ndimage.gaussian_filter(rng.standard_normal((2, 48, 48)), (0, 2, 2))
    other = one.copy()
    other[:, 8:16, 8:20] += 1
    start = {"scale": np.ones(2), "offset": np.zeros(2)}
    assert aligned.register(one, other, **start).correlation > 0.999
    assert aligned.register(one, other, **start, trim=0).correlation < 0.9
