"""Find copies: one recording stored twice in another form, within a store or between two, by content and not by id.

A copy may have another gain, offset, unit, rate or resolution, filter band or HU window, start or crop, a little
noise or lossy compression. Three steps:

1. Features on a grid that both stores share: smoothed curvature of signals, direction of the gradient of images.
2. Candidates: all pairs of small stores; of large ones, those of which a part has nearly the same 64-bit hash.
3. What `medssl.curate.aligned` says of a candidate once aligned decides.

Another stretch of the same heart, another slice of the same chest and the same organ of someone else are no copies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medssl.curate import aligned
from medssl.curate.candidates import EVERY, retrieve
from medssl.curate.features import GRID_HZ, Plan, Samples, blocks, features, plans, zooms

# Largest share of energy left in a copy once aligned, by modality and axes of a sample; of signals, for each second of
# overlap up to LONGEST_S, since a longer stretch of someone's regular rhythm fits worse. Chosen on every other patient
# of the sets that studies/copies.py reads; its table is of the others. No set has CT volumes: theirs is that of MRI.
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
TAPS = 4  # steps to either side of the filter that explains a copy
LEAST_S = 1.0  # overlap of signals: about a beat
EXHAUSTIVE = {1: 4_000_000, 2: 50_000, 3: 20_000}  # so many pairs are all compared: half a minute at most


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
    ``attrs``: ``compared`` pairs, ``capped`` samples with more candidates than are looked at, ``radius`` of the hashes
    in bits, lower than usual where samples are too alike to look that far, and -1 where all pairs were compared.

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
        table, attrs["capped"], attrs["radius"] = retrieve(a, other, one, two, same=b is None)
        attrs["compared"] = len(table)
        table = _coarse(table, few, many, other, two)
    table = table[table["correlation"] >= COARSE[axes]]
    if axes == 1:  # at all steps: between those searched, the next beat may have fitted better
        table = _coarse(table, first, second, other, two, thinned=False)
    found = _verified(table, first, second, limit)
    found.attrs.update(attrs)
    return found


def _all(store: Samples, plan: Plan) -> np.ndarray:
    return np.concatenate([features(store.read(rows), plan) for rows in blocks(len(store))])


def _least(first: np.ndarray, second: np.ndarray, thinned: bool = True) -> float:
    """Return the share of the shorter signal, or of the smaller image, that must remain."""
    axes = first.ndim - 2
    if axes > 1:
        return aligned.MIN_OVERLAP[axes]
    rate_hz = GRID_HZ / EVERY if thinned else GRID_HZ
    return min(1.0, max(aligned.MIN_OVERLAP[1], LEAST_S * rate_hz / min(first.shape[2], second.shape[2])))


def _zoomed(store: Samples, plan: Plan, held: np.ndarray, rows: np.ndarray, zoom: float) -> np.ndarray:
    return held[rows] if zoom == 1 else features(store.read(rows), plan, zoom=zoom)


def _every(first: np.ndarray, second: np.ndarray, other: Samples, plan: Plan, *, same: bool) -> pd.DataFrame:
    """Compare all pairs; keep those that correlate on the coarse grid."""
    axes, share, found = first.ndim - 2, _least(first, second), []
    for left in blocks(len(first)):
        many = aligned.spectra(first[left], other=second.shape[2:], min_overlap=share)
        for right in blocks(len(second)):
            if same and right[-1] <= left[0]:
                continue
            top = np.full((len(right), len(left)), -1.0, np.float32)
            lags, zoomed = np.zeros((*top.shape, axes)), np.ones(top.shape)
            for zoom in zooms(axes):
                queries = aligned.spectra(
                    _zoomed(other, plan, second, right, zoom), other=first.shape[2:], min_overlap=share
                )
                for i in range(len(right)):
                    value, lag = aligned.correlate(queries.take(slice(i, i + 1)), many)
                    better = value > top[i]
                    top[i, better], lags[i, better], zoomed[i, better] = value[better], -lag[better], zoom
            late, early = np.nonzero(top >= COARSE[axes])
            at = late, early
            found.append(_table(left[early], right[late], top[at], lags[at], zoomed[at]))
    table = pd.concat(found, ignore_index=True)
    return table[table["row_a"] < table["row_b"]] if same else table


def _table(row_a: np.ndarray, row_b: np.ndarray, value: np.ndarray, lags: np.ndarray, zoom: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {"row_a": row_a, "row_b": row_b, "correlation": value, "zoom": zoom, "lag": list(map(tuple, lags.tolist()))}
    )


def _coarse(
    table: pd.DataFrame, first: np.ndarray, second: np.ndarray, other: Samples, plan: Plan, thinned: bool = True
) -> pd.DataFrame:
    """Return candidates with their aligned correlation at the best zoom.

    Zooms tried are the one where their hashes met and those beside it: hashes tell neighbours apart by luck.
    """
    axes, share = first.ndim - 2, _least(first, second, thinned)
    tried = np.array(zooms(axes))
    found = [_table(*(np.zeros(0, int),) * 2, *(np.zeros(0),) * 3)]
    for part in blocks(len(table)):
        row_a, row_b = (table[name].to_numpy()[part] for name in ("row_a", "row_b"))
        met = np.abs(table["zoom"].to_numpy()[part][:, None] - tried).argmin(axis=1)
        (one, back_a), (two, back_b) = (np.unique(row, return_inverse=True) for row in (row_a, row_b))
        x = aligned.spectra(first[one], other=second.shape[2:], min_overlap=share)
        top = np.full(len(part), -1.0, np.float32)
        lags, zoomed = np.zeros((len(part), axes)), np.ones(len(part))
        for k, zoom in enumerate(tried):
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
