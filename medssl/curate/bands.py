"""Bits of how the power of an EEG moves from frame to frame: a difference hash of its spectrogram."""

from __future__ import annotations

import numpy as np

from medssl.ingest.signals import check_rate

FRAMES = 33  # 32 differences
BANDS_HZ = ((1, 4), (4, 8), (8, 13), (13, 30), (30, 45))  # delta to gamma; upper ends excluded
FLOOR = 0.01  # of a channel's power: what a band lacks below it is noise


def log_power(x: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return the log power of five bands in 33 frames, float64 (C, 5, 33), up to a constant.

    The frames are as long as a second, or a 33rd of the window if that is more, and evenly spaced from its start to
    its end: they overlap in windows below 33 s. Bands beyond half the rate are constant.
    """
    check_rate(rate_hz)
    length = min(x.shape[1], round(rate_hz * max(1, x.shape[1] / rate_hz / FRAMES)))
    starts = np.rint(np.linspace(0, x.shape[1] - length, FRAMES)).astype(int)
    frames = np.lib.stride_tricks.sliding_window_view(x, length, axis=1)[:, starts]
    frames = (frames - frames.mean(axis=2, keepdims=True)) * np.hanning(length + 2)[1:-1]
    power = np.square(np.abs(np.fft.rfft(frames, axis=2)))
    hz = np.fft.rfftfreq(length, 1 / rate_hz)
    band = np.stack([power[:, :, (hz >= low) & (hz < high)].sum(axis=2) for low, high in BANDS_HZ], axis=1)
    floor = FLOOR * band.sum(axis=1).mean(axis=1)[:, None, None]
    return np.log(band + np.where(floor > 0, floor, 1))


def band_bits(x: np.ndarray, rate_hz: float, *, dead_zone: float = 0.03) -> np.ndarray:
    """Return 4 bytes for each band of each channel, uint8 (C * 20,): bits where the log power rises.

    Args:
        x: (C, T), finite, any unit.
        rate_hz: sampling rate.
        dead_zone: share of the range of a band that a rise must exceed.
    """
    curve = log_power(x, rate_hz)
    rise = np.diff(curve, axis=2) > dead_zone * np.ptp(curve, axis=2, keepdims=True)
    return np.packbits(rise, axis=2).ravel()
