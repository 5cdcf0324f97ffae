"""Samples around heart beats: find them once in all leads together, then cut every lead at the same places.

An ECG's beat is its R peak, a PPG's the systolic peak. Detection is ours, on `scipy.signal.find_peaks`: neurokit2 takes
one lead at a time, and the i-th peak of one lead need not be the i-th of another. Letters: C leads, T time steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy import signal as dsp

from medssl.sources.record import BadRecord

SHORTEST_S = 0.3  # between two beats: 200 a minute
BLOCK_S = 2.0  # holds a beat at 30 a minute
AROUND = 15  # blocks whose tops say what is usual here: 30 s
USUAL_PERCENT = 30  # of these tops: low, as bursts of artefacts raise many blocks, and nearly every block has a beat
LEAST = 0.25  # of the usual energy. T waves and dicrotic waves have less, ectopic beats do not


class Shape(NamedTuple):
    """Where a beat shows."""

    band_hz: tuple[float, float]  # of its steep part
    smooth_s: float  # deviation of the Gaussian that joins the flanks of the steep part into one peak of energy
    search_s: tuple[float, float]  # where the peak lies, from the steep part
    rising: bool  # the steep part goes one way, the upstroke's


# QRS: Pan & Tompkins 1985 filter to 5-15 Hz; a little wider keeps narrow complexes. The pulse: 0.5-8 Hz as in Elgendi
# et al. 2013 (systolic peak detection); its steep part is the upstroke, before the peak.
SHAPES = {
    "ecg": Shape((5.0, 20.0), 0.04, (-0.06, 0.06), rising=False),
    "ppg": Shape((0.5, 8.0), 0.06, (0.0, 0.35), rising=True),
}


def find(values: np.ndarray, rate_hz: float, *, modality: str = "ecg") -> np.ndarray:
    """Return the steps of the R peaks (ECG) or systolic peaks (PPG), int (B,), ascending.

    A beat is where the leads are steep together (Pan & Tompkins 1985, with the energy of all leads instead of one), at
    least a quarter as energetic as is usual in the half minute around it, and no two are closer than 0.3 s. The R peak
    is the largest deflection of all leads together within 60 ms of it, so that no lead's sign matters. The systolic
    peak is the highest point within 350 ms after the upstroke; which way is up follows from the upstroke being steeper
    than the decay. A burst of artefacts louder than the beats yields false beats.

    Args:
        values: (C, T), finite, any unit.
        modality: ``ecg`` or ``ppg``.

    Raises:
        BadRecord: ``unsupported`` for a modality without beats.
    """
    if modality not in SHAPES:
        raise BadRecord("unsupported", f"{modality} has no beats to cut at; set cut: windows")
    shape = SHAPES[modality]
    high = min(shape.band_hz[1], 0.45 * rate_hz)
    if shape.band_hz[0] >= high or values.shape[1] < rate_hz * BLOCK_S / 2:
        return np.empty(0, dtype=int)
    leads = centred(np.asarray(values, dtype=np.float64))
    sos = dsp.butter(2, (shape.band_hz[0], high), btype="band", fs=rate_hz, output="sos")
    pad = min(values.shape[1] - 1, int(2 * rate_hz / shape.band_hz[0]))
    filtered = _equal(dsp.sosfiltfilt(sos, leads, axis=1, padlen=pad))
    slope = np.gradient(filtered, axis=1)
    steep, energy, up = steepest(slope, rate_hz, smooth_s=shape.smooth_s, rising=shape.rising)
    steep = steep[energy[steep] >= LEAST * _usual(energy, rate_hz)[steep]]
    height = (up * filtered).sum(axis=0) if shape.rising else np.square(filtered).sum(axis=0)
    first, last = (round(s * rate_hz) for s in shape.search_s)
    place = steep[:, None] + np.arange(first, last + 1)
    # A search that leaves the recording stays at its edge, and the beat's window will not be whole.
    found = height[place.clip(0, len(height) - 1)].argmax(axis=1) + place[:, 0]
    found = np.unique(found.clip(0, len(height) - 1))
    # Two steep parts may lead to one peak, or to two on its flanks: the higher one is the beat.
    close, rise = np.diff(found) < SHORTEST_S * rate_hz, np.diff(height[found])
    lower = np.zeros(len(found), dtype=bool)
    lower[:-1] |= close & (rise > 0)
    lower[1:] |= close & (rise <= 0)
    return np.asarray(found[~lower])


def whole(values: np.ndarray, rate_hz: float, length: int, *, modality: str = "ecg") -> tuple[np.ndarray, np.ndarray]:
    """Return the first steps of the windows of ``length`` centred on beats, and the beats whose window is not whole.

    No window is padded: a beat too near a border of the recording is left out. Windows of close beats overlap.

    Returns:
        Starts int (N,) and steps of the beats left out int (M,), both ascending.

    Raises:
        BadRecord: ``no_beats``, or ``unsupported`` as in `find`.
    """
    peaks = find(values, rate_hz, modality=modality)
    if not len(peaks):
        raise BadRecord("no_beats", f"no beat was found in {values.shape[1] / rate_hz:.1f} s")
    starts = peaks - length // 2
    inside = (starts >= 0) & (starts + length <= values.shape[1])
    return starts[inside], peaks[~inside]


def steepest(
    slope: np.ndarray, rate_hz: float, *, smooth_s: float, rising: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the leads are steep together; the beats are those of these places that have enough energy.

    Args:
        slope: (C, T), any unit.
        smooth_s, rising: see `Shape`.

    Returns:
        Steps int (B,), ascending, at least `SHORTEST_S` apart; the energy (T,), whose peaks they are, the sum of the
        leads' squared slopes, each lead in units of its standard deviation; and the direction (C, 1) in which each lead
        is steepest, 1 or -1 (0 for a dead one).
    """
    slope = _equal(slope)
    up = np.sign((slope**3).mean(axis=1, keepdims=True))
    if rising:
        slope = np.maximum(up * slope, 0)
    energy = ndimage.gaussian_filter1d(np.square(slope).sum(axis=0), smooth_s * rate_hz, mode="nearest")
    return dsp.find_peaks(energy, distance=max(1, round(SHORTEST_S * rate_hz)))[0], energy, up


def centred(leads: np.ndarray) -> np.ndarray:
    """Return leads (C, T) less their mean, and 0 for those that are flat but for rounding."""
    flat = np.ptp(leads, axis=1, keepdims=True) <= 1e-6 * np.abs(leads).max(axis=1, keepdims=True)
    return np.where(flat, 0.0, leads - leads.mean(axis=1, keepdims=True))


def _equal(leads: np.ndarray) -> np.ndarray:
    """Return leads (C, T) in units of their standard deviation, so that none outweighs another; a dead one is 0."""
    spread = leads.std(axis=1, keepdims=True)
    return leads / np.where(spread > 0, spread, 1)


def _usual(energy: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return at each step the `USUAL_PERCENT` percentile over `AROUND` blocks of the largest energy of a block."""
    block = max(1, round(BLOCK_S * rate_hz))
    count = -(-len(energy) // block)
    padded = np.pad(energy, (0, count * block - len(energy)), constant_values=0.0)
    tops = padded.reshape(count, block).max(axis=1)
    if count > 1 and len(energy) % block < block / 2 and len(energy) % block:
        tops[-1] = tops[-2]  # too short a rest to hold a beat
    usual = ndimage.percentile_filter(tops, USUAL_PERCENT, size=min(AROUND, count), mode="reflect")
    return np.repeat(usual, block)[: len(energy)]
