"""Aligned correlation: how alike two samples are at their best shift, and what remains when one explains the other.

A signal (C, T), an image (C, H, W) or a volume (C, D, H, W) is compared with another of its kind at every shift that
leaves enough of both; at each, the correlation is that of the overlap alone, centred per channel there. Gain and offset
do not matter, polarity does. All shifts come from one product of spectra; the sums within an overlap depend on one
sample and the shift, so they are prepared once per sample.

Two stretches of one heart, or slices of two chests, correlate almost as well as copies do. `explain` and `register`
therefore undo what a copy may have gone through (a filter, a zoom) and measure what is left: of a copy, noise.

Letters: N, M samples, C channels, L shifts per axis, F frequencies per axis.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import fft, ndimage

# The share of the smaller sample that must remain, by number of axes. One beat of a heart looks like its next, so a
# smaller part of a signal proves nothing; an image has a margin without content.
MIN_OVERLAP = {1: 0.6, 2: 0.7, 3: 0.7}
# The overlap must hold this share of the energy that its length would have in the whole sample: an edge without content
# correlates with any other. A larger share would hide copies of what stands beside a spike.
MIN_ENERGY = 0.01
ROUNDS = 8  # Gauss-Newton steps of `register` at most; they end where the correlation no longer rises
MARGIN = 2  # steps along each border of an image that do not count there; what lies beyond it is not part of it


class Frame(NamedTuple):
    """The geometry of a comparison: own and other shape, padded shape, and the least overlap in steps per axis."""

    shape: tuple[int, ...]
    other: tuple[int, ...]
    padded: tuple[int, ...]
    least: tuple[int, ...]
    min_overlap: float

    @property
    def lags(self) -> list[np.ndarray]:
        """The shifts along each axis, ascending: step ``t`` of the own sample meets ``t + lag`` of the other."""
        return [np.arange(-(n - m), k - m + 1) for n, k, m in zip(self.shape, self.other, self.least, strict=True)]

    def spans(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """First and last+1 step of the own sample within the overlap at each lag, by axis."""
        return [
            (np.maximum(0, -lag), np.minimum(n, k - lag))
            for lag, n, k in zip(self.lags, self.shape, self.other, strict=True)
        ]

    def overlap(self) -> np.ndarray:
        """Steps within the overlap, (L...)."""
        out = np.ones(())
        for start, stop in self.spans():
            out = out[..., None] * (stop - start)
        return out


def frame(shape: tuple[int, ...], other: tuple[int, ...] | None = None, *, min_overlap: float | None = None) -> Frame:
    """Return the geometry of comparing samples whose axes are ``shape`` with samples of ``other`` (None: the same).

    Raises:
        ValueError: not one to three axes on both sides, or ``min_overlap`` outside (0, 1].
    """
    other = shape if other is None else other
    if len(shape) != len(other) or len(shape) not in MIN_OVERLAP:
        raise ValueError(f"samples with axes {shape} and {other}; expected (T,), (H, W) or (D, H, W) on both sides")
    share = MIN_OVERLAP[len(shape)] if min_overlap is None else min_overlap
    if not 0 < share <= 1:
        raise ValueError(f"min_overlap is {share:g}; expected a share in (0, 1]")
    least = tuple(max(1, int(np.ceil(share * min(n, k) - 1e-9))) for n, k in zip(shape, other, strict=True))
    # Circular correlation repeats after the padded length: no shift in use may meet another's image.
    padded = tuple(fft.next_fast_len(n + k - m, real=True) for n, k, m in zip(shape, other, least, strict=True))
    return Frame(tuple(shape), tuple(other), padded, least, share)


class Spectra(NamedTuple):
    """What `correlate` needs of N samples."""

    spectrum: np.ndarray  # complex64 (N, C, F...), zero-padded
    sums: np.ndarray  # float32 (N, C, L...), of each channel over the overlap
    # float32 (N, L...), squared deviation from the channel means of the overlap, over all channels; 0 where the shift
    # leaves too little.
    energy: np.ndarray
    frame: Frame

    def take(self, rows: np.ndarray | slice) -> Spectra:
        """Return the spectra of some samples."""
        return Spectra(self.spectrum[rows], self.sums[rows], self.energy[rows], self.frame)


def spectra(samples: np.ndarray, *, other: tuple[int, ...] | None = None, min_overlap: float | None = None) -> Spectra:
    """Prepare samples for comparison with samples whose axes are ``other`` (None: their own).

    Args:
        samples: (N, C, T), (N, C, H, W) or (N, C, D, H, W), any real type, on the grid they shall be compared on.
        other: (T,), (H, W) or (D, H, W) of the other side.
        min_overlap: share of the smaller sample that a shift must leave; None: `MIN_OVERLAP`.
    """
    samples = np.asarray(samples)
    own = frame(samples.shape[2:], other, min_overlap=min_overlap)
    axes = tuple(range(2, samples.ndim))
    centred = samples - samples.mean(axis=axes, keepdims=True, dtype=np.float64)
    sums, squares = _within(centred, own), _within(np.square(centred).sum(axis=1), own)
    steps = own.overlap()
    energy = squares - (np.square(sums) / steps).sum(axis=1)
    total = np.square(centred).sum(axis=(1, *axes)).reshape(-1, *(1 for _ in axes))
    whole = min(np.prod(own.shape), np.prod(own.other))
    # Rounding leaves a little energy in a constant sample: what is below float32's reach counts as none.
    enough = (steps >= own.min_overlap * whole - 1e-9) & (
        energy
        > np.maximum(
            MIN_ENERGY * total * steps / np.prod(own.shape),
            1e-12 * np.square(samples, dtype=np.float64).sum(axis=(1, *axes)).reshape(total.shape),
        )
    )
    spectrum = fft.rfftn(centred.astype(np.float32), s=own.padded, axes=axes)
    return Spectra(spectrum, sums.astype(np.float32), np.where(enough, energy, 0).astype(np.float32), own)


def _within(values: np.ndarray, own: Frame) -> np.ndarray:
    """Return sums of ``values`` (..., axes) over the overlap at each shift (..., L...), by cumulative sums."""
    first = values.ndim - len(own.shape)
    for axis, (start, stop) in enumerate(own.spans(), first):
        sums = np.cumsum(values, axis=axis)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis=axis)), sums], axis=axis)
        values = sums.take(stop, axis=axis) - sums.take(start, axis=axis)
    return values


def correlate(one: Spectra, many: Spectra) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest correlation of each pair and the shift where it is.

    Args:
        one: spectra of 1 or M samples.
        many: spectra of M samples, made with ``other`` the shape of the first, and the other way round.

    Returns:
        Correlations float32 (M,) in [-1, 1], -1 where no shift leaves enough; lags float (M, axes): what is at step
        ``t`` of the first is at ``t + lag`` of the second. Between steps, both come from a parabola.

    Raises:
        ValueError: the two were prepared for other shapes.

    Source: Padfield 2012 (masked registration in the Fourier domain), for boxes and channels.
    """
    own = one.frame
    if own.other != many.frame.shape or own.shape != many.frame.other or own.least != many.frame.least:
        raise ValueError(
            f"spectra of {own.shape} for {own.other} meet spectra of {many.frame.shape} for {many.frame.other}; "
            "prepare each with `other` the shape of the other side and the same min_overlap"
        )
    axes = tuple(range(1, 1 + len(own.shape)))
    cross = fft.irfftn((one.spectrum.conj() * many.spectrum).sum(axis=1), s=own.padded, axes=axes)
    for axis, (lag, length) in enumerate(zip(own.lags, own.padded, strict=True), 1):
        cross = cross.take(lag % length, axis=axis)
    # The second sample's own shifts run the other way.
    back: Any = (..., *(slice(None, None, -1) for _ in axes))
    steps = own.overlap().astype(np.float32)
    cross -= np.einsum("nc...,nc...->n...", one.sums, many.sums[back]) / steps
    scale = np.sqrt(one.energy * many.energy[back])
    value = np.where(scale > 0, cross / np.where(scale > 0, scale, 1), -1)
    gain, moves = _between(value)
    # A regular rhythm fits at every beat: of equals, the shift that leaves more.
    score = value + gain + np.float32(1e-4) * steps / steps.max()
    place = score.reshape(len(value), -1).argmax(axis=1)
    at = (np.arange(len(value)), *np.unravel_index(place, steps.shape))
    lags = np.stack([lag[i] + move[at] for lag, i, move in zip(own.lags, at[1:], moves, strict=True)], axis=1)
    return np.clip((value + gain)[at], -1, 1), lags


def _between(value: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return how much higher a parabola through each local maximum (N, L...) and its neighbours rises, and where.

    Two recordings rarely start on the same grid; without this, half a step costs a narrow peak several per cent.
    """
    rise, moves = np.zeros_like(value), []
    top = np.ones(value.shape, dtype=bool)
    for axis in range(1, value.ndim):
        move = np.zeros_like(value)
        if value.shape[axis] > 2:
            before: Any = (slice(None),) * axis
            low, mid, high = (value[(*before, part)] for part in (slice(-2), slice(1, -1), slice(2, None)))
            bend = 2 * mid - low - high
            peak = (mid >= low) & (mid >= high) & (bend > 0) & (low > -1) & (high > -1)
            inner: Any = (*before, slice(1, -1))
            move[inner] = np.where(peak, (high - low) / (2 * np.where(peak, bend, 1)), 0)
            rise[inner] += np.where(peak, np.square(high - low) / (8 * np.where(peak, bend, 1)), 0)
            whole = np.zeros_like(top)
            whole[inner] = peak
            top &= whole
        moves.append(move)
    return np.where(top, rise, 0), [np.where(top, move, 0) for move in moves]


def best(one: np.ndarray, other: np.ndarray, *, min_overlap: float | None = None) -> tuple[float, tuple[float, ...]]:
    """Return the highest correlation of two samples (C, ...) and its shift in steps, by axis; see `spectra`."""
    first = spectra(one[None], other=other.shape[1:], min_overlap=min_overlap)
    value, lag = correlate(first, spectra(other[None], other=one.shape[1:], min_overlap=min_overlap))
    return float(value[0]), tuple(float(n) for n in lag[0])


def explain(one: np.ndarray, other: np.ndarray, lag: int, *, taps: int = 2) -> float:
    """Return the share of energy that a short filter of one signal leaves unexplained in the other, in [0, 1].

    The filter has ``2 * taps + 1`` coefficients, the same for all channels, so it undoes a shift between two steps,
    another pass band or an anti-alias filter, and nothing else. The worse of the two directions counts.

    Args:
        one, other: (C, T), (C, U).
        lag: steps; step ``t`` of ``one`` meets ``t + lag`` of ``other``.
        taps: steps to either side.

    Raises:
        ValueError: the lag leaves too little to fit.
    """
    start, stop = max(0, -lag) + taps, min(one.shape[1], other.shape[1] - lag) - taps
    if stop - start <= 2 * taps + 1:
        raise ValueError(f"lag {lag} leaves {stop - start} steps of {one.shape} and {other.shape}; too few to fit")
    there = _unexplained(one, other, start, stop, lag, taps)
    return max(there, _unexplained(other, one, start + lag, stop + lag, -lag, taps))


def _unexplained(source: np.ndarray, target: np.ndarray, start: int, stop: int, lag: int, taps: int) -> float:
    y = target[:, start + lag : stop + lag].astype(np.float64)
    x = np.stack([source[:, start + k : stop + k] for k in range(-taps, taps + 1)]).astype(np.float64)
    y, x = (v - v.mean(axis=-1, keepdims=True) for v in (y, x))
    x, y = x.reshape(len(x), -1), y.ravel()
    gram, cross = x @ x.T, x @ y
    # Neighbouring steps are nearly collinear: a little ridge keeps coefficients small and costs 1e-6 of the fit.
    ridge = gram + 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    if y @ y <= 0 or np.trace(gram) <= 0:
        return 1.0
    w = np.linalg.solve(ridge, cross)
    return float(np.clip(1 - (2 * w @ cross - w @ gram @ w) / (y @ y), 0, 1))


class Fit(NamedTuple):
    """Correlation of two images once aligned; step ``x`` of the first is at ``scale * x + offset`` of the second."""

    correlation: float
    scale: np.ndarray
    offset: np.ndarray


def register(one: np.ndarray, other: np.ndarray, *, scale: np.ndarray, offset: np.ndarray, trim: float = 0.2) -> Fit:
    """Refine shift and zoom along each axis until the overlap of two images correlates best.

    Args:
        one, other: (C, H, W) or (C, D, H, W), smooth over a step.
        scale, offset: (axes,) where to start; good to a few steps.
        trim: share of the overlap that may differ, where it fits worst: padding, a letter, greys cut by a window.

    Source: Evangelidis and Psarakis 2008 (enhanced correlation coefficient), for shift and zoom.
    """
    inner = tuple(slice(MARGIN, n - MARGIN) for n in one.shape[1:])
    steps = np.stack(np.meshgrid(*(np.arange(n)[s] for n, s in zip(one.shape[1:], inner, strict=True)), indexing="ij"))
    x = steps.reshape(len(steps), -1).astype(np.float64)
    a = one[(slice(None), *inner)].reshape(len(one), -1).astype(np.float64)
    axes = tuple(range(1, other.ndim))
    slopes = np.stack([np.gradient(other, axis=axis) for axis in axes])
    far = np.array(other.shape[1:])[:, None] - 1 - MARGIN
    best = Fit(-1.0, scale, offset)
    for _ in range(ROUNDS):
        place = scale[:, None] * x + offset[:, None]
        inside = np.flatnonzero(((place >= MARGIN) & (place <= far)).all(axis=0))
        if len(inside) < MIN_OVERLAP[len(axes)] / 2 * x.shape[1]:
            break
        b = np.stack([ndimage.map_coordinates(c, place[:, inside], order=1) for c in other]).astype(np.float64)
        fits = _fitting(a[:, inside], b, trim)
        inside, y, b = inside[fits], _centred(a[:, inside[fits]]), _centred(b[:, fits])
        power = np.square(y).sum() * np.square(b).sum()
        value = float((y * b).sum() / np.sqrt(power)) if power > 0 else -1.0
        gained = value - best.correlation
        if gained > 0:
            best = Fit(value, scale, offset)
        if gained < 1e-4:
            break
        slope = np.stack([[ndimage.map_coordinates(c, place[:, inside], order=1) for c in s] for s in slopes])
        j = _centred(np.concatenate([slope * x[:, None, inside], slope]))
        system = np.concatenate([b[None], j]).reshape(1 + 2 * len(axes), -1)
        w = np.linalg.lstsq(system @ system.T, system @ y.ravel(), rcond=1e-9)[0]
        if w[0] <= 0:
            break
        move = w[1:] / w[0]
        scale, offset = scale + move[: len(axes)], offset + move[len(axes) :]
    return best


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=-1, keepdims=True)


def _fitting(a: np.ndarray, b: np.ndarray, trim: float) -> np.ndarray:
    """Return the columns of (C, n) where a and b differ least, after the best gain; all but a share ``trim``."""
    y, x = _centred(a), _centred(b)
    gain = (x * y).sum() / max(float(np.square(x).sum()), 1e-20)
    apart = np.square(y - gain * x).sum(axis=0)
    keep = a.shape[1] - int(trim * a.shape[1])
    return np.sort(np.argpartition(apart, keep - 1)[:keep])
