"""Recordings in time to samples: channels, unit, resampling, filter, windows, scale.

Letters: C channels, T time steps of the recording, W time steps of a window, N windows.
The same `prepare` serves ingest and the encoder's input contract, so both see equal samples.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy import signal as dsp

from medssl.sources.claims import VOLTS
from medssl.sources.record import BadRecord, Signal

# Each unit in terms of the first of its family.
UNITS = {**{name: ("V", factor) for name, factor in VOLTS.items()}, "1": ("1", 1.0)}


def pick_channels(signal: Signal, channels: tuple[str, ...]) -> np.ndarray:
    """Return the rows of ``signal`` in the order of ``channels`` (names compared without case).

    Raises:
        BadRecord: ``missing_channel``. A missing channel is never filled with zeros.
    """
    have = {name.lower(): i for i, name in reversed(list(enumerate(signal.channels)))}
    missing = [c for c in channels if c.lower() not in have]
    if missing:
        raise BadRecord("missing_channel", f"channels {missing} are absent; needed: {list(channels)}")
    return signal.values[[have[c.lower()] for c in channels]]


def convert(values: np.ndarray, unit: str, target: str) -> np.ndarray:
    """Return ``values`` in ``target`` units.

    Raises:
        BadRecord: ``bad_unit`` when the two do not measure the same thing.
    """
    if unit == target:
        return values
    if unit not in UNITS or target not in UNITS or UNITS[unit][0] != UNITS[target][0]:
        raise BadRecord("bad_unit", f"cannot express '{unit[:8]}' in '{target}'; known: {', '.join(UNITS)}")
    return values * np.float32(UNITS[unit][1] / UNITS[target][1])


def fill_missing(values: np.ndarray, max_missing: float) -> np.ndarray:
    """Return ``values`` (C, T) with NaN interpolated linearly within each channel.

    Raises:
        BadRecord: ``missing_values`` when a channel lacks more than the share ``max_missing``.
    """
    absent = ~np.isfinite(values)
    worst = float(absent.mean(axis=1).max()) if values.size else 1.0
    if worst > max_missing:
        raise BadRecord("missing_values", f"{worst:.0%} of a channel is missing; allowed {max_missing:.0%}")
    if worst == 0:
        return values
    values = values.copy()
    steps = np.arange(values.shape[1])
    for c in np.flatnonzero(absent.any(axis=1)):
        values[c, absent[c]] = np.interp(steps[absent[c]], steps[~absent[c]], values[c, ~absent[c]])
    return values


def check_rate(rate_hz: float) -> None:
    """Refuse a sampling rate that is no positive number."""
    if not np.isfinite(rate_hz) or rate_hz <= 0:
        raise BadRecord("no_rate", f"rate_hz is {rate_hz:g}; expected a positive number")


def resample(values: np.ndarray, rate_hz: float, target_hz: float) -> np.ndarray:
    """Return ``values`` (C, T) at ``target_hz`` by a polyphase anti-alias filter."""
    check_rate(rate_hz)
    if abs(rate_hz - target_hz) < 1e-6:
        return values
    ratio = Fraction(target_hz / rate_hz).limit_denominator(1000)
    return dsp.resample_poly(values, ratio.numerator, ratio.denominator, axis=1, padtype="line").astype(np.float32)


def band_pass(values: np.ndarray, rate_hz: float, band_hz: tuple[float, float]) -> np.ndarray:
    """Return ``values`` (C, T) after a zero-phase Butterworth band-pass of order 3 in each direction."""
    sos = dsp.butter(3, band_hz, btype="band", fs=rate_hz, output="sos")
    pad = min(values.shape[1] - 1, int(3 * rate_hz / band_hz[0]))
    return dsp.sosfiltfilt(sos, values, axis=1, padlen=pad).astype(np.float32)


def scale(windows: np.ndarray, normalise: str) -> np.ndarray:
    """Return windows (N, C, W) centred per channel and scaled.

    ``sample`` divides by the standard deviation over all channels, which keeps the ratio between leads;
    ``channel`` divides each channel by its own; ``none`` leaves values and units as they are.
    """
    if normalise == "none":
        return windows
    centred = windows - windows.mean(axis=2, keepdims=True)
    axes = (1, 2) if normalise == "sample" else (2,)
    spread = np.sqrt(np.square(centred).mean(axis=axes, keepdims=True))
    return (centred / np.maximum(spread, 1e-6)).astype(np.float32)


def prepare(
    signal: Signal,
    *,
    rate_hz: float,
    channels: tuple[str, ...],
    unit: str,
    window_s: float,
    overlap: float = 0.0,
    band_hz: tuple[float, float] | None = None,
    max_missing: float = 0.05,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a recording into windows.

    Returns:
        Windows float32 (N, C, W) in ``unit`` before scaling, and their start times in seconds (N,).

    Raises:
        BadRecord: ``missing_channel``, ``bad_unit``, ``missing_values``, ``no_rate`` or ``too_short``.
    """
    length = round(window_s * rate_hz)
    check_rate(signal.rate_hz)
    if signal.values.shape[1] < 2 or signal.values.shape[1] / signal.rate_hz < window_s - 1 / signal.rate_hz:
        raise BadRecord(
            "too_short", f"{signal.values.shape[1] / signal.rate_hz:.2f} s long; one window needs {window_s:g} s"
        )
    values = convert(pick_channels(signal, channels), signal.unit, unit)
    values = resample(fill_missing(values, max_missing), signal.rate_hz, rate_hz)
    if band_hz is not None:
        values = band_pass(values, rate_hz, band_hz)
    if values.shape[1] < length:  # rounding of the two rates may cost a step
        values = np.pad(values, ((0, 0), (0, length - values.shape[1])), mode="edge")
    step = max(1, round(length * (1 - overlap)))
    starts = np.arange(0, values.shape[1] - length + 1, step)
    windows = np.lib.stride_tricks.sliding_window_view(values, length, axis=1)[:, starts]
    return np.ascontiguousarray(windows.transpose(1, 0, 2), dtype=np.float32), starts / rate_hz


def flat_share(
    signal: Signal, channels: tuple[str, ...], starts: np.ndarray, *, rate_hz: float, window_s: float
) -> np.ndarray:
    """Return the share of steps (N,) that do not change, in the worst channel of each window of a recording.

    It looks at the recording itself: a filter turns the constant of a dead lead into noise. Steps are those of the
    target rate, by linear interpolation, so that a slow signal in coarse digits is not called flat at a high rate.
    """
    values = pick_channels(signal, channels)
    position = np.arange(int(values.shape[1] / signal.rate_hz * rate_hz)) * (signal.rate_hz / rate_hz)
    even = np.stack([np.interp(position, np.arange(values.shape[1]), row) for row in values])
    largest = np.max(np.abs(even), axis=1, keepdims=True, where=np.isfinite(even), initial=0.0)
    still = np.abs(np.diff(even, axis=1)) <= 1e-6 * (1e-12 + largest)
    length = round(window_s * rate_hz) - 1
    first = np.rint(starts * rate_hz).astype(int)
    return np.array([still[:, i : i + length].mean(1).max() for i in first])
