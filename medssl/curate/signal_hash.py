"""Signal hashes: bits of the shape of one beat, then bits of the rhythm.

The hash of an ECG or PPG window is dHash on time: per lead the median beat on 17 points, 16 bits that say where it
rises, then 16 bits of the rhythm (two bytes, always the last). Two windows are copies when both parts agree: equal
beats in another rhythm (sinus, atrial fibrillation) are no copies. EEG has no beats: its bits say where the power of a
band rises (`medssl.curate.bands`), and its rhythm bytes are 0, so that one `distance` serves all.

The bits do not change with gain or offset, and hardly with the sampling rate, mild noise or (beats only) where the
window begins. With many leads they tell patients apart; one lead, and above all one finger's pulse, has too few bits
for that: look for copies within a patient, or confirm them with `same_morphology`. Letters: C leads, T time steps, B
beats.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from medssl.curate import bands
from medssl.ingest import beats
from medssl.ingest.signals import resample

RATE_HZ = 100.0  # all beats are found and cut at this rate, so that the input's own does not show
POINTS = 17  # on a beat; 16 differences
# From the fiducial point. ECG: the centre of the QRS complex in all leads together, which no lead's sign or axis moves.
# PPG: the upstroke; a pulse's foot lies before it, its peak and notch behind.
WINDOW_S = {"ecg": (-0.25, 0.45), "ppg": (-0.25, 0.75)}
# Deviations of Gaussians, in steps; the first smooths the signal whose slope is taken. With the band-pass of
# `medssl.ingest.beats` in its place, fewer copies that begin elsewhere are found (of PPG-BP 88 %, else 90 %).
SLOPE, SMOOTH = {"ecg": 1.0, "ppg": 4.0}, 3.0
DEAD_ZONE = 0.1  # share of a beat's range that a rise must exceed
# Share of the bits of shape in which copies may differ, beside 1 of the 16 bits of rhythm. Noise at 20 dB turns up to
# a tenth of an EEG's bits; those of other windows differ in a third and more.
COPY = {"ecg": 6 / 192, "ppg": 6 / 192, "eeg": 32 / 192}
# Thermometers: a bit for each value that is reached. Mean RR: steps of 22 %, 150 to 37 beats a minute. RMSSD: steps
# of 1.5, from what a rate of 100 Hz can tell to the irregularity of atrial fibrillation.
RR_S = np.geomspace(0.4, 1.6, 8)
RMSSD_S = 0.02 * 1.5 ** np.arange(8)


class Beat(NamedTuple):
    """Median beat float64 (C, 17), each lead less its mean, and RR intervals in seconds (B - 1,)."""

    leads: np.ndarray
    rr_s: np.ndarray


def median_beat(x: np.ndarray, rate_hz: float, modality: str = "ecg") -> Beat:
    """Return the median beat of a window on 17 points, and its RR intervals.

    The points are evenly spaced over -250..+450 ms around the QRS complex (ECG) or -250..+750 ms around the steepest
    part of the upstroke (PPG), after a Gaussian with 3/4 of their spacing as deviation. From each beat the line through
    its first and last point is taken away, and the baseline's drift with it. Beats that the window cuts are left out of
    the median. If there are no others, the window's first or last value stands for what lies outside it. Without
    beats the leads are 0 and the intervals empty.

    Args:
        x: (C, T) or (T,), finite, any unit.
        rate_hz: sampling rate of ``x``.
        modality: ``ecg`` or ``ppg``.

    Raises:
        ValueError: another shape, another modality, or values that are not finite.
        BadRecord: ``no_rate``.
    """
    if modality not in WINDOW_S:
        raise ValueError(f"modality is '{modality}'; expected one of {', '.join(WINDOW_S)}")
    x = resample(_leads(x), rate_hz, RATE_HZ).astype(np.float64)
    peaks = fiducials(x, modality)
    if not len(peaks):
        return Beat(np.zeros((len(x), POINTS)), np.empty(0))
    offsets = np.linspace(*WINDOW_S[modality], POINTS) * RATE_HZ
    # Where a beat is narrower than the points are apart, its bits would hang on where the grid falls.
    smooth = ndimage.gaussian_filter1d(x, 0.75 * (offsets[1] - offsets[0]), axis=1, mode="nearest")
    whole = (peaks + offsets[0] >= 0) & (peaks + offsets[-1] <= x.shape[1] - 1)
    place = np.clip((peaks[whole] if whole.any() else peaks)[:, None] + offsets, 0, x.shape[1] - 1)
    left = np.minimum(place.astype(int), x.shape[1] - 2)
    part = place - left
    each = smooth[:, left] * (1 - part) + smooth[:, left + 1] * part
    ramp = np.linspace(0, 1, POINTS)
    each = each - each[..., :1] * (1 - ramp) - each[..., -1:] * ramp
    leads = np.median(each, axis=1)
    return Beat(leads - leads.mean(axis=1, keepdims=True), np.diff(peaks) / RATE_HZ)


def fiducials(x: np.ndarray, modality: str) -> np.ndarray:
    """Return where the beats of (C, T) at `RATE_HZ` are, in steps and fractions of them, float (B,), ascending.

    A beat is where the leads are steep together (`medssl.ingest.beats.steepest`), at least a quarter as energetic as
    the median of the largest such places, of which there is one in 1.5 s: neither T waves nor a lone artefact pass for
    beats or hide them. A window is so short that this median is one number; `medssl.ingest.beats.find` takes the usual
    energy by blocks of a recording, and so would depend on where a window begins.
    """
    slope = ndimage.gaussian_filter1d(x, SLOPE[modality], axis=1, order=1, mode="nearest")
    rising = beats.SHAPES[modality].rising
    found, energy, _ = beats.steepest(slope, RATE_HZ, smooth_s=SMOOTH / RATE_HZ, rising=rising)
    # Within the smoothing of the edge, a cut beat would be found in a wrong place.
    found = found[(found >= 2 * SMOOTH) & (found <= x.shape[1] - 1 - 2 * SMOOTH)]
    if not len(found):
        return np.empty(0)
    largest = np.sort(energy[found])[::-1][: max(1, round(x.shape[1] / RATE_HZ / 1.5))]
    found = found[energy[found] >= beats.LEAST * np.median(largest)]
    before, at, after = energy[found - 1], energy[found], energy[found + 1]
    bend = np.maximum(2 * at - before - after, 1e-12)
    return found + np.clip((after - before) / (2 * bend), -0.5, 0.5)


def signal_hash(x: np.ndarray, *, rate_hz: float, modality: str = "ecg", dead_zone: float = DEAD_ZONE) -> np.ndarray:
    """Return the hash of a window, uint8: 2 bytes a lead (EEG: 20 a channel) of shape, then 2 bytes of rhythm.

    Rhythm: 8 thermometer bits of the mean RR interval, 8 of RMSSD. Two beats have no RMSSD and one has no RR: their
    bits are 0. A flat lead's bits are 0, and so are all of a flat window.

    Args:
        x: (C, T) or (T,), finite, any unit.
        rate_hz: sampling rate of ``x``.
        modality: ``ecg``, ``ppg`` or ``eeg``.
        dead_zone: beats only; a bit is set where the beat rises, from one point to the next, by more than this share
            of its range in the lead. 0 gives the plain signs. Deliberate difference from dHash: between waves an ECG
            is flat, and there the plain sign is that of the noise.

    Raises:
        ValueError, BadRecord: as in `median_beat`.

    Source: difference hash as in Wolf et al. 2024 (Less is More), on beats.
    """
    if modality == "eeg":
        return np.append(bands.bits(_leads(x), rate_hz), np.zeros(2, np.uint8))
    leads, rr_s = median_beat(x, rate_hz, modality)
    rise = np.diff(leads, axis=1) > dead_zone * np.ptp(leads, axis=1, keepdims=True)
    return np.append(np.packbits(rise, axis=1).ravel(), np.packbits(rhythm(rr_s)))


def rhythm(rr_s: np.ndarray) -> np.ndarray:
    """Return the 16 rhythm bits, bool (16,), of RR intervals in seconds."""
    mean = rr_s.mean() if len(rr_s) else 0.0
    rmssd = np.sqrt(np.square(np.diff(rr_s)).mean()) if len(rr_s) > 1 else 0.0
    return np.append(mean >= RR_S, rmssd >= RMSSD_S)


def radius(hash_bytes: int, modality: str = "ecg") -> int:
    """Return the largest `distance` of a copy for hashes of so many bytes, at least 1; see `COPY`."""
    return max(1, round(8 * (hash_bytes - 2) * COPY[modality]))


def distance(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Return the distance of one `signal_hash` (bytes,) to others (N, bytes), int64 (N,), in bits of shape.

    It is the larger of the bits of shape that differ and `radius` times the bits of rhythm that differ: at most
    `radius` means that both parts agree. Two bits of rhythm are twice the radius, whatever the shape.
    """
    apart = np.bitwise_count(one ^ many).astype(np.int64)
    return np.maximum(apart[:, :-2].sum(axis=1), radius(len(one)) * apart[:, -2:].sum(axis=1))


def same_morphology(a: Beat, b: Beat, *, cosine: float = 0.99, rr: float = 0.05) -> bool:
    """Say whether two beats have the same shape in all leads and the same rhythm.

    Shape: cosine above ``cosine``. Rhythm: mean RR within the share ``rr``, RMSSD at most one step of its thermometer
    apart, since a value at a step falls on either side. Beats without an RR interval agree only with one another.
    """
    one, other = a.leads.ravel(), b.leads.ravel()
    alike = float(one @ other) > cosine * float(np.linalg.norm(one) * np.linalg.norm(other))
    if not len(a.rr_s) or not len(b.rr_s):
        return alike and len(a.rr_s) == len(b.rr_s)
    near = abs(a.rr_s.mean() - b.rr_s.mean()) < rr * min(a.rr_s.mean(), b.rr_s.mean())
    return alike and bool(near) and int((rhythm(a.rr_s)[8:] ^ rhythm(b.rr_s)[8:]).sum()) <= 1


def _leads(x: np.ndarray) -> np.ndarray:
    """Return ``x`` as float64 (C, T), each lead less its mean and 0 if it is flat; or refuse it."""
    x = np.atleast_2d(np.asarray(x, dtype=np.float64))
    if x.ndim != 2 or x.shape[1] < 2:
        raise ValueError(f"signal of shape {x.shape}; expected (C, T) or (T,) with at least 2 time steps")
    if not np.isfinite(x).all():
        raise ValueError("signal has values that are not finite; fill them first (medssl.ingest.signals.fill_missing)")
    return beats.centred(x)  # what is left of a constant after rounding (here, or in a filter before) is no shape
