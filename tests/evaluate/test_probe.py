"""Probes on data whose answer is known."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import sem
from sklearn.utils.class_weight import compute_sample_weight

from medssl.evaluate import probe
from medssl.evaluate.tasks import Task


def toy(n: int = 120) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table of ``n`` patients with one sample and an embedding that separates its classes."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, n)
    table = pd.DataFrame(
        {
            "sample_id": [f"{i:03d}" for i in range(n)], "patient": range(n), "trial": range(n), "method": "",
            "split": np.array(["train", "train", "val", "test"])[np.arange(n) % 4],
            "label_disease": np.where(label, "sick", "healthy"), "label_age": 50.0 + 10 * label + rng.normal(0, 1, n),
            "label_signs": [["x", "y"] if v else ["y"] for v in label],
        }
    )  # fmt: skip
    z = rng.standard_normal((n, 6))
    z[:, 2] += 6 * label
    return table, z


TABLE, Z = toy()


def score(task: Task, predicted: np.ndarray) -> dict[str, float]:
    units = task.part("test")
    return {k: float(v[0]) for k, v in task.score(predicted, units, np.ones((1, len(units)))).items()}


@pytest.mark.parametrize(
    ("name", "metric", "least"), [("disease", "auroc", 0.99), ("age", "r2", 0.85), ("signs", "auroc", 0.99)]
)
def test_separable(name: str, metric: str, least: float) -> None:
    task = Task.of(TABLE, name)
    units = task.part("train")
    assert score(task, probe.linear(task, Z, units))[metric] > least
    assert score(task, probe.knn(task, Z, units))[metric] > least - 0.1
    assert score(task, probe.boosting(task, Z, units))[metric] > least - 0.1
    if name != "age":
        assert score(task, probe.naive_bayes(task, Z, units))[metric] > least - 0.01


def test_test_patients_decide_nothing() -> None:
    task = Task.of(TABLE, "disease")
    units, test = task.part("train"), task.part("test")
    moved = Z.copy()
    moved[test[1:]] = 1e3
    first = probe.linear(task, Z, units)[0]
    assert np.array_equal(probe.linear(task, moved, units)[0], first)
    assert np.array_equal(probe.knn(task, moved, units)[0], probe.knn(task, Z, units)[0])


@pytest.mark.parametrize("name", ["disease", "age", "signs"])
def test_the_choice_is_made_within_the_label_budget(name: str) -> None:
    """Neither what other patients are nor what they have decides how strongly a probe of ten units is regularised."""
    table, moved = TABLE.copy(), Z.copy()
    units = Task.of(table, name).part("train")[:10]
    others = np.setdiff1d(np.flatnonzero(table["split"] != "test"), units)
    moved[others] = 1e3
    values = table[f"label_{name}"].to_list()
    table[f"label_{name}"] = [values[0] if i in others else value for i, value in enumerate(values)]
    found = probe.linear(Task.of(table, name), moved, units)
    assert np.array_equal(found, probe.linear(Task.of(TABLE, name), Z, units))


@pytest.mark.parametrize("patients", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("name", ["disease", "age", "signs"])
def test_many_units_of_few_patients(monkeypatch: pytest.MonkeyPatch, patients: int, name: str) -> None:
    """As many folds as patients, at most five, and each patient in one."""
    table, train = TABLE.copy(), np.flatnonzero(TABLE["split"] == "train")
    table.loc[train, "patient"] = 1000 + np.arange(len(train)) % patients
    # So that each of them has all values, and a label belongs to a trial.
    task, dealt = Task.of(table, name), []
    assert (task.unit, len(task.part("train")), len(np.unique(task.patient[train]))) == ("trial", 60, patients)

    def noted(targets: np.ndarray, patient: np.ndarray) -> np.ndarray:
        dealt.append(folds(targets, patient))
        return dealt[-1]

    folds = probe.folds
    monkeypatch.setattr(probe, "folds", noted)
    predicted = probe.linear(task, Z, train)
    assert dealt[0].max() + 1 == min(5, patients)
    assert len(np.unique(np.stack([task.patient[train], dealt[0]]), axis=1).T) == patients
    assert score(task, predicted)["r2" if name == "age" else "auroc"] > (0.4 if patients == 1 else 0.8)
    if patients == 1:
        assert np.array_equal(predicted, probe.linear(task, Z, train, strength=probe.FALLBACK))


def test_folds_have_their_share_of_each_class() -> None:
    rng = np.random.default_rng(0)
    patient = rng.permutation(np.repeat(np.arange(103), 3))
    label = np.array([0, 1, 2])[np.searchsorted([0.1, 0.4], np.linspace(0, 1, 103))][patient]
    fold = probe.folds((label[:, None] == np.arange(3)).astype(float), patient)
    for c in range(3):
        shares = [np.mean(label[fold == k] == c) for k in range(5)]
        assert np.ptp(shares) < 0.06
    age = rng.normal(50, 20, 103)[patient]
    fold = probe.folds(age[:, None], patient)
    assert np.ptp([age[fold == k].mean() for k in range(5)]) < 5
    assert len(np.unique(np.stack([patient, fold]), axis=1).T) == 103


def test_the_choice_by_a_slow_loop() -> None:
    """One feature of thirty that tells little wants a strong penalty, and one that tells all a weak one."""
    table, _ = toy(200)
    rng = np.random.default_rng(1)
    chosen = set()
    for noise, name, number in itertools.product((0.05, 1.0, 3.0), ("disease", "age"), (20, 100)):
        task = Task.of(table, name)
        sick = np.array(table["label_disease"] == "sick", dtype=float)
        z = np.column_stack([sick + noise * rng.standard_normal(200), rng.standard_normal((200, 30))])
        units = task.part("train")[:number]
        targets = probe._targets(task, task.truth[units])
        fold = probe.folds(targets, task.patient[units])
        losses = []
        for strength in probe.STRENGTHS:
            loss = np.zeros(number)
            for k in range(5):
                split = np.full(200, "none", dtype=object)
                split[units[fold == k]] = "test"
                inner = dataclasses.replace(task, split=split)
                out = probe.linear(inner, z, units[fold != k], strength=strength)[:, -1]
                truth = targets[fold == k, 0]
                if name == "age":
                    loss[fold == k] = (out - truth) ** 2
                else:
                    loss[fold == k] = -np.log(np.where(truth == 1, out, 1 - out))
            weight = compute_sample_weight("balanced", targets[:, 0]) if name == "disease" else np.ones(number)
            losses.append(loss * weight)
        expected = int(np.argmin([loss.mean() for loss in losses]))
        gain = losses[3] - losses[expected]
        expected = expected if gain.mean() > 2 * sem(gain, ddof=0) else 3
        assert probe.choose(task, z, units, targets) == probe.STRENGTHS[expected]
        chosen.add(expected)
    assert len(chosen) > 3


def test_patients_decide_not_units() -> None:
    """The same gain in each of 40 units is certain if they are 40 patients, and not if they are two."""
    raw = np.full((len(probe.STRENGTHS), 40, 1), 3.0)
    raw[5] = 1 + np.repeat([1.0, 0.0], [38, 2])[:, None]
    task, targets = Task.of(TABLE, "age"), np.full((40, 1), 1.0)
    assert probe.best(task, raw, targets, np.arange(40)) == probe.STRENGTHS[5]
    assert probe.best(task, raw, targets, np.repeat([0, 1], [38, 2])) == probe.FALLBACK


def test_one_patient_of_a_class_cannot_choose() -> None:
    task = Task.of(TABLE, "disease")
    units = task.part("train")
    sick, healthy = (units[task.truth[units] == c] for c in ("sick", "healthy"))
    few = np.append(healthy[:6], sick[:1])
    assert probe.choose(task, Z, few, probe._targets(task, task.truth[few])) == probe.FALLBACK
    assert probe.choose(task, Z, sick, probe._targets(task, task.truth[sick])) == probe.FALLBACK


def test_three_classes_one_of_them_unseen() -> None:
    table, z = toy(240)
    grade = np.arange(240) // 4 % 3
    table["label_grade"] = np.array(["low", "mid", "top"])[grade]
    z[:, :3] += 5 * np.eye(3)[grade]
    task = Task.of(table, "grade")
    train = task.part("train")
    for method in (probe.linear, probe.naive_bayes, probe.knn, probe.boosting):
        predicted = method(task, z, train)
        assert predicted.sum(1) == pytest.approx(1)
        assert score(task, predicted)["auroc"] > 0.98
        fewer = method(task, z, train[task.truth[train] != "mid"])
        assert (fewer[:, 1] == 0).all()
        assert fewer.sum(1) == pytest.approx(1)


def test_naive_bayes() -> None:
    """Two means, the pooled variance 1 and equal priors give log-odds of 2."""
    corners = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    x, member = np.concatenate([corners, corners + 2]), np.repeat(np.eye(2, dtype=bool), 4, axis=0)
    assert probe.posterior(x, member, np.array([[2.0, 1]]))[0, 1] == pytest.approx(0.880797, abs=1e-6)
    rng = np.random.default_rng(0)
    x, y, queries = rng.standard_normal((50, 4)), rng.integers(0, 3, 50), rng.standard_normal((9, 4))
    means = np.stack([x[y == c].mean(0) for c in range(3)])
    variance = sum((y == c).mean() * x[y == c].var(0) for c in range(3))
    log_p = np.log([(y == c).mean() for c in range(3)]) - ((queries[:, None] - means) ** 2 / variance / 2).sum(2)
    expected = np.exp(log_p) / np.exp(log_p).sum(1, keepdims=True)
    assert probe.posterior(x, y[:, None] == np.arange(3), queries) == pytest.approx(expected)
    # A dead feature does not decide, and one unit a class makes the nearest of them win.
    dead = probe.posterior(np.c_[x, y * 1e-6], y[:, None] == np.arange(3), np.c_[queries, np.ones(9)])
    assert dead == pytest.approx(expected, abs=1e-2)
    assert probe.posterior(np.eye(2), np.eye(2, dtype=bool), np.array([[0.4, 0.0]]))[0, 0] > 0.5
    with pytest.raises(ValueError, match="is a number"):
        probe.naive_bayes(Task.of(TABLE, "age"), Z, np.arange(4))


@pytest.mark.parametrize("name", ["disease", "age", "signs"])
@pytest.mark.parametrize("method", [probe.linear, probe.naive_bayes, probe.knn, probe.boosting])
def test_unknown_features(method: Callable[..., np.ndarray], name: str) -> None:
    task = Task.of(TABLE, name)
    if name == "age" and method is probe.naive_bayes:
        return
    z = np.column_stack([Z, np.full(len(Z), np.nan)])
    z[::7, 1] = np.nan
    predicted = method(task, z, task.part("train"))
    assert np.isfinite(predicted).all()
    assert score(task, predicted)["r2" if name == "age" else "auroc"] > 0.8
    one = method(task, z, task.part("train")[:1])
    assert np.isfinite(one).all()


def test_one_class_in_a_subset() -> None:
    task = Task.of(TABLE, "disease")
    units = task.part("train")
    sick = units[task.truth[units] == "sick"][:2]
    assert (probe.linear(task, Z, sick)[:, 1] == 1).all()
    assert (probe.knn(task, Z, sick)[:, 1] == 1).all()
