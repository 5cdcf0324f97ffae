"""Metrics against scikit-learn and scipy, weights as repeats, and scores that are compared within folds alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from medssl.evaluate import calibration, metrics


def ones(n: int) -> np.ndarray:
    return np.ones((1, n))


def repeats(n: int, draws: int = 8, *, least: int = 0) -> np.ndarray:
    """Return (1 + draws, n) whole numbers, the first row ones."""
    return np.concatenate([ones(n), np.random.default_rng(n).integers(least, 4, (draws, n))])


def by_repeats(metric: Callable[[np.ndarray], float], weights: np.ndarray) -> list[float]:
    """Return a metric of the units (rows), each as often as its weight says, draw by draw."""
    return [metric(np.repeat(np.arange(weights.shape[1]), row.astype(int))) for row in weights]


def at_specificity(truth: np.ndarray, scores: np.ndarray) -> float:
    false, true, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    return float(true[false <= 0.05 + 1e-9].max())


@pytest.mark.parametrize("levels", [3, 10, 1000])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.auroc, sk.roc_auc_score),
        (metrics.auprc, sk.average_precision_score),
        (lambda folds: metrics.sensitivity(folds[0]), at_specificity),
    ],
)
def test_ranks_equal_scikit_learn_with_ties_and_repeats(
    ours: Callable[..., np.ndarray], theirs: Callable[..., float], levels: int
) -> None:
    rng = np.random.default_rng(levels)
    scores, positive = rng.integers(0, levels, 60) / levels, rng.random(60) < 0.3
    weights = repeats(60, 20)
    got = ours(metrics.counted(scores, positive, weights))
    assert got == pytest.approx(by_repeats(lambda r: theirs(positive[r], scores[r]), weights), abs=1e-12)


def test_scores_are_compared_within_a_fold() -> None:
    """Pairs of every fold, summed: a second model whose scores are ten higher changes nothing."""
    rng = np.random.default_rng(0)
    scores, positive, fold = rng.integers(0, 6, 90) / 6, rng.random(90) < 0.4, rng.integers(0, 3, 90)
    weights = repeats(90)
    won, gained = np.zeros(len(weights)), np.zeros(len(weights))
    for b, row in enumerate(weights):
        pairs, found = 0.0, 0.0
        for f in range(3):
            here = np.repeat(np.flatnonzero(fold == f), row[fold == f].astype(int))
            count = float(positive[here].sum() * (~positive[here]).sum())
            won[b] += count * sk.roc_auc_score(positive[here], scores[here])
            gained[b] += positive[here].sum() * sk.average_precision_score(positive[here], scores[here])
            pairs, found = pairs + count, found + positive[here].sum()
        won[b], gained[b] = won[b] / pairs, gained[b] / found
    moved = metrics.counted(scores + 10 * fold, positive, weights, fold)
    assert metrics.auroc(moved) == pytest.approx(won, abs=1e-12)
    assert metrics.auprc(moved) == pytest.approx(gained, abs=1e-12)
    assert not np.allclose(metrics.auroc(metrics.counted(scores + 10 * fold, positive, weights)), won, atol=0.02)


def test_a_fold_with_one_class_has_no_pairs() -> None:
    scores, positive = np.arange(6.0), np.array([0, 1, 0, 1, 1, 1], bool)
    folds = metrics.counted(scores, positive, ones(6), np.array([0, 0, 0, 0, 1, 1]))
    assert metrics.auroc(folds)[0] == pytest.approx(sk.roc_auc_score(positive[:4], scores[:4]))


def test_auroc_without_a_class_is_nan() -> None:
    positive = np.array([True, True, False])
    for ours in (metrics.auroc, lambda folds: metrics.sensitivity(folds[0])):
        assert np.isnan(ours(metrics.counted(np.arange(3.0), positive, np.array([[1.0, 1, 0]]))))[0]
    assert np.isnan(metrics.auprc(metrics.counted(np.arange(3.0), positive, np.array([[0.0, 0, 1]]))))[0]
    assert metrics.auroc(metrics.counted(np.ones(3), positive, ones(3)))[0] == 0.5


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
    weights = repeats(80, 5, least=1)
    got = metrics.class_metrics(scores, truth, classes, weights)
    predicted, one = classes[scores.argmax(1)], truth[:, None] == classes

    def every(metric: Callable[..., float]) -> Callable[[np.ndarray], float]:
        return lambda r: float(np.mean([metric(one[r, k], scores[r, k]) for k in range(4)]))

    theirs: dict[str, Callable[[np.ndarray], float]] = {
        "auroc": lambda r: sk.roc_auc_score(truth[r], scores[r], multi_class="ovr", average="macro"),
        "auprc": every(sk.average_precision_score),
        "balanced_accuracy": lambda r: sk.balanced_accuracy_score(truth[r], predicted[r]),
        "f1": lambda r: sk.f1_score(truth[r], predicted[r], average="macro"),
        "mcc": lambda r: sk.matthews_corrcoef(truth[r], predicted[r]),
        "sensitivity_at_95_specificity": every(at_specificity),
        "brier": lambda r: np.square(scores[r] - one[r]).sum(1).mean(),
        "ece": lambda r: calibration.ece(scores[r].max(1), truth[r] == predicted[r])[0],
    }
    assert list(got) == list(theirs)
    for name, metric in theirs.items():
        assert got[name] == pytest.approx(by_repeats(metric, weights)), name
    headline = metrics.class_metrics(scores, truth, classes, weights, only_headline=True)
    assert list(headline) == ["auroc"] and (headline["auroc"] == got["auroc"]).all()


def test_two_classes_are_read_by_the_last() -> None:
    rng = np.random.default_rng(0)
    positive, p = rng.random(60) < 0.3, rng.random(60)
    truth = np.where(positive, "sick", "healthy")
    got = metrics.class_metrics(np.stack([1 - p, p], 1), truth, np.array(["healthy", "sick"]), ones(60))
    assert got["auprc"][0] == pytest.approx(sk.average_precision_score(positive, p))
    assert got["sensitivity_at_95_specificity"][0] == pytest.approx(at_specificity(positive, p))
    assert got["brier"][0] == pytest.approx(sk.brier_score_loss(positive, p))
    assert got["f1"][0] == pytest.approx(sk.f1_score(positive, p > 0.5, average="macro"))


def test_scores_that_are_no_probabilities_have_no_calibration() -> None:
    truth, classes = np.array(["a", "b"] * 4), np.array(["a", "b"])
    scores = np.random.default_rng(0).standard_normal((8, 2))
    got = metrics.class_metrics(scores, truth, classes, ones(8))
    assert "auroc" in got and not {"brier", "ece"} & set(got)
    assert "brier" not in metrics.multilabel_metrics(scores, truth[:, None] == classes, ones(8))


def test_one_prediction_for_all() -> None:
    """MCC is 0 as in scikit-learn, not the root of a rounding error."""
    truth, classes = np.array(["a"] * 5 + ["b"] * 3), np.array(["a", "b"])
    weights = np.random.default_rng(0).random((50, 8)) * 1.1
    got = metrics.class_metrics(np.tile([0.9, 0.1], (8, 1)), truth, classes, weights)
    assert (got["mcc"] == 0).all()
    assert got["balanced_accuracy"] == pytest.approx(np.full(50, 0.5))
    assert got["auroc"] == pytest.approx(np.full(50, 0.5))


def test_a_class_that_is_not_tested_does_not_count() -> None:
    truth = np.array(["a", "b", "a", "b"])
    scores = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1]])
    got = metrics.class_metrics(scores, truth, np.array(["a", "b", "c"]), ones(4))
    assert got["balanced_accuracy"][0] == pytest.approx(0.75)
    assert all(np.isfinite(value[0]) for value in got.values())


def test_numbers_equal_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    truth = 1e6 + np.round(rng.standard_normal(50), 1)
    predicted = truth + np.round(0.5 * rng.standard_normal(50), 1)
    weights = repeats(50, 5)
    got = metrics.number_metrics(predicted, truth, weights)
    theirs: dict[str, Callable[[np.ndarray], float]] = {
        "r2": lambda r: sk.r2_score(truth[r], predicted[r]),
        "mae": lambda r: sk.mean_absolute_error(truth[r], predicted[r]),
        "spearman": lambda r: stats.spearmanr(truth[r], predicted[r]).statistic,
    }
    assert list(got) == list(theirs)
    for name, metric in theirs.items():
        assert got[name] == pytest.approx(by_repeats(metric, weights), abs=1e-6), name
    constant = metrics.number_metrics(predicted, np.full(50, 3.0), weights)
    assert np.isnan(constant["r2"]).all() and np.isnan(constant["spearman"]).all()
    assert list(metrics.number_metrics(predicted, truth, weights, only_headline=True)) == ["r2"]


def test_multilabel() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random((60, 3)) < [0.5, 0.2, 0.0], rng.random((60, 3))
    weights = repeats(60, 5)
    got = metrics.multilabel_metrics(scores, truth, weights, labels=np.array(["af", "mi", "none"]))
    t, s = truth[:, :2], scores[:, :2]
    theirs: dict[str, Callable[[np.ndarray], float]] = {
        "auroc": lambda r: sk.roc_auc_score(t[r], s[r]),
        "auprc": lambda r: sk.average_precision_score(t[r], s[r]),
        "f1": lambda r: sk.f1_score(t[r], s[r] >= 0.5, average="macro"),
        "brier": lambda r: np.mean([sk.brier_score_loss(t[r, k], s[r, k]) for k in (0, 1)]),
        "ece": lambda r: np.mean([calibration.ece(s[r, k], t[r, k]) for k in (0, 1)]),
        "auroc/af": lambda r: sk.roc_auc_score(t[r, 0], s[r, 0]),
        "auroc/mi": lambda r: sk.roc_auc_score(t[r, 1], s[r, 1]),
    }
    assert list(got) == list(theirs)
    for name, metric in theirs.items():
        assert got[name] == pytest.approx(by_repeats(metric, weights)), name
    assert np.isnan(metrics.multilabel_metrics(scores, np.zeros((60, 3), bool), ones(60))["auroc"][0])


def test_a_draw_that_misses_a_label_averages_the_others() -> None:
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], bool)
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.6, 0.2], [0.7, 0.4]])
    got = metrics.multilabel_metrics(scores, truth, np.array([[1.0, 0, 1, 1]]))
    assert got["auroc"][0] == pytest.approx(sk.roc_auc_score([1, 1, 0], [0.9, 0.6, 0.7]))


@pytest.mark.parametrize(
    ("patients", "rarest", "words"),
    [
        (7, None, "n=7"), (8, None, None), (7, 3, "n=7"), (40, 3, "n=40, 3 of the rarest class"), (40, 4, None),
        (40, 0, "n=40, 0 of the rarest class"),
    ],
)  # fmt: skip
def test_too_few(patients: int, rarest: int | None, words: str | None) -> None:
    assert metrics.too_few(patients, rarest) == words


def test_bounds() -> None:
    assert metrics.bounds("auroc") == metrics.bounds("auroc/af") == metrics.bounds("ece") == (0, 1)
    assert metrics.bounds("mae") == (0, np.inf) and metrics.bounds("r2") == (-np.inf, 1)
    assert metrics.bounds("mcc") == metrics.bounds("spearman") == (-1, 1)


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


def test_protocols_of_a_task() -> None:
    of_task = {"probe": {"1": {}}, "left_out": "no test patient has this label", "seen": ["age"]}
    assert list(metrics.protocols(of_task)) == ["probe"]
