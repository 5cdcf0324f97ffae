"""Whether samples are like those a model was fitted on: scores of novelty, and how well they tell.

Letters: n fitted units, n' others, d features, K classes. Larger scores are more novel. The first two need no label,
the last two only the logits of a linear probe.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from medssl.evaluate.linear import scaler_of, standardised


def neighbours(fitted: np.ndarray, others: np.ndarray, *, k: int = 10) -> np.ndarray:
    """Return the distance (n',) to the k-th nearest fitted unit, or the farthest where there are fewer.

    Features (n, d) and (n', d), NaN where unknown, are brought to unit length, so that it lies between 0 and 2.

    Source: Sun et al. 2022 (ICML, "Out-of-distribution detection with deep nearest neighbors").
    """
    centre = scaler_of(fitted).mean_
    fitted, others = (normalize(np.where(np.isfinite(x), x, np.nan_to_num(centre))) for x in (fitted, others))
    search = NearestNeighbors(n_neighbors=min(k, len(fitted)), algorithm="brute").fit(fitted)
    return search.kneighbors(others)[0][:, -1]


def mahalanobis(fitted: np.ndarray, others: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """Return the distance (n',) to the nearest class mean in deviations of the covariance that all classes share.

    The covariance within classes, of standardised features, is shrunk towards a multiple of the identity by the share
    of Ledoit and Wolf, so that fewer units than features do.

    Args:
        fitted, others: (n, d) and (n', d), NaN where unknown.
        classes: (n,) of the fitted units; None: one class.

    Source: Lee et al. 2018 (NeurIPS, "A simple unified framework"), there without shrinkage and squared.
    """
    scaler = scaler_of(fitted)
    x, queries = standardised(scaler, fitted), standardised(scaler, others)
    names, member = np.unique(np.zeros(len(x)) if classes is None else classes, return_inverse=True)
    means = np.stack([x[member == k].mean(0) for k in range(len(names))])
    root = np.linalg.cholesky(LedoitWolf(assume_centered=True).fit(x - means[member]).precision_)
    return np.min([np.linalg.norm((queries - mean) @ root, axis=1) for mean in means], axis=0)


def unsure(logits: np.ndarray) -> np.ndarray:
    """Return 1 - the largest class probability (n',) of ``logits`` (n', K): between 0 and 1 - 1 / K.

    Of two classes with one logit, give ``[0, logit]``.

    Source: Hendrycks and Gimpel 2017 (ICLR).
    """
    return 1 - softmax(logits, axis=1).max(1)


def energy(logits: np.ndarray) -> np.ndarray:
    """Return -log sum_k exp(logit_k) (n',) of ``logits`` (n', K), any number.

    It depends on the level of the logits, which a softmax model leaves open: take those of one class against the rest.

    Source: Liu et al. 2020 (NeurIPS, "Energy-based out-of-distribution detection"), temperature 1.
    """
    return -logsumexp(logits, axis=1)


def report(inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """Return how well scores of novelty tell units from elsewhere, ``outside``, from those alike, ``inside``.

    Returns:
        ``auroc``, 0.5 is chance; and ``fpr_at_95tpr``, the share of units from elsewhere that pass a limit which 95 %
        of those alike pass, 0.95 is chance.

    Raises:
        ValueError: one of the two is empty.
    """
    if not len(inside) or not len(outside):
        raise ValueError(f"novelty: {len(inside)} units inside and {len(outside)} outside; needs both")
    limit = np.quantile(inside, 0.95, method="inverted_cdf")
    truth = np.repeat([0, 1], [len(inside), len(outside)])
    return {
        "auroc": float(roc_auc_score(truth, np.concatenate([inside, outside]))),
        "fpr_at_95tpr": float(np.mean(outside <= limit)),
    }
