"""How good each sample is, as numbers for its row of the table; whoever reads the table decides what is good enough.

Shares are in [0, 1], of the worst channel; an index is the mean over the channels that are not flat. NaN: the recording
cannot tell, for want of a scale or of frequencies. Signals are measured before they are filled, filtered or resampled,
except the skewness, which the field takes from filtered pulses, and the root mean square, which windows are scaled by.
Letters: N windows, C channels, T time steps of the recording, W time steps of a window.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from medssl.ingest.signals import UNITS, fill_missing, flat_share, largest, rms, worst_share
from medssl.ingest.volumes import BODY_HU
from medssl.sources.record import Signal, Volume

# Beyond this, a surface recording is an artefact: paced and hypertrophic QRS complexes stay below 10 mV, and the EEG of
# seizures and of slow-wave sleep mostly below 500 uV. A PPG has no scale.
LIMITS = {"ecg": ("mV", 10.0), "eeg": ("uV", 500.0)}
LINES_HZ = (50.0, 60.0)
CLIPPED_STEPS = 3  # at the extreme value, one after another; the top of a wave in coarse digits is shorter
# An index is the power of the first band over that of the second. ECG: pSQI, near 0.3 for noise and above 0.5 for clear
# QRS complexes (Li, Mark & Clifford 2008, Physiol. Meas. 29:15). EEG: muscle against brain; muscle begins near 20 Hz
# (Goncharova et al. 2003, Clin. Neurophysiol. 114:1580).
INDICES = {
    "ecg": ("psqi", ((5.0, 15.0), (5.0, 40.0))),
    "eeg": ("high_to_low", ((20.0, 40.0), (1.0, 20.0))),
}
BLOCK = 2**17  # values whose spectrum is taken at once, which the processor's cache holds


def of_signal(
    signal: Signal, windows: np.ndarray, starts: np.ndarray, *, rate_hz: float, window_s: float, modality: str
) -> dict[str, np.ndarray]:
    """Return the measures of a recording's windows, each float64 (N,).

    ``flat``: steps that do not change; ``clipped``: steps in runs at the recording's largest or smallest value;
    ``missing``: steps without a value; ``out_of_range``: steps further from the channel's median (an electrode has an
    offset) than `LIMITS`; ``line_noise``: power within 1 Hz of 50 or 60 Hz, whichever is more, of all from 1 Hz to
    Nyquist; ``rms``: root mean square about the mean of each channel, over channels and steps, in the unit of
    ``windows``, by which the scale of a cohort is fitted. ECG: ``psqi``; EEG: ``high_to_low``; PPG: ``skewness``,
    positive for clear pulses (Elgendi 2016, Bioengineering 3:21).

    Args:
        signal: the recording with the windows' channels alone, as it was read.
        windows: (N, C, W), before scaling.
        starts: (N,) in seconds from the start of ``signal``.
        rate_hz: of ``windows``.
        window_s: their length.
        modality: ``ecg``, ``ppg`` or ``eeg``.
    """
    known = np.isfinite(signal.values)
    values = signal.values if known.all() else np.where(known, signal.values, np.nan)
    length = max(1, min(round(window_s * signal.rate_hz), values.shape[1]))
    first = np.minimum(np.rint(starts * signal.rate_hz).astype(int), values.shape[1] - length)
    out = {
        "flat": flat_share(signal, signal.channels, starts, rate_hz=rate_hz, window_s=window_s),
        "clipped": worst_share(at_the_rails(values), first, length),
        "missing": worst_share(~known, first, length),
        "out_of_range": np.full(len(first), np.nan),
        "rms": rms(windows),
    }
    if modality in LIMITS and signal.unit in UNITS and UNITS[signal.unit][0] == "V":
        unit, limit = LIMITS[modality]
        limit *= UNITS[unit][1] / UNITS[signal.unit][1]
        top, bottom = extremes(values)
        out["out_of_range"] = np.zeros(len(first))
        if (top - bottom > limit).any():  # else nothing is so far from any value of the channel
            far = np.abs(values - np.nanmedian(values, axis=1, keepdims=True)) > limit
            out["out_of_range"] = worst_share(far, first, length)
    out |= of_spectrum(fill_missing(values), signal.rate_hz, first, length, modality=modality)
    if modality == "ppg":
        out["skewness"] = skewness(windows)
    return {name: np.asarray(value, dtype=np.float64) for name, value in out.items()}


def at_the_rails(values: np.ndarray) -> np.ndarray:
    """Return where a channel (C, T), NaN where missing, stays at its own largest or smallest value, bool (C, T).

    A single step there is a wave's top; at least `CLIPPED_STEPS` in a row are an amplifier's end. A channel that has
    one value alone is flat, not clipped.
    """
    marked = np.zeros(values.shape, dtype=bool)
    starts = values.shape[1] - CLIPPED_STEPS + 1
    if starts < 1:
        return marked
    top, bottom = extremes(values)
    for rail in (top, bottom):
        at = values == np.where(top > bottom, rail, np.nan)
        if np.count_nonzero(at) < CLIPPED_STEPS:
            continue
        runs = np.logical_and.reduce([at[:, k : k + starts] for k in range(CLIPPED_STEPS)])
        if runs.any():
            for k in range(CLIPPED_STEPS):
                marked[:, k : k + starts] |= runs
    return marked


def extremes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and smallest value of each channel (C, 1), NaN where it has none."""
    return np.fmax.reduce(values, axis=1, keepdims=True), np.fmin.reduce(values, axis=1, keepdims=True)


def of_spectrum(
    values: np.ndarray, rate_hz: float, first: np.ndarray, length: int, *, modality: str
) -> dict[str, np.ndarray]:
    """Return ``line_noise`` and the modality's index (N,) of windows of ``values`` (C, T), which must be finite.

    A Hann window keeps the drift of a window's ends from the high frequencies.
    """
    nyquist = rate_hz / 2
    lines = [(hz - 1, hz + 1) for hz in LINES_HZ if hz + 1 <= nyquist]
    name, ratio = INDICES.get(modality, ("", ()))
    ratio = ratio if ratio and max(high for _, high in ratio) <= nyquist else ()
    bands = [*lines, (1.0, nyquist), *ratio]
    power = band_powers(values, rate_hz, first, length, bands)
    nothing = np.full(len(first), np.nan)
    out = {"line_noise": nothing}
    if lines:
        hum, total = power[: len(lines)].max(axis=0), power[len(lines)]
        out["line_noise"] = np.divide(hum, total, out=np.zeros_like(total), where=total > 0).max(axis=1)
    if name:
        out[name] = nothing
    if ratio:
        above, below = power[-2:]
        out[name] = _mean_of_ratios(above, below, below > 0)
    return out


def _mean_of_ratios(above: np.ndarray, below: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Return the mean (N,) of ratios over the channels (N, C) that are alive; NaN where none is."""
    ratios = np.divide(above, below, out=np.zeros_like(below), where=alive)
    count = alive.sum(axis=1)
    return np.where(count > 0, ratios.sum(axis=1) / np.maximum(count, 1), np.nan)


def band_powers(
    values: np.ndarray, rate_hz: float, first: np.ndarray, length: int, bands: list[tuple[float, float]]
) -> np.ndarray:
    """Return the power in each of K bands (Hz, both ends included), float64 (K, N, C).

    A band narrower than the window's resolution has the frequency nearest to its middle.
    """
    frequency = fft.rfftfreq(length, 1 / rate_hz)
    inside = np.stack([(frequency >= low) & (frequency <= high) for low, high in bands])
    for row, (low, high) in zip(inside, bands, strict=True):
        if not row.any():
            row[np.abs(frequency - (low + high) / 2).argmin()] = True
    taper = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=1)
    at_once = max(1, BLOCK // (length * len(values)))
    constant = 1e-6 * largest(values)  # what rounding leaves of a constant has no spectrum
    out = np.empty((len(bands), len(first), len(values)))
    for i in range(0, len(first), at_once):
        block = views[:, first[i : i + at_once]]  # a copy
        block -= block.mean(axis=2, keepdims=True)
        block = block.astype(np.float32, copy=False)
        block[np.ptp(block, axis=2) <= constant] = 0
        block *= taper
        power = np.square(np.abs(fft.rfft(block, axis=2)))
        out[:, i : i + at_once] = np.einsum("cnf,kf->knc", power, inside.astype(power.dtype))
    return out


def skewness(windows: np.ndarray) -> np.ndarray:
    """Return the mean skewness (N,) over the channels of windows (N, C, W) that vary; NaN where none does."""
    centred = windows - windows.mean(axis=2, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(axis=2))
    # What a filter leaves of a constant is no pulse, and its cube would be 0.
    alive = spread > np.maximum(1e-9, 1e-6 * np.abs(windows).max(axis=2))
    return _mean_of_ratios((centred**3).mean(axis=2), spread**3, alive)


def of_volume(volume: Volume, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measures of the samples (N, 1, ...) of a volume, each float64 (N,).

    ``blank``: share of the sample that is 0, which is what the intensity scale cuts off below and what lies outside the
    volume. ``truncated``: 1 if an organ of the mask, or without a mask the body, reaches the volume's first or last
    slice, else 0; NaN for a single slice, and for a body outside CT.
    """
    blank = (samples == 0).reshape(len(samples), -1).mean(axis=1)
    truncated = np.nan
    if volume.values.shape[0] > 1:
        if volume.mask is not None:
            truncated = float((volume.mask[[0, -1]] > 0).any())
        elif volume.unit == "HU":
            # A table is no body: it fills less than a hundredth of a slice.
            truncated = float((volume.values[[0, -1]] > BODY_HU).mean(axis=(1, 2)).max() > 0.01)
    return {"blank": blank, "truncated": np.full(len(samples), truncated)}
