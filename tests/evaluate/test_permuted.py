"""Labels in random order: which orders are fair, and that p-values of unrelated labels are uniform."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import kstest

from medssl.evaluate import intervals, probe
from medssl.evaluate.tasks import Task


def null_task(kind: str, seed: int, *, patients: int = 60, most: int = 3) -> tuple[Task, np.ndarray]:
    """Return a task of one to ``most`` units a patient and features that tell nothing about its label.

    Units of a patient resemble one another in both.
    """
    rng = np.random.default_rng([seed, 5])
    count = rng.integers(1, most + 1, patients)
    patient = np.repeat(np.arange(patients), count)
    features = rng.standard_normal((patients, 5))[patient] + 0.3 * rng.standard_normal((len(patient), 5))
    latent = rng.standard_normal((patients, 3))[patient] + 0.3 * rng.standard_normal((len(patient), 3))
    if kind == "number":
        classes, truth = np.array([]), latent[:, 0]
    elif kind == "multilabel":
        classes, truth = np.array(["a", "b", "c"]), latent > 0.3
    else:
        classes = np.array(["a", "b", "c"] if kind == "classes" else ["a", "b"])
        truth = classes[latent[:, : len(classes)].argmax(1)]
    split = np.where(patient % 3 == 2, "test", "train")
    rows = np.arange(len(patient))
    of = "class" if kind == "classes" else kind
    return Task("null", of, "trial", classes, truth, patient, split, rows, rows), features  # type: ignore[arg-type]


def scores(task: Task, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the headline metric of each of several predictions (B, n_test, K) of labels (B, n_test, ...)."""
    units, name = task.part("test"), "r2" if task.kind == "number" else "auroc"
    found = []
    for p, values in zip(predicted, truth, strict=True):
        labels = task.truth.copy()
        labels[units] = values
        found.append(dataclasses.replace(task, truth=labels).score(p, units, np.ones((1, len(units))))[name][0])
    return np.array(found)


def p_of(task: Task, features: np.ndarray, times: int) -> tuple[float, float]:
    """Return the p-value against the true test labels, and against test labels in an order of their own."""
    truth = task.truth[task.part("test")][None]
    (own,) = scores(task, probe.observed(task, features)[None], truth)
    predicted = probe.permuted(task, features, times=times)
    against = (np.repeat(truth, times, axis=0), probe.permuted_truth(task, times=times))
    first, second = (intervals.permutation_p(own, scores(task, predicted, labels)) for labels in against)
    return first, second


@pytest.mark.parametrize("kind", ["class", "classes", "multilabel", "number"])
def test_p_values_of_unrelated_labels_are_uniform(kind: str) -> None:
    for found in np.array([p_of(*null_task(kind, seed), times=19) for seed in range(100)]).T:
        # Steps of 1/20 become a continuous scale.
        smooth = found - np.random.default_rng(0).random(len(found)) / 20
        assert kstest(smooth, "uniform").pvalue > 0.01
        assert np.mean(found <= 0.05) < 0.12


def test_labels_that_move_from_unit_to_unit_would_look_special(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of a patient resemble one another in features and in labels; this is what the orders must keep."""

    def of_units(patient: np.ndarray, times: int, *, seed: int = 11) -> np.ndarray:
        return np.stack([np.random.default_rng([i, seed]).permutation(len(patient)) for i in range(times)])

    def extreme() -> float:
        found = np.array([p_of(*null_task("class", seed, patients=30, most=9), times=19)[1] for seed in range(100)])
        return float(np.mean((found <= 0.1) | (found > 0.9)))

    assert extreme() == pytest.approx(0.2, abs=0.09)
    monkeypatch.setattr(probe, "orders", of_units)
    assert extreme() > 0.3


def test_a_true_label_is_among_the_best() -> None:
    """Its axis dominates, and any order of training labels finds it: half of them predict the true test labels."""
    task, features = null_task("class", 0)
    features[:, 1] += 3 * (task.truth == "b")
    against_true, against_orders = p_of(task, features, times=99)
    assert against_orders == 0.01
    assert against_true > 0.05


def test_labels_of_a_patient_stay_together() -> None:
    patient = np.array([7, 3, 3, 7, 5, 9, 9, 9, 4, 4])  # 7, 3 and 4 have two units, 5 has one and 9 three
    orders = probe.orders(patient, 400)
    assert (np.sort(orders, axis=1) == np.arange(10)).all()
    arrived = patient[orders]
    assert (arrived[:, 4] == 5).all()
    assert (arrived[:, 5:8] == 9).all()
    for one in (7, 3, 4):
        here = arrived[:, patient == one]
        assert (here[:, 0] == here[:, 1]).all()
        assert np.unique(here[:, 0], return_counts=True)[1] == pytest.approx(133, abs=35)
    # Within a patient all orders are as likely; with more times the first ones stay what they were.
    nine = np.unique(orders[:, 5:8], axis=0, return_counts=True)[1]
    assert nine == pytest.approx(np.full(6, 67), abs=25)
    assert (probe.orders(patient, 10) == orders[:10]).all()


@pytest.mark.parametrize("kind", ["class", "classes", "multilabel", "number"])
def test_all_orders_at_once_are_what_each_alone_would_be(kind: str) -> None:
    task, features = null_task(kind, 3)
    units = task.part("train")
    found = probe.permuted(task, features, times=4)
    for order, predicted in zip(probe.orders(task.patient[units], 4), found, strict=True):
        alone = probe.linear(task, features, units, strength=probe.FALLBACK, truth=task.truth[units][order])
        assert predicted == pytest.approx(alone, abs=1e-4)
    renamed = dataclasses.replace(task, patient=task.patient[::-1].max() - task.patient)
    assert np.array_equal(probe.permuted(renamed, features, times=4), found)  # codes depend on the project's key


def test_p_value_counts_the_true_order() -> None:
    assert intervals.permutation_p(0.9, np.array([0.1, 0.5, 0.7])) == 0.25
    assert intervals.permutation_p(0.5, np.array([0.1, 0.5, 0.7])) == 0.75
    assert intervals.permutation_p(0.0, np.array([0.1, 0.5, 0.7])) == 1
