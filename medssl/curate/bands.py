"""Bits of how the power of an EEG moves from frame to frame: a difference hash of its spectrogram.

Copies agree at another gain, rate or resolution, but not windows that begin elsewhere: an EEG has no event to align
them by. Overlapping windows of one record are found by their times (table columns), or by correlation over lags.
"""

from __future__ import annotations

import numpy as np

from medssl.ingest.signals import check_rate

FRAMES = 33  # 32 differences
BANDS_HZ = ((1, 4), (4, 8), (8, 13), (13, 30), (30, 45))  # delta to gamma; upper ends excluded


def power(x: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return the power of five bands in 33 frames, float64 (C, 5, 33), up to a factor.

    The frames are a second long, and evenly spaced from the window's start to its end: below 33 s they overlap. In
    windows above 16 s they are two 33rds of it instead, so that every moment lies well inside a frame. Bands beyond
    half the rate have no power.
    """
    check_rate(rate_hz)
    length = min(x.shape[1], max(round(rate_hz), round(2 * x.shape[1] / FRAMES)))
    starts = np.rint(np.linspace(0, x.shape[1] - length, FRAMES)).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(x, length, axis=1)[:, starts]
    frames = (frames - frames.mean(axis=2, keepdims=True)) * np.hanning(length + 2)[1:-1]
    spectrum = np.square(np.abs(np.fft.rfft(frames, axis=2)))
    hz = np.fft.rfftfreq(length, 1 / rate_hz)
    return np.stack([spectrum[:, :, (hz >= low) & (hz < high)].sum(axis=2) for low, high in BANDS_HZ], axis=1)


def bits(x: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return 4 bytes for each band of each channel of ``x`` (C, T), uint8 (C * 20,): bits where the (log) power rises.

    Plain signs, without a dead zone: unlike a beat, a band's power has no flat stretches. Only a band that a filter
    emptied has the bits of the noise in it, a fifth of all at most.

    Raises:
        BadRecord: ``no_rate``.
    """
    return np.packbits(np.diff(power(x, rate_hz), axis=2) > 0, axis=2).ravel()
