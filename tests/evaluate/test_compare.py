"""Runs side by side on the same draws of the same patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medssl.evaluate.compare import compare_runs
from medssl.evaluate.tasks import Results, Task
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
    assert (table["b - a"] == "+0.000 [+0.000, +0.000]").all()
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


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no predictions\.parquet"):
        compare_runs([tmp_path])
