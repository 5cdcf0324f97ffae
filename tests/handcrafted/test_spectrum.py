"""Moments and band powers of windows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import skew

from medssl.handcrafted import spectrum


def test_a_window_stands_alone() -> None:
    samples = np.random.default_rng(0).random((37, 2, 250), dtype=np.float32)
    whole = spectrum.features(samples)
    for size in (1, 5, 36):
        parts = [spectrum.features(samples[i : i + size]) for i in range(0, 37, size)]
        assert (np.concatenate(parts) == whole).all()


def test_values() -> None:
    samples = np.random.default_rng(0).standard_normal((5, 2, 1000)) ** 3
    got = spectrum.features(samples)
    assert got.shape == (5, 2 * 4 + 2 * 8)
    centred = samples - samples.mean(2, keepdims=True)
    expected = [samples.std(2), skew(samples, axis=2), centred.max(2), centred.min(2)]
    assert got[:, :8] == pytest.approx(np.concatenate(expected, axis=1))
    time = np.arange(1000) / 1000
    slow, fast = (spectrum.features(np.sin(2 * np.pi * f * time)[None, None])[0, 4:].argmax() for f in (1, 400))
    assert (slow, fast) == (0, 7)
