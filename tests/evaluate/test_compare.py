"""Runs side by side on the same draws of the same patients, folds and seeds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.evaluate.compare import compare_runs, difference, differences
from medssl.evaluate.intervals import corrected
from medssl.evaluate.replicates import Replicates, completed, kind_of
from medssl.evaluate.results import Predictions, measure
from medssl.evaluate.tasks import Task
from medssl.store import Store, write_parquet


def run(folder: Path, store: Store, noise: float, *, drop: bool = False) -> Path:
    """Write predictions of a run: the truth under noise."""
    collected, rng = Predictions(), np.random.default_rng(0)
    for name in ("disease", "state", "age", "findings"):
        task = Task.of(store.table, name)
        truth = task.truth[task.part("test")]
        target = (truth[:, None] == task.classes) if task.kind == "class" else truth.reshape(len(truth), -1)
        target = target.astype(float)
        seeds = [target + noise * target.std() * rng.standard_normal(target.shape) for _ in range(2)]
        collected.add(task, "probe", 1.0, seeds)
    frame = collected.frame()
    folder.mkdir()
    write_parquet(
        frame[frame["patient"] != frame["patient"].iloc[0]] if drop else frame, folder / "predictions.parquet"
    )
    return folder


def test_a_run_against_its_copy(signal_store: Store, tmp_path: Path) -> None:
    table = compare_runs([run(tmp_path / "a", signal_store, 1.0), run(tmp_path / "b", signal_store, 1.0)], draws=50)
    assert table["task"].tolist() == ["disease", "state", "age", "findings"]
    assert (table["b - a"] == "+0.000 too few (n=4)").all()
    assert (table["note"] == "too few (n=4)").all()
    assert (table["a"] == table["b"]).all()
    assert table["metric"].tolist() == ["auroc", "auroc", "r2", "auroc"]
    assert (table["n_patients"] == 4).all()


def test_the_values_are_those_of_the_metrics(signal_store: Store, tmp_path: Path) -> None:
    table = compare_runs([run(tmp_path / "a", signal_store, 0.0), run(tmp_path / "b", signal_store, 3.0)], draws=50)
    assert (table["a"] == 1.0).all()
    assert table["b"].mean() < 0.9
    shown = table["b - a"].str.split().str[0].astype(float)
    assert np.allclose(shown, table["b"] - table["a"], atol=0.0015)


def test_other_patients_are_not_subtracted(signal_store: Store, tmp_path: Path) -> None:
    folders = [run(tmp_path / "a", signal_store, 1.0), run(tmp_path / "b", signal_store, 1.0, drop=True)]
    table = compare_runs(folders, draws=50)
    assert "b" in table
    assert "b - a" not in table


def cohort(n: int = 24) -> pd.DataFrame:
    """Return a table of ``n`` patients with one sample each, half of them to test on, one finding at most each."""
    i = np.arange(n)
    return pd.DataFrame(
        {
            "sample_id": i.astype(str), "patient": i, "trial": i, "method": "",
            "split": np.where(i % 2, "test", "train"), "label_age": 40.0 + i,
            "label_findings": [["af"] if v else ["mi"] for v in i // 2 % 2],
            "label_disease": np.where(i // 2 % 2, "sick", "healthy"),
        }
    )  # fmt: skip


def scores_of(task: Task, noise: float, rng: np.random.Generator) -> np.ndarray:
    truth = task.truth[task.part("test")]
    if task.kind == "number":
        return truth[:, None] + noise * rng.standard_normal((len(truth), 1))
    # Each finding has a probability of its own: they do not sum to 1.
    target = truth if task.kind == "multilabel" else truth[:, None] == task.classes
    scores = np.clip(target + noise * rng.standard_normal(target.shape), 0.01, None)
    return scores if task.kind == "multilabel" else scores / scores.sum(1, keepdims=True)


def write(folder: Path, noise: float, *, seeds: int = 1, seed: int = 0, n: int = 24) -> Path:
    collected, rng = Predictions(), np.random.default_rng(seed)
    for name in ("findings", "disease", "age"):
        task = Task.of(cohort(n), name)
        collected.add(task, "probe", 1.0, [scores_of(task, noise, rng) for _ in range(seeds)])
    folder.mkdir()
    write_parquet(collected.frame(), folder / "predictions.parquet")
    (folder / "metrics.json").write_text(json.dumps(measure(collected.frame(), draws=20)))
    return folder


def test_one_finding_each_is_still_several_labels(tmp_path: Path) -> None:
    """Each patient has one finding, which looked like classes: a macro AUROC of the two became that of one."""
    folders = [write(tmp_path / "a", 1.0), write(tmp_path / "b", 0.3)]
    table = compare_runs(folders, draws=50).set_index("task")
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    number = r"[+-]\d+\.\d{3}"
    for task, name in (("findings", "auroc"), ("disease", "auroc"), ("age", "r2")):
        assert table.loc[task, "a"] == pytest.approx(metrics[task]["probe"]["1"][name]["mean"], abs=5e-4)
        words = "(within noise|better|worse)"
        assert re.fullmatch(rf"{number} \[{number}, {number}\], p[=<][\d.e-]+, {words}", table.loc[task, "b - a"])
    assert "note" not in table
    assert (table["split"] == "fixed").all()


def test_the_table_says_the_kind() -> None:
    """Shares that sum to 1 are shares of classes or of findings: a table that does not say which is refused."""
    rows = pd.DataFrame({"task": "x", "truth": ["af", "mi"], "classes": "af|mi", "scores": [[0.4, 0.6], [0.3, 0.7]]})
    assert kind_of(rows.assign(kind="class")) == "class"
    assert kind_of(rows.assign(kind="multilabel")) == "multilabel"
    for scores in (rows["scores"], pd.Series([[0.4, 0.5], [0.3, 0.7]])):
        with pytest.raises(ValueError, match=r"task 'x': predictions of an earlier version.*; run the probe again"):
            kind_of(rows.assign(scores=scores))
    assert kind_of(rows.assign(truth=["af|mi", "mi"])) == "multilabel"
    assert kind_of(rows.assign(truth=["", "mi"])) == "multilabel"
    assert kind_of(rows.assign(classes="")) == "number"


def test_tables_of_earlier_versions_side_by_side_with_new_ones(tmp_path: Path) -> None:
    folders = [write(tmp_path / "a", 1.0), write(tmp_path / "b", 1.0)]
    table = pd.read_parquet(folders[1] / "predictions.parquet")
    write_parquet(table.drop(columns=["fold", "repeat", "training", "id"]), folders[1] / "predictions.parquet")
    got = compare_runs(folders, draws=50)
    assert (got["a"] == got["b"]).all()
    # Its units have no codes of their own, so nobody knows that they are the same.
    assert "b - a" not in got
    write_parquet(table.drop(columns="kind"), folders[1] / "predictions.parquet")
    with pytest.raises(ValueError, match="run the probe again"):
        compare_runs(folders, draws=5)


def test_words_for_a_difference(tmp_path: Path) -> None:
    names = {"good": write(tmp_path / "good", 0.7, seeds=5, n=200), "same": tmp_path / "same", "bad": tmp_path / "bad"}
    write(names["same"], 0.7, seeds=5, seed=1, n=200)
    write(names["bad"], 3.0, seeds=5, seed=2, n=200)
    table = compare_runs(list(names.values()), draws=100)
    assert table["same - good"].str.endswith("within noise").all()
    assert table["bad - good"].str.endswith("worse").all()


def test_classes_with_a_bar_in_their_name(tmp_path: Path) -> None:
    table = cohort()
    table["label_disease"] = table["label_disease"].str.replace("sick", "af|flutter")
    table["label_findings"] = [["af|flutter"] if v == ["af"] else ["mi"] for v in table["label_findings"]]
    collected = Predictions()
    for name in ("findings", "disease"):
        task = Task.of(table, name)
        truth = task.truth[task.part("test")]
        target = (truth if name == "findings" else truth[:, None] == task.classes).astype(float)
        collected.add(task, "probe", 1.0, [target])
    (tmp_path / "a").mkdir()
    write_parquet(collected.frame(), tmp_path / "a" / "predictions.parquet")
    assert compare_runs([tmp_path / "a"], draws=20)["a"].tolist() == [1.0, 1.0]


def crossed(noise: float, seed: int, *, folds: int = 4, repeats: int = 2, alike: bool = False) -> pd.DataFrame:
    """Return cross-fitted predictions of a disease by two seeds, which may be ``alike``."""
    collected, rng, table = Predictions(), np.random.default_rng(seed), cohort(80)
    for fold in range(folds * repeats):
        deal = np.random.default_rng(fold // folds).permutation(80) % folds
        task = Task.of(table.assign(split=np.where(deal == fold % folds, "test", "val")), "disease")
        scores = [scores_of(task, noise, rng) for _ in range(2)]
        scores = scores[:1] * 2 if alike else scores
        collected.add(task, "probe", 1.0, scores, fold=fold, repeat=fold // folds)
    return collected.frame()


def test_repeats_are_corrected() -> None:
    """The wider of both: folds whose difference is noise of theirs alone have a wide corrected interval."""
    one, other = (Replicates.of(completed(crossed(0.8, seed, alike=True))) for seed in (0, 1))
    found = difference(one, other, draws=100)
    assert found is not None
    by_fold = corrected(one.by_fold() - other.by_fold(), 1 / 3)
    assert found["by"] == "corrected folds"
    assert found["hi"] - found["lo"] == pytest.approx(by_fold["hi"] - by_fold["lo"])
    assert len(one.by_fold()) == 8
    single = difference(*(Replicates.of(completed(crossed(0.8, s, repeats=1))) for s in (0, 1)), draws=100)
    assert single is not None and single["by"] == "patients and training"


def test_the_difference_of_a_run_to_itself_is_certain() -> None:
    one = Replicates.of(completed(crossed(0.8, 0)))
    found = difference(one, one, draws=50)
    assert found is not None and (found["mean"], found["lo"], found["hi"], found["p"]) == (0, 0, 0, 1)


def test_cross_fitted_runs_come_first(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, 1.0) for name in ("a", "b", "c")]
    for folder in folders[:2]:
        (folder / "crossfit").mkdir()
        write_parquet(crossed(1.0, 0), folder / "crossfit" / "predictions.parquet")
    both = compare_runs(folders[:2], draws=20)
    assert both["split"].tolist() == ["crossfit"] and both["n_patients"].tolist() == [80]
    # A run without it is compared on what all have.
    assert set(compare_runs(folders, draws=20)["split"]) == {"fixed"}
    (folders[0] / "predictions.parquet").unlink()
    with pytest.raises(ValueError, match="a: cross-fitted, other runs are not"):
        compare_runs(folders, draws=20)


def test_differences_within_a_run() -> None:
    """As the report draws them: the probe against its controls, at the largest share of labels that both have."""
    collected, rng, table = Predictions(), np.random.default_rng(0), cohort(200)
    task = Task.of(table, "disease")
    for protocol, fraction, noise, seeds in (
        ("probe", 1.0, 0.5, 1), ("probe", 0.1, 0.8, 3), ("random_init", 1.0, 2.5, 3), ("handcrafted", 0.1, 0.8, 3),
        ("knn", 0.5, 1.0, 1),
    ):  # fmt: skip
        collected.add(task, protocol, fraction, [scores_of(task, noise, rng) for _ in range(seeds)])
    frame = collected.frame()
    got = differences("ecg", frame, against=("random_init", "handcrafted", "knn", "supervised"), draws=100)
    assert got.columns.tolist() == [
        "run", "task", "against", "metric", "mean", "lo", "hi", "p", "n_patients", "note",
    ]  # fmt: skip
    assert got["against"].tolist() == ["random_init", "handcrafted"]
    assert got["note"].tolist() == ["better", "within noise"]
    means = {
        (p, f): Replicates.of(completed(rows)).measured(5)["auroc"].mean
        for (p, f), rows in frame.groupby(["protocol", "fraction"])
    }
    assert got["mean"].tolist() == pytest.approx(
        [means["probe", 1.0] - means["random_init", 1.0], means["probe", 0.1] - means["handcrafted", 0.1]]
    )
    assert differences("ecg", frame, against=()).empty


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no predictions\.parquet"):
        compare_runs([tmp_path])
