"""Effective rank against known values; nearest neighbours on data that separates."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.pretrain.monitor import knn_accuracy, knn_scores, rankme

Q1 = np.sin(1 + 2 * np.arange(4)[:, None] + np.arange(3)[None])
Q1 = Q1 / np.linalg.norm(Q1, axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.eye(4), 4.0),
        (np.diag([3.0, 1]), 1.754765),
        (np.diag([2.0, 1, 1]), 2.828427),
        (np.diag([4.0, 2, 1, 1]), 3.363586),
        (np.ones((5, 3)), 1.0),
        (np.ones((8, 4)), 1.0),
        (Q1, 1.977490),
        (np.array([[1, 0], [0.9, 0.1], [-1, 0], [-0.9, 0.1]]), 1.285992),  # centred it would be 1.219355
    ],
)
def test_w7_rankme(matrix: np.ndarray, expected: float) -> None:
    assert rankme(matrix) == pytest.approx(expected, abs=1e-5)


def test_w7_rankme_invariances() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((30, 6)) * np.arange(1, 7)
    turned = z @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    for other in (z[rng.permutation(30)], turned, 7 * z):
        assert rankme(other) == pytest.approx(rankme(z), abs=1e-9)
    assert rankme(z + 100) != pytest.approx(rankme(z), abs=0.5)
    assert np.isfinite(rankme(np.zeros((3, 2))))


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b", "c"], [40, 30, 5])
    centre = {"a": [5, 0, 0], "b": [0, 5, 0], "c": [0, 0, 5]}
    return np.array([centre[k] for k in labels]) + 0.3 * rng.standard_normal((75, 3)), labels


def test_knn_separates() -> None:
    (train, labels), (test, truth) = blobs(0), blobs(1)
    assert knn_accuracy(train, labels, test, truth) == 1.0
    shares = knn_scores(train, labels, test, k=5)
    assert shares.shape == (75, 3)
    assert np.allclose(shares.sum(1), 1)
    assert knn_accuracy(train, np.random.default_rng(0).permutation(labels), test, truth) < 0.7


def test_knn_is_balanced_over_classes() -> None:
    (train, labels), (test, truth) = blobs(0), blobs(1)
    test = np.where((truth == "c")[:, None], test[0], test)  # every c looks like an a
    assert knn_accuracy(train, labels, test, truth) == pytest.approx(2 / 3)


def test_knn_with_fewer_references_than_neighbours() -> None:
    scores = knn_scores(np.eye(2), np.array(["x", "y"]), np.array([[1.0, 0.1]]), k=20)
    assert scores[0].argmax() == 0
