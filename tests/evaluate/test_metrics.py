"""Metrics against scikit-learn, weights as repeats, and patients as the unit of the bootstrap."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from medssl.evaluate import metrics


def ones(n: int) -> np.ndarray:
    return np.ones((1, n))


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_auroc_equals_scikit_learn_with_ties_and_repeats(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores, positive = rng.integers(0, levels, 60) / levels, rng.random(60) < 0.3
    weights = np.concatenate([ones(60), rng.integers(0, 4, (20, 60))])
    got = metrics.auroc(scores, positive, weights)
    for value, row in zip(got, weights, strict=True):
        repeated = np.repeat(np.arange(60), row.astype(int))
        assert value == pytest.approx(sk.roc_auc_score(positive[repeated], scores[repeated]), abs=1e-12)


def test_auroc_without_a_class_is_nan() -> None:
    positive = np.array([True, True, False])
    assert np.isnan(metrics.auroc(np.arange(3.0), positive, np.array([[1.0, 1, 0]])))[0]
    assert metrics.auroc(np.ones(3), positive, ones(3))[0] == 0.5


def test_c10() -> None:
    truth, p = np.array(["0", "0", "1", "1"]), np.array([0.1, 0.4, 0.35, 0.8])
    got = metrics.class_metrics(np.stack([1 - p, p], 1), truth, np.array(["0", "1"]), ones(4))
    assert got["auroc"][0] == pytest.approx(0.75)
    assert got["balanced_accuracy"][0] == pytest.approx(0.75)


def test_classes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    classes = np.array(["a", "b", "c", "d"])
    truth = classes[rng.choice(4, 80, p=[0.5, 0.3, 0.15, 0.05])]
    scores = rng.dirichlet(np.ones(4), 80)
    weights = np.concatenate([ones(80), rng.integers(1, 4, (5, 80))])
    got = metrics.class_metrics(scores, truth, classes, weights)
    for b, row in enumerate(weights):
        rows = np.repeat(np.arange(80), row.astype(int))
        balanced = sk.balanced_accuracy_score(truth[rows], classes[scores[rows].argmax(1)])
        area = sk.roc_auc_score(truth[rows], scores[rows], multi_class="ovr", average="macro")
        assert got["balanced_accuracy"][b] == pytest.approx(balanced)
        assert got["auroc"][b] == pytest.approx(area)


def test_a_class_that_is_not_tested_does_not_count() -> None:
    truth = np.array(["a", "b", "a", "b"])
    scores = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]])
    got = metrics.class_metrics(scores, truth, np.array(["a", "b", "c"]), ones(4))
    assert got["balanced_accuracy"][0] == pytest.approx(0.75)
    assert np.isfinite(got["auroc"][0])


def test_numbers_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = 1e6 + rng.standard_normal(50)
    predicted = truth + 0.5 * rng.standard_normal(50)
    weights = np.concatenate([ones(50), rng.integers(0, 3, (5, 50))])
    got = metrics.number_metrics(predicted, truth, weights)
    for b, row in enumerate(weights):
        assert got["r2"][b] == pytest.approx(sk.r2_score(truth, predicted, sample_weight=row), abs=1e-6)
        assert got["mae"][b] == pytest.approx(sk.mean_absolute_error(truth, predicted, sample_weight=row))
    assert np.isnan(metrics.number_metrics(predicted, np.full(50, 3.0), ones(50))["r2"][0])


def test_multilabel() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random((60, 3)) < [0.5, 0.2, 0.0], rng.random((60, 3))
    expected = sk.roc_auc_score(truth[:, :2], scores[:, :2])
    assert metrics.multilabel_metrics(scores, truth, ones(60))["auroc"][0] == pytest.approx(expected)
    assert np.isnan(metrics.multilabel_metrics(scores, np.zeros((60, 3), bool), ones(60))["auroc"][0])


def test_a_draw_takes_whole_patients() -> None:
    patients = np.array([7, 7, 7, 3, 3, 9])
    weights = metrics.draw_weights(patients, 500)
    assert weights.shape == (501, 6)
    assert (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 4]).all()
    assert (weights[1:, [0, 3, 5]].sum(1) == 3).all()
    assert weights[1:, 5].mean() == pytest.approx(1, abs=0.1)
    assert np.array_equal(weights, metrics.draw_weights(patients, 500))


def test_summary() -> None:
    patients = np.array([1, 1, *range(2, 9)])
    seeds = [{"x": np.array([0.5, 0.0, 1.0, np.nan])}, {"x": np.array([0.7, 0.2, 1.0, 0.4])}]
    got = metrics.summarise(seeds, patients)["x"]
    assert got["mean"] == pytest.approx(0.6)
    assert (got["n_patients"], got["seeds"]) == (8, 2)
    assert "too_few" not in got
    low, high = np.percentile([0.1, 1.0], (2.5, 97.5))
    assert (got["lo"], got["hi"]) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("patients", "rarest", "words"),
    [
        (7, None, "n=7"), (8, None, None), (7, 3, "n=7"), (40, 3, "n=40, 3 of the rarest class"), (40, 4, None),
        (40, 0, "n=40, 0 of the rarest class"),
    ],
)  # fmt: skip
def test_too_few(patients: int, rarest: int | None, words: str | None) -> None:
    assert metrics.too_few(patients, rarest) == words
    value = metrics.summarise([{"x": np.linspace(0, 1, 5)}], np.arange(patients).repeat(2), rarest=rarest)["x"]
    assert (value["lo"] is None, value.get("too_few")) == (words is not None, words)
    assert value["n_patients"] == patients
    json.dumps(value, allow_nan=False)


def test_a_class_that_most_draws_lack_has_no_interval() -> None:
    """The claim of `too_few`: how many draws lack a class of m patients of 20."""
    for m, least, most in ((1, 0.3, 0.42), (3, 0.025, 0.06), (4, 0.0, 0.025)):
        weights = metrics.draw_weights(np.arange(20), 2000)[1:]
        assert least < (weights[:, :m].sum(1) == 0).mean() < most


def test_what_has_no_value_is_null() -> None:
    truth, scores = np.full(9, "a"), np.full((9, 2), 0.5)
    drawn = metrics.class_metrics(scores, truth, np.array(["a", "b"]), metrics.draw_weights(np.arange(9), 20))
    got = metrics.summarise([drawn], np.arange(9), rarest=0)
    assert (got["auroc"]["mean"], got["auroc"]["lo"]) == (None, None)
    same = metrics.number_metrics(np.arange(9.0), np.full(9, 3.0), metrics.draw_weights(np.arange(9), 20))
    got = metrics.summarise([same], np.arange(9))
    assert (got["r2"]["mean"], got["r2"]["too_few"]) == (None, "n=9, all of one value")
    assert got["mae"]["lo"] <= got["mae"]["mean"] <= got["mae"]["hi"]


def test_shown() -> None:
    value = {"mean": 0.8124, "lo": 0.7, "hi": 0.9, "n_patients": 30, "seeds": 3}
    assert metrics.shown(value) == "0.812 [0.700, 0.900]"
    assert metrics.shown(value, 2, sign="+") == "+0.81 [+0.70, +0.90]"
    few = {**value, "lo": None, "hi": None, "too_few": "n=30, 1 of the rarest class"}
    assert metrics.shown(few) == "0.812 too few (n=30, 1 of the rarest class)"
    assert metrics.shown({**few, "mean": None}) == "too few (n=30, 1 of the rarest class)"
    # As files of earlier versions and comparison.csv hold it.
    nan = float("nan")
    assert metrics.shown({**value, "lo": nan, "hi": nan, "mean": nan, "too_few": nan}) == "too few (n=30)"


def test_intervals_widen_with_fewer_patients_not_with_fewer_windows() -> None:
    rng = np.random.default_rng(0)

    def width(patients: np.ndarray) -> float:
        truth = np.where(patients % 2 == 0, "a", "b")
        level = rng.standard_normal(patients.max() + 1)[patients] + (truth == "b")
        scores = np.stack([-level, level], 1)
        drawn = metrics.class_metrics(scores, truth, np.array(["a", "b"]), metrics.draw_weights(patients, 300))
        got = metrics.summarise([drawn], patients)["auroc"]
        return got["hi"] - got["lo"]

    assert width(np.arange(20).repeat(50)) > 2 * width(np.arange(1000))
