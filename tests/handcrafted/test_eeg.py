"""Oscillations of known frequency, covariances of known mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.linalg import logm, sqrtm

from medssl.handcrafted import eeg

RATE = 128.0
CHANNELS = ("F3", "F4", "T7", "T8")


def oscillation(frequency: float, gains: tuple[float, ...] = (1, 1, 1, 1), n: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    time = np.arange(round(4 * RATE)) / RATE
    wave = np.sin(2 * np.pi * frequency * time)
    return np.array(gains)[None, :, None] * wave + 1e-3 * rng.standard_normal((n, 4, len(time)))


@pytest.mark.parametrize(("band", "frequency"), [(0, 2.0), (1, 6.0), (2, 10.0), (3, 20.0), (4, 40.0)])
def test_power_lies_in_its_band(band: int, frequency: float) -> None:
    got = eeg.features(oscillation(frequency), RATE, CHANNELS)
    absolute = got[:, : 4 * 5].reshape(2, 4, 5)
    relative = np.exp(got[:, 20:40].reshape(2, 4, 5))
    assert (absolute.argmax(axis=2) == band).all()
    assert relative[..., band].min() > 0.95
    assert relative.sum(axis=2) == pytest.approx(np.ones((2, 4)))


def test_peak_and_asymmetry() -> None:
    got = eeg.features(oscillation(10.5, (1, 3, 2, 2)), RATE, CHANNELS)
    assert got[:, 44:48] == pytest.approx(np.full((2, 4), 10.5))
    # Hjorth's mobility of a sine is its angular frequency a step, its complexity 1.
    hjorth = got[:, 48:56].reshape(2, 4, 2)
    assert hjorth[..., 0] == pytest.approx(np.full((2, 4), 2 * np.sin(np.pi * 10.5 / RATE)), rel=0.01)
    assert hjorth[..., 1] == pytest.approx(np.ones((2, 4)), rel=0.05)
    pairs = got[:, 56:].reshape(2, 2, 5)  # F3 F4, then T7 T8
    assert pairs[:, 0, 2] == pytest.approx(np.full(2, np.log(9)), abs=0.01)
    assert pairs[:, 1, 2] == pytest.approx(np.zeros(2), abs=0.01)


def test_a_slow_rate_has_fewer_bands() -> None:
    assert (
        eeg.features(oscillation(2.0)[:, :, :64], 16.0, CHANNELS).shape[1]
        < eeg.features(oscillation(2.0), RATE, CHANNELS).shape[1]
    )
    assert np.isfinite(eeg.features(np.zeros((1, 1, 30)), 6.0, ("Cz",))).all()


def store_of(samples: np.ndarray) -> Any:
    return SimpleNamespace(read=lambda rows: samples[rows])


def test_tangent_space_like_its_formula() -> None:
    """At the Riemannian mean: upper triangle of log(M^-1/2 C M^-1/2), off-diagonals by sqrt(2)."""
    rng = np.random.default_rng(1)
    samples = rng.standard_normal((40, 3, 200)) * np.exp(0.3 * rng.standard_normal((40, 3, 1)))
    samples[:, 1] += 0.5 * samples[:, 0]
    got = eeg.tangent(store_of(samples), np.arange(30), 0)(np.arange(40))
    assert got.shape == (40, 6)
    covariances = eeg.Covariances("lwf").transform(samples)
    mean = covariances[:30].mean(axis=0)
    for _ in range(50):  # the fixed point whose mean logarithm is 0
        root = sqrtm(mean)
        back = np.linalg.inv(root)
        step = np.mean([logm(back @ c @ back) for c in covariances[:30]], axis=0)
        mean = root @ (np.eye(3) + step + step @ step / 2) @ root
    back = np.linalg.inv(sqrtm(mean))
    rows, columns = np.triu_indices(3)
    weight = np.where(rows == columns, 1, np.sqrt(2))
    slow = np.array([logm(back @ c @ back)[rows, columns] * weight for c in covariances])
    assert got == pytest.approx(slow, abs=1e-4)
    assert got[:30].mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-4)


def test_only_training_windows_make_the_mean() -> None:
    rng = np.random.default_rng(2)
    samples = rng.standard_normal((20, 2, 100))
    before = eeg.tangent(store_of(samples), np.arange(10), 0)(np.arange(10))
    samples[10:] *= 9
    assert np.array_equal(eeg.tangent(store_of(samples), np.arange(10), 0)(np.arange(10)), before)


def test_a_flat_window_has_finite_features() -> None:
    samples = np.random.default_rng(2).standard_normal((20, 2, 100))
    samples[3] = 0
    samples[4, 1] = 0
    assert np.isfinite(eeg.tangent(store_of(samples), np.arange(20), 0)(np.arange(20))).all()
