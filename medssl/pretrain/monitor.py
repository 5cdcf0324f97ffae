"""What to watch while pretraining: the loss says little, so look at the embedding itself."""

from __future__ import annotations

import numpy as np


def rankme(embeddings: np.ndarray, *, eps: float = 1e-7) -> float:
    """Return the smooth effective rank exp(entropy of the normalised singular values), uncentred.

    Between 1 (collapse) and min(n, d). Compare only values of equal n.

    Source: Garrido et al. 2023 (RankMe).
    """
    values = np.linalg.svd(np.asarray(embeddings, dtype=np.float64), compute_uv=False)
    share = values / max(values.sum(), eps) + 1e-300
    return float(np.exp(-(share * np.log(share)).sum()))


def knn_scores(reference: np.ndarray, labels: np.ndarray, queries: np.ndarray, *, k: int = 20) -> np.ndarray:
    """Return class shares (n, K) among the k nearest references by cosine, columns in sorted class order."""
    unit = [z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (reference, queries)]
    similarity = unit[1] @ unit[0].T
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
