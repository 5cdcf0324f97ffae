"""Which pairs of large stores may be copies: those of which a part has nearly the same hash."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medssl.curate import neighbours
from medssl.curate.features import Plan, Samples, blocks, features, zooms

EVERY = 2  # signals are searched at every other step and compared at all
BITS = 192  # of a hash; the first 64 are looked up, all of them rank what was found
RADIUS = {1: 11, 2: 13, 3: 14}  # bits; hashes of windows that correlate 0.97 differ in 5
COARSER = {1: 1.0, 2: 2.0, 3: 1.5}  # hashes are of a grid so much wider
PART = {1: 0.5, 2: 0.7, 3: 0.7}  # of each axis of the smaller sample is hashed
EVENNESS, COMPONENTS, SOME = 0.5, 64, 1000  # of the directions that hash images: see `_even`
CAP = {1: 100, 2: 40, 3: 20}  # candidates of a sample; the nearest hashes stay


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


def retrieve(a: Samples, b: Samples, one: Plan, two: Plan, *, same: bool) -> tuple[pd.DataFrame, int, int]:
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
    for rows in blocks(len(few)):
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
    for rows in blocks(len(dense)):
        for zoom in zooms(axes):
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
        table["zoom"] = np.array(zooms(axes))[
            np.abs(table["zoom"].to_numpy()[:, None] - np.array(zooms(axes))).argmin(axis=1)
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
