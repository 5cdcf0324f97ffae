"""Random convolutions whose quantiles come from training windows alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from medssl.evaluate.baselines.rocket import minirocket


def store_of(samples: np.ndarray) -> Any:
    return SimpleNamespace(read=lambda rows: samples[rows], facts={"shape": list(samples.shape[1:])})


@pytest.mark.parametrize("channels", [1, 3])
def test_features(channels: int) -> None:
    samples = np.random.default_rng(0).standard_normal((12, channels, 60)).astype(np.float32)
    features = minirocket(store_of(samples), np.arange(6), 0)
    whole = features(np.arange(12))
    assert (whole.shape, whole.dtype) == ((12, 9996), np.float32)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert np.array_equal(whole[[7, 2]], features(np.array([7, 2])))  # a window stands alone
    again = minirocket(store_of(samples), np.arange(6), 0)
    assert np.array_equal(again(np.arange(12)), whole)
    assert not np.array_equal(minirocket(store_of(samples), np.arange(6), 1)(np.arange(12)), whole)


def test_only_training_windows_are_fitted_on() -> None:
    samples = np.random.default_rng(0).standard_normal((12, 2, 60)).astype(np.float32)
    before = minirocket(store_of(samples), np.arange(6), 0)(np.arange(6))
    samples[6:] += 100
    assert np.array_equal(minirocket(store_of(samples), np.arange(6), 0)(np.arange(6)), before)
    samples[:6] += 100
    assert not np.array_equal(minirocket(store_of(samples), np.arange(6), 0)(np.arange(6)), before)


def test_short_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="windows of 8 steps; MiniRocket needs 9"):
        minirocket(store_of(np.zeros((4, 1, 8), np.float32)), np.arange(4), 0)
