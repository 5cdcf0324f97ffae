"""A label among the features is found, a good feature is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from medssl.evaluate.baselines import giveaway
from medssl.evaluate.baselines.giveaway import label_in_features
from medssl.evaluate.tasks import Task


def task_of(truth: np.ndarray, kind: str) -> Task:
    n = len(truth)
    classes = {"number": np.array([]), "multilabel": np.array(["a", "b", "c"]), "class": np.unique(truth)}[kind]
    split = np.array(["train", "test"])[np.arange(n) % 2]
    at = np.arange(n)
    return Task("label", kind, "patient", classes, truth, at, split, at, at)  # type: ignore[arg-type]


N, D = 60, 50


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, D))


def test_a_class_in_a_column(features: np.ndarray) -> None:
    truth = np.array(["healthy", "sick", "sick"])[np.arange(N) % 3]
    sick = truth == "sick"
    assert label_in_features(task_of(truth, "class"), features) == []
    features[:, 7] = sick
    features[:, 20] = -3 * sick + 0.1 * features[:, 20]
    features[:, 30] = sick + 0.8 * features[:, 30]  # a good feature, no statement
    assert 0.8 < roc_auc_score(sick, features[:, 30]) < 0.99
    assert label_in_features(task_of(truth, "class"), features) == [7, 20]


def test_one_class_of_three_and_one_label_of_several(features: np.ndarray) -> None:
    truth = np.array(["a", "b", "c"])[np.arange(N) % 3]
    features[:, 3] = truth == "b"
    assert label_in_features(task_of(truth, "class"), features) == [3]
    several = np.random.default_rng(1).random((N, 3)) < 0.4
    features[:, 4] = several[:, 2]
    assert label_in_features(task_of(several, "multilabel"), features) == [4]


def test_a_number_in_a_column(features: np.ndarray) -> None:
    truth = np.random.default_rng(1).random(N) * 50
    assert label_in_features(task_of(truth, "number"), features) == []
    features[:, 9] = np.exp(-truth / 10)
    features[:, 11] = truth + 5 * features[:, 11]
    assert spearmanr(truth, features[:, 11])[0] < 0.99
    assert label_in_features(task_of(truth, "number"), features) == [9]


@pytest.mark.parametrize("kind", ["class", "number"])
def test_unknown_values_are_left_out(features: np.ndarray, kind: str) -> None:
    numbers = np.random.default_rng(1).random(N)
    truth = numbers if kind == "number" else np.where(numbers > 0.5, "a", "b")
    features[:, 9] = numbers
    features[:35, 9] = np.nan
    features[:, 10] = numbers
    features[:42, 10] = np.inf  # eighteen are left, which is too few
    features[:, 11] = np.nan
    assert label_in_features(task_of(truth, kind), features) == [9]


def test_chance_among_many_columns_is_no_statement() -> None:
    """Two of twenty are told apart by every hundredth column of noise."""
    noise = np.random.default_rng(0).standard_normal((20, 5000))
    truth = np.array(["rare"] * 2 + ["common"] * 18)
    ranks = noise.argsort(axis=0).argsort(axis=0)[:2].sum(axis=0)
    assert ((ranks == 1) | (ranks == 37)).sum() > 20  # both lowest or both highest
    assert label_in_features(task_of(truth, "class"), noise) == []


def test_blocks_change_nothing(features: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.where(np.arange(N) % 2, "a", "b")
    features[:, [0, 13, 49]] = (truth == "a")[:, None]
    for block in (1, N * 7, 10**6):
        monkeypatch.setattr(giveaway, "BLOCK", block)
        assert label_in_features(task_of(truth, "class"), features) == [0, 13, 49]


def test_features_of_other_units() -> None:
    with pytest.raises(ValueError, match="features of 3 units; 'label' has 4"):
        label_in_features(task_of(np.arange(4.0), "number"), np.zeros((3, 1)))
