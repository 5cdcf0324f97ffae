"""A change of sampling rate by a ratio of whole numbers, for channels of a file and for whole recordings."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

STOP_DB = 72.0  # the anti-alias filter's stop band, which begins at the lower of the two Nyquist frequencies
PASS_SHARE = 0.85  # and the share of that frequency which it leaves as it is
REACH = 31  # samples of the slower rate that the filter looks to either side
MATRIX = 2**20  # elements of the filter's matrix, beyond which it has fewer columns
AT_ONCE = 2**17  # values of the recording that are filtered at once, which the processor's cache holds


def anti_alias(factor: int) -> np.ndarray:
    """Return the taps (odd number, sum 1) of the low-pass for a change of rate, at ``factor`` times the lower rate.

    Source: Kaiser's formulas for width and attenuation (Oppenheim & Schafer, Discrete-Time Signal Processing, 7.6).
    """
    from scipy import signal as dsp  # takes a second, which readers need only where rates change

    half = int(np.ceil((STOP_DB - 7.95) / (2.285 * np.pi * (1 - PASS_SHARE)) * factor / 2))
    window = ("kaiser", dsp.kaiser_beta(STOP_DB))
    return np.asarray(dsp.firwin(2 * half + 1, (1 + PASS_SHARE) / 2 / factor, window=window))


@lru_cache(maxsize=8)
def _matrices(up: int, down: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return the filter as matrices, the first input of each, and the outputs and inputs after which all repeats.

    Matrix b of (B, K, N) gives N outputs of K inputs, as many again as the filter is long: then half of the products
    are with zeros, which costs a matrix product less than it gains.
    """
    taps = up * anti_alias(max(up, down))
    half = len(taps) // 2
    reach = half // up + 1
    columns = max(1, min(2 * reach * up // down, MATRIX // (2 * reach)))
    repeats = -(-columns // up)
    outputs = repeats * up
    blocks = max(1, outputs // columns)
    columns = -(-outputs // blocks)
    n = np.arange(blocks * columns).reshape(blocks, 1, columns)
    first = n[:, :, :1] * down // up - reach
    k = first + np.arange(2 * reach + (columns - 1) * down // up + 2)[None, :, None]
    at = n * down - k * up + half
    filled = np.where((at >= 0) & (at < len(taps)), taps[np.clip(at, 0, len(taps) - 1)], 0.0)
    filled.flags.writeable = False
    return filled, first.ravel(), outputs, repeats * down


def polyphase(values: np.ndarray, up: int, down: int) -> np.ndarray:
    """Return ``values`` (C, T), finite, at ``up / down`` times their rate, float32.

    What lies above the lower of the two Nyquist frequencies is 72 dB down; below 0.85 of it nothing changes. Each
    channel's straight line (least squares) is set aside meanwhile: the phases of such a filter differ by their share of
    the stop band, which on a large offset is a ringing as loud as a small signal. Sample 0 stays where it is; before
    and after the recording the line goes on, with the first and last distance from it.

    The filter is a matrix product with stretches of the recording, several times faster than `scipy.signal.
    resample_poly`, which with ``padtype="edge"`` gives the same. It is taken in float64: the order of its sums depends
    on the processor, and in float32 so would the bits of a store.
    """
    if up == down:
        return np.asarray(values, dtype=np.float32)
    up, down = up // math.gcd(up, down), down // math.gcd(up, down)
    filters, first, outputs, inputs = _matrices(up, down)
    blocks, taps, columns = filters.shape
    steps, left = values.shape[1], -int(first[0])
    length = -(-steps * up // down)
    periods = -(-length // outputs)

    place = np.arange(steps) - (steps - 1) / 2
    spread = max((place * place).sum(), 0.5)
    lines = [(row.mean(dtype=np.float64), (row * place).sum() / spread) for row in values]
    padded = np.empty((len(values), left + (periods - 1) * inputs + int(first[-1]) + taps), dtype=np.float32)
    inner = padded[:, left : left + steps]
    for row, rest, (mean, slope) in zip(values, inner, lines, strict=True):
        rest[:] = row - (mean + slope * place)
    padded[:, :left], padded[:, left + steps :] = inner[:, :1], inner[:, -1:]

    stretches = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=1)
    starts = (left + first)[:, None] + inputs * np.arange(periods)
    out = np.empty((len(values), periods, blocks * columns), dtype=np.float32)
    at_once = max(1, AT_ONCE // (len(values) * blocks * taps))
    for i in range(0, periods, at_once):
        part = stretches[:, starts[:, i : i + at_once]].astype(np.float64) @ filters  # (C, B, P, N)
        out[:, i : i + at_once] = part.swapaxes(1, 2).reshape(len(values), -1, blocks * columns)
    result = out[:, :, :outputs].reshape(len(values), -1)[:, :length]
    place = np.arange(length) * (down / up) + place[0]
    for row, (mean, slope) in zip(result, lines, strict=True):
        row += mean + slope * place
    return result
