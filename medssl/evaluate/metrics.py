"""Metrics with patient-bootstrap intervals, all draws at once.

Letters: n test units (patients, trials or samples), B bootstrap draws, K classes, S seeds. A draw takes patients with
replacement; a unit counts as often as its patient was drawn, so units of one patient are never treated as
independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


def draw_weights(patients: np.ndarray, draws: int, *, seed: int = 0) -> np.ndarray:
    """Return (1 + draws, n) counts; row 0 is the sample itself (all ones)."""
    member, unique = pd.factorize(patients)  # by appearance: codes depend on the project's key
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=draws)
    return np.concatenate([np.ones((1, len(patients))), counts[:, member]]).astype(np.float64)


def auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve for each row of ``weights`` (B, n); NaN where a class is absent.

    Args:
        scores: (n,), larger means more likely positive; ties count half.
        positive: (n,) bool.
        weights: (B, n) counts.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    pos = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    neg = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(neg, axis=1) - neg
    pairs = pos.sum(1) * neg.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (pos * (below + neg / 2)).sum(1) / pairs, np.nan)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, weights @ values / total, np.nan)


def class_metrics(scores: np.ndarray, truth: np.ndarray, classes: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return macro one-vs-rest AUROC and balanced accuracy per draw, of scores (n, K) with columns ``classes``."""
    present = [k for k, c in enumerate(classes) if (truth == c).any()]
    predicted = classes[scores.argmax(1)]
    # With two classes both columns say the same.
    columns = present[-1:] if len(classes) == 2 else present
    return {
        "auroc": np.mean([auroc(scores[:, k], truth == classes[k], weights) for k in columns], axis=0),
        "balanced_accuracy": np.mean(
            [_mean((predicted == c)[truth == c].astype(float), weights[:, truth == c]) for c in classes[present]],
            axis=0,
        ),
    }


def multilabel_metrics(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return macro AUROC per draw of scores (n, K) against bool truth (n, K), over labels that occur."""
    usable = [k for k in range(truth.shape[1]) if 0 < truth[:, k].sum() < len(truth)]
    if not usable:
        return {"auroc": np.full(len(weights), np.nan)}
    areas = np.stack([auroc(scores[:, k], truth[:, k], weights) for k in usable])
    known = np.isfinite(areas)
    # A draw may miss every label; that is no reason for nanmean to warn.
    mean = np.where(known, areas, 0).sum(0) / np.maximum(known.sum(0), 1)
    return {"auroc": np.where(known.any(0), mean, np.nan)}


def number_metrics(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Return mean absolute error and R^2 per draw."""
    mean = _mean(truth, weights)
    residual = _mean(np.square(predicted - truth), weights)
    # E[y^2] - E[y]^2 after centring, which keeps precision for large numbers.
    centred = truth - truth.mean()
    variance = _mean(np.square(centred), weights) - np.square(mean - truth.mean())
    with np.errstate(invalid="ignore", divide="ignore"):
        r2 = np.where(variance > 1e-12, 1 - residual / variance, np.nan)
    return {"mae": _mean(np.abs(predicted - truth), weights), "r2": r2}


def headline(scored: Mapping[str, Any]) -> str:
    """Return the metric a task is read by: AUROC, or R^2 for numbers."""
    return "auroc" if "auroc" in scored else "r2"


def summarise(per_seed: Sequence[dict[str, np.ndarray]], patients: np.ndarray) -> dict[str, dict[str, float]]:
    """Return mean and 95 % interval per metric: seeds averaged within each draw, then percentiles over draws.

    The interval covers which patients were tested; the spread over seeds enters through the average.
    """
    out = {}
    for name in per_seed[0]:
        values = np.stack([m[name] for m in per_seed])
        point = values[:, 0]
        draws = values[:, 1:].mean(0)
        draws = draws[np.isfinite(draws)]
        low, high = np.percentile(draws, (2.5, 97.5)) if len(draws) else (np.nan, np.nan)
        out[name] = {
            "mean": float(point.mean()),
            "lo": float(low),
            "hi": float(high),
            "n_patients": len(np.unique(patients)),
            "seeds": len(per_seed),
        }
    return out
