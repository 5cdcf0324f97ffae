"""Models on the frozen features of units: linear, naive Bayes, nearest neighbours, boosted trees, and permuted labels.

Each takes a task, ``features`` (n, d) in the order of its units, NaN where unknown, and the training ``units`` to fit
on, and returns predictions (n_test, K) of the test units: probabilities of K classes or labels, or one number. All
that a model needs is fitted and chosen on those units: "1 % of labels" are all the labels there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit, softmax
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics.pairwise import cosine_similarity

from medssl.evaluate.linear import Basis, logistic, predict, ridge, scaler_of, standardised
from medssl.evaluate.tasks import Task
from medssl.pretrain.monitor import knn_scores

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
FALLBACK = 0.1  # unless other patients tell that another one is better
FOLDS = 5
TEST_ORDERS = 12  # seed of the orders of test labels, which are not those of training labels
LEAST_VARIANCE = 1e-3  # of a feature, as a share of the mean variance: a dead one must not decide alone


# --- Linear ----------------------------------------------------------------------------------------------------------


def linear(
    task: Task,
    features: np.ndarray,
    units: np.ndarray,
    *,
    strength: float | None = None,
    truth: np.ndarray | None = None,
) -> np.ndarray:
    """Fit logistic regressions, each class against the rest or each label, or ridge regression for numbers.

    Classes weigh the same however rare, and probabilities of three classes or more are scaled to sum to 1. A class or
    label that all ``units`` have, or none of them, is predicted so.

    Args:
        task, features, units: see the module.
        strength: of the model's fit against its regularisation, C, and 10 / alpha for numbers; None: `choose`.
        truth: labels of ``units``; None: the true ones.
    """
    targets = _targets(task, task.truth[units] if truth is None else truth)
    strength = choose(task, features, units, targets) if strength is None else strength
    basis = Basis.of(features[units])
    return _predictions(task, _path(task, basis, targets, basis.of_others(features[task.part("test")]), [strength])[0])


def choose(task: Task, features: np.ndarray, units: np.ndarray, targets: np.ndarray) -> float:
    """Return the strength to fit ``units`` with, by what models of some of their patients say of the others.

    Args:
        task, features, units: see the module.
        targets: (n_units, m) of ``units``, as the models take them.
    """
    fold = folds(targets, task.patient[units])
    raw = np.full((len(STRENGTHS), *targets.shape), np.nan)
    for one in range(fold.max() + 1) if fold.max() > 0 else ():
        fitted, held_out = fold != one, fold == one
        basis = Basis.of(features[units[fitted]])
        coordinates = basis.of_others(features[units[held_out]])
        raw[:, held_out] = _path(task, basis, targets[fitted], coordinates, STRENGTHS)
    return best(task, raw, targets, task.patient[units])


def best(task: Task, raw: np.ndarray, targets: np.ndarray, patient: np.ndarray) -> float:
    """Return the best of `STRENGTHS`, or `FALLBACK` unless that is worse by two standard errors over patients.

    Best is the least squared error, or the least log loss, in which both values of a column weigh the same: unlike
    AUROC it can compare models of folds that hold one patient each, and it minds calibration. With few patients the
    best is mostly luck: in simulated embeddings of 256 features (56 cohorts), probes of 30 patients reached an AUROC of
    0.654 by this rule and 0.638 by the best alone, of 100 patients 0.741 and 0.734, of 400 patients 0.793 and 0.795.

    Args:
        task: its kind counts.
        raw: (L, n, m) values or logits of units by models that were fitted without their patients. A column of which
            one is infinite or NaN tells nothing: a fold could not fit it, as where one patient alone has a class.
        targets: (n, m).
        patient: (n,).
    """
    with np.errstate(invalid="ignore"):
        if task.kind == "number":
            loss = (targets - raw) ** 2
        else:
            loss = np.logaddexp(0, raw) - targets * raw
            loss /= np.where(targets > 0, targets.sum(0), (1 - targets).sum(0))
    told = np.isfinite(loss).all((0, 1))
    member = pd.factorize(patient)[0]
    of_patient = np.stack([np.bincount(member, of_unit) for of_unit in loss[..., told].sum(2)])
    least = int(np.argmin(of_patient.sum(1)))
    gain = of_patient[STRENGTHS.index(FALLBACK)] - of_patient[least]
    return STRENGTHS[least] if gain.sum() > 2 * np.sqrt(len(gain)) * gain.std() else FALLBACK


def folds(targets: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Return the fold (n,) of each unit: patients, sorted by their mean ``targets`` (n, m), are dealt round in turns.

    So every patient is in one fold, and each fold has its share of every class, or of the range of a number. There are
    `FOLDS`, or as many as patients.
    """
    member, patients = pd.factorize(patient)
    means = [np.bincount(member, column) / np.bincount(member) for column in targets.T]
    dealt = np.empty(len(patients), dtype=np.int64)
    dealt[np.lexsort(means[::-1])] = np.arange(len(patients)) % FOLDS
    return dealt[member]


def _targets(task: Task, truth: np.ndarray) -> np.ndarray:
    """Return labels as columns of floats (n, m): the number, each label, or each class; of two classes the second."""
    if task.kind != "class":
        return truth.astype(float).reshape(len(truth), -1)
    columns = (truth[:, None] == task.classes).astype(float)
    return columns[:, 1:] if len(task.classes) == 2 else columns


def _path(
    task: Task, basis: Basis, targets: np.ndarray, coordinates: np.ndarray, strengths: Sequence[float]
) -> np.ndarray:
    """Return values or logits (L, n', m) of other units; infinite where a column of ``targets`` has one value."""
    if task.kind == "number":
        return predict(coordinates, ridge(basis, targets, [10 / strength for strength in strengths]))
    share = targets.mean(0)
    mixed = (share > 0) & (share < 1)
    raw = np.tile(np.where(share > 0, np.inf, -np.inf), (len(strengths), len(coordinates), 1))
    if mixed.any():
        raw[..., mixed] = predict(coordinates, logistic(basis, targets[:, mixed] > 0, strengths))
    return raw


def _predictions(task: Task, raw: np.ndarray) -> np.ndarray:
    """Return predictions (..., K) of values or logits (..., m)."""
    if task.kind == "number":
        return raw
    if task.kind == "class" and len(task.classes) != 2:
        return softmax(log_expit(raw), axis=-1)  # probabilities over their sum, even where all of them are nearly 0
    p = expit(raw)
    return p if task.kind == "multilabel" else np.concatenate([1 - p, p], axis=-1)


# --- Labels in random order ------------------------------------------------------------------------------------------


def observed(task: Task, features: np.ndarray) -> np.ndarray:
    """Return test predictions (n_test, K) of the true labels at the strength that `permuted` uses."""
    return linear(task, features, task.part("train"), strength=FALLBACK)


def permuted(task: Task, features: np.ndarray, *, times: int = 99) -> np.ndarray:
    """Return test predictions (times, n_test, K) of linear probes fitted to training labels in random `orders`.

    The regularisation is `FALLBACK` for all, as choosing it would give the true labels a choice that the others lack.
    Where one embedding axis dominates, any order scores far above or far below chance against the true test labels, and
    only all orders together show nothing; against `permuted_truth` each of them shows nothing.
    """
    units, test = task.part("train"), task.part("test")
    targets = _targets(task, task.truth[units])
    basis = Basis.of(features[units])
    shuffled = targets[orders(task.patient[units], times)]  # (times, n, m)
    columns = shuffled.transpose(1, 0, 2).reshape(len(units), -1)
    raw = _path(task, basis, columns, basis.of_others(features[test]), [FALLBACK])[0]
    return _predictions(task, raw.reshape(len(test), times, -1).transpose(1, 0, 2))


def permuted_truth(task: Task, *, times: int = 99) -> np.ndarray:
    """Return test labels (times, n_test, ...) in `orders` of their own, to score the predictions of `permuted` against.

    Scores then scatter less around chance, and a weaker relation is told from none.
    """
    units = task.part("test")
    return task.truth[units][orders(task.patient[units], times, seed=TEST_ORDERS)]


def orders(patient: np.ndarray, times: int, *, seed: int = 11) -> np.ndarray:
    """Return (times, n) random orders of units that are equally likely if labels have nothing to do with features.

    All labels of a patient go together to a patient with as many units, and there in any order. Units of a patient
    resemble one another, and labels that moved from unit to unit would lose what they share: any true order would then
    look special. A patient whose number of units no other has keeps the labels, in any order.
    """
    member, patients = pd.factorize(patient)
    count = np.bincount(member)[member]
    home = np.lexsort((member, count))
    out = np.empty((times, len(patient)), dtype=np.int64)
    for number in range(times):
        rng = np.random.default_rng([number, seed])
        out[number, home] = np.lexsort((rng.random(len(patient)), rng.random(len(patients))[member], count))
    return out


# --- Others ----------------------------------------------------------------------------------------------------------


def naive_bayes(task: Task, features: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Fit Gaussian naive Bayes with one variance a feature for all classes; of several labels each for itself.

    It reaches its best with fewer units than logistic regression, and that best is worse: with few labels look at both.

    Raises:
        ValueError: the task is a number.

    Source: Zheng et al. 2023 (ICML, "Revisiting discriminative vs. generative classifiers"), where the least variance
        is an absolute 1e-9.
    """
    if task.kind == "number":
        raise ValueError(f"naive_bayes: '{task.name}' is a number and has no classes; use `linear`")
    scaler = scaler_of(features[units])
    x, queries = (standardised(scaler, features[u]) for u in (units, task.part("test")))
    truth = task.truth[units]
    if task.kind == "class":
        return posterior(x, truth[:, None] == task.classes, queries)
    return np.stack([posterior(x, np.stack([~y, y], axis=1), queries)[:, 1] for y in truth.T], axis=1)


def posterior(x: np.ndarray, member: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Return class probabilities (n', K) of ``queries`` (n', d) by naive Bayes on ``x`` (n, d), 0 for absent classes.

    The score of a class is log prior - sum_k (q_k - mean_k)^2 / (2 v_k), where v is the mean over classes, by their
    prior, of the variance within, at least `LEAST_VARIANCE` of its mean over features.

    Args:
        x, queries: fitted and other units.
        member: (n, K) bool, the class of each row of ``x``.
    """
    classes, present = member.shape[1], np.flatnonzero(member.any(0))
    member = member[:, present].astype(float)
    count = member.sum(0)
    mean = member.T @ x / count[:, None]
    variance = ((x - member @ mean) ** 2).mean(0)
    # One unit a class has no variance: the nearest mean then, each feature counting the same.
    variance = np.maximum(variance, LEAST_VARIANCE * variance.mean()) if variance.any() else np.ones_like(variance)
    score = np.log(count / len(x)) + queries @ (mean / variance).T - (mean**2 / variance).sum(1) / 2
    out = np.zeros((len(queries), classes))
    out[:, present] = softmax(score, axis=1)
    return out


def knn(task: Task, features: np.ndarray, units: np.ndarray, *, k: int = 10) -> np.ndarray:
    """Let the nearest neighbours by cosine vote; their mean for numbers and multi-label."""
    centre = scaler_of(features[units]).mean_
    reference, queries = (np.nan_to_num(features[u] - centre) for u in (units, task.part("test")))
    if task.kind == "class":
        out = np.zeros((len(queries), len(task.classes)))
        labels = task.truth[units]
        out[:, np.searchsorted(task.classes, np.unique(labels))] = knn_scores(reference, labels, queries, k=k)
        return out
    nearest = np.argsort(-cosine_similarity(queries, reference), axis=1)[:, :k]
    return _targets(task, task.truth[units])[nearest].mean(1)


def boosting(task: Task, features: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Fit gradient boosted trees, 100 of eight leaves, each leaf of at least a tenth of the units or 20 of them.

    Fixed settings: choosing among them would cost labels that a small cohort does not have. Unknown features have a
    branch of their own. Classes weigh the same however rare.
    """
    fixed = {
        "max_iter": 100, "max_leaf_nodes": 8, "min_samples_leaf": max(1, min(20, len(units) // 10)),
        "l2_regularization": 1.0, "early_stopping": False, "random_state": 0,
    }  # fmt: skip
    known = np.isfinite(features[units]).any(0)
    x, queries = features[units][:, known], features[task.part("test")][:, known]

    def shares(truth: np.ndarray, classes: np.ndarray) -> np.ndarray:
        out = np.zeros((len(queries), len(classes)))
        present, count = np.unique(truth, return_counts=True)
        columns = np.searchsorted(classes, present)
        out[:, columns] = 1
        if len(present) > 1:
            # Divided by the shares of classes afterwards: weights of units would slow the fit tenfold.
            p = HistGradientBoostingClassifier(**fixed).fit(x, truth).predict_proba(queries) / count
            out[:, columns] = p / p.sum(1, keepdims=True)
        return out

    truth = task.truth[units]
    if task.kind == "number":
        return HistGradientBoostingRegressor(**fixed).fit(x, truth).predict(queries)[:, None]
    if task.kind == "class":
        return shares(truth, task.classes)
    return np.stack([shares(column, np.array([False, True]))[:, 1] for column in truth.T], axis=1)
