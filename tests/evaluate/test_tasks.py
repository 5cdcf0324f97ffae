"""Tasks: their unit, pooling, label fractions by patient and the predictions that are kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from medssl.evaluate.tasks import Task, joined, parted, pooled
from medssl.store import Store


def cohort(n: int = 40) -> pd.DataFrame:
    patient = np.arange(n).repeat(4)
    out = pd.DataFrame({"patient": patient, "trial": patient * 10 + np.tile([0, 0, 1, 1], n)})
    out["sample_id"] = [f"s{i:04d}" for i in range(len(out))]
    out["method"] = ""
    out["split"] = np.array(["train", "train", "train", "test"])[patient % 4]
    out["label_disease"] = np.where(patient % 20 == 0, "rare", np.where(patient % 2, "a", "b"))
    return out


@pytest.mark.parametrize(
    ("name", "kind", "unit", "n"),
    [
        ("disease", "class", "patient", 16),
        ("state", "class", "trial", 32),
        ("age", "number", "patient", 16),
        ("findings", "multilabel", "patient", 16),
    ],
)
def test_units(signal_store: Store, name: str, kind: str, unit: str, n: int) -> None:
    task = Task.of(signal_store.table, name)
    assert (task.kind, task.unit, len(task.patient)) == (kind, unit, n)
    assert len(task.rows) == len(task.member) == 96
    table = signal_store.table.iloc[task.rows]
    assert (table["patient"].to_numpy() == task.patient[task.member]).all()
    assert (table["split"].to_numpy() == task.split[task.member]).all()
    if kind == "multilabel":
        assert task.classes.tolist() == ["af", "mi", "norm"]
        shown = [set(task.classes[t]) for t in task.truth]
        assert all(shown[m] == set(v) for m, v in zip(task.member, table[f"label_{name}"], strict=True))
    else:
        assert (table[f"label_{name}"].to_numpy() == task.truth[task.member]).all()


def test_a_label_that_differs_within_a_trial_belongs_to_samples() -> None:
    table = cohort()
    table["label_beat"] = np.tile(["n", "v", "n", "n"], 40)
    assert Task.of(table, "beat").unit == "sample_id"


def test_exact_copies_and_unlabelled_rows_stay_out() -> None:
    table = cohort()
    table.loc[0, "method"] = "exact"
    table.loc[1, "method"] = "dhash"
    table.loc[4:7, "label_disease"] = None
    task = Task.of(table, "disease")
    assert 0 not in task.rows
    assert 1 in task.rows
    assert not {4, 5, 6, 7} & set(task.rows)
    assert 1 not in task.patient


def test_w9_participant_means_come_first() -> None:
    table = pd.DataFrame(
        {
            "sample_id": list("abcdef"), "patient": [0, 0, 0, 1, 1, 2], "trial": range(6), "method": "",
            "split": "test", "label_age": [50.0, 50, 50, 60, 60, 70],
        }
    )  # fmt: skip
    task = Task.of(table, "age")
    predicted = np.array([48.0, 52, 53, 66, 58, 70])
    both = np.stack([predicted, -predicted], 1)
    (means,) = pooled([task], [np.arange(6)], lambda rows: both[rows])
    assert means.tolist() == [[51, -51], [62, -62], [70, -70]]
    assert task.score(means[:, :1], task.part("test"), np.ones((1, 3)))["mae"][0] == pytest.approx(1.0)
    assert np.abs(predicted - table["label_age"]).mean() == pytest.approx(2.5)


@pytest.mark.parametrize("cuts", [[], [1], [3, 4, 90], range(7, 160, 7)])
def test_pooling_by_blocks_is_the_mean_of_each_unit(cuts: list[int]) -> None:
    """To the last bit: blocks end within units, within rows without the label, and before the first row with it."""
    table = cohort()
    table["label_state"] = np.tile(["rest", "rest", "work", "work"], 40)
    table["label_beat"] = np.tile(["n", "v", "n", "n"], 40)
    table.loc[[*range(9), 80, 81], "label_disease"] = None
    table.loc[20, "method"] = "exact"
    tasks = [Task.of(table, name) for name in ("disease", "state", "beat")]
    values = np.random.default_rng(0).standard_normal((160, 3)).astype(np.float32)
    given = []

    def features(rows: np.ndarray) -> np.ndarray:
        given.append(rows)
        return values[rows]

    means = pooled(tasks, np.split(np.arange(160), cuts), features)
    assert np.concatenate(given).tolist() == list(range(160))
    for task, mean in zip(tasks, means, strict=True):
        for unit in range(len(task.patient)):
            total = np.zeros(3)
            for row in task.rows[task.member == unit]:
                total += values[row]
            assert (mean[unit] == total / (task.member == unit).sum()).all()


def test_unknown_values_have_no_part_in_the_mean_of_a_unit() -> None:
    table = cohort()
    task = Task.of(table, "disease")
    values = np.random.default_rng(0).standard_normal((160, 2))
    values[np.random.default_rng(1).random((160, 2)) < 0.3] = np.nan
    values[task.rows[task.member == 3], 1] = np.nan
    (means,) = pooled([task], np.split(np.arange(160), [7, 90]), values.__getitem__)
    for unit in range(len(task.patient)):
        rows = values[task.rows[task.member == unit]]
        for column in range(2):
            known = rows[np.isfinite(rows[:, column]), column]
            assert means[unit, column] == (
                pytest.approx(known.mean()) if len(known) else pytest.approx(np.nan, nan_ok=True)
            )
    assert np.isnan(means[3, 1])


@pytest.mark.parametrize("seed", range(4))
def test_fractions_are_of_patients_nested_and_hold_every_class(seed: int) -> None:
    task = Task.of(cohort(80), "disease")
    assert len(task.part("train")) == 60
    chosen = {f: set(task.subset(f, seed)) for f in (0.01, 0.1, 0.5, 1.0)}
    assert len(chosen[1.0]) == 60
    assert 30 <= len(chosen[0.5]) <= 32
    assert 6 <= len(chosen[0.1]) <= 8
    assert 2 <= len(chosen[0.01]) <= 4
    for units in chosen.values():
        assert {"a", "b", "rare"} == set(task.truth[list(units)])
        assert units <= set(task.part("train"))
    assert chosen[0.01] <= chosen[0.1] <= chosen[0.5] <= chosen[1.0]
    assert set(task.subset(0.1, seed)) == chosen[0.1]


def test_a_fraction_takes_all_units_of_a_patient(signal_store: Store) -> None:
    task = Task.of(signal_store.table, "state")
    units = task.subset(0.25, 0)
    assert len(units) == 4
    assert np.unique(task.patient[units], return_counts=True)[1].tolist() == [2, 2]


def test_errors() -> None:
    table = cohort()
    with pytest.raises(ValueError, match="no label 'sex'; the cohort has: disease"):
        Task.of(table, "sex")
    with pytest.raises(ValueError, match="fewer than two classes"):
        Task.of(table.assign(label_disease="a"), "disease")


def test_a_task_without_training_or_value() -> None:
    table = cohort()
    with pytest.raises(ValueError, match="no sample has this label"):
        Task.of(table.assign(label_disease=None), "disease")
    with pytest.raises(ValueError, match="no test patient has this label"):
        Task.of(table.assign(split="train"), "disease")
    with pytest.raises(ValueError, match="fewer than two values"):
        Task.of(table.assign(label_age=50.0), "age")
    with pytest.raises(ValueError, match="fewer than two values"):
        Task.of(table.assign(label_signs=[["a", "b"], ["b", "a"]] * 80), "signs")


def test_units_stay_within_one_part() -> None:
    """Patient 0 has a trial in training and one to test, patient 1 even divides a trial."""
    table = cohort()
    assert Task.of(table, "disease").unit == "patient"
    table.loc[[0, 1], "split"] = "test"
    by_trial = Task.of(table, "disease")
    assert (by_trial.unit, len(by_trial.patient)) == ("trial", 80)
    assert by_trial.split[:2].tolist() == ["test", "train"]
    table.loc[4, "split"] = "test"
    by_sample = Task.of(table, "disease")
    assert (by_sample.unit, len(by_sample.patient)) == ("sample_id", 160)
    assert (by_sample.split == table["split"]).all()
    # An exact copy in another part is not used, and divides nothing.
    table = cohort()
    table.loc[0, ["split", "method"]] = ["test", "exact"]
    assert Task.of(table, "disease").unit == "patient"


def test_the_rarest_class_is_counted_in_patients() -> None:
    table = cohort(16)  # patients 3, 7, 11, 15 are tested
    tested, trial = table["patient"] % 4 == 3, table["trial"] % 10
    assert Task.of(table.assign(label_x=np.where(table["patient"] > 12, "a", "b")), "x").rarest() == 1
    state = np.where(tested & (table["patient"] != 7) & (trial == 1) | ~tested & (trial == 0), "a", "b")
    assert Task.of(table.assign(label_x=state), "x").rarest() == 3  # of 4 with "b"
    assert Task.of(table.assign(label_x=np.where(tested, "a", np.where(trial == 0, "a", "b"))), "x").rarest() == 0
    assert Task.of(table.assign(label_x=np.arange(64.0)), "x").rarest() is None
    findings = [["u", "v"] if p in (0, 3) else ["v"] if p < 12 else ["w"] for p in table["patient"]]
    assert Task.of(table.assign(label_x=findings), "x").rarest() == 1  # u 1, v 1 without, w 1


def test_the_rarest_class_of_one_label() -> None:
    findings = [["u", "v"] if p in (0, 3) else ["v"] if p < 12 else ["w"] for p in range(16) for _ in range(4)]
    task = Task.of(cohort(16).assign(label_x=findings), "x")
    assert [task.rarest(label) for label in ("u", "v", "w")] == [1, 1, 1]
    findings = [["u"] if p in (0, 3, 19) else ["w"] for p in range(32) for _ in range(4)]
    task = Task.of(cohort(32).assign(label_x=findings), "x")
    assert task.rarest("u") == task.rarest("w") == 2  # of 8


def test_strata_are_classes_or_the_rarest_label(signal_store: Store) -> None:
    task = Task.of(signal_store.table, "disease")
    strata = task.strata()
    assert strata is not None and (task.classes[strata] == task.truth).all()
    assert Task.of(signal_store.table, "age").strata() is None
    findings = [["u", "v"] if p in (0, 3) else ["v"] if p < 12 else [] for p in range(16) for _ in range(4)]
    strata = Task.of(cohort(16).assign(label_x=findings), "x").strata()
    assert strata is not None and strata.tolist() == [0, 1, 1, 0, *[1] * 8, *[-1] * 4]


def test_a_unit_has_its_code(signal_store: Store) -> None:
    for name, unit in (("disease", "patient"), ("state", "trial")):
        task = Task.of(signal_store.table, name)
        assert (task.id[task.member] == signal_store.table[unit].iloc[task.rows].astype(str)).all()


def test_the_headline_alone(signal_store: Store) -> None:
    rng = np.random.default_rng(0)
    for name, headline in (("disease", "auroc"), ("findings", "auroc"), ("age", "r2")):
        task = Task.of(signal_store.table, name)
        units = task.part("train")
        scores, weights = rng.random((len(units), max(1, len(task.classes)))), np.ones((1, len(units)))
        every = task.score(scores, units, weights)
        assert next(iter(every)) == headline and len(every) > 2
        assert task.score(scores, units, weights, only_headline=True) == {headline: every[headline]}


def test_names_with_a_bar() -> None:
    names = ["af|flutter", "mi", "50%", "%7C", "a|b|c"]
    assert parted(joined(names)) == names and joined(["af", "mi"]) == "af|mi"


def test_another_key_gives_the_same_units_and_subsets() -> None:
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(30), 2)
    table = pd.DataFrame(
        {
            "sample_id": [f"{i:04d}" for i in range(60)], "patient": patients, "trial": np.arange(60) // 2,
            "method": "", "split": np.where(patients < 20, "train", "test"),
            "label_sex": np.where(patients % 2, "f", "m"),
        }
    )  # fmt: skip
    codes = rng.permutation(1000)
    renamed = table.assign(patient=codes[table["patient"]], trial=codes[table["trial"]])
    one, other = Task.of(table, "sex"), Task.of(renamed, "sex")
    assert (one.truth == other.truth).all()
    assert (one.member == other.member).all()
    for seed in range(3):
        assert (one.subset(0.2, seed) == other.subset(0.2, seed)).all()
