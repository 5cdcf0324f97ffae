"""Metrics of predictions, all bootstrap draws at once.

Letters: n test units (patients, trials or samples), B bootstrap draws, K classes or labels, G groups of tied scores.
A draw gives each unit a weight, as often as its patient was drawn; weights of whole numbers are repeats.

AUROC and AUPRC compare scores of one ``fold`` only, because two folds have two models, whose scores are not on one
scale: pairs are counted within folds and summed. Metrics at a threshold and of numbers pool the predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medssl.evaluate import calibration

LEAST_PATIENTS = 8
LEAST_OF_CLASS = 4
SPECIFICITY = 0.95
SENSITIVITY = f"sensitivity_at_{100 * SPECIFICITY:.0f}_specificity"


class Counts(NamedTuple):
    """Weights of positives and negatives of one fold by score, largest first, and their running totals: (G, B) each."""

    positive: np.ndarray
    negative: np.ndarray
    true: np.ndarray  # positives down to a score
    false: np.ndarray  # negatives down to it


def counted(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray, fold: np.ndarray | None = None
) -> list[Counts]:
    """Return the weights of both classes by score in each fold; ``fold`` (n,) of each unit, None: all of one."""
    out = []
    for one in [np.arange(len(scores))] if fold is None else [np.flatnonzero(fold == f) for f in np.unique(fold)]:
        order = one[np.argsort(-scores[one], kind="stable")]
        starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
        negative = weights.T[order]  # rows are units: sums over them add whole rows of draws
        some = negative * positive[order][:, None]
        negative -= some
        if len(starts) < len(order):
            some, negative = (np.add.reduceat(w, starts, axis=0) for w in (some, negative))
        out.append(Counts(some, negative, np.cumsum(some, axis=0), np.cumsum(negative, axis=0)))
    return out


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, otherwise)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("gb,gb->b", a, b)


def auroc(folds: Sequence[Counts]) -> np.ndarray:
    """Return the area under the ROC curve (B,), ties counting half; NaN where a class is absent."""
    pairs = [c.true[-1] * c.false[-1] for c in folds]
    lost = [_dot(c.positive, c.false) - _dot(c.positive, c.negative) / 2 for c in folds]
    return _ratio(np.sum(pairs, axis=0) - np.sum(lost, axis=0), np.sum(pairs, axis=0))


def auprc(folds: Sequence[Counts]) -> np.ndarray:
    """Return the average precision (B,): the mean over positives of the precision down to their score.

    NaN where no unit is positive. Chance is the share of positives, not one half.
    """
    # Where nothing has been called yet nothing is positive, and any precision does.
    called = [np.maximum(c.true + c.false, 1e-12) for c in folds]
    gained = [_dot(c.positive, c.true / n) for c, n in zip(folds, called, strict=True)]
    return _ratio(np.sum(gained, axis=0), np.sum([c.true[-1] for c in folds], axis=0))


def sensitivity(counts: Counts, specificity: float = SPECIFICITY) -> np.ndarray:
    """Return the largest sensitivity (B,) of a threshold that keeps this specificity."""
    negatives = counts.false[-1]
    # Sums of weights are rounded: a threshold exactly at the specificity keeps it.
    kept = counts.false <= (1 - specificity + 1e-9) * negatives
    return np.where(negatives > 0, _ratio(np.where(kept, counts.true, 0).max(0), counts.true[-1]), np.nan)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _ratio(weights @ values, weights.sum(1))


def _columns(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray, fold: np.ndarray | None, *, only_headline: bool
) -> list[dict[str, np.ndarray]]:
    """Return the metrics by rank of each column of scores (n, C) against positive (n, C)."""
    out = []
    for one, true in zip(scores.T, positive.T, strict=True):
        folds = counted(one, true, weights, fold)
        found = {"auroc": auroc(folds)}
        if not only_headline:
            (pooled,) = folds if len(folds) == 1 else counted(one, true, weights)
            found |= {"auprc": auprc(folds), SENSITIVITY: sensitivity(pooled)}
        out.append(found)
    return out


def class_metrics(
    scores: np.ndarray,
    truth: np.ndarray,
    classes: np.ndarray,
    weights: np.ndarray,
    *,
    fold: np.ndarray | None = None,
    only_headline: bool = False,
) -> dict[str, np.ndarray]:
    """Return metrics per draw of scores (n, K) with columns ``classes``; the class with the largest score is predicted.

    AUROC, AUPRC and sensitivity are means of one class against the rest, of two classes those of the last; balanced
    accuracy and F1 are means over classes. All are over the classes that were tested. ECE is that of the last of two
    classes, or of the predicted class of more; ECE and Brier score are there where scores are probabilities.
    """
    present = [k for k, c in enumerate(classes) if (truth == c).any()]
    of_class = truth[:, None] == classes
    # With two classes both columns say the same.
    columns = present[-1:] if len(classes) == 2 else present
    ranked = _columns(scores[:, columns], of_class[:, columns], weights, fold, only_headline=only_headline)
    found = {name: np.mean([r[name] for r in ranked], axis=0) for name in ranked[0]}
    if only_headline:
        return found
    predicted = scores.argmax(1)[:, None] == np.arange(len(classes))
    true, called, hits = (weights @ x.astype(float) for x in (of_class, predicted, of_class & predicted))
    total, right = weights.sum(1), hits.sum(1)
    # Where all are of one class, or called so, a rounding error is left, not a spread.
    spread = np.prod([total**2 - (w**2).sum(1) for w in (called, true)], axis=0)
    spread = np.sqrt(np.where(spread > 1e-12 * total**4, spread, 0))
    out = {
        "auroc": found["auroc"],
        "auprc": found["auprc"],
        "balanced_accuracy": _ratio(hits, true)[:, present].mean(1),
        "f1": np.where(true > 0, _ratio(2 * hits, true + called), np.nan)[:, present].mean(1),
        "mcc": _ratio(total * right - (called * true).sum(1), spread, otherwise=0.0),
        SENSITIVITY: found[SENSITIVITY],
    }
    if calibration.are_probabilities(scores, one_of=True):
        sure, happened = (scores[:, 1], of_class[:, 1]) if len(classes) == 2 else (scores.max(1), of_class[predicted])
        out["brier"] = _mean(calibration.squared_errors(scores, of_class), weights)
        out["ece"] = calibration.ece(sure, happened, weights)
    return out


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Return the mean (B,) over labels of values (K, B) that are known; a draw may miss every label."""
    known = np.isfinite(values)
    return _ratio(np.where(known, values, 0).sum(0), known.sum(0))


def multilabel_metrics(
    scores: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    fold: np.ndarray | None = None,
    only_headline: bool = False,
) -> dict[str, np.ndarray]:
    """Return metrics per draw of scores (n, K) against bool truth (n, K), means over the labels that vary.

    F1 calls a label from a score of 0.5 on. A label that a draw lacks is left out of that draw's mean. ``auroc/LABEL``
    is the AUROC of each of ``labels`` (K,), names of the columns. ECE and Brier score as in `class_metrics`.
    """
    usable = np.flatnonzero((truth.any(0)) & (~truth).any(0))
    if not len(usable):
        return {"auroc": np.full(len(weights), np.nan)}
    s, t = scores[:, usable], truth[:, usable]
    ranked = _columns(s, t, weights, fold, only_headline=only_headline)
    areas = np.stack([r["auroc"] for r in ranked])
    if only_headline:
        return {"auroc": _mean_known(areas)}
    called = s >= 0.5
    true, positive, hits = (weights @ x.astype(float) for x in (t, called, t & called))
    out = {
        "auroc": _mean_known(areas),
        "auprc": _mean_known(np.stack([r["auprc"] for r in ranked])),
        "f1": _mean_known(np.where(true > 0, _ratio(2 * hits, true + positive), np.nan).T),
    }
    if calibration.are_probabilities(s, one_of=False):
        out["brier"] = _mean(np.square(s - t).mean(1), weights)
        out["ece"] = np.mean([calibration.ece(*column, weights) for column in zip(s.T, t.T, strict=True)], axis=0)
    if labels is None:
        return out
    return out | {f"auroc/{name}": area for name, area in zip(labels[usable], areas, strict=True)}


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return mid-ranks (n, B) of values (n,) among the units of each draw, from their middle."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    grouped = np.add.reduceat(weights.T[order], starts, axis=0)
    middle = np.cumsum(grouped, axis=0) - grouped / 2
    out = np.empty(weights.T.shape)
    out[order] = np.repeat(middle, np.diff([*starts, len(values)]), axis=0)
    return out - weights.sum(1) / 2


def spearman(one: np.ndarray, other: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the rank correlation (B,) of two numbers (n,), ties at their middle; NaN where one is constant."""
    # Weighted mid-ranks have their mean at the middle.
    x, y = (_ranks(values, weights) for values in (one, other))
    xy, xx, yy = (np.einsum("nb,nb,nb->b", weights.T, a, b) for a, b in ((x, y), (x, x), (y, y)))
    # Constant ranks leave a rounding error of their square.
    size = weights.sum(1) ** 3 * 1e-9
    return np.where((xx > size) & (yy > size), _ratio(xy, np.sqrt(xx * yy)), np.nan)


def number_metrics(
    predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray, *, only_headline: bool = False
) -> dict[str, np.ndarray]:
    """Return R^2, mean absolute error and rank correlation per draw of numbers (n,)."""
    residual = _mean(np.square(predicted - truth), weights)
    # E[y^2] - E[y]^2 after centring, which keeps precision for large numbers.
    centred = truth - truth.mean()
    variance = _mean(np.square(centred), weights) - np.square(_mean(centred, weights))
    r2 = np.where(variance > 1e-12, 1 - _ratio(residual, variance), np.nan)
    if only_headline:
        return {"r2": r2}
    return {
        "r2": r2,
        "mae": _mean(np.abs(predicted - truth), weights),
        "spearman": spearman(predicted, truth, weights),
    }


def headline(scored: Mapping[str, Any]) -> str:
    """Return the metric a task is read by: AUROC, or R^2 for numbers."""
    return "auroc" if "auroc" in scored else "r2"


def bounds(metric: str) -> tuple[float, float]:
    """Return the least and the largest value a metric can have."""
    if metric in ("mae", "brier"):
        return 0.0, np.inf
    if metric == "r2":
        return -np.inf, 1.0
    return (-1.0 if metric in ("mcc", "spearman") else 0.0), 1.0


def too_few(patients: int, rarest: int | None = None) -> str | None:
    """Return in words why an interval would mean nothing, such as ``n=4``; None where it means something.

    Of the ``patients`` that were tested, ``rarest`` are of the rarer class; None where there are no classes. Fewer than
    `LEAST_PATIENTS`, or than `LEAST_OF_CLASS` for AUROC and the like, do not show how much patients differ. In 400
    simulated cohorts with a true R^2 of 0.38 the interval of 8 patients had a median width of 8, that of 4 no end; for
    an AUROC of 0.82 of 40 patients it was 1.0 with 2 of the rarer class, 0.8 with 3, and 0.6 with 4.
    """
    if patients < LEAST_PATIENTS:
        return f"n={patients}"
    if rarest is not None and rarest < LEAST_OF_CLASS:
        return f"n={patients}, {rarest} of the rarest class"
    return None


def known(value: Any) -> bool:
    """Say whether a value of ``metrics.json`` or of a table is a number; files of earlier versions hold NaN."""
    return value is not None and value == value


def shown(value: Mapping[Any, Any], digits: int = 3, *, sign: str = "") -> str:
    """Return a value of ``metrics.json`` as text: ``0.812 [0.700, 0.900]``, ``0.812 too few (n=4)``, ``too few (n=4)``.

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
    return {name: fractions for name, fractions in of_task.items() if name not in ("left_out", "seen")}
