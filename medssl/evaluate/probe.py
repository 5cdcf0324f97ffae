"""Linear and nearest-neighbour probes on frozen embeddings, averaged per patient (or trial) before the model."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from medssl.evaluate.tasks import Task
from medssl.pretrain.monitor import knn_scores

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
FALLBACK = 0.1  # where no other patient can tell what is best


def _fit_predict(task: Task, train: np.ndarray, truth: np.ndarray, x: np.ndarray, strength: float) -> np.ndarray:
    """Return predictions (n, K) of one linear model; ``strength`` is C, and 10 / alpha for numbers."""
    if task.kind == "number":
        model = Ridge(alpha=10 / strength).fit(train, truth)
        return np.asarray(model.predict(x))[:, None]
    if task.kind == "multilabel":
        columns = [
            np.full(len(x), float(one[0]))
            if one.min() == one.max()
            else _logistic(train, one, strength).predict_proba(x)[:, 1]
            for one in truth.T
        ]
        return np.stack(columns, axis=1)
    out = np.zeros((len(x), len(task.classes)))
    if len(np.unique(truth)) == 1:
        out[:, np.searchsorted(task.classes, truth[0])] = 1
        return out
    fitted = _logistic(train, truth, strength)
    out[:, np.searchsorted(task.classes, fitted.classes_)] = fitted.predict_proba(x)
    return out


def _logistic(x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
    with warnings.catch_warnings():
        # A separable training set has no finite optimum at weak regularisation; the validation patients decide.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=500, class_weight="balanced").fit(x, y)


def _quality(task: Task, predicted: np.ndarray, units: np.ndarray) -> float:
    """Return one number to choose the regularisation by; larger is better."""
    scored = task.score(predicted, units, np.ones((1, len(units))))
    value = float(scored["r2" if task.kind == "number" else "auroc"][0])
    return value if np.isfinite(value) else -np.inf


def _scaled(pooled: np.ndarray, fit_on: np.ndarray, *units: np.ndarray) -> list[np.ndarray]:
    """Return features of each group of units, standardised on ``fit_on``.

    They are cut at six deviations: a feature that hardly varies among few training units must not throw others far out.
    """
    scaler = StandardScaler().fit(pooled[fit_on])
    return [np.clip(scaler.transform(pooled[u]), -6, 6) if len(u) else pooled[u] for u in units]


def _choose(task: Task, pooled: np.ndarray, units: np.ndarray) -> float:
    """Return the regularisation that predicts best without the test patients; of equals the strongest.

    With twenty training units or more, folds by patient over training and validation units, five or as many as there
    are patients; validation patients alone are few, and what is best for a handful of them can be far worse than a
    constant for others. With fewer units, the validation units score a model of all training units. `FALLBACK` where
    neither can tell: one patient alone, no validation unit, or only one class among those that score.
    """
    val = task.part("val")
    columns = max(1, len(task.classes))
    if len(units) < 20:
        scored = val
        folds = [(units, val)] if len(val) else []
    else:
        scored = np.concatenate([units, val])
        patients = pd.factorize(task.patient[scored])[0]
        number = min(5, patients.max() + 1)
        split = GroupKFold(number).split(scored, groups=patients) if number > 1 else ()
        folds = [(scored[fit_on], scored[held_out]) for fit_on, held_out in split]
    predictions = np.zeros((len(STRENGTHS), len(task.patient), columns))
    for fit_on, held_out in folds:
        train, x = _scaled(pooled, fit_on, fit_on, held_out)
        for index, strength in enumerate(STRENGTHS):
            predictions[index, held_out] = _fit_predict(task, train, task.truth[fit_on], x, strength)
    quality = [_quality(task, p[scored], scored) for p in predictions] if folds else [-np.inf]
    return STRENGTHS[int(np.argmax(quality))] if np.isfinite(quality).any() else FALLBACK


def linear(
    task: Task, pooled: np.ndarray, units: np.ndarray, *, strength: float | None = None, truth: np.ndarray | None = None
) -> np.ndarray:
    """Fit on training ``units`` of ``pooled`` embeddings (n, d) per unit and return test predictions (n_test, K).

    Args:
        strength: of the model's fit against its regularisation; None: chosen without the test patients.
        truth: labels of ``units``; None: the true ones.
    """
    truth = task.truth[units] if truth is None else truth
    strength = _choose(task, pooled, units) if strength is None else strength
    train, test = _scaled(pooled, units, units, task.part("test"))
    return _fit_predict(task, train, truth, test, strength)


def permuted(task: Task, pooled: np.ndarray, *, times: int = 20) -> list[np.ndarray]:
    """Return test predictions of probes that were fitted to training labels in random order; they must show nothing.

    Many orders, because one embedding axis may dominate and every order then scores far above or far below chance;
    and a fixed regularisation, because choosing it would let the true validation labels in.
    """
    units = task.part("train")
    orders = [np.random.default_rng([seed, 11]).permutation(task.truth[units]) for seed in range(times)]
    return [linear(task, pooled, units, strength=FALLBACK, truth=order) for order in orders]


def knn(task: Task, pooled: np.ndarray, units: np.ndarray, *, k: int = 10) -> np.ndarray:
    """Return test predictions (n_test, K) of a cosine nearest-neighbour vote (mean for numbers and multi-label)."""
    centre = pooled[units].mean(0)
    reference, queries = pooled[units] - centre, pooled[task.part("test")] - centre
    if task.kind == "class":
        out = np.zeros((len(queries), len(task.classes)))
        labels = task.truth[units]
        out[:, np.searchsorted(task.classes, np.unique(labels))] = knn_scores(reference, labels, queries, k=k)
        return out
    values = task.truth[units].astype(float).reshape(len(units), -1)
    nearest = np.argsort(-cosine_similarity(queries, reference), axis=1)[:, :k]
    out = values[nearest].mean(1)
    return out
