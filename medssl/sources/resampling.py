"""A change of sampling rate by a ratio of whole numbers, for channels of a file and for whole recordings."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import signal as dsp

STOP_DB = 72.0  # the anti-alias filter's stop band, which begins at the lower of the two Nyquist frequencies
PASS_SHARE = 0.85  # and the share of that frequency which it leaves as it is
REACH = 31  # samples of the slower rate that the filter looks to either side


@lru_cache(maxsize=32)
def _anti_alias(factor: int) -> np.ndarray:
    """Return the taps of the low-pass for a change of rate, at ``factor`` times the lower of the two rates.

    Source: Kaiser's formulas for width and attenuation (Oppenheim & Schafer, Discrete-Time Signal Processing, 7.6).
    """
    half = int(np.ceil((STOP_DB - 7.95) / (2.285 * np.pi * (1 - PASS_SHARE)) * factor / 2))
    window = ("kaiser", dsp.kaiser_beta(STOP_DB))
    taps = dsp.firwin(2 * half + 1, (1 + PASS_SHARE) / 2 / factor, window=window).astype(np.float32)
    taps.flags.writeable = False
    return np.asarray(taps)


def polyphase(values: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return ``values`` (C, T), finite, at ``up / down`` times their rate (in lowest terms), float32.

    What lies above the lower of the two Nyquist frequencies is 72 dB down; below 0.85 of it nothing changes. Each
    channel's straight line (least squares) is set aside meanwhile: the phases of such a filter differ by their share of
    the stop band, which on a large offset is a ringing as loud as a small signal. Sample 0 stays where it is.
    """
    steps = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    lines = [(row.mean(dtype=np.float64), row @ steps / max(float(steps @ steps), 1.0)) for row in values]
    centred = np.empty(values.shape, dtype=np.float32)
    for row, rest, (mean, slope) in zip(values, centred, lines, strict=True):
        rest[:] = row - (mean + slope * steps)
    out = dsp.resample_poly(centred, up, down, axis=1, window=_anti_alias(max(up, down)), padtype="line")
    place = np.arange(out.shape[1]) * (down / up) + steps[0]
    for row, (mean, slope) in zip(out, lines, strict=True):
        row += mean + slope * place
    return np.asarray(out, dtype=np.float32)
