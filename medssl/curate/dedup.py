"""Choose which samples to keep: greedy exemplars within a Hamming radius, with a receipt for each removed one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from medssl.curate import neighbours


class Greedy(NamedTuple):
    """Receipts over N items: ``kept`` bool, ``representative`` int (itself if kept), ``distance`` in bits."""

    kept: np.ndarray
    representative: np.ndarray
    distance: np.ndarray


def greedy(
    hashes: np.ndarray,
    *,
    radius: int,
    groups: np.ndarray | None = None,
    order: np.ndarray | None = None,
) -> Greedy:
    """Keep the first item of each group, drop all within ``radius`` bits of it, and go on with what is left.

    Every two kept items of a group are more than ``radius`` apart, and every dropped one is within ``radius`` of a
    *kept* one, its representative. Running it again on the kept items drops nothing. Exact at any size: near-linear
    in N, see `medssl.curate.neighbours`.

    Args:
        hashes: uint8 (N, bytes).
        radius: largest Hamming distance of a duplicate, in bits (inclusive).
        groups: (N,) any type; items of different groups never meet. None: one group.
        order: (N,) sort key within a group (a slice position, minus a quality); ties by row. None: row order.

    Source: Wolf et al. 2024 (Less is More), sequential exemplar selection.
    """
    if radius < 0:
        raise ValueError(f"radius = {radius}; expected at least 0 bits")
    sequence, bounds = _sequence(len(hashes), groups, order)
    packed = neighbours.pack(hashes)[sequence]
    first, bits = neighbours.exemplars(packed, radius=radius, bits=8 * hashes.shape[1], bounds=bounds)
    return _in_rows(sequence, first, bits)


def select(
    n: int,
    distances: Callable[[int, np.ndarray], np.ndarray],
    *,
    threshold: float,
    groups: np.ndarray | None = None,
    order: np.ndarray | None = None,
) -> Greedy:
    """Do what `greedy` does for any distance: one call of ``distances`` per kept item.

    Args:
        n: number of items.
        distances: of one row to an array of rows, (rows,).
        threshold: largest distance of a duplicate (inclusive).
        groups, order: as in `greedy`.
    """
    sequence, bounds = _sequence(n, groups, order)
    first, distance = np.arange(n), np.zeros(n)
    for start, stop in itertools.pairwise(bounds):
        left = np.arange(start, stop)
        while len(left):
            exemplar, left = left[0], left[1:]
            apart = distances(int(sequence[exemplar]), sequence[left])
            near = apart <= threshold
            first[left[near]], distance[left[near]] = exemplar, apart[near]
            left = left[~near]
    return _in_rows(sequence, first, distance)


def _sequence(n: int, groups: np.ndarray | None, order: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows group by group, each in its order, and where the groups begin and end."""
    if groups is None and order is None:
        return np.arange(n), np.array([0, n])
    ranks = np.arange(n) if order is None else np.asarray(order)
    if groups is None:
        return np.argsort(ranks, kind="stable"), np.array([0, n])
    group = pd.factorize(np.asarray(groups))[0]
    sequence = np.lexsort((ranks, group))
    return sequence, np.flatnonzero(np.diff(group[sequence], prepend=-1, append=-1)) if n else np.array([0, 0])


def _in_rows(sequence: np.ndarray, first: np.ndarray, distance: np.ndarray) -> Greedy:
    """Turn places in ``sequence`` back into rows."""
    n = len(sequence)
    representative, apart = np.empty(n, np.int64), np.empty(n, distance.dtype)
    representative[sequence], apart[sequence] = sequence[first], distance
    return Greedy(representative == np.arange(n), representative, apart)


def receipts(
    table: pd.DataFrame,
    hashes: np.ndarray | None,
    *,
    radius: int | None,
    scope: str = "volume",
    min_per_patient: int = 1,
) -> pd.DataFrame:
    """Return one receipt per sample: ``sample_id, kept, duplicate_of, distance, method``.

    Exact copies (equal ``content``) are removed over the whole cohort, since a copy under another patient would sit
    on both sides of a split; ``method`` is ``exact``. Near copies are removed by `greedy` within ``scope``
    (``volume``: one trial, ``patient``, ``global``); ``method`` is ``dhash``, and at least ``min_per_patient``
    samples of a patient stay. Pretraining uses the kept rows; evaluation all but the exact copies.

    Args:
        table: sample table.
        hashes: uint8 (N, bytes), or None where only exact copies are looked for.
        radius: bits, or None like ``hashes``.
        scope: see above.
        min_per_patient: see above.
    """
    n = len(table)
    # The first row stays: rows are in the order of the source, which, unlike codes, no key can change.
    first = table.drop_duplicates("content").set_index("content")["sample_id"]
    original = table["content"].map(first).to_numpy()
    ids = table["sample_id"].to_numpy()
    kept = original == ids
    duplicate_of = original.astype(object)
    duplicate_of[kept] = None
    distance = np.zeros(n, dtype=np.int64)
    method = np.where(kept, "", "exact").astype(object)
    if hashes is not None and radius is not None:
        rows = np.flatnonzero(kept)
        groups = {"volume": table["trial"], "patient": table["patient"]}.get(scope)
        near = greedy(
            hashes[rows],
            radius=radius,
            groups=None if groups is None else groups.to_numpy()[rows],
            order=None if scope == "global" else table["index_in_trial"].to_numpy()[rows],
        )
        drop = rows[~near.kept]
        kept[drop] = False
        duplicate_of[drop] = ids[rows[near.representative[~near.kept]]]
        distance[drop] = near.distance[~near.kept]
        method[drop] = "dhash"
        _restore(kept, duplicate_of, distance, method, table["patient"].to_numpy(), drop, min_per_patient)
    return pd.DataFrame(
        {"sample_id": ids, "kept": kept, "duplicate_of": duplicate_of, "distance": distance, "method": method}
    )


def _restore(
    kept: np.ndarray,
    duplicate_of: np.ndarray,
    distance: np.ndarray,
    method: np.ndarray,
    patient: np.ndarray,
    dropped: np.ndarray,
    minimum: int,
) -> None:
    """Take back the least similar near copies of patients left with fewer than ``minimum`` samples, in place."""
    if minimum <= 1:  # greedy keeps one of each group anyway
        return
    for who in np.unique(patient[dropped]):
        mine = dropped[patient[dropped] == who]
        lacking = minimum - int(kept[patient == who].sum())
        if lacking > 0:
            back = mine[np.argsort(-distance[mine], kind="stable")][:lacking]
            kept[back], duplicate_of[back], distance[back], method[back] = True, None, 0, ""
