"""Pseudo labels of samples by k-means on embeddings."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import MiniBatchKMeans


def unit(z: np.ndarray) -> np.ndarray:
    """Return rows (n, d) at unit length, rows of zeros as they are."""
    out: np.ndarray = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    return out


def joined(z: np.ndarray) -> np.ndarray:
    """Return embeddings (n, S d) of all stages side by side, each at unit length; ``z`` is (S, n, d)."""
    return np.concatenate([unit(one) for one in z], 1)


def labels(z: np.ndarray, number: int) -> np.ndarray:
    """Return the cluster (n,) of each unit row of ``z`` (n, d): of as many as asked for, or as there are rows.

    The same rows give the same clusters, whatever the seed of the training.
    """
    found = MiniBatchKMeans(min(number, len(z)), n_init=3, random_state=0, batch_size=4096).fit_predict(unit(z))
    return found.astype(np.int64)


def nested(z: np.ndarray, number: int) -> np.ndarray:
    """Return pseudo labels (n,) of embeddings (S, n, d) by S stages: each one's cluster within the earlier label.

    Source: Zhang et al. 2024 (MCL): the previous label times K plus the cluster.
    """
    out = np.zeros(z.shape[1], np.int64)
    for one in z:
        out = out * number + labels(one, number)
    return out


def merged(label: np.ndarray, z: np.ndarray, patients: np.ndarray, least: int) -> np.ndarray:
    """Return labels (n,) from 0 on, each of at least so many patients: a smaller cluster joins the nearest one.

    Args:
        label: (n,) of clusters.
        z: (n, d) rows, whose means say how near two clusters are.
        patients: (n,) ids.
        least: patients in a cluster, or all there are.
    """
    label = np.unique(label, return_inverse=True)[1]
    number, size = int(label.max()) + 1, np.bincount(label)
    total = np.zeros((number, z.shape[1]))
    np.add.at(total, label, z)
    of = np.unique(patients, return_inverse=True)[1]
    has = np.zeros((number, int(of.max()) + 1), bool)
    has[label, of] = True
    into, there = np.arange(number), np.ones(number, bool)  # where each cluster went, and which are left
    while there.sum() > 1:
        count = np.where(there, has.sum(1), np.iinfo(np.int64).max)
        small = int(count.argmin())
        if count[small] >= least:
            break
        means = total / size[:, None]
        distance = np.where(there, np.square(means - means[small]).sum(1), np.inf)
        distance[small] = np.inf
        near = int(distance.argmin())
        total[near] += total[small]
        size[near] += size[small]
        has[near] |= has[small]
        into[into == small], there[small] = near, False
    return np.unique(into[label], return_inverse=True)[1]
