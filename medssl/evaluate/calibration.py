"""Are predicted probabilities what happens? Reliability, calibration error, Brier score, net benefit.

Letters: n test units, B bootstrap draws, K classes. Probabilities are in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

BINS = 15


def are_probabilities(scores: np.ndarray, *, one_of: bool) -> bool:
    """Say whether scores (n, K) are probabilities: all in [0, 1], and of one class among K that they sum to 1."""
    within = bool(np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1).all())
    return within and (not one_of or bool(np.allclose(scores.sum(1), 1, atol=1e-3)))


def _bin(predicted: np.ndarray, bins: int, *, equal_counts: bool) -> np.ndarray:
    """Return the bin (n,) of each probability: of equal width, 1 in the last, or of equally many units."""
    if not equal_counts:
        # Edges as torchmetrics has them: a probability on an edge belongs to the bin above.
        return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), predicted, side="right") - 1, 0, bins - 1)
    edges = np.quantile(predicted, np.linspace(0, 1, bins + 1)[1:-1])
    return np.searchsorted(edges, predicted, side="right")


def ece(
    predicted: np.ndarray,
    happened: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    bins: int = BINS,
    equal_counts: bool = False,
) -> np.ndarray:
    """Return the expected calibration error of each draw (B,): mean distance of predicted and observed, by bin.

    Args:
        predicted: probabilities (n,).
        happened: (n,) bool.
        weights: (B, n) counts of the units in each draw; None: each unit once.
        bins: number of bins.
        equal_counts: bins of equally many units (adaptive), not of equal width. They are those of the units themselves,
            not of a draw.

    Source: Guo et al. 2017 (equal width); Nixon et al. 2019 (equal counts). A bin's difference of means, times its
    share, is the sum of its differences over all units: no division by empty bins.
    """
    weights = np.ones((1, len(predicted))) if weights is None else weights
    member = _bin(predicted, bins, equal_counts=equal_counts)
    gaps = np.zeros((len(predicted), bins))
    gaps[np.arange(len(predicted)), member] = predicted - happened
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs(weights @ gaps).sum(1) / weights.sum(1)


def squared_errors(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the squared error (n,) of each unit, whose mean is the Brier score.

    Args:
        scores: probabilities (n, K) of classes, summed over more than two; of two classes that of the last alone, as
            scikit-learn has it (0 to 1, not 0 to 2).
        truth: (n, K) bool.
    """
    squares = np.square(scores - truth)
    return squares[:, -1] if squares.shape[1] == 2 else squares.sum(1)


def reliability(scores: np.ndarray, positive: np.ndarray, *, bins: int = 10) -> pd.DataFrame:
    """Return the reliability curve: a row for each bin of equal width that holds units.

    Args:
        scores: predicted probabilities (n,).
        positive: (n,) bool.
        bins: number of bins.

    Returns:
        Columns ``predicted`` (mean probability), ``observed`` (share of positives) and ``n`` (units).
    """
    table = pd.DataFrame({"predicted": scores, "observed": positive, "bin": _bin(scores, bins, equal_counts=False)})
    grouped = table.groupby("bin")
    return grouped.agg(predicted=("predicted", "mean"), observed=("observed", "mean"), n=("bin", "size")).reset_index(
        drop=True
    )


def decision_curve(scores: np.ndarray, positive: np.ndarray, *, thresholds: Sequence[float]) -> pd.DataFrame:
    """Return the net benefit of treating who is above a threshold, against treating everybody or nobody.

    Net benefit = (true positives - false positives * t / (1 - t)) / n. A threshold t says how many needless treatments
    one needed treatment is worth.

    Args:
        scores: predicted probabilities (n,).
        positive: (n,) bool.
        thresholds: t, in [0, 1).

    Returns:
        Columns ``threshold``, ``model``, ``all`` and ``none`` (0).

    Raises:
        ValueError: a threshold outside [0, 1).

    Source: Vickers and Elkin 2006, equation 1; a score at the threshold is treated.
    """
    t = np.asarray(thresholds, dtype=float)
    if ((t < 0) | (t >= 1)).any():
        raise ValueError(f"thresholds {t[(t < 0) | (t >= 1)].tolist()}: expected values in [0, 1)")
    treated = scores[None] >= t[:, None]
    odds, share = t / (1 - t), positive.mean()
    model = (treated & positive).mean(1) - odds * (treated & ~positive).mean(1)
    return pd.DataFrame({"threshold": t, "model": model, "all": share - odds * (1 - share), "none": 0.0})
