"""Whether an embedding tells who somebody is, and what it tells besides once that is taken away.

Letters: n samples or units, d features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import bootstrap

from medssl.evaluate.linear import scaler_of
from medssl.evaluate.metrics import LEAST_PATIENTS
from medssl.evaluate.tasks import Task

BLOCK = 1024  # samples that are compared with all others at once


def reidentification(
    features: np.ndarray, patients: np.ndarray, trials: np.ndarray, *, most: int = 20_000, draws: int = 2000
) -> dict[str, Any]:
    """Return how often the nearest sample of another trial is of the same patient, against chance.

    Nearest by cosine, after the mean of all samples is taken away, among the samples that are not of the same trial.
    Patients with one trial are only candidates; where all have one, samples stand for trials, and as windows of one
    recording share its noise, electrodes and hour, that rate says less about the person. Patients count alike.

    Args:
        features: (n, d) of samples.
        patients, trials: (n,) any codes; trials are numbered over all or within a patient.
        most: samples that are compared; of more, patients are drawn at random. Time grows with its square.
        draws: of the interval, a bootstrap over patients with the candidates as they are.

    Returns:
        ``rate`` with ``lo`` and ``hi`` (95 %, None of fewer than `LEAST_PATIENTS` patients), the ``chance`` of a
        candidate taken blindly, ``n_patients`` who were looked for, and ``other``: ``trial`` or ``sample``.

    Raises:
        ValueError: one patient alone, or none with two samples.
    """
    patient = pd.factorize(patients)[0]
    trial = pd.DataFrame({"patient": patient, "trial": trials}).groupby(["patient", "trial"]).ngroup().to_numpy()
    if len(patient) > most:
        drawn = np.random.default_rng(0).permutation(patient.max() + 1)
        enough = np.searchsorted(np.bincount(patient)[drawn].cumsum(), most, side="right")
        rows = np.flatnonzero(np.isin(patient, drawn[: max(2, enough)]))
        features, patient, trial = features[rows], pd.factorize(patient[rows])[0], pd.factorize(trial[rows])[0]
    if patient.max() < 1:
        raise ValueError("reidentification: 1 patient; needs two or more to tell apart")
    several = pd.Series(trial).groupby(patient).transform("nunique").to_numpy() > 1
    other = "trial" if several.any() else "sample"
    if other == "sample":
        trial, several = np.arange(len(patient)), np.bincount(patient)[patient] > 1
    if not several.any():
        raise ValueError("reidentification: each patient has 1 sample; needs two of one patient")
    z = np.nan_to_num(features - scaler_of(features).mean_).astype(np.float32)
    z /= np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    queries = np.flatnonzero(several)
    nearest = np.empty(len(queries), dtype=np.int64)
    for begin in range(0, len(queries), BLOCK):
        these = queries[begin : begin + BLOCK]
        near = z[these] @ z.T
        near[trial[these][:, None] == trial] = -np.inf
        nearest[begin : begin + BLOCK] = near.argmax(1)
    own, same = np.bincount(patient)[patient], np.bincount(trial)[trial]
    found = pd.DataFrame(
        {"hit": patient[nearest] == patient[queries], "chance": ((own - same) / (len(z) - same))[queries]}
    )
    rates = found.groupby(patient[queries]).mean()
    low, high = None, None
    if len(rates) >= LEAST_PATIENTS:
        interval = bootstrap(
            (rates["hit"],), np.mean, n_resamples=draws, batch=100, method="percentile", random_state=0
        )
        low, high = map(float, interval.confidence_interval)
    return {
        "rate": float(rates["hit"].mean()),
        "lo": low,
        "hi": high,
        "chance": float(rates["chance"].mean()),
        "n_patients": len(rates),
        "other": other,
    }


def varies_within(task: Task) -> bool:
    """Say whether a patient of the task has two units with different labels."""
    truth = pd.DataFrame(task.truth.reshape(len(task.truth), -1))
    return bool((truth.groupby(task.patient).nunique() > 1).any(axis=None))


def without_subject_axis(task: Task, features: np.ndarray) -> np.ndarray:
    """Return ``features`` (n, d) of a task's units, each less the mean of all units of its patient.

    What is the same in all units of a patient goes, such as the shape of a head or the state of an electrode, and with
    it what a probe could take for the label because a few patients happen to go together with it. Test patients are
    new: directions between training patients are not theirs, so that each patient is centred by itself. That takes
    none of the labels, but it is transductive: all units of a test patient must be there before one is predicted, and
    what is left depends on how many of them are of which class. Of two units, one of each class, each becomes the
    opposite of the other: a probe is asked which of the two is which, an easier question than what one of them is.

    Raises:
        ValueError: no patient has two units with different labels; what all units share holds the label then.

    Source: Lin et al. 2026 (arXiv:2606.06647) erase a linear subject axis and gain 6 to 12 points where the label
        varies within a subject; a mean of its own for each subject is ours.
    """
    if not varies_within(task):
        raise ValueError(
            f"without_subject_axis: '{task.name}' has one value a patient, and would go with what tells patients "
            "apart; allowed are labels that vary within a patient"
        )
    values = pd.DataFrame(features)
    return (values - values.groupby(task.patient).transform("mean")).to_numpy()
