"""What to watch while pretraining: the loss says little, so look at the embedding itself.

Embeddings are (n, d), one row a sample. All pairs are formed: meant for up to some thousand rows, a few ten MB.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.distance import pdist
from scipy.special import logsumexp


def rankme(embeddings: np.ndarray, *, eps: float = 1e-7) -> float:
    """Return the smooth effective rank exp(entropy of the normalised singular values), uncentred.

    Between 1 (collapse) and min(n, d). Compare only values of equal n and d; n should be 2,048 and 4 d or more.

    Source: Garrido et al. 2023 (RankMe): ``eps`` is added to the shares, which are not normalised again.
    """
    values = np.linalg.svd(np.asarray(embeddings, dtype=np.float64), compute_uv=False)
    share = values / max(values.sum(), eps) + eps
    return float(np.exp(-(share * np.log(share)).sum()))


def dispersion_ratio(embeddings: np.ndarray, patients: np.ndarray, *, most: int = 2048) -> float:
    """Return the spread within patients as a share of the spread between them; lower = tighter patients.

    The mean L2 distance of two samples of a patient, averaged over the patients with at least two, divided by the
    mean distance of two samples of different patients. Near 0 where a sample tells its patient, near 1 where it says
    nothing about it. Rows are used as they are: scaling them all changes nothing, normalising each one does.

    Args:
        embeddings: (n, d).
        patients: (n,) any labels.
        most: rows looked at, patient by patient in order of appearance; memory grows with its square.

    Returns:
        The ratio; NaN where no patient has two samples, there is one patient only, or all rows are equal.

    Source: Abbaspourazad et al. 2024 report such a ratio without its estimator; this one is ours.
    """
    code = pd.factorize(np.asarray(patients))[0]
    # Patient by patient: rows taken at random would leave few pairs within.
    order = np.argsort(code, kind="stable")[:most]
    z, owner = np.asarray(embeddings, dtype=np.float64)[order], code[order]
    first, second = np.triu_indices(len(z), 1)
    same = owner[first] == owner[second]
    distance = pdist(z)
    if not same.any() or not distance[~same].any():
        return float("nan")
    pairs = np.bincount(owner[first[same]])
    within = np.bincount(owner[first[same]], weights=distance[same])[pairs > 0] / pairs[pairs > 0]
    return float(within.mean() / distance[~same].mean())


def alignment(z1: np.ndarray, z2: np.ndarray) -> float:
    """Return the mean squared distance of positive pairs, rows of ``z1`` and ``z2`` (n, d) at unit length.

    Between 0 (all pairs coincide, collapse included) and 4. Lower is better only together with `uniformity`.

    Source: Wang and Isola 2020, alpha = 2.
    """
    return float(((_unit(z1) - _unit(z2)) ** 2).sum(1).mean())


def uniformity(z: np.ndarray, t: float = 2.0) -> float:
    """Return log mean exp(-t d²) over the pairs of different rows of ``z`` (n, d) at unit length, d their distance.

    Between -4 t and 0 (collapse); lower = spread more evenly over the sphere. Compare only values of equal t. NaN for
    fewer than two rows.

    Source: Wang and Isola 2020.
    """
    squared = pdist(_unit(z), "sqeuclidean")
    return float(logsumexp(-t * squared) - np.log(len(squared))) if len(squared) else float("nan")


def knn_scores(reference: np.ndarray, labels: np.ndarray, queries: np.ndarray, *, k: int = 20) -> np.ndarray:
    """Return class shares (n, K) among the k nearest references by cosine, columns in sorted class order."""
    similarity = _unit(queries) @ _unit(reference).T
    k = min(k, len(reference))
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    weights = np.exp(np.take_along_axis(similarity, nearest, axis=1) / 0.1)
    classes = np.unique(labels)
    hits = labels[nearest][:, :, None] == classes
    votes = (hits * weights[:, :, None]).sum(1)
    out: np.ndarray = votes / votes.sum(1, keepdims=True)
    return out


def knn_accuracy(reference: np.ndarray, labels: np.ndarray, queries: np.ndarray, truth: np.ndarray) -> float:
    """Return the balanced accuracy of the k-nearest-neighbour vote."""
    classes = np.unique(labels)
    predicted = classes[knn_scores(reference, labels, queries).argmax(1)]
    return float(np.mean([(predicted[truth == c] == c).mean() for c in np.unique(truth)]))


def _unit(rows: np.ndarray) -> np.ndarray:
    """Return the rows at unit length, rows of zeros as they are."""
    z = np.asarray(rows, dtype=np.float64)
    out: np.ndarray = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return out
