"""Runs side by side on the same draws of the same patients."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl.evaluate.compare import _kind, compare_runs
from medssl.evaluate.tasks import Results, Task, joined, parted
from medssl.store import Store, write_parquet


def run(folder: Path, store: Store, noise: float, *, drop: bool = False) -> Path:
    """Write predictions of a run: the truth under noise."""
    results, rng = Results.empty(20), np.random.default_rng(0)
    for name in ("disease", "state", "age", "findings"):
        task = Task.of(store.table, name)
        truth = task.truth[task.part("test")]
        target = (truth[:, None] == task.classes) if task.kind == "class" else truth.reshape(len(truth), -1)
        target = target.astype(float)
        seeds = [target + noise * target.std() * rng.standard_normal(target.shape) for _ in range(2)]
        results.add(task, "probe", 1.0, seeds)
    frame = results.frame()
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


def write(folder: Path, noise: float, *, kind: bool) -> Path:
    results, rng, table = Results.empty(20), np.random.default_rng(0), cohort()
    for name in ("findings", "disease", "age"):
        task = Task.of(table, name)
        truth = task.truth[task.part("test")]
        if name == "age":
            results.add(task, "probe", 1.0, [truth[:, None] + noise * rng.standard_normal((len(truth), 1))])
            continue
        # Each finding has a probability of its own: they do not sum to 1.
        target = truth if name == "findings" else truth[:, None] == task.classes
        scores = np.clip(target + noise * rng.standard_normal(target.shape), 0.01, None)
        results.add(task, "probe", 1.0, [scores if name == "findings" else scores / scores.sum(1, keepdims=True)])
    frame = results.frame()
    folder.mkdir()
    write_parquet(frame if kind else frame.drop(columns="kind"), folder / "predictions.parquet")
    (folder / "metrics.json").write_text(json.dumps(results.metrics))
    return folder


@pytest.mark.parametrize("kind", [True, False])
def test_one_finding_each_is_still_several_labels(tmp_path: Path, kind: bool) -> None:
    """Each patient has one finding, which looked like classes: a macro AUROC of the two became that of one."""
    folders = [write(tmp_path / "a", 1.0, kind=kind), write(tmp_path / "b", 0.3, kind=kind)]
    table = compare_runs(folders, draws=50).set_index("task")
    metrics = json.loads((folders[0] / "metrics.json").read_text())
    for task, name in (("findings", "auroc"), ("disease", "auroc"), ("age", "r2")):
        assert table.loc[task, "a"] == pytest.approx(metrics[task]["probe"]["1"][name]["mean"], abs=5e-4)
        assert re.fullmatch(r"[+-]\d\.\d{3} \[[+-]\d\.\d{3}, [+-]\d\.\d{3}\]", table.loc[task, "b - a"])
    assert "note" not in table


def test_the_table_says_the_kind() -> None:
    """Shares that sum to 1 look like classes; only a table without the column is judged by looks."""
    looks = pd.DataFrame({"truth": ["af", "mi"], "classes": "af|mi", "scores": [[0.4, 0.6], [0.3, 0.7]]})
    assert _kind(looks) == "class"
    assert _kind(looks.assign(kind="multilabel")) == "multilabel"
    assert _kind(looks.assign(scores=[[0.4, 0.5], [0.3, 0.7]])) == "multilabel"
    assert _kind(looks.assign(truth=["af|mi", "mi"])) == "multilabel"
    assert _kind(looks.assign(classes="")) == "number"


def test_old_and_new_tables_side_by_side(tmp_path: Path) -> None:
    table = compare_runs([write(tmp_path / "a", 1.0, kind=True), write(tmp_path / "b", 1.0, kind=False)], draws=50)
    assert (table["a"] == table["b"]).all()


def test_classes_with_a_bar_in_their_name(tmp_path: Path) -> None:
    names = ["af|flutter", "mi", "50%", "%7C", "a|b|c"]
    assert parted(joined(names)) == names and joined(["af", "mi"]) == "af|mi"
    table = cohort()
    table["label_disease"] = table["label_disease"].str.replace("sick", "af|flutter")
    table["label_findings"] = [["af|flutter"] if v == ["af"] else ["mi"] for v in table["label_findings"]]
    results = Results.empty(20)
    for name in ("findings", "disease"):
        task = Task.of(table, name)
        truth = task.truth[task.part("test")]
        target = (truth if name == "findings" else truth[:, None] == task.classes).astype(float)
        results.add(task, "probe", 1.0, [target])
    (tmp_path / "a").mkdir()
    write_parquet(results.frame(), tmp_path / "a" / "predictions.parquet")
    assert compare_runs([tmp_path / "a"], draws=20)["a"].tolist() == [1.0, 1.0]


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no predictions\.parquet"):
        compare_runs([tmp_path])
