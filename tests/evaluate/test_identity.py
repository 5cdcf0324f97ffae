"""Patients found again by their nearest sample, and labels without what tells patients apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from medssl.evaluate import identity, probe
from medssl.evaluate.tasks import Task


def people(patients: int = 30, *, strength: float = 1.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return features, patients and trials: two to three trials of a patient with one to three samples."""
    rng = np.random.default_rng(seed)
    trial_of = np.repeat(np.arange(patients), rng.integers(2, 4, patients))
    trial = np.repeat(np.arange(len(trial_of)), rng.integers(1, 4, len(trial_of)))
    own = strength * rng.standard_normal((patients, 8))
    day = 0.7 * rng.standard_normal((len(trial_of), 8))
    z = 5 + own[trial_of][trial] + day[trial] + 0.3 * rng.standard_normal((len(trial), 8))
    mixed = rng.permutation(len(trial))
    return z[mixed], 1000 - trial_of[trial][mixed], trial[mixed] * 7


def slow(z: np.ndarray, patient: np.ndarray, trial: np.ndarray) -> tuple[float, float]:
    """Return rate and chance by a loop over samples."""
    z = z - z.mean(0)
    rates: dict[Any, list[tuple[float, float]]] = {}
    for i in range(len(z)):
        candidates = [j for j in range(len(z)) if (patient[j], trial[j]) != (patient[i], trial[i])]
        same = [patient[j] == patient[i] for j in candidates]
        if not any(same):
            continue
        cosine = [z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) for j in candidates]
        rates.setdefault(patient[i], []).append((same[int(np.argmax(cosine))], np.mean(same)))
    mean = np.mean([np.mean(found, axis=0) for found in rates.values()], axis=0)
    return float(mean[0]), float(mean[1])


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_the_nearest_sample_of_another_trial(monkeypatch: pytest.MonkeyPatch, strength: float) -> None:
    z, patient, trial = people(strength=strength)
    monkeypatch.setattr(identity, "BLOCK", 7)
    found = identity.reidentification(z, patient, trial)
    rate, chance = slow(z, patient, trial)
    assert (found["rate"], found["chance"]) == pytest.approx((rate, chance))
    assert (found["other"], found["n_patients"]) == ("trial", 30)
    assert found["lo"] <= found["rate"] <= found["hi"]
    assert (found["lo"] > found["chance"]) == (strength > 0)


def test_patients_of_one_trial() -> None:
    z, patient, trial = people()
    once = patient % 2 == 0
    found = identity.reidentification(z, patient, np.where(once, 0, trial))
    assert (found["other"], found["n_patients"]) == ("trial", 15)
    assert found["rate"] == pytest.approx(slow(z, patient, np.where(once, 0, trial))[0])
    windows = identity.reidentification(z, patient, patient)
    assert (windows["other"], windows["n_patients"]) == ("sample", len(np.unique(patient)))
    assert windows["rate"] == pytest.approx(slow(z, patient, np.arange(len(z)))[0])


def test_trials_may_be_numbered_within_a_patient() -> None:
    z, patient, trial = people()
    within = trial - np.array([trial[patient == p].min() for p in patient])
    assert identity.reidentification(z, patient, within) == identity.reidentification(z, patient, trial)


def test_large_cohorts_are_drawn_by_patient() -> None:
    z, patient, trial = people(200)
    part = identity.reidentification(z, patient, trial, most=300)
    assert 50 < part["n_patients"] < 100
    assert part["rate"] >= identity.reidentification(z, patient, trial)["rate"]  # fewer candidates
    few = identity.reidentification(z[patient > 996], patient[patient > 996], trial[patient > 996])
    assert (few["n_patients"], few["lo"], few["hi"]) == (4, None, None)


@pytest.mark.parametrize(
    ("patient", "message"), [(np.zeros(4), "1 patient"), (np.arange(4), "each patient has 1 sample")]
)
def test_nobody_to_find(patient: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        identity.reidentification(np.eye(4), patient, np.arange(4))


def within_task(patients: int = 40) -> tuple[Task, np.ndarray]:
    """Return a task of two units a patient, rest and effort, of features that patients change more than effort does."""
    rng = np.random.default_rng(0)
    patient, effort = np.repeat(np.arange(patients), 2), np.tile([False, True], patients)
    z = 4 * rng.standard_normal((patients, 6))[patient] + 0.5 * rng.standard_normal((2 * patients, 6))
    z[:, 0] += effort
    classes, rows = np.array(["effort", "rest"]), np.arange(2 * patients)
    split = np.where(patient % 2, "train", "test")
    return Task("state", "class", "trial", classes, classes[1 - effort], patient, split, rows, rows), z


def test_a_label_within_patients_is_seen_without_the_subject_axis() -> None:
    task, z = within_task()
    centred = identity.without_subject_axis(task, z)
    for p in np.unique(task.patient):
        own = task.patient == p
        assert centred[own] == pytest.approx(z[own] - z[own].mean(0))

    def auroc(features: np.ndarray) -> float:
        units = task.part("test")
        predicted = probe.linear(task, features, task.part("train"))
        return float(task.score(predicted, units, np.ones((1, len(units))))["auroc"][0])

    assert auroc(centred) > 0.85 > 0.75 > auroc(z)
    shuffled = dataclasses.replace(task, truth=task.truth[::-1])
    assert np.array_equal(identity.without_subject_axis(shuffled, z), centred)  # no label is read
    z[3, 2] = np.nan
    assert np.isnan(identity.without_subject_axis(task, z)).sum() == 1


def test_a_label_of_patients_goes_with_the_subject_axis() -> None:
    task, z = within_task()
    constant = dataclasses.replace(task, truth=np.repeat(task.truth[::2], 2))
    with pytest.raises(ValueError, match="'state' has one value a patient"):
        identity.without_subject_axis(constant, z)
    assert not identity.varies_within(constant)
    signs = dataclasses.replace(task, kind="multilabel", truth=np.stack([task.truth == "rest", task.truth == "x"], 1))
    assert identity.varies_within(signs)
