"""What copies are compared by: features on a grid that two stores share.

Signals: smoothed curvature. Images and volumes: direction of the gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy import ndimage

SMOOTH_S = {"ecg": 0.025}  # else 0.03: curvature at that scale peaks at 7.5 Hz, above drift and below noise and mains
GRID_HZ = 100.0
STEPS = {2: 48, 3: 24}  # grid of images and volumes, along the longest axis
ZOOMS = (0.9, 0.95, 1.0, 1.05, 1.1)  # a cropped image that was resized to the same size is zoomed
BLOCK = 256  # samples in memory at once


class Samples(Protocol):
    """What is needed of a store."""

    facts: dict[str, Any]

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return samples by position."""
        ...


class Plan(NamedTuple):
    """How samples of one store become features: shared channels, step of the grid and what else both sides agree on."""

    keep: list[int]  # rows of the sample
    rate_hz: float = 0.0  # of the store, of signals
    smooth_s: float = 0.0  # of signals
    grid: tuple[int, ...] = ()  # of images, in steps
    clip: tuple[float, float] | None = None  # greys, in units of the store, between which the HU windows of both agree


def plans(a: Samples, b: Samples) -> tuple[Plan, Plan]:
    """Agree on a grid.

    Raises:
        ValueError: another modality, signals against images, or no channel in common.
    """
    one, two = a.facts, b.facts
    if one["modality"] != two["modality"] or len(one["shape"]) != len(two["shape"]):
        raise ValueError(
            f"copies: a store of {one['modality']} {one['shape']} and one of {two['modality']} {two['shape']}; "
            "compare stores of one modality, signals with signals and slices with slices"
        )
    if len(one["shape"]) == 2:
        names = [[str(c).lower() for c in f["params"]["channels"]] for f in (one, two)]
        shared = [c for c in names[0] if c in names[1]]
        if not shared:
            raise ValueError(f"copies: channels {names[0]} and {names[1]} have none in common; nothing to compare")
        rates = [float(f["params"]["rate_hz"]) for f in (one, two)]
        smooth_s = max(SMOOTH_S.get(one["modality"], 0.03), 1.5 / min(rates))
        return tuple(Plan([n.index(c) for c in shared], r, smooth_s) for n, r in zip(names, rates, strict=True))  # type: ignore[return-value]
    spacing = [f["params"].get("spacing_mm") for f in (one, two)]
    sizes = [np.array(f["shape"][1:], float) for f in (one, two)]
    extent = [n * s if all(spacing) else n / n.max() for n, s in zip(sizes, spacing, strict=True)]
    if not all(spacing):
        extent[1] = extent[0]  # resized to fit, so both show the whole
    step = max(e.max() for e in extent) / STEPS[len(extent[0])]
    windows = [f["params"].get("hu_window") for f in (one, two)]
    clips: list[Any] = [None, None]
    if all(windows) and windows[0] != windows[1]:
        low, high = max(w[0] for w in windows), min(w[1] for w in windows)
        if low < high:
            clips = [((low - w[0]) / (w[1] - w[0]), (high - w[0]) / (w[1] - w[0])) for w in windows]
    return tuple(  # type: ignore[return-value]
        Plan([0], grid=tuple(round(float(x) / step) for x in e), clip=c) for e, c in zip(extent, clips, strict=True)
    )


def features(samples: np.ndarray, plan: Plan, *, zoom: float = 1.0, coarser: float = 1.0) -> np.ndarray:
    """Return float32 (N, C', T'), (N, 2, H', W') or (N, 3, D', H', W') on the grid of ``plan``.

    Signals: second derivative of a Gaussian, which forgets offset and drift; a margin that the filter cannot know is
    left out. Images: gradient, its length compressed, so that a window or gain that stretches some greys does not
    decide; ``zoom`` magnifies about the centre and ``coarser`` widens the grid.
    """
    values = samples[:, plan.keep]
    if not plan.grid:
        rate, width = plan.rate_hz, plan.smooth_s * plan.rate_hz
        curved = ndimage.gaussian_filter1d(values.astype(np.float64), width, axis=2, order=2)
        edge = 3 * plan.smooth_s
        count = int((values.shape[2] - 1 - 2 * edge * rate) / rate * GRID_HZ + 1e-6) + 1
        at = (edge + np.arange(max(count, 0)) / GRID_HZ) * rate
        if np.allclose(at, np.rint(at)):
            return curved[:, :, np.rint(at).astype(int)].astype(np.float32)
        coefficients = ndimage.spline_filter1d(curved.reshape(-1, curved.shape[2]), axis=1)
        out = np.empty((len(coefficients), len(at)), np.float32)
        for i, row in enumerate(coefficients):
            ndimage.map_coordinates(row, [at], order=3, prefilter=False, output=out[i])
        return out.reshape(*values.shape[:2], len(at))
    if plan.clip is not None:
        values = np.clip(values, *plan.clip)
    grid = tuple(max(4, round(n / coarser)) for n in plan.grid)
    axes = range(2, values.ndim)
    step = [n / g / zoom for n, g in zip(values.shape[2:], grid, strict=True)]
    smooth = ndimage.gaussian_filter(values, [0, 0, *(0.4 * max(0.0, s - 1) for s in step)])
    places = [
        (np.arange(g) + 0.5 - g / 2) * s + (n - 1) / 2 for g, s, n in zip(grid, step, values.shape[2:], strict=True)
    ]
    for axis, place in zip(axes, places, strict=True):
        low = np.clip(np.floor(place).astype(int), 0, values.shape[axis] - 2)
        share = np.clip(place - low, 0, 1).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        smooth = smooth.take(low, axis=axis) * (1 - share) + smooth.take(low + 1, axis=axis) * share
    slopes = [
        ndimage.gaussian_filter(smooth[:, 0], [0, *(1.0 for _ in axes)], order=[0, *(int(a == axis) for a in axes)])
        for axis in axes
    ]
    gradient = np.stack(slopes, axis=1)
    length = np.sqrt(np.square(gradient).sum(axis=1, keepdims=True))
    usual = length.mean(axis=tuple(range(1, length.ndim)), keepdims=True)
    return (gradient / np.sqrt(np.square(length) + np.square(0.5 * usual) + 1e-20)).astype(np.float32)


def blocks(count: int) -> list[np.ndarray]:
    """Return positions of samples to hold in memory at once."""
    return [np.arange(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def zooms(axes: int) -> tuple[float, ...]:
    """Return the zooms to try of samples with so many axes."""
    return ZOOMS if axes > 1 else (1.0,)
