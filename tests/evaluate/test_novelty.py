"""Scores of novelty against slow loops, and how well they tell against scikit-learn's ROC curve."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_curve

from medssl.evaluate import novelty

RNG = np.random.default_rng(0)
FITTED, ALIKE, FAR = RNG.normal(0, 1, (80, 5)) + 2, RNG.normal(0, 1, (40, 5)) + 2, RNG.normal(0, 1, (30, 5)) - 1


def test_neighbours() -> None:
    unit = FITTED / np.linalg.norm(FITTED, axis=1, keepdims=True)
    for k in (1, 3, 200):
        found = novelty.neighbours(FITTED, FAR, k=k)
        for row, value in zip(FAR, found, strict=True):
            distances = np.sort(np.linalg.norm(unit - row / np.linalg.norm(row), axis=1))
            assert value == pytest.approx(distances[min(k, 80) - 1])


def test_mahalanobis() -> None:
    classes = np.repeat(["a", "b"], 40)
    moved = FITTED + 6 * (classes == "b")[:, None]
    mean, deviation = moved.mean(0), moved.std(0)
    x, queries = (moved - mean) / deviation, (FAR - mean) / deviation
    means = [x[classes == c].mean(0) for c in ("a", "b")]
    residual = np.where((classes == "a")[:, None], x - means[0], x - means[1])
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(residual).covariance_)
    expected = [min(np.sqrt((q - m) @ precision @ (q - m)) for m in means) for q in queries]
    assert novelty.mahalanobis(moved, FAR, classes) == pytest.approx(expected)
    assert len(novelty.mahalanobis(FITTED[:3], FAR)) == 30  # fewer units than features


def test_logits() -> None:
    logits = np.array([[0.0, 0.0], [3.0, -1.0], [-5.0, -6.0]])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert novelty.unsure(logits) == pytest.approx(1 - p.max(1))
    assert novelty.energy(logits) == pytest.approx(-np.log(np.exp(logits).sum(1)))


def test_report() -> None:
    for score in (novelty.neighbours, novelty.mahalanobis):
        inside, outside = score(FITTED, ALIKE), score(FITTED, FAR)
        assert novelty.report(inside, outside)["auroc"] > 0.9
        assert novelty.report(inside, outside)["fpr_at_95tpr"] < 0.5
    inside, outside = np.round(RNG.normal(0, 1, 200), 1), np.round(RNG.normal(1, 1, 300), 1)
    # Alike is the positive class, and the least novel come first.
    passed, kept, _ = roc_curve(
        np.repeat([1, 0], [200, 300]), -np.concatenate([inside, outside]), drop_intermediate=False
    )
    found = novelty.report(inside, outside)
    assert found["fpr_at_95tpr"] == pytest.approx(passed[np.argmax(kept >= 0.95)])
    assert found["auroc"] == pytest.approx(np.mean(outside[:, None] > inside) + np.mean(outside[:, None] == inside) / 2)
    with pytest.raises(ValueError, match="0 units inside and 300 outside"):
        novelty.report(inside[:0], outside)


def test_unknown_features() -> None:
    holes, others = FITTED.copy(), FAR.copy()
    holes[::5, 0], holes[:, 4], others[::3, 1] = np.nan, np.nan, np.nan
    assert np.isfinite(novelty.neighbours(holes, others)).all()
    assert np.isfinite(novelty.mahalanobis(holes, others)).all()
