"""Choose which samples to keep: greedy exemplars within a Hamming radius, with a receipt for each removed one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from medssl.curate import exemplars, neighbours


class Greedy(NamedTuple):
    """Receipts over N items: ``kept`` bool, ``representative`` int (itself if kept), ``distance`` in bits."""

    kept: np.ndarray
    representative: np.ndarray
    distance: np.ndarray


def greedy(
    hashes: np.ndarray, *, radius: int, groups: np.ndarray | None = None, order: np.ndarray | None = None
) -> Greedy:
    """Keep the first item of each group, drop all within ``radius`` bits of it, and go on with what is left.

    Every two kept items of a group are more than ``radius`` apart, and every dropped one is within ``radius`` of a
    *kept* one, its representative. Running it again on the kept items drops nothing. Exact at any size: near-linear
    in N, see `medssl.curate.exemplars`.

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
    first, bits = exemplars.exemplars(packed, radius=radius, bits=8 * hashes.shape[1], bounds=bounds)
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
    ranks = np.arange(n) if order is None else np.asarray(order)
    group = np.zeros(n, int) if groups is None else pd.factorize(np.asarray(groups))[0]
    sequence = np.lexsort((ranks, group))
    return sequence, np.flatnonzero(np.diff(group[sequence], prepend=-1, append=-1)) if n else np.array([0, 0])


def _in_rows(sequence: np.ndarray, first: np.ndarray, distance: np.ndarray) -> Greedy:
    """Turn places in ``sequence`` back into rows."""
    n = len(sequence)
    representative, apart = np.empty(n, np.int64), np.empty(n, distance.dtype)
    representative[sequence], apart[sequence] = sequence[first], distance
    return Greedy(representative == np.arange(n), representative, apart)


def of_pairs(
    n: int, pairs: pd.DataFrame, *, groups: np.ndarray | None = None, order: np.ndarray | None = None
) -> Greedy:
    """Do what `greedy` does where the redundant pairs are known: ``row_a``, ``row_b`` and ``distance``."""
    sequence, bounds = _sequence(n, groups, order)
    place = np.empty(n, np.int64)
    place[sequence] = np.arange(n)
    group = np.searchsorted(bounds, place, side="right")
    near: dict[int, list[tuple[int, float]]] = {}
    for one, other, distance in pairs[["row_a", "row_b", "distance"]].itertuples(index=False):
        if group[one] == group[other] and one != other:
            early, late = sorted((int(place[one]), int(place[other])))
            near.setdefault(late, []).append((early, float(distance)))
    first, apart = np.arange(n), np.zeros(n)
    for late in sorted(near):
        kept = [pair for pair in near[late] if first[pair[0]] == pair[0]]
        if kept:
            first[late], apart[late] = min(kept)
    return _in_rows(sequence, first, apart)


def arrange(
    table: pd.DataFrame,
    *,
    scope: Literal["volume", "patient", "global"] = "volume",
    keeper: Literal["position", "quality"] = "position",
    published: bool = False,
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return groups (None: one) and the order in which samples of a group are considered, the keeper first.

    Args:
        table: sample table.
        scope: samples of one trial (a volume's slices), of one patient or all may stand for each other.
        keeper: by position in the source, or the best quality first; ties by content, which no key changes.
        published: positions in the order of their text, in which 10 comes before 2.
    """
    groups = {"volume": table["trial"], "patient": table["patient"]}.get(scope)
    keys = [table["content"].to_numpy()]
    if keeper == "quality":
        keys.append(-table["quality"].to_numpy(float))
    elif scope == "global":
        keys.append(np.arange(len(table)))  # the order of the source
    else:
        position = table["index_in_trial"]
        trial = pd.factorize(table["trial"])[0]
        keys += [position.astype(str).to_numpy() if published else position.to_numpy(), trial]
    rank = np.empty(len(table), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(table))
    return None if groups is None else groups.to_numpy(), rank


Choice = Callable[[np.ndarray, np.ndarray | None, np.ndarray], Greedy]


def originals(table: pd.DataFrame) -> np.ndarray:
    """Return bool (N,): the first of all samples of one content, over the whole cohort."""
    # The first row stays: rows are in the order of the source, which, unlike codes, no key can change.
    return ~table["content"].duplicated().to_numpy()


def receipts(
    table: pd.DataFrame,
    choose: Choice | None = None,
    *,
    among: np.ndarray | None = None,
    method: str = "none",
    every: int = 4,
    scope: Literal["volume", "patient", "global"] = "volume",
    keeper: Literal["position", "quality"] = "position",
    published: bool = False,
    min_per_patient: int = 1,
) -> pd.DataFrame:
    """Return one receipt per sample: ``sample_id, kept, duplicate_of, distance, method``.

    Exact copies (equal ``content``) are removed over the whole cohort, since a copy under another patient would sit
    on both sides of a split; ``method`` is ``exact``. What is redundant besides is removed within ``scope``, and at
    least ``min_per_patient`` samples of a patient stay. Pretraining uses the kept rows; evaluation all but the exact
    copies.

    Args:
        table: sample table.
        choose: of (rows, their groups, their order), see `medssl.curate.methods.choose`; None: nothing is compared.
        among: bool (N,), the samples that meet; all others that are no exact copies stay. None: all originals.
        method: name in the receipts; ``every_n`` keeps each ``every``-th of a group, and nothing stands for the rest.
        every, min_per_patient: see above.
        scope, keeper, published: see `arrange`.
    """
    n = len(table)
    ids = table["sample_id"].to_numpy()
    kept = originals(table)
    duplicate_of = table["content"].map(table[kept].set_index("content")["sample_id"]).to_numpy().astype(object)
    duplicate_of[kept] = None
    distance = np.zeros(n)
    name = np.where(kept, "", "exact").astype(object)
    rows = np.flatnonzero(kept if among is None else kept & among)
    groups, order = arrange(table.iloc[rows], scope=scope, keeper=keeper, published=published)
    if method == "every_n":
        group = pd.Series(np.zeros(len(rows)) if groups is None else groups)
        drop = rows[(pd.Series(order).groupby(group).rank().to_numpy() - 1) % every > 0]
    elif choose is not None:
        near = choose(rows, groups, order)
        drop = rows[~near.kept]
        duplicate_of[drop] = ids[rows[near.representative[~near.kept]]]
        distance[drop] = near.distance[~near.kept]
    else:
        drop = rows[:0]
    kept[drop], name[drop] = False, method
    if min_per_patient > 1:  # greedy keeps one of each group anyway
        patient = table["patient"].to_numpy()
        left = pd.Series(kept).groupby(patient).sum().to_dict()
        for who, here in pd.Series(drop).groupby(patient[drop]):
            mine, lacking = here.to_numpy(), max(0, min_per_patient - int(left[who]))
            back = mine[np.argsort(-distance[mine], kind="stable")][:lacking]  # the least similar ones
            kept[back], duplicate_of[back], distance[back], name[back] = True, None, 0, ""
    return pd.DataFrame(
        {"sample_id": ids, "kept": kept, "duplicate_of": duplicate_of, "distance": distance, "method": name}
    )
