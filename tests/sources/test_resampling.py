"""The change of rate by matrix products against SciPy's upfirdn and against the sum that defines it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import signal as dsp

from medssl.sources import resampling
from medssl.sources.resampling import REACH, anti_alias, polyphase

# Whole numbers, fractions, nearly one, far apart either way, and more phases than one matrix holds.
RATIOS = [(1, 5), (2, 5), (5, 2), (3, 1), (5, 18), (25, 64), (999, 1000), (1000, 999), (1, 300), (300, 1), (4001, 4000)]


def noise(steps: int, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(steps).standard_normal((channels, steps)).astype(np.float32)


def without_line(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a channel without its least-squares line, and the line's coefficients."""
    line = np.polyfit(np.arange(len(x)), x.astype(np.float64), 1) if len(x) > 1 else np.array([0.0, x[0]])
    return x - np.polyval(line, np.arange(len(x))), line


def plain(x: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return one channel by the sum over all inputs, ends held."""
    taps = up * anti_alias(max(up, down))
    half = len(taps) // 2
    rest, line = without_line(x)
    out = []
    for n in range(-(-len(x) * up // down)):
        k = np.arange(-((half - n * down) // up), (n * down + half) // up + 1)
        out.append(rest[k.clip(0, len(x) - 1)] @ taps[n * down - k * up + half])
    return np.array(out) + np.polyval(line, np.arange(len(out)) * down / up)


@pytest.mark.parametrize(("up", "down"), RATIOS)
@pytest.mark.parametrize("steps", [1, 2, 7, 700])
def test_it_is_the_sum_that_defines_it(up: int, down: int, steps: int) -> None:
    x = noise(steps)
    found = polyphase(x, up, down)
    expected = np.stack([plain(row, up, down) for row in x])
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize(("up", "down"), RATIOS[:6])
def test_scipy_gives_the_same_inside(up: int, down: int) -> None:
    x = np.stack([without_line(row)[0] for row in noise(4000)])
    other = dsp.resample_poly(x, up, down, axis=1, window=anti_alias(max(up, down)), padtype="line")
    inner = slice((REACH * max(up, down)) // down + 1, -(REACH * max(up, down)) // down - 1)
    np.testing.assert_allclose(polyphase(x, up, down)[:, inner], other[:, inner], atol=2e-5)


@pytest.mark.parametrize(("up", "down"), RATIOS)
def test_what_is_filtered_at_once_changes_nothing(up: int, down: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = polyphase(noise(3000), up, down)
    monkeypatch.setattr(resampling, "AT_ONCE", 1)
    np.testing.assert_allclose(polyphase(noise(3000), up, down), whole, atol=5e-6)


def test_a_ratio_of_one_changes_nothing() -> None:
    x = noise(200)
    assert np.array_equal(polyphase(x, 1, 1), x)


def test_a_channel_does_not_depend_on_its_neighbours() -> None:
    x = noise(3000, channels=5)
    together = polyphase(x, 2, 5)
    np.testing.assert_allclose(np.concatenate([polyphase(row[None], 2, 5) for row in x]), together, atol=5e-6)


def test_matrices_stay_small_at_any_ratio() -> None:
    for up, down in [(1, 10_000), (10_000, 1), (9_999, 10_000), (10_000, 9_999), (1, 1_000), (1_000, 1)]:
        assert resampling._matrices(up, down)[0].nbytes < 2**25


def test_a_store_has_the_same_bits_on_every_processor() -> None:
    code = (
        "import numpy as np; from medssl.sources.resampling import polyphase; import hashlib;"
        "x = np.random.default_rng(0).standard_normal((12, 5000)).cumsum(1).astype(np.float32);"
        "print(hashlib.sha256(polyphase(x, 1, 5).tobytes()).hexdigest())"
    )
    # Of OpenBLAS, kernels of a processor without AVX; elsewhere the variable does nothing.
    printed = {
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **more}, capture_output=True, check=True).stdout
        for more in ({}, {"OPENBLAS_CORETYPE": "Nehalem"})
    }
    assert len(printed) == 1
