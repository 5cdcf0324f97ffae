"""EEG hashes: what stays and what does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal as dsp

from medssl.curate import bands, signal_hash


def eeg(seconds: float, seed: int = 0, rate_hz: float = 125) -> np.ndarray:
    """Return four channels of noise with a spectrum like that of an EEG, in volts."""
    rng = np.random.default_rng(seed)
    white = np.fft.rfft(rng.standard_normal((4, round(seconds * 125))), axis=1)
    hz = np.fft.rfftfreq(round(seconds * 125), 1 / 125)
    x = np.fft.irfft(white * (hz > 0.5) * (hz < 45) / np.maximum(hz, 1), axis=1)
    return 1e-5 * dsp.resample(x, round(seconds * rate_hz), axis=1)


def hashed(x: np.ndarray, rate_hz: float = 125) -> np.ndarray:
    return signal_hash.signal_hash(x, rate_hz=rate_hz, modality="eeg")


@pytest.mark.parametrize("seconds", [2, 10, 60])
def test_bits(seconds: float) -> None:
    x, rng = eeg(seconds), np.random.default_rng(1)
    first, spread = hashed(x), x.std(axis=1, keepdims=True)
    radius = signal_hash.radius(len(first), "eeg")
    assert len(first) == 4 * 20 + 2 and not first[-2:].any()
    assert np.array_equal(first, hashed(1e6 * x + 30))
    many = [
        x + 0.1 * spread * rng.standard_normal(x.shape),
        np.round(x / np.abs(x).max() * 127),
        eeg(seconds, seed=1),
        eeg(seconds, seed=2),
    ]
    apart = signal_hash.distance(first, np.stack([hashed(y) for y in many]))
    assert apart[:2].max() <= radius < apart[2:].min()
    assert signal_hash.distance(first, hashed(eeg(seconds, rate_hz=250), 250)[None])[0] <= radius // 4


def test_a_burst_raises_its_band() -> None:
    t = np.arange(10 * 125) / 125
    x = np.sin(2 * np.pi * 6 * t) + np.sin(2 * np.pi * 10 * t) * np.exp(-((t - 5) ** 2) / 2)
    power = bands.power(x[None], 125)
    assert power.shape == (1, 5, 33)
    assert np.argmax(power[0, 2]) == 16  # alpha, in the middle
    assert np.ptp(np.log(power[0, 1])) < 0.1 < 1 < np.ptp(np.log(power[0, 2]))
    rise = np.unpackbits(bands.bits(x[None], 125)).reshape(5, 32)
    assert rise[2, 7:16].all() and not rise[2, 16:25].any()


@pytest.mark.parametrize("seconds", [10, 60])
def test_every_second_counts(seconds: int) -> None:
    x = eeg(seconds)
    whole = np.log(bands.power(x, 125))
    for start in range(61, seconds * 125 - 121, 61):
        louder = x.copy()
        louder[:, start : start + 60] *= 2
        assert np.abs(np.log(bands.power(louder, 125)) - whole).max() > 0.05


def test_a_band_without_power() -> None:
    """What a low-pass leaves of it is rounding; its bits alone make no other window."""
    x = dsp.sosfiltfilt(dsp.butter(8, 20, fs=125, output="sos"), eeg(10), axis=1)
    coarse = np.round(x / np.abs(x).max() * 127)
    assert signal_hash.distance(hashed(x), hashed(coarse)[None])[0] <= signal_hash.radius(82, "eeg")


def test_drift() -> None:
    x = eeg(10)
    drift = 3 * x.std() * np.sin(2 * np.pi * 0.05 * np.arange(1250) / 125)
    assert signal_hash.distance(hashed(x), hashed(x + drift)[None])[0] <= 20


def test_bands_beyond_the_rate() -> None:
    power = bands.power(eeg(10, rate_hz=50), 50)
    assert not power[:, 4].any() and power[:, :4].all()


def test_short_window() -> None:
    """Below a second all frames are one, and nothing rises."""
    assert not hashed(eeg(1)).any()
