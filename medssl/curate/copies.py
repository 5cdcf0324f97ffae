"""Find copies: one recording stored twice in another form, within a store or between two, by content and not by id.

A copy may have another gain, offset, unit, rate or resolution, filter band or HU window, start or crop, a little
noise or lossy compression. Three steps:

1. Features on a grid that both stores share: smoothed curvature of signals, direction of the gradient of images.
2. Candidates: all pairs of small stores; of large ones, those of which a part has nearly the same 64-bit hash.
3. What `medssl.curate.aligned` says of a candidate once aligned decides.

Another stretch of the same heart, another slice of the same chest and the same organ of someone else are no copies.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from scipy import ndimage

from medssl.curate import aligned, neighbours

# Largest share of energy left in a copy once aligned, by modality and axes of a sample; of signals, for each second of
# overlap up to LONGEST_S, since a longer stretch of someone's regular rhythm fits worse. Chosen on every other patient
# of the sets that benchmarks/copies.py reads; its table is of the others. No set has CT volumes: theirs is that of MRI.
THRESHOLD = {
    ("ecg", 1): 0.00085,
    ("ppg", 1): 0.0012,
    ("eeg", 1): 0.005,
    ("ct", 2): 0.0225,
    ("ct", 3): 0.045,
    ("mri", 2): 0.09,
    ("mri", 3): 0.045,
}
COARSE = {1: 0.9, 2: 0.7, 3: 0.8}  # a pair below this aligned correlation is not looked at further
LONGEST_S = 10.0
PATIENCE = {1: 50, 2: 5, 3: 5}  # nor are a sample's others after so many failures, most alike first
SMOOTH_S = {"ecg": 0.025}  # else 0.03: curvature at that scale peaks at 7.5 Hz, above drift and below noise and mains
GRID_HZ = 100.0
EVERY = 2  # signals are searched at every other step and compared at all
TAPS = 4  # steps to either side of the filter that explains a copy
LEAST_S = 1.0  # overlap of signals: about a beat
STEPS = {2: 48, 3: 24}  # grid of images and volumes, along the longest axis
ZOOMS = (0.9, 0.95, 1.0, 1.05, 1.1)  # a cropped image that was resized to the same size is zoomed
EXHAUSTIVE = {1: 4_000_000, 2: 50_000, 3: 20_000}  # so many pairs are all compared: half a minute at most
BITS = 192  # of a hash; the first 64 are looked up, all of them rank what was found
RADIUS = {1: 11, 2: 13, 3: 14}  # bits; hashes of windows that correlate 0.97 differ in 5
COARSER = {1: 1.0, 2: 2.0, 3: 1.5}  # hashes are of a grid so much wider
PART = {1: 0.5, 2: 0.7, 3: 0.7}  # of each axis of the smaller sample is hashed
EVENNESS, COMPONENTS, SOME = 0.5, 64, 1000  # of the directions that hash images: see `_even`
CAP = {1: 100, 2: 40, 3: 20}  # candidates of a sample; the nearest hashes stay
BLOCK = 256  # samples in memory at once


class Samples(Protocol):
    """What is needed of a store."""

    facts: dict[str, Any]

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return samples by position."""
        ...


class Plan(NamedTuple):
    """How samples of one store become features: shared channels, step of the grid and what else both sides agree on.

    ``keep`` rows of the sample; signals: ``rate_hz`` of the store and ``smooth_s``; images: ``grid`` in steps, and
    ``clip``, grey values in units of the store between which the HU windows of both agree.
    """

    keep: list[int]
    rate_hz: float = 0.0
    smooth_s: float = 0.0
    grid: tuple[int, ...] = ()
    clip: tuple[float, float] | None = None


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


def pairs(
    a: Samples,
    b: Samples | None = None,
    *,
    threshold: float | None = None,
    exhaustive: int | None = None,
) -> pd.DataFrame:
    """Return the copies between two stores, or within one, best first.

    Columns: ``row_a`` and ``row_b`` (positions; within one store ``row_a < row_b``), ``correlation`` of the features at
    the best shift, ``remainder`` (share of energy unexplained once aligned), ``lag`` by which the content of ``b`` is
    later (seconds of a signal; of an image a tuple, in shares of its longest axis) and ``zoom`` by which it is larger.
    ``attrs``: ``compared`` pairs, ``capped`` samples that had more than `CAP` candidates, ``radius`` of the hashes in
    bits, lower than `RADIUS` where samples are too alike to look that far, and -1 where all pairs were compared.

    Args:
        a, b: stores, or anything with their ``facts``, length and ``read``. Features of both are held in memory.
        threshold: largest ``remainder`` of a copy; None: `THRESHOLD`.
        exhaustive: compare all pairs if there are no more than this; None: `EXHAUSTIVE`.

    Raises:
        ValueError: see `plans`; or no threshold is known for the modality and none is given.

    Source: methods-core 4.7 (time-shifted copies), with a test of what is left in place of a correlation of 0.98.
    """
    other = a if b is None else b
    one, two = plans(a, other)
    axes = len(a.facts["shape"]) - 1
    key = (str(a.facts["modality"]), axes)
    limit = THRESHOLD.get(key) if threshold is None else threshold
    if limit is None:
        raise ValueError(f"copies: no threshold is known for {key[0]} with {axes} axes; pass threshold")
    first = _all(a, one)
    second = first if b is None else _all(other, two)
    few, many = (x[..., ::EVERY] if axes == 1 else x for x in (first, second))
    most = EXHAUSTIVE[axes] if exhaustive is None else exhaustive
    attrs: dict[str, Any] = {"compared": 0, "capped": 0, "radius": -1}
    if len(a) * len(other) <= most:
        table = _every(few, many, other, two, same=b is None)
        attrs["compared"] = len(a) * len(other)
    else:
        table, attrs["capped"], attrs["radius"] = _retrieved(a, other, one, two, same=b is None)
        attrs["compared"] = len(table)
        table = _coarse(table, few, many, other, two)
    table = table[table["correlation"] >= COARSE[axes]]
    if axes == 1:  # at all steps: between those searched, the next beat may have fitted better
        table = _coarse(table, first, second, other, two, thinned=False)
    found = _verified(table, first, second, limit)
    found.attrs.update(attrs)
    return found


def _blocks(count: int) -> list[np.ndarray]:
    return [np.arange(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def _all(store: Samples, plan: Plan) -> np.ndarray:
    return np.concatenate([features(store.read(rows), plan) for rows in _blocks(len(store))])


def _least(first: np.ndarray, second: np.ndarray, thinned: bool = True) -> float:
    """Return the share of the shorter signal, or of the smaller image, that must remain."""
    axes = first.ndim - 2
    if axes > 1:
        return aligned.MIN_OVERLAP[axes]
    rate_hz = GRID_HZ / EVERY if thinned else GRID_HZ
    return min(1.0, max(aligned.MIN_OVERLAP[1], LEAST_S * rate_hz / min(first.shape[2], second.shape[2])))


def _zooms(axes: int) -> tuple[float, ...]:
    return ZOOMS if axes > 1 else (1.0,)


def _zoomed(store: Samples, plan: Plan, held: np.ndarray, rows: np.ndarray, zoom: float) -> np.ndarray:
    return held[rows] if zoom == 1 else features(store.read(rows), plan, zoom=zoom)


def _every(first: np.ndarray, second: np.ndarray, other: Samples, plan: Plan, *, same: bool) -> pd.DataFrame:
    """Compare all pairs; keep those that correlate on the coarse grid."""
    axes, share, found = first.ndim - 2, _least(first, second), []
    for left in _blocks(len(first)):
        many = aligned.spectra(first[left], other=second.shape[2:], min_overlap=share)
        for right in _blocks(len(second)):
            if same and right[-1] <= left[0]:
                continue
            top = np.full((len(right), len(left)), -1.0, np.float32)
            lags, zooms = np.zeros((*top.shape, axes)), np.ones(top.shape)
            for zoom in _zooms(axes):
                queries = aligned.spectra(
                    _zoomed(other, plan, second, right, zoom), other=first.shape[2:], min_overlap=share
                )
                for i in range(len(right)):
                    value, lag = aligned.correlate(queries.take(slice(i, i + 1)), many)
                    better = value > top[i]
                    top[i, better], lags[i, better], zooms[i, better] = value[better], -lag[better], zoom
            late, early = np.nonzero(top >= COARSE[axes])
            at = late, early
            found.append(_table(left[early], right[late], top[at], lags[at], zooms[at]))
    table = pd.concat(found, ignore_index=True)
    return table[table["row_a"] < table["row_b"]] if same else table


def _table(
    row_a: np.ndarray, row_b: np.ndarray, value: np.ndarray, lags: np.ndarray, zooms: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {"row_a": row_a, "row_b": row_b, "correlation": value, "zoom": zooms, "lag": list(map(tuple, lags.tolist()))}
    )


def _coarse(
    table: pd.DataFrame, first: np.ndarray, second: np.ndarray, other: Samples, plan: Plan, thinned: bool = True
) -> pd.DataFrame:
    """Return candidates with their aligned correlation at the best zoom.

    Zooms tried are the one where their hashes met and those beside it: hashes tell neighbours apart by luck.
    """
    axes, share = first.ndim - 2, _least(first, second, thinned)
    zooms = np.array(_zooms(axes))
    found = [_table(*(np.zeros(0, int),) * 2, *(np.zeros(0),) * 3)]
    for part in _blocks(len(table)):
        row_a, row_b = (table[name].to_numpy()[part] for name in ("row_a", "row_b"))
        met = np.abs(table["zoom"].to_numpy()[part][:, None] - zooms).argmin(axis=1)
        (one, back_a), (two, back_b) = (np.unique(row, return_inverse=True) for row in (row_a, row_b))
        x = aligned.spectra(first[one], other=second.shape[2:], min_overlap=share)
        top = np.full(len(part), -1.0, np.float32)
        lags, zoomed = np.zeros((len(part), axes)), np.ones(len(part))
        for k, zoom in enumerate(zooms):
            near = np.flatnonzero(np.abs(met - k) <= 1)
            if not len(near):
                continue
            y = aligned.spectra(_zoomed(other, plan, second, two, zoom), other=first.shape[2:], min_overlap=share)
            value, lag = aligned.correlate(x.take(back_a[near]), y.take(back_b[near]))
            better = value > top[near]
            top[near[better]], lags[near[better]], zoomed[near[better]] = value[better], lag[better], zoom
        found.append(_table(row_a, row_b, top, lags, zoomed))
    return pd.concat(found[1:] or found, ignore_index=True)


def _verified(table: pd.DataFrame, first: np.ndarray, second: np.ndarray, limit: float) -> pd.DataFrame:
    """Keep the candidates of which little is left once aligned."""
    axes, kept = first.ndim - 2, []
    centre = (np.array(second.shape[2:]) - 1) / 2
    middle = (np.array(first.shape[2:]) - 1) / 2
    failures: dict[int, int] = {}
    ordered = table.sort_values(["row_b", "correlation"], ascending=[True, False], kind="stable")
    for row_a, row_b, value, zoom, lag in zip(*(ordered[name] for name in ordered.columns), strict=True):
        if failures.get(row_b, 0) >= PATIENCE[axes]:
            continue
        one, two, place = first[row_a], second[row_b], np.array(lag)
        if axes == 1:
            seconds = (min(one.shape[1], two.shape[1] - lag[0]) - max(0, -lag[0])) / GRID_HZ
            most = limit * min(seconds, LONGEST_S)
            left = aligned.explain(one, two, round(lag[0]), taps=TAPS)
            moved: Any = lag[0] / GRID_HZ
        else:
            most = limit
            start = {"scale": np.full(axes, 1 / zoom), "offset": (place - centre) / zoom + centre}
            fit = aligned.register(one, two, **start)
            left, zoom = 1 - max(fit.correlation, 0) ** 2, float(np.prod(fit.scale) ** (1 / axes))
            moved = tuple(((fit.scale * middle + fit.offset - centre) / max(one.shape[1:])).round(4).tolist())
        if left <= most:
            kept.append((row_a, row_b, value, left, moved, zoom))
        failures[row_b] = 0 if left <= most else failures.get(row_b, 0) + 1
    columns = ["row_a", "row_b", "correlation", "remainder", "lag", "zoom"]
    return pd.DataFrame(kept, columns=columns).sort_values("remainder", kind="stable", ignore_index=True)


# --- Candidates by hash -----------------------------------------------------------------------------------------------


def _windows(values: np.ndarray, part: tuple[int, ...], starts: list[np.ndarray]) -> np.ndarray:
    """Return every window of shape ``part`` that begins at ``starts`` of each axis, (N, windows, C * part)."""
    axes = tuple(range(2, values.ndim))
    views = np.lib.stride_tricks.sliding_window_view(values, part, axis=axes)
    for axis, start in zip(axes, starts, strict=True):
        views = views.take(start, axis=axis)
    views = np.moveaxis(views, 1, 1 + len(axes))
    return views.reshape(len(values), -1, values.shape[1] * int(np.prod(part)))


def _projections(channels: int, part: tuple[int, ...]) -> np.ndarray:
    """Return fixed random directions (C * part, BITS), each without a mean along any channel."""
    directions = np.random.default_rng(0).standard_normal((BITS, channels, int(np.prod(part))))
    directions -= directions.mean(axis=2, keepdims=True)
    return directions.reshape(BITS, -1).T.astype(np.float32)


def _even(windows: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return directions (K, BITS) that give what samples differ in its say, from some windows (n, K).

    All chests share most of their outline: along random directions the few large components of a cohort would decide
    every bit, and half a cohort would share a hash. Each principal component counts by ``spread ** (1 - EVENNESS)``.
    """
    unit = windows / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-9)
    _, spread, components = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    kept = min(COMPONENTS, int((spread > 1e-3 * spread[0]).sum()))
    weights = (components[:kept] @ directions) * spread[:kept, None] ** -EVENNESS
    return (components[:kept].T @ weights).astype(np.float32)


def _project(windows: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return projections (N, windows, BITS) of windows scaled to unit length."""
    length = np.sqrt(np.einsum("nwk,nwk->nw", windows, windows))[..., None]
    return (windows @ directions) / np.maximum(length, 1e-9)


def _retrieved(a: Samples, b: Samples, one: Plan, two: Plan, *, same: bool) -> tuple[pd.DataFrame, int, int]:
    """Return candidate pairs with the zoom where a part of one has nearly the hash of a part of the other.

    Of one side, the shorter signals, a few parts are hashed: of a signal its two halves, of which any overlap in
    question holds one; of an image its centre. Of the other, every part of that size at every zoom is.

    Returns:
        Columns ``row_a, row_b, zoom``; samples with too many candidates; the radius in bits.
    """
    axes = len(a.facts["shape"]) - 1
    wide = COARSER[axes]
    thin = (..., slice(None, None, EVERY)) if axes == 1 else ...
    shapes = [features(s.read(np.arange(1)), p, coarser=wide)[thin].shape for s, p in ((a, one), (b, two))]
    swap = axes == 1 and shapes[0][2] > shapes[1][2]
    (few, few_plan), (dense, dense_plan) = ((b, two), (a, one)) if swap else ((a, one), (b, two))
    part = tuple(max(2, int(PART[axes] * min(n, k))) for n, k in zip(shapes[0][2:], shapes[1][2:], strict=True))
    size = shapes[1 if swap else 0][2:]
    starts = [
        np.unique([0, max(0, n - p - 1)]) if axes == 1 else np.array([(n - p) // 2])
        for n, p in zip(size, part, strict=True)
    ]
    directions = _projections(shapes[0][1], part)
    if axes > 1:
        some = np.sort(np.random.default_rng(1).permutation(len(few))[:SOME])
        directions = _even(_windows(features(few.read(some), few_plan, coarser=wide), part, starts)[:, 0], directions)
    projected = []
    for rows in _blocks(len(few)):
        values = features(few.read(rows), few_plan, coarser=wide)[thin]
        both = [values]  # and half a step later along each axis, since the other side's steps lie elsewhere
        for axis in range(2, values.ndim):
            both += [(x + np.roll(x, -1, axis=axis)) / 2 for x in both]
        projected.append(np.concatenate([_project(_windows(x, part, starts), directions) for x in both], axis=1))
    held = np.concatenate(projected)
    level = np.median(held, axis=(0, 1)) if axes > 1 else np.zeros(BITS, np.float32)
    queries = np.packbits(held > level, axis=2)
    owner = np.repeat(np.arange(len(few)), queries.shape[1])
    queries = queries.reshape(-1, BITS // 8)

    radius, found = RADIUS[axes], []
    for rows in _blocks(len(dense)):
        for zoom in _zooms(axes):
            values = features(dense.read(rows), dense_plan, zoom=zoom, coarser=wide)[thin]
            every = [np.arange(n - p + 1) for n, p in zip(values.shape[2:], part, strict=True)]
            hashes = np.packbits(_project(_windows(values, part, every), directions) > level, axis=2)
            item = np.repeat(rows, hashes.shape[1])
            hashes = hashes.reshape(-1, BITS // 8)
            keys, asked = np.ascontiguousarray(hashes[:, :8]), np.ascontiguousarray(queries[:, :8])
            radius = _affordable(keys, asked, radius)
            near = neighbours.within(keys, asked, radius=radius)
            bits = np.bitwise_count(hashes[near.item].view(np.uint64) ^ queries[near.query].view(np.uint64)).sum(1)
            code = owner[near.query] * np.int64(len(dense)) + item[near.item]
            order = np.lexsort((bits, code))
            code, least = np.unique(code[order], return_index=True)
            found.append(
                pd.DataFrame(
                    {"few": code // len(dense), "dense": code % len(dense), "zoom": zoom,
                     "bits": bits[order][least]}
                )
            )  # fmt: skip
    table = pd.concat(found, ignore_index=True).sort_values("bits", kind="stable")
    table = table.drop_duplicates(["few", "dense"])
    names = {"few": "row_b", "dense": "row_a"} if swap else {"few": "row_a", "dense": "row_b"}
    table = table.rename(columns=names)
    if same:
        table = table[table["row_a"] != table["row_b"]]
        low, high = np.minimum(table["row_a"], table["row_b"]), np.maximum(table["row_a"], table["row_b"])
        flipped = (table["row_a"] > table["row_b"]).to_numpy()
        table = table.assign(row_a=low, row_b=high, zoom=np.where(flipped, 1 / table["zoom"], table["zoom"]).round(3))
        table["zoom"] = np.array(_zooms(axes))[
            np.abs(table["zoom"].to_numpy()[:, None] - np.array(_zooms(axes))).argmin(axis=1)
        ]
        table = table.drop_duplicates(["row_a", "row_b"])
    rank = table.groupby("row_b").cumcount()
    crowded = int(table.loc[rank >= CAP[axes], "row_b"].nunique())
    return table[rank < CAP[axes]].sort_values(["row_b", "row_a"], ignore_index=True), crowded, radius


def _affordable(hashes: np.ndarray, queries: np.ndarray, radius: int) -> int:
    """Return the largest radius, up to ``radius``, at which few enough pairs are expected: three million in a block."""
    rng = np.random.default_rng(0)
    some = queries[rng.integers(0, len(queries), 64)].view(np.uint64)
    items = hashes[rng.integers(0, len(hashes), 4096)].view(np.uint64)
    bits = np.bitwise_count(some ^ items.T)
    while radius > 2 and (bits <= radius).mean() * len(hashes) * len(queries) > 3e6:
        radius -= 1
    return radius
