"""The batched solver against scikit-learn's own, column by column and strength by strength."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier

from medssl.evaluate.linear import CUT, Basis, logistic, predict, ridge

STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)


def cohort(n: int, d: int, m: int, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return correlated features, others, and numbers that follow from the features."""
    rng = np.random.default_rng([n, d, m])
    hidden = rng.standard_normal((n + 30, 5))
    x = hidden @ rng.standard_normal((5, d)) + 0.5 * rng.standard_normal((n + 30, d)) + rng.normal(0, 9, d)
    y = hidden @ rng.standard_normal((5, m)) + noise * rng.standard_normal((n + 30, m))
    return x[:n], x[n:], y[:n]


def slow(basis: Basis, x: np.ndarray) -> np.ndarray:
    """Return features standardised by hand."""
    scaled = (x - basis.scaler.mean_) / basis.scaler.scale_
    return np.where(np.isnan(scaled), 0, scaled.clip(-CUT, CUT))


def probabilities(x: np.ndarray, y: np.ndarray, others: np.ndarray, strength: float) -> np.ndarray:
    """Return what scikit-learn says, to its limit: its own tolerance is off by up to 0.04 at C = 100."""
    model = LogisticRegression(C=strength, class_weight="balanced", tol=1e-9, max_iter=100_000)
    return model.fit(x, y).predict_proba(others)[:, 1]


@pytest.mark.parametrize(("n", "d"), [(200, 8), (60, 20), (40, 300), (12, 2000), (4, 3)])
def test_logistic_regression(n: int, d: int) -> None:
    x, others, y = cohort(n, d, 3)
    positive = y > np.quantile(y, (0.5, 0.7, 0.3), axis=0).diagonal()
    basis = Basis.of(x)
    found = expit(predict(basis.of_others(others), logistic(basis, positive, STRENGTHS)))
    assert found.shape == (len(STRENGTHS), 30, 3)
    for strength, values in zip(STRENGTHS, found, strict=True):
        for column in range(3):
            expected = probabilities(slow(basis, x), positive[:, column], slow(basis, others), strength)
            assert values[:, column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("gap", [3.0, 50.0])
def test_separable_rare_and_doubled(gap: float) -> None:
    """No penalty would send the weights to infinity; four units of 80 are of one class, and each unit comes twice."""
    x, others, _ = cohort(40, 6, 1)
    positive = np.arange(40)[:, None] < 2
    x[:2, 0] += gap
    x, positive = np.tile(x, (2, 1)), np.tile(positive, (2, 1))
    basis = Basis.of(x)
    found = expit(predict(basis.of_others(others), logistic(basis, positive, STRENGTHS)))
    for strength, values in zip(STRENGTHS, found, strict=True):
        expected = probabilities(slow(basis, x), positive[:, 0], slow(basis, others), strength)
        assert values[:, 0] == pytest.approx(expected, abs=1e-4)


def test_the_order_of_strengths_and_columns_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, y = cohort(50, 12, 7)
    basis = Basis.of(x)
    whole = logistic(basis, y > 0, STRENGTHS)
    backwards = logistic(basis, (y > 0)[:, ::-1], STRENGTHS[::-1])
    assert backwards[::-1, :, ::-1] == pytest.approx(whole, abs=1e-4)
    monkeypatch.setattr("medssl.evaluate.linear.COLUMNS", 100)  # two columns at once
    assert logistic(basis, y > 0, STRENGTHS) == pytest.approx(whole, abs=1e-4)


def test_one_against_the_rest() -> None:
    x, others, y = cohort(90, 10, 1)
    label = np.digitize(y[:, 0], np.quantile(y, (0.2, 0.6)))
    basis = Basis.of(x)
    model = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-9, max_iter=10_000)
    expected = OneVsRestClassifier(model).fit(slow(basis, x), label).predict_proba(slow(basis, others))
    weights = logistic(basis, label[:, None] == np.arange(3), [0.1])
    found = expit(predict(basis.of_others(others), weights))[0]
    assert found / found.sum(1, keepdims=True) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("n", "d"), [(200, 8), (40, 300), (2, 5), (1, 5)])
def test_ridge(n: int, d: int) -> None:
    x, others, y = cohort(n, d, 3)
    y = 100 + 10 * y
    basis = Basis.of(x)
    found = predict(basis.of_others(others), ridge(basis, y, (0.1, 10.0, 1e5)))
    for alpha, values in zip((0.1, 10.0, 1e5), found, strict=True):
        expected = Ridge(alpha=alpha).fit(slow(basis, x), y).predict(slow(basis, others))
        assert values == pytest.approx(expected, abs=1e-6)


def test_unknown_constant_and_extreme_features() -> None:
    """Unknown is the mean of the fitted units; a feature that none of them has, or all alike, is no feature."""
    x, others, y = cohort(60, 6, 1)
    rng = np.random.default_rng(0)
    x[rng.random(x.shape) < 0.2] = np.nan
    others[rng.random(others.shape) < 0.2] = np.nan
    plain = Basis.of(x)
    filled = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    assert slow(plain, x)[np.isnan(x)] == pytest.approx(slow(plain, filled)[np.isnan(x)])
    dead = np.column_stack([x, np.full(60, np.nan), np.full(60, 7.0)])
    odd = np.column_stack([others, rng.standard_normal(30), np.full(30, 7.0)])
    basis = Basis.of(dead)
    assert basis.coordinates.shape == (60, 6)
    for fit in (lambda b: logistic(b, y > 0, [1.0]), lambda b: ridge(b, y, [10.0])):
        assert predict(basis.of_others(odd), fit(basis)) == pytest.approx(predict(plain.of_others(others), fit(plain)))
    far = predict(plain.of_others(others * 1e6), ridge(plain, y, [10.0]))
    assert np.abs(far).max() < 100 * np.abs(y).max()


def test_no_feature_at_all() -> None:
    basis = Basis.of(np.ones((6, 3)))
    y = np.array([[1, 1, 0, 0, 0, 0]], dtype=bool).T
    others = basis.of_others(np.zeros((2, 3)))
    assert predict(others, ridge(basis, y.astype(float), [1.0])) == pytest.approx(1 / 3)
    assert expit(predict(others, logistic(basis, y, [1.0]))) == pytest.approx(0.5)  # classes weigh the same
    assert Basis.of(np.ones((6, 3))).of_others(np.zeros((0, 3))).shape == (0, 0)


def test_one_class_alone_is_refused() -> None:
    x, _, y = cohort(10, 3, 2)
    with pytest.raises(ValueError, match="one class alone"):
        logistic(Basis.of(x), y > y.min(0) - 1, [1.0])


def test_the_basis_is_orthogonal() -> None:
    for n, d in ((50, 8), (8, 50)):
        basis = Basis.of(cohort(n, d, 1)[0])
        rank = min(n - 1, d)
        assert basis.directions.shape == (d, rank)
        assert basis.directions.T @ basis.directions == pytest.approx(np.eye(rank), abs=1e-9)
        assert basis.coordinates.T @ basis.coordinates == pytest.approx(np.diag(basis.squares), abs=1e-6)
        assert basis.coordinates.mean(0) == pytest.approx(0, abs=1e-9)
