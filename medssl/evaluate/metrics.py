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

LEAST_PATIENTS = 8
LEAST_OF_CLASS = 4


def draw_weights(patients: np.ndarray, draws: int, *, seed: int = 0) -> np.ndarray:
    """Return (1 + draws, n) counts; row 0 is the sample itself (all ones)."""
    member, unique = pd.factorize(patients)  # by appearance: codes depend on the project's key
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(unique), np.full(len(unique), 1 / len(unique)), size=draws)
    return np.concatenate([np.ones((1, len(patients))), counts[:, member]]).astype(np.float64)


def auroc(scores: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve for each row of ``weights`` (B, n); NaN where a class is absent.

    Larger ``scores`` (n,) mean more likely ``positive`` (n,), bool; ties count half.
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


def too_few(patients: int, rarest: int | None = None) -> str | None:
    """Return in words why an interval would mean nothing, such as ``n=4``; None where it means something.

    Fewer than `LEAST_PATIENTS` test patients: a bootstrap repeats the few it has, and is too narrow or falls apart. In
    600 simulated cohorts with a true R^2 of 0.5 an interval called 95 % covered it in 70 % of cases of 4 patients, with
    a median width of 32, and in 87 % of 8 patients, with a width of 2.

    Fewer than `LEAST_OF_CLASS` patients of the rarer class, for AUROC and balanced accuracy: with m of them about
    exp(-m) of the draws have none and no value: 36 % for 1, 4 % for 3, but 1 % for 4, less than the 2.5 % that an
    interval leaves out on either side. It covered the true AUROC in 42 % of cases for m = 1, 83 % for 3, 86 % for 4.

    Of the ``patients`` that were tested, ``rarest`` are of the rarer class; None where there are no classes.
    """
    if patients < LEAST_PATIENTS:
        return f"n={patients}"
    if rarest is not None and rarest < LEAST_OF_CLASS:
        return f"n={patients}, {rarest} of the rarest class"
    return None


def summarise(
    per_seed: Sequence[dict[str, np.ndarray]], patients: np.ndarray, *, rarest: int | None = None
) -> dict[str, dict[str, Any]]:
    """Return mean and 95 % interval per metric: seeds averaged within each draw, then percentiles over draws.

    The interval covers which patients were tested; the spread over seeds enters through the average. Where it would
    mean nothing ``lo`` and ``hi`` are None and ``too_few`` says why; so is ``mean`` where it has no value, such as the
    AUROC of one class. JSON has no NaN.

    Args:
        per_seed: of `medssl.evaluate.tasks.Task.score`.
        patients, rarest: (n,) of the units; see `too_few`.
    """
    out: dict[str, dict[str, Any]] = {}
    n = len(np.unique(patients))
    for name in per_seed[0]:
        values = np.stack([m[name] for m in per_seed])
        point = float(values[:, 0].mean())
        draws = values[:, 1:].mean(0)
        draws = draws[np.isfinite(draws)]
        reason = too_few(n, rarest) or (None if len(draws) else f"n={n}, all of one value")
        low, high = (None, None) if reason else map(float, np.percentile(draws, (2.5, 97.5)))
        out[name] = {
            "mean": point if np.isfinite(point) else None,
            "lo": low,
            "hi": high,
            "n_patients": n,
            "seeds": len(per_seed),
            **({"too_few": reason} if reason else {}),
        }
    return out


def known(value: Any) -> bool:
    """Say whether a value of ``metrics.json`` or of a table is a number; files of earlier versions hold NaN."""
    return value is not None and value == value


def shown(value: Mapping[Any, Any], digits: int = 3, *, sign: str = "") -> str:
    """Return a value of `summarise` as text: ``0.812 [0.700, 0.900]``, ``0.812 too few (n=4)``, ``too few (n=4)``.

    Args:
        value: ``mean``, ``lo``, ``hi``, ``n_patients`` and perhaps ``too_few``.
        digits: behind the point.
        sign: ``+`` for differences.
    """
    mean, low, high = (f"{value[k]:{sign}.{digits}f}" if known(value[k]) else "" for k in ("mean", "lo", "hi"))
    if low and high:
        return f"{mean} [{low}, {high}]"
    reason = value.get("too_few")
    reason = reason if isinstance(reason, str) else f"n={value['n_patients']}"
    return f"{mean} too few ({reason})".strip()


def fullest(fractions: Mapping[str, Any]) -> tuple[str, str]:
    """Return the largest label fraction of a protocol, and in words what it is if it is not all: `` at 10 %``."""
    fraction = max(fractions, key=float)
    return fraction, "" if float(fraction) == 1 else f" at {100 * float(fraction):g} %"


def protocols(of_task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results of a task in ``metrics.json`` by protocol; none where it was left out."""
    return {name: fractions for name, fractions in of_task.items() if name != "left_out"}
