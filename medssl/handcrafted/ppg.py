"""What is measured in a pulse wave: rate, rise, widths, and the waves of its derivatives, from the median pulse.

Letters: C channels, T time steps, B pulses, W steps of a pulse. Heights are shares of the systolic peak's above the
foot, so that no scaling of windows touches them. NaN = not found.

Source: Elgendi 2012 (On the analysis of fingertip photoplethysmogram signals), whose names of points are used; ageing
index and waves a to e of the second derivative after Takazawa et al. 1998.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy import signal as dsp

from medssl.ingest import beats

STEP_S, LENGTH_S = 0.004, 1.0  # of a median pulse from its foot; a slower pulse is cut, its tail says least
FOOT_S = 0.45  # how far before the systolic peak the foot lies at most
WIDTHS = (0.25, 0.5, 0.75)  # shares of the height
POINTS = 18  # of a median pulse, 40 ms apart
SMOOTH_S = 0.06  # of the polynomial (Savitzky & Golay 1964, third order) that gives the derivatives


def features(values: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return features (d,) of a stretch (C, T) of finite values; ``d`` depends on C alone."""
    peaks = beats.find(values, rate_hz, modality="ppg")
    parts = [rhythm(peaks / rate_hz)]
    for channel in values.astype(np.float64):
        pulse = median_pulse(channel, peaks, rate_hz)
        even = pulse[: round(POINTS * 0.04 / STEP_S)].reshape(POINTS, -1)
        parts += [shape(pulse), derivatives(pulse), even.mean(axis=1)]
    return np.concatenate(parts)


def rhythm(peaks_s: np.ndarray) -> np.ndarray:
    """Return (3,): pulses a minute, and the SD and RMS of successive differences of the intervals (s)."""
    intervals = np.diff(peaks_s)
    if len(intervals) < 2:
        return np.array([60 / intervals[0] if len(intervals) else np.nan, np.nan, np.nan])
    return np.array([60 / intervals.mean(), intervals.std(), np.sqrt(np.square(np.diff(intervals)).mean())])


def median_pulse(channel: np.ndarray, peaks: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return the median pulse (W,) of a channel (T,), 0 at the foot and 1 at the systolic peak; NaN after its end.

    A pulse goes from foot to foot, the lowest step before a peak and after the one before it. It is upright if the
    channel rises more steeply than it falls. What drifts from foot to foot is taken out as a line. One whose next foot
    lies outside the stretch counts up to the end of the stretch, without that.
    """
    nothing = np.full(round(LENGTH_S / STEP_S), np.nan)
    if not len(peaks):
        return nothing
    slope = np.diff(channel)
    channel = channel * (np.sign((slope**3).mean()) or 1.0)
    before = np.maximum(np.r_[0, peaks[:-1]], peaks - round(FOOT_S * rate_hz))
    feet = np.array([b + channel[b : p + 1].argmin() for b, p in zip(before, peaks, strict=True)])
    steps = np.arange(len(channel))
    each = []
    for foot, peak, after in zip(feet, peaks, np.r_[feet[1:], len(channel) - 1], strict=True):
        if foot == 0 or peak <= foot:  # it began before the stretch
            continue
        line = 0.0
        if after < len(channel) - 1:
            line = (channel[after] - channel[foot]) * (steps - foot) / (after - foot)
        wave = channel - channel[foot] - line
        if wave[peak] <= 0:
            continue
        at = foot + np.arange(len(nothing)) * STEP_S * rate_hz
        each.append(np.where(at <= after, np.interp(at, steps, wave / wave[peak]), np.nan))
    if not each:
        return nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what no pulse has stays NaN
        return np.nanmedian(each, axis=0)


def shape(pulse: np.ndarray) -> np.ndarray:
    """Return (13,) of a median pulse (W,).

    Rise time (s); width (s) at each of `WIDTHS`, and its part after the peak over the part before; area after over
    before the peak; height and delay (s) of the dicrotic notch and of the wave after it; skewness of heights.
    """
    known = np.isfinite(pulse)
    if not known.any():
        return np.full(13, np.nan)
    pulse = pulse[known]
    peak = int(pulse[: round(FOOT_S / STEP_S)].argmax())
    out = [peak * STEP_S]
    for share in WIDTHS:
        rise = np.flatnonzero(pulse[: peak + 1] >= share)
        fall = np.flatnonzero(pulse[peak:] < share)
        first, last = (rise[0] if len(rise) else peak) * STEP_S, (peak + fall[0]) * STEP_S if len(fall) else np.nan
        out += [last - first, (last - peak * STEP_S) / max(peak * STEP_S - first, STEP_S)]
    out.append(pulse[peak:].sum() / max(pulse[:peak].sum(), 1e-6))
    # The notch is a minimum after the peak, or where there is none the flattest place of the fall.
    fall = np.gradient(pulse)[peak:]
    notch = dsp.find_peaks(-pulse[peak:])[0]
    place = notch[0] if len(notch) else next(iter(dsp.find_peaks(fall)[0]), None)
    if place is None:
        out += [np.nan] * 4
    else:
        second = pulse[peak + place :]
        out += [pulse[peak + place], place * STEP_S, second.max(), (place + second.argmax()) * STEP_S]
    spread = pulse.std()
    out.append(((pulse - pulse.mean()) ** 3).mean() / max(spread, 1e-6) ** 3)
    return np.array(out)


def derivatives(pulse: np.ndarray) -> np.ndarray:
    """Return (19,) of the derivatives of a median pulse (W,).

    First: largest and smallest slope (1/s) and the delay of both (s). Second: waves a (1/s^2), then b, c, d and e over
    a, their times (s), and the ageing index (b - c - d - e) / a. Third: largest and smallest (1/s^3) over a, and the
    delay of both (s).
    """
    out = np.full(19, np.nan)
    known = np.isfinite(pulse)
    window = 2 * round(SMOOTH_S / STEP_S / 2) + 1
    if known.sum() < 4 * window:
        return out
    first, second, third = (
        dsp.savgol_filter(pulse[known], window, 3, deriv=order, delta=STEP_S) for order in (1, 2, 3)
    )
    early = round(FOOT_S / STEP_S)
    out[:4] = first.max(), first.min(), first[:early].argmax() * STEP_S, first.argmin() * STEP_S
    a = int(second[: max(1, int(first[:early].argmax()))].argmax())
    if second[a] <= 0:
        return out
    # From a on, lowest and highest places follow one another: b, c, d, e.
    places, here = [a], a
    for sign in (-1, 1, -1, 1):
        ahead = dsp.find_peaks(sign * second[here:])[0]
        if not len(ahead):
            break
        here += int(ahead[0])
        places.append(here)
    found = np.array(places)
    heights = second[found] / second[a]
    out[4] = second[a]
    out[5 : 4 + len(found)] = heights[1:]
    out[9 : 9 + len(found)] = found * STEP_S
    if len(found) == 5:
        out[14] = heights[1] - heights[2:].sum()
    out[15:17] = third.max() / second[a], third.min() / second[a]
    out[17:19] = third.argmax() * STEP_S, third.argmin() * STEP_S
    return out
