"""Recordings in time to samples: unit, notch, resampling, filter, windows, scale.

Letters: C channels, T time steps of the recording, W time steps of a window, N windows. Nothing here refuses a window:
`medssl.ingest.cut` does, for ingest and for encoders alike.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from scipy import signal as dsp

from medssl.ingest import beats
from medssl.ingest.channels import pick_channels
from medssl.sources.claims import VOLTS
from medssl.sources.record import BadRecord, Signal
from medssl.sources.resampling import polyphase

# Each unit in terms of the first of its family.
UNITS = {**{name: ("V", factor) for name, factor in VOLTS.items()}, "1": ("1", 1.0)}

MAX_VALUE = 1e12  # in the unit of the samples. Counts of 32 bits are smaller, and its spectrum still fits float32
SHORT = 0.005  # share of a window that may be absent at its end: clocks of devices and rounded rates cost some samples
NOTCH_WIDTH_HZ = 2.0  # between the -3 dB points of one pass
IN_UNITS = ("none", "cohort")  # what `scale` can be asked for that leaves values in their unit
LEAST = 1e-6  # of a number that windows are divided by: a flat one stays flat


def convert(values: np.ndarray, unit: str, target: str) -> np.ndarray:
    """Return ``values`` in ``target`` units.

    Raises:
        BadRecord: ``bad_unit`` when the two do not measure the same thing.
    """
    if unit == target:
        return values
    if unit not in UNITS or target not in UNITS or UNITS[unit][0] != UNITS[target][0]:
        fix = f"give the recording's unit (column unit): {', '.join(UNITS)}"
        raise BadRecord("bad_unit", f"cannot express '{unit[:8]}' in '{target}'; {fix}")
    return values * np.float32(UNITS[unit][1] / UNITS[target][1])


def check_size(values: np.ndarray, unit: str, target: str) -> None:
    """Refuse ``values`` in ``unit`` of which one exceeds `MAX_VALUE` in ``target``: flipped bits, no recording."""
    factor = UNITS[unit][1] / UNITS[target][1] if unit in UNITS and target in UNITS else 1.0
    if float(largest(values).max(initial=0.0)) * factor > MAX_VALUE:
        raise BadRecord("unreadable", f"holds values of more than {MAX_VALUE:g} {target}; the file may be damaged")


def largest(values: np.ndarray) -> np.ndarray:
    """Return the largest finite size of a value in each channel of ``values`` (C, T), (C, 1); 0 where there is none."""
    if values.size:
        size = np.maximum(values.max(axis=1, keepdims=True), -values.min(axis=1, keepdims=True))
        if np.isfinite(size).all():  # the usual case, without an array of sizes
            return np.asarray(size)
    return np.asarray(np.max(np.abs(values), axis=1, keepdims=True, where=np.isfinite(values), initial=0.0))


def fill_missing(values: np.ndarray) -> np.ndarray:
    """Return ``values`` (C, T) with NaN interpolated linearly within each channel.

    Raises:
        BadRecord: ``missing_values`` when a channel has no value.
    """
    absent = ~np.isfinite(values)
    if absent.all(axis=1).any():
        raise BadRecord("missing_values", "100% of a channel is missing")
    if not absent.any():
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
    """Return ``values`` (C, T) at ``target_hz``, float32; see `medssl.sources.resampling.polyphase`.

    Raises:
        BadRecord: ``no_rate`` where a rate is none, or a thousandfold of the other.
    """
    check_rate(rate_hz)
    if abs(rate_hz - target_hz) < 1e-6:
        return values
    if not 1e-3 <= target_hz / rate_hz <= 1e3:
        far = f"more than a factor of 1000 lies between it and {target_hz:g}"
        raise BadRecord("no_rate", f"rate_hz is {rate_hz:g}; {far}")
    ratio = Fraction(target_hz / rate_hz).limit_denominator(1000)
    return polyphase(values, ratio.numerator, ratio.denominator)


def notch(values: np.ndarray, rate_hz: float, line_hz: float) -> np.ndarray:
    """Return ``values`` (C, T) without the mains and its harmonics: second-order notches 2 Hz wide, both directions."""
    lines = np.arange(line_hz, rate_hz / 2, line_hz)
    if not len(lines) or values.shape[1] < 2:
        return values
    sos = np.concatenate([dsp.tf2sos(*dsp.iirnotch(hz, hz / NOTCH_WIDTH_HZ, fs=rate_hz)) for hz in lines])
    pad = min(values.shape[1] - 1, int(3 * rate_hz / NOTCH_WIDTH_HZ))
    return dsp.sosfiltfilt(sos, values, axis=1, padlen=pad).astype(np.float32)


def band_pass(values: np.ndarray, rate_hz: float, band_hz: tuple[float, float]) -> np.ndarray:
    """Return ``values`` (C, T) after a zero-phase Butterworth band-pass of order 3 in each direction."""
    sos = dsp.butter(3, band_hz, btype="band", fs=rate_hz, output="sos")
    pad = min(values.shape[1] - 1, int(3 * rate_hz / band_hz[0]))
    return dsp.sosfiltfilt(sos, values, axis=1, padlen=pad).astype(np.float32)


def rms(windows: np.ndarray) -> np.ndarray:
    """Return the root mean square (N,) of windows (N, C, W) about the mean of each channel, over channels and steps."""
    centred = windows - windows.mean(axis=2, keepdims=True)
    return np.asarray(np.sqrt(np.square(centred).mean(axis=(1, 2))))


def rms_of_recording(each: np.ndarray) -> float:
    """Return the root mean square over all windows of a recording from that of each (n,), 1e-6 at least."""
    return max(float(np.sqrt(np.square(each, dtype=np.float64).mean())), LEAST)


def scale(windows: np.ndarray, normalise: str, counted: np.ndarray | None = None) -> np.ndarray:
    """Return windows (N, C, W) centred per channel and scaled.

    ``channel`` divides each channel of a window by its standard deviation; ``sample`` divides a window by that over all
    its channels, which keeps the ratio between leads; ``record`` divides all windows by one number, the root mean
    square over the counted windows, their channels and steps, which keeps how a recording changes. ``cohort`` leaves
    the unit, as whoever reads the windows divides them; ``none`` leaves offsets too.

    Args:
        windows: of one recording.
        normalise: as above.
        counted: bool (N,), windows that decide the number of ``record``; None, or none of them: all.
    """
    if normalise == "none" or not len(windows):
        return windows
    centred = windows - windows.mean(axis=2, keepdims=True)
    if normalise == "cohort":
        return centred.astype(np.float32, copy=False)
    if normalise == "record":
        each = rms(windows)
        some = each if counted is None or not counted.any() else each[counted]
        return (centred / rms_of_recording(some)).astype(np.float32)
    axes = (1, 2) if normalise == "sample" else (2,)
    spread = np.sqrt(np.square(centred).mean(axis=axes, keepdims=True))
    return (centred / np.maximum(spread, LEAST)).astype(np.float32)


def prepare(
    signal: Signal,
    *,
    rate_hz: float,
    channels: tuple[str, ...],
    unit: str,
    window_s: float,
    overlap: float = 0.0,
    band_hz: tuple[float, float] | None = None,
    notch_hz: float | None = None,
    absent: str = "refuse",
    cut: str = "windows",
    modality: str = "ecg",
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Cut a recording into windows.

    Missing values are bridged by straight lines, however long. A recording at most 0.5 % shorter than one window is
    brought to its length by repeating the last value.

    Args:
        rate_hz, channels, unit: of the windows.
        overlap: share of a window that the next one repeats.
        band_hz, notch_hz: filters, see `band_pass` and `notch`.
        absent: see `medssl.ingest.channels.pick_channels`.
        cut: ``windows`` one after another, or ``beats``, a window around each beat (`medssl.ingest.beats`).
        modality: ``ecg`` or ``ppg``, what a beat is; for beats alone.

    Returns:
        Windows float32 (N, C, W) in ``unit`` before scaling, their start times in seconds (N,), ascending, and the
        times of beats whose window leaves the recording.

    Raises:
        BadRecord: ``missing_channel``, ``bad_unit``, ``missing_values``, ``no_rate``, ``too_short``, ``unreadable``, or
            as `medssl.ingest.beats.whole`.
    """
    length = round(window_s * rate_hz)
    check_rate(signal.rate_hz)
    steps, need = signal.values.shape[1], window_s * signal.rate_hz
    if steps < 2 or steps < min(need - 1, need * (1 - SHORT)):
        have = f"{steps} samples at {signal.rate_hz:g} Hz are {steps / signal.rate_hz:.4g} s"
        raise BadRecord("too_short", f"{have}; one window needs {window_s:g} s, {math.ceil(need)} samples")
    values = pick_channels(signal, channels, absent)
    check_size(values, signal.unit, unit)
    values = fill_missing(convert(values, signal.unit, unit))
    if notch_hz is not None:
        values = notch(values, signal.rate_hz, notch_hz)
    values = resample(values, signal.rate_hz, rate_hz)
    if band_hz is not None:
        values = band_pass(values, rate_hz, band_hz)
    if values.shape[1] < length:
        values = np.pad(values, ((0, 0), (0, length - values.shape[1])), mode="edge")

    if cut == "beats":
        starts, outside = beats.whole(values, rate_hz, length, modality=modality)
    else:
        starts = np.arange(0, values.shape[1] - length + 1, max(1, round(length * (1 - overlap))))
        outside = starts[:0]
    windows = np.lib.stride_tricks.sliding_window_view(values, length, axis=1)[:, starts].transpose(1, 0, 2)
    return np.ascontiguousarray(windows, dtype=np.float32), starts / rate_hz, [step / rate_hz for step in outside]


def worst_share(marked: np.ndarray, first: np.ndarray, length: int) -> np.ndarray:
    """Return the share of marked steps (N,), in the worst channel, of the windows that begin at ``first``.

    Args:
        marked: bool (C, T).
        first: int (N,), ascending or not.
        length: steps of a window; one that leaves the recording counts up to its end.
    """
    if not marked.any():
        return np.zeros(len(first))
    counts = np.zeros((marked.shape[0], marked.shape[1] + 1), dtype=np.int32)
    np.cumsum(marked, axis=1, out=counts[:, 1:])
    last = np.minimum(first + length, marked.shape[1])
    return np.asarray((counts[:, last] - counts[:, first]).max(axis=0) / np.maximum(last - first, 1))


def flat_share(
    signal: Signal, channels: tuple[str, ...], starts: np.ndarray, *, rate_hz: float, window_s: float
) -> np.ndarray:
    """Return the share of steps (N,) that do not change, in the worst channel of each window of a recording.

    It looks at the recording itself: a filter turns the constant of a dead lead into noise. Steps are those of the
    target rate, by linear interpolation, so that a slow signal in coarse digits is not called flat at a high rate.
    """
    values = pick_channels(signal, channels)
    position = np.arange(int(values.shape[1] / signal.rate_hz * rate_hz)) * (signal.rate_hz / rate_hz)
    before = np.minimum(position.astype(int), max(values.shape[1] - 2, 0))
    share = (position - before).astype(np.float32)
    even = np.take(values, before, axis=1)
    between = np.flatnonzero(share)
    after = np.take(values, np.minimum(before[between] + 1, values.shape[1] - 1), axis=1)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are neither flat nor not
        even[:, between] += share[between] * (after - np.take(even, between, axis=1))
        still = np.abs(np.diff(even, axis=1)) <= 1e-6 * (1e-12 + largest(even))
    first = np.rint(starts * rate_hz).astype(int)
    return worst_share(still, first, round(window_s * rate_hz) - 1)
