"""A label that slipped into the features: found, because one column alone states it."""

from __future__ import annotations

import numpy as np
from scipy import stats
from scipy.special import gammaln

from medssl.evaluate.tasks import Task

LEAST = 20  # units that have a value
AUROC = 0.995  # or 0.005: of one column as a score for a class
SPEARMAN = 0.995  # or -0.995: of one column with a number
CHANCE = 1e-3  # that any column tells so few units apart perfectly
BLOCK = 2**22  # values that are ranked at once


def label_in_features(task: Task, features: np.ndarray) -> list[int]:
    """Return the columns of features (n_units, d) each of which alone states a task's label, ascending.

    For a class, or one label of several, its AUROC among the units that have a value is at least `AUROC` either way;
    for a number, |Spearman| is at least `SPEARMAN`. Fewer than `LEAST` such units say nothing, nor do classes so rare
    that one of d columns would tell them apart by chance. A measure of the very thing, as a pulse rate for a heart
    rate, is found as well: whoever reads decides.

    Raises:
        ValueError: features of other units.
    """
    if len(features) != len(task.patient):
        raise ValueError(f"features of {len(features)} units; '{task.name}' has {len(task.patient)}")
    if task.kind == "number":
        truth = task.truth[:, None]
    elif task.kind == "multilabel":
        truth = task.truth
    else:
        truth = task.truth[:, None] == task.classes
    width = max(1, BLOCK // max(1, len(features)))
    found: list[np.ndarray] = []
    for first in range(0, features.shape[1], width):
        block = features[:, first : first + width]
        states = np.zeros(block.shape[1], dtype=bool)
        for target in truth.T:
            if task.kind == "number":
                states |= _follows(block, target)
            else:
                states |= _separates(block, target, columns=features.shape[1])
        found.append(first + np.flatnonzero(states))
    return [int(column) for column in np.concatenate(found)] if found else []


def _separates(features: np.ndarray, positive: np.ndarray, *, columns: int) -> np.ndarray:
    """Say of each column (d,) whether it tells positive units (n,) from the others, up to one pair in two hundred."""
    known = np.isfinite(features)
    n, yes = known.sum(axis=0), known[positive].sum(axis=0)
    no = n - yes
    above = (_ranks(features, known)[positive]).sum(axis=0) - yes * (yes + 1) / 2
    auroc = above / np.maximum(yes * no, 1)
    # Chance orders n units so that the positive ones are all above or all below with probability 2 / (n choose yes).
    orders = gammaln(n + 1) - gammaln(yes + 1) - gammaln(no + 1)
    enough = (n >= LEAST) & (yes > 0) & (no > 0) & (np.log(2 * columns / CHANCE) < orders)
    return enough & (np.abs(auroc - 0.5) >= AUROC - 0.5)


def _follows(features: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Say of each column (d,) whether it orders units as their numbers (n,) do."""
    known = np.isfinite(features)
    n = known.sum(axis=0)
    x, y = (
        np.where(known, _ranks(values, known) - (n + 1) / 2, 0)
        for values in (features, np.broadcast_to(truth[:, None], features.shape))
    )
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return (n >= LEAST) & (np.abs((x * y).sum(axis=0)) >= SPEARMAN * np.maximum(spread, 1e-9))


def _ranks(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the ranks, from 1, of the known values of each column (n, d) among themselves, and 0 for the others."""
    return np.where(known, stats.rankdata(np.where(known, values, np.inf), axis=0), 0)
