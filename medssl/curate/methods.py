"""Ways to call two samples redundant, under one interface: a signature per sample, a distance, a threshold.

A pair at most ``threshold`` apart is redundant; `choose` keeps exemplars by that rule within groups, in an order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from medssl import parallel
from medssl.curate import dedup, signal_hash, similarity
from medssl.curate import fingerprint as F
from medssl.store import Store

BINS = 32  # grey levels of mutual information
Signature = Callable[[np.ndarray, dict[str, Any]], np.ndarray]
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Method:
    """One way to compare samples."""

    unit: str  # of the distance, for people
    threshold: float  # largest distance of a redundant pair by default (inclusive)
    largest: float  # threshold above which a sweep does not go
    axes: tuple[int, ...]  # of the samples it is for, without channels: 1 signals, 2 slices, 3 volumes
    signature: Signature | None  # of one sample (C, ...) and the facts of its store; None: it comes from elsewhere
    distances: Distances | None = None  # of one signature to many, (M,); None: bits that differ, of uint8 hashes


def _beat(sample: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    return signal_hash.signal_hash(sample, rate_hz=facts["params"]["rate_hz"], modality=facts["modality"])


def _levels(sample: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    return similarity.grey_bins(sample[0], BINS, limits=(0.0, 1.0))


def _less(likeness: Callable[..., np.ndarray], **given: Any) -> Distances:
    return lambda one, many: 1 - likeness(one, many, **given)


def _radii(modality: str) -> Distances:
    """In radii of the hash, so that one threshold, 1, serves any number of leads."""
    return lambda one, many: signal_hash.distance(one, many) / signal_hash.radius(len(one), modality)


def _apart(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """One less the share of the shorter interval (start, end, trial) that both cover; a trial has its own clock."""
    shared = np.minimum(one[1], many[:, 1]) - np.maximum(one[0], many[:, 0])
    share = np.clip(shared, 0, None) / np.minimum(one[1] - one[0], many[:, 1] - many[:, 0])
    return np.where(many[:, 2] == one[2], 1 - share, 1.0)


METHODS = {
    "dhash": Method("bits", 6, 20, (2, 3), lambda sample, facts: F.signature(sample)),
    "ahash": Method("bits", 6, 20, (2, 3), lambda sample, facts: F.signature(sample, F.ahash)),
    "phash": Method("bits", 6, 20, (2, 3), lambda sample, facts: F.signature(sample, F.phash)),
    "slices": Method("bits", 24, 80, (3,), lambda sample, facts: F.slice_set(sample)),
    "dhash3d": Method("bits", 12, 40, (3,), lambda sample, facts: F.dhash3d(sample[0])),
    "ssim": Method(
        "1 - SSIM", 0.1, 0.6, (2, 3), lambda sample, facts: sample[0], _less(similarity.ssim, data_range=1.0)
    ),
    "mutual_information": Method(
        "1 - normalised MI", 0.3, 0.8, (2, 3), _levels, _less(similarity.mutual_information, bins=BINS, normalised=True)
    ),
    "embedding": Method("1 - cosine", 0.01, 0.2, (1, 2, 3), None, _less(similarity.cosine)),
    "beats": Method("radii of the hash", 1, 4, (1,), _beat, _radii("ecg")),
    "bands": Method("radii of the hash", 1, 2, (1,), _beat, _radii("eeg")),
    "overlap": Method("1 - share of the shorter", 0.5, 0.99, (1,), None, _apart),
}


def signatures(name: str, store: Store, *, published: bool = False, progress: bool = True) -> np.ndarray:
    """Return one signature per sample of ``store``, by a key of `METHODS`.

    Args:
        published: hash images after per-slice min-max scaling to 8 bits, as Less is More exports them.

    Raises:
        ValueError: the method is not for such samples.
    """
    method, axes = METHODS[name], len(store.facts["shape"]) - 1
    if axes not in method.axes:
        fitting = ", ".join(k for k, m in METHODS.items() if axes in m.axes)
        kind = {1: "signals", 2: "slices", 3: "volumes"}[axes]
        raise ValueError(f"dedup.method = {name} is not for {kind}; for those: {fitting}, every_n, none")
    if name in ("beats", "bands") and (store.facts["modality"] == "eeg") != (name == "bands"):
        raise ValueError(f"dedup.method = {name}: beats is for ECG and PPG, bands for EEG")
    if name == "overlap":
        start = store.table["start_s"].to_numpy(float)
        end = start + store.table["duration_s"].to_numpy(float)
        return np.column_stack([start, end, store.table["trial"].to_numpy(float)])
    if method.signature is None:
        raise ValueError(f"dedup.method = {name}: signatures come from an encoder; pass them")
    rows = tqdm(range(len(store)), desc=name, disable=None if progress else True, leave=False)
    samples = (F.per_slice_minmax(store[i][0])[None] if published else store[i] for i in rows)
    return np.stack([method.signature(sample, store.facts) for sample in samples])


def choose(
    name: str,
    values: np.ndarray,
    *,
    threshold: float,
    groups: np.ndarray | None = None,
    order: np.ndarray | None = None,
    executor: parallel.Kind = "serial",
    workers: int = 1,
    address: str | None = None,
) -> dedup.Greedy:
    """Keep exemplars by one method; groups are spread over the workers where distances are slow.

    Args:
        name: a key of `METHODS`.
        values: signatures (N, ...).
        threshold: largest distance of a redundant pair.
        groups, order: as in `medssl.curate.dedup.greedy`.
        executor, workers, address: as in `medssl.parallel.ordered_map`.
    """
    method = METHODS[name]
    if method.distances is None:
        return dedup.greedy(values, radius=int(threshold), groups=groups, order=order)
    whole = functools.partial(_part, name, threshold)
    if groups is None or executor == "serial":
        return whole((values, groups, order))
    # Groups never meet, so any parts that keep them whole give the same result.
    n = len(values)
    code, rank = pd.factorize(np.asarray(groups))[0], np.arange(n) if order is None else np.asarray(order)
    parts = [p for k in range(4 * workers) if len(p := np.flatnonzero(code % (4 * workers) == k))]
    tasks = ((values[p], code[p], rank[p]) for p in parts)
    done = parallel.ordered_map(
        whole, tasks, executor=executor, workers=workers, address=address, label=name, total=len(parts)
    )
    out = dedup.Greedy(np.zeros(n, bool), np.zeros(n, np.int64), np.zeros(n))
    for rows, part in zip(parts, done, strict=True):
        out.kept[rows], out.distance[rows] = part.kept, part.distance
        out.representative[rows] = rows[part.representative]
    return out


def _part(name: str, threshold: float, task: tuple[np.ndarray, np.ndarray | None, np.ndarray | None]) -> dedup.Greedy:
    """Choose among some groups; a function of the module, so that processes can be given it."""
    values, groups, order = task
    distances = METHODS[name].distances
    assert distances is not None
    return dedup.select(
        len(values), lambda i, rows: distances(values[i], values[rows]), threshold=threshold, groups=groups, order=order
    )


def sweep(name: str, threshold: float, keep: Callable[[float], dedup.Greedy]) -> pd.DataFrame:
    """Return ``threshold`` and ``keep_ratio`` at a row of thresholds around the one in use, by the choice at each."""
    method = METHODS[name]
    if method.distances is None:
        steps = np.unique(np.linspace(0, max(method.largest, threshold), 11).round())
    else:
        steps = method.largest * np.array([0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1])
    steps = np.unique(np.append(steps, threshold))
    return pd.DataFrame({"threshold": steps, "keep_ratio": [float(keep(s).kept.mean()) for s in steps]})


def calibrate(name: str, keep_ratio: float, keep: Callable[[float], dedup.Greedy]) -> float:
    """Return the threshold whose share of kept samples comes nearest to ``keep_ratio`` in (0, 1], to compare methods.

    ``keep`` is the choice at a threshold.
    """
    method = METHODS[name]
    tried: dict[float, float] = {}

    def off(threshold: float) -> float:
        if threshold not in tried:
            tried[threshold] = float(keep(threshold).kept.mean()) - keep_ratio
        return tried[threshold]

    low, high = 0.0, float(method.largest)
    for _ in range(12):
        if off(low) <= 0 or off(high) >= 0:
            break
        middle = (low + high) / 2 if method.distances else float((low + high) // 2)
        if middle in (low, high):
            break
        low, high = (middle, high) if off(middle) > 0 else (low, middle)
    return min(tried, key=lambda t: (abs(tried[t]), t))
