"""Calibration against torchmetrics and scikit-learn, and net benefit against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from medssl.evaluate import calibration


def predictions(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    p = rng.random(n)
    return p, rng.random(n) < p**2


@pytest.mark.parametrize("bins", [5, 15])
def test_ece_equals_torchmetrics(bins: int) -> None:
    p, happened = predictions()
    theirs = binary_calibration_error(torch.tensor(p), torch.tensor(happened), n_bins=bins)
    assert calibration.ece(p, happened, bins=bins)[0] == pytest.approx(float(theirs), abs=1e-6)


def test_ece_of_the_predicted_class_equals_torchmetrics() -> None:
    rng = np.random.default_rng(1)
    p, truth = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(truth), num_classes=4, n_bins=15)
    assert calibration.ece(p.max(1), p.argmax(1) == truth)[0] == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize("equal_counts", [False, True])
def test_ece_counts_weights_as_repeats(equal_counts: bool) -> None:
    p, happened = predictions(60)
    weights = np.random.default_rng(0).integers(0, 4, (5, 60)).astype(float)
    got = calibration.ece(p, happened, weights, bins=10, equal_counts=equal_counts)
    edges = np.quantile(p, np.linspace(0, 1, 11)) if equal_counts else np.linspace(0, 1, 11)
    member = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, 9)
    for value, row in zip(got, weights, strict=True):
        expected = 0.0
        for k in range(10):
            rows = np.repeat(np.flatnonzero(member == k), row[member == k].astype(int))
            if len(rows):
                expected += len(rows) / row.sum() * abs(p[rows].mean() - happened[rows].mean())
        assert value == pytest.approx(expected)


def test_bins_of_equal_counts_see_what_bins_of_equal_width_hide() -> None:
    """Nearly all units within one bin of equal width: half of them too sure, half too unsure."""
    p = np.concatenate([np.linspace(0.01, 0.03, 100), np.linspace(0.035, 0.06, 100)])
    happened = np.arange(200) < 10  # all among the lower half
    wide, narrow = (calibration.ece(p, happened, equal_counts=e)[0] for e in (False, True))
    assert narrow > 3 * wide


def test_the_brier_score() -> None:
    p, happened = predictions()
    of_two = calibration.squared_errors(np.stack([1 - p, p], 1), np.stack([~happened, happened], 1))
    assert of_two.mean() == pytest.approx(brier_score_loss(happened, p))
    three = calibration.squared_errors(np.array([[0.5, 0.25, 0.25]]), np.array([[True, False, False]]))
    assert three.tolist() == [0.375]


@pytest.mark.parametrize("bins", [5, 10])
def test_reliability_equals_scikit_learn(bins: int) -> None:
    p, happened = predictions()
    p = np.append(p, 1.0)
    happened = np.append(happened, True)
    table = calibration.reliability(p, happened, bins=bins)
    observed, predicted = calibration_curve(happened, p, n_bins=bins)
    assert table["observed"].to_numpy() == pytest.approx(observed)
    assert table["predicted"].to_numpy() == pytest.approx(predicted)
    assert table["n"].sum() == len(p)
    assert len(calibration.reliability(np.array([0.1, 0.9]), np.array([False, True]))) == 2


def test_what_is_a_probability() -> None:
    assert calibration.are_probabilities(np.array([[0.25, 0.75]]), one_of=True)
    assert not calibration.are_probabilities(np.array([[0.5, 0.75]]), one_of=True)
    assert calibration.are_probabilities(np.array([[0.5, 0.75]]), one_of=False)
    assert not calibration.are_probabilities(np.array([[-0.25, 1.25]]), one_of=True)
    assert not calibration.are_probabilities(np.array([[np.nan, 1.0]]), one_of=False)


def test_net_benefit() -> None:
    p, happened = predictions(50)
    table = calibration.decision_curve(p, happened, thresholds=[0.0, 0.1, 0.5, 0.9])
    for row in table.itertuples():
        true, false = ((p >= row.threshold) & happened).sum(), ((p >= row.threshold) & ~happened).sum()
        odds = row.threshold / (1 - row.threshold)
        assert row.model == pytest.approx(true / 50 - odds * false / 50)
        assert row.all == pytest.approx(happened.sum() / 50 - odds * (~happened).sum() / 50)
        assert row.none == 0
    assert table["model"][0] == table["all"][0]
    with pytest.raises(ValueError, match=r"thresholds \[1.0\]: expected values in \[0, 1\)"):
        calibration.decision_curve(p, happened, thresholds=[0.5, 1.0])
