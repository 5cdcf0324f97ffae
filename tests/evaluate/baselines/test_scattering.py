"""Features of the scattering baseline."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.evaluate.baselines import scattering


@pytest.mark.parametrize(
    ("shape", "scales", "planes"), [((64, 64), 4, 1), ((24, 20), 2, 1), ((8, 9), 1, 1), ((32, 40, 36), 3, 3)]
)
def test_features(shape: tuple[int, ...], scales: int, planes: int) -> None:
    samples = np.random.default_rng(0).random((5, 1, *shape), dtype=np.float32)
    samples[1] = 0
    got = scattering.features(samples)
    each = 1 + 6 * scales + 36 * scales * (scales - 1) // 2
    assert got.shape == (5, each * planes)
    assert np.isfinite(got).all()
    assert got[2:3] == pytest.approx(scattering.features(samples[2:3]), abs=1e-4)
