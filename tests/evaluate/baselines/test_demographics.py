"""Who a person is, without what is asked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medssl.evaluate.baselines.demographics import demographics
from medssl.evaluate.tasks import Task


def table(**labels: object) -> pd.DataFrame:
    """Return six patients with two recordings each, in no order."""
    patient = np.repeat(np.arange(6), 2)
    columns = {f"label_{name}": values for name, values in labels.items()}
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(12)], "patient": patient, "trial": np.arange(12), "method": "",
            "split": np.array(["train", "train", "test"])[patient % 3], **columns,
        }
    )  # fmt: skip
    return frame.iloc[np.random.default_rng(0).permutation(12)].reset_index(drop=True)


PATIENT = np.repeat(np.arange(6), 2)
SICK = np.where(PATIENT % 2, "yes", "no")
AGE = np.where(PATIENT == 4, np.nan, 40.0 + PATIENT + np.arange(12) % 2)
SEX = np.where(PATIENT < 3, "female", "male").astype(object)
SEX[PATIENT == 5] = None


def test_units_and_columns() -> None:
    rows = table(sick=SICK, age=AGE, sex=SEX, site=SICK)
    task = Task.of(rows, "sick")
    got = demographics(rows, task)
    assert got is not None
    for values, patient in zip(got, task.patient, strict=True):
        age = np.nan if patient == 4 else 40.5 + patient  # the mean over recordings
        sex = [np.nan] * 2 if patient == 5 else [float(patient < 3), float(patient >= 3)]
        assert values == pytest.approx([age, *sex], nan_ok=True)


def test_units_are_those_of_the_task() -> None:
    rows = table(state=np.where(np.arange(12) % 2, "a", "b"), age=AGE)
    task = Task.of(rows, "state")
    assert task.unit == "trial"
    got = demographics(rows, task)
    assert got is not None
    assert got[:, 0] == pytest.approx(rows["label_age"].to_numpy(), nan_ok=True)


@pytest.mark.parametrize(
    ("label", "kept"),
    [
        ("age", ["bmi", "sex", "sex"]), ("age_band", ["bmi", "sex", "sex"]), ("sex", ["age", "bmi"]),
        ("gender", ["age", "bmi"]), ("bmi", ["age", "sex", "sex"]), ("bmi_class", ["age", "sex", "sex"]),
        ("agenesis", ["age", "bmi", "sex", "sex"]), ("sick", ["age", "bmi", "sex", "sex"]),
    ],
)  # fmt: skip
def test_never_what_is_asked(label: str, kept: list[str]) -> None:
    sex = np.where(PATIENT < 3, "female", "male")
    labels = {"age": 40.0 + PATIENT, "sex": sex, "bmi": 20.0 + PATIENT % 4}
    labels.setdefault(label, SICK if label != "gender" else sex)
    rows = table(**labels)
    got = demographics(rows, Task.of(rows, label))
    assert got is not None
    assert got.shape == (6, len(kept))
    means = {"age": 42.5, "bmi": np.mean([20, 21, 22, 23, 20, 21]), "sex": 0.5}
    assert sorted(got.mean(axis=0)) == pytest.approx(sorted(means[name] for name in kept))


def test_none_where_nothing_is_known() -> None:
    rows = table(sick=SICK)
    assert demographics(rows, Task.of(rows, "sick")) is None
    rows = table(age=40.0 + PATIENT)
    assert demographics(rows, Task.of(rows, "age")) is None
    rows = table(sick=SICK, age=np.full(12, np.nan))
    assert demographics(rows, Task.of(rows, "sick")) is None
