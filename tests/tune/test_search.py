"""A search repeats itself, goes on where it was, reads no test patient, and notes what failed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from pandas.testing import assert_frame_equal

from medssl import config
from medssl.store import Store, open_store
from medssl.tune import inner, search, space
from medssl.tune.confirm import confirm
from tests.tune.conftest import RUN

Prepared = Callable[..., search.Search]
Ran = Callable[..., tuple[Any, pd.DataFrame]]


def test_same_seed_and_number_of_trials_same_choice(prepared: Prepared, ran: Ran, tmp_path: Path) -> None:
    study, one = ran(prepared(), 4)
    _, two = ran(prepared(home=tmp_path / "other"), 4)
    assert_frame_equal(one, two)
    assert list(one["state"]) == ["scored"] * 4
    own = one.iloc[0]
    assert (own["pretrain.lr"], own["pretrain.temperature"], own["encoder.depth"]) == (1e-3, 0.1, "1")
    assert one["pretrain.lr"].nunique() == 4
    means = one[["auroc/disease", "r2/age"]].clip(lower=inner.LEAST).mean(axis=1)
    assert one["score"].to_numpy() == pytest.approx(means)
    assert search.best(study).value == one["score"].max()
    _, other = ran(prepared(seed=4), 2)
    assert other["score"].iloc[0] != own["score"]  # other inner folds and weights


def test_stopped_between_trials_and_within_one_equals_never_stopped(
    prepared: Prepared, ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = ran(prepared(home=tmp_path / "whole"), 4)
    _, two = ran(prepared(), 2)
    assert_frame_equal(two, whole.head(2))
    predicted = search.predicted

    def killed(*args: Any, **more: Any) -> pd.DataFrame:
        predicted(*args, **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search, "predicted", killed)
        with pytest.raises(KeyboardInterrupt):
            ran(prepared(), 4)
    study, rest = ran(prepared(), 4)
    assert_frame_equal(rest, whole)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    # What was trained is not trained again.
    monkeypatch.setattr(search, "predicted", killed)
    assert_frame_equal(ran(prepared(), 4)[1], whole)


def test_steps_are_those_of_a_recipe_that_arranges_its_batches(prepared: Prepared, ran: Ran) -> None:
    searched = prepared(run=RUN | {"recipe": "mcl"})
    assert searched.steps(searched.run) == 2
    assert list(ran(searched, 1)[1]["state"]) == ["scored"]
    with pytest.raises(ValueError, match=r"runs\.toy\.start: first has validated on patients that an inner fold would"):
        prepared(run=RUN | {"start": "first"})


def test_no_test_patient_is_read(signal_folder: Path, prepared: Prepared, ran: Ran, tmp_path: Path) -> None:
    shutil.copytree(signal_folder, tmp_path / "cohort")
    store = open_store(*(tmp_path / "cohort" / name for name in ("store", "dedup.parquet", "split.parquet")))
    test = store.table["split"] == "test"
    for shard, rows in store.table[test].groupby("shard")["row"]:
        array = np.load(tmp_path / "cohort" / "store" / f"shard-{shard:05d}.npy", mmap_mode="r+")
        array[rows.to_numpy()] = np.nan
        array.flush()
    assert np.isnan(store.read(np.flatnonzero(test))).all()
    store.table.loc[test, ["label_disease", "label_age"]] = ["poison", 1e9]
    clean = prepared()
    dirty = prepared(store=store, home=tmp_path / "dirty")
    assert_frame_equal(ran(clean, 2)[1], ran(dirty, 2)[1])
    values = {"pretrain.lr": 0.002}
    assert confirm(clean, values) == confirm(dirty, values)
    outside = set(store.table.loc[test, "patient"])
    held = pd.concat([pd.read_parquet(path) for path in (dirty.folder / "predictions").glob("*.parquet")])
    assert not outside & set(held["patient"])


def test_failing_trials_are_noted_and_the_search_goes_on(prepared: Prepared, ran: Ran) -> None:
    rows = space.named(["pretrain.batch.patients=[4, 1]", "pretrain.lr"])
    _, table = ran(prepared(rows=rows), 5)
    failed = table["state"] == "failed"
    assert 0 < failed.sum() < 5
    assert list(failed) == list(table["pretrain.batch.patients"] == "1")
    assert table.loc[failed, "reason"].str.contains("contrast needs at least 2").all()
    assert table.loc[failed, "score"].isna().all()
    assert (table.loc[~failed, "reason"] == "").all()


def test_a_run_that_fails_as_it_stands_ends_the_search(prepared: Prepared, ran: Ran) -> None:
    pretrain = RUN["pretrain"] | {"batch": {"patients": 1}}
    with pytest.raises(ValueError, match="contrast needs at least 2"):
        ran(prepared(run=RUN | {"pretrain": pretrain}), 3)


def test_a_training_that_diverged_is_a_failure(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = inner.embed_samples
    monkeypatch.setattr(inner, "embed_samples", lambda *a, **k: np.full_like(embed(*a, **k), np.nan))
    searched = prepared()
    with pytest.raises(ValueError, match="diverged"):
        searched.predictions(searched.run, 0)


def test_a_bad_curve_is_stopped(prepared: Prepared, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are of two lengths: what is compared is the share of the training."""
    monkeypatch.setattr(search, "LEAST_PATIENTS", 1)
    searched = prepared(rows=space.named(["pretrain.lr", "pretrain.epochs=[5, 10]"]), run=_long())
    frame, calls = searched.predictions(searched.run, 0), 0

    def curve(store: Store, run: Any, names: Any, *, on_measured: Any, **_: Any) -> pd.DataFrame:
        nonlocal calls
        calls += 1
        steps = searched.steps(run)
        for tenth in range(1, 11):
            on_measured({"step": 0.0, "val/knn": 0.9 if calls <= 5 else 0.1}, steps * tenth // 10)
        return frame

    shutil.rmtree(searched.folder)
    monkeypatch.setattr(search, "predicted", curve)
    study, table = ran(searched, 7)
    assert list(table["state"]) == ["scored"] * 5 + ["stopped early"] * 2
    assert set(table["pretrain.epochs"]) == {"5", "10"}
    pruned = study.get_trials(states=(TrialState.PRUNED,))
    assert [max(trial.intermediate_values) for trial in pruned] == [search.TENTHS] * 2
    assert not pd.isna(search.best(study).value)


def _long() -> dict[str, Any]:
    return RUN | {"pretrain": RUN["pretrain"] | {"epochs": 5}}


def test_without_a_monitor_label_nothing_is_stopped(prepared: Prepared, ran: Ran) -> None:
    run = RUN | {"pretrain": RUN["pretrain"] | {"monitor_label": None}}
    study, table = ran(prepared(run=run), 1)
    assert list(table["state"]) == ["scored"]
    assert all(not trial.intermediate_values for trial in study.trials)


def test_few_validating_patients_stop_nothing(prepared: Prepared, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = prepared()
    assert searched.watched == 0
    assert searched.notes == ["no trial is stopped early: no monitor_label that 8 validating patients have"]
    study, _ = ran(searched, 1)
    assert not study.trials[0].intermediate_values
    monkeypatch.setattr(search, "LEAST_PATIENTS", 1)
    table = searched.stores[0].table
    assert searched.watched == table.loc[table["split"] == "val", "patient"].nunique()
    assert prepared().notes == []


def test_budgets(prepared: Prepared, ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(search, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    _, table = ran(prepared(rows=space.named(["encoder.depth=[1, 2]"])), None, 55.0)
    # Time is asked for at the start, before each trial, and around it.
    assert len(table) == 2


def test_where_nothing_new_is_left_the_search_ends(
    prepared: Prepared, ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "REPEATS", 3)
    _, table = ran(prepared(rows=space.named(["encoder.depth=[1, 2]"])), 50)
    assert len(table) < 15
    assert set(table["encoder.depth"]) == {"1", "2"}
    same = table.groupby("encoder.depth")["score"].nunique()
    assert (same == 1).all()


def test_several_folds_choose_and_the_others_confirm(prepared: Prepared, ran: Ran) -> None:
    searched = prepared(folds=2)
    _, table = ran(searched, 1)
    one, two = (inner.headlines(searched.predictions(searched.run, fold))["r2/age"] for fold in (0, 1))
    joined = table["r2/age"].iloc[0]
    assert joined != one != two
    rows = confirm(searched, {"encoder.depth": 2})
    assert [row["label"] for row in rows] == ["disease", "age"]
    held = searched.stores[2].table
    assert rows[0]["n_patients"] == held.loc[held["split"] == "test", "patient"].nunique()
    assert rows[0]["mean"] == pytest.approx(rows[0]["best"] - rows[0]["own"])
    assert confirm(searched, {}) == []
    assert confirm(prepared(folds=3), {"encoder.depth": 2}) == []


def test_another_question_has_another_folder(prepared: Prepared) -> None:
    names = {
        prepared(**more).folder.name
        for more in (
            {},
            {"seed": 5},
            {"folds": 2},
            {"labels": ["age"]},
            {"rows": space.named(["pretrain.lr"])},
            {"run": RUN | {"pretrain": RUN["pretrain"] | {"lr": 0.004}}},
            {"compute": config.Compute(accelerator="cpu", precision="bf16-mixed")},
        )
    }
    assert len(names) == 7
    assert prepared().folder == prepared().folder


def test_two_processes_are_not_at_one_search(prepared: Prepared, ran: Ran) -> None:
    searched = prepared()
    with search._alone(searched), pytest.raises(ValueError, match="another process is at this search"):
        ran(searched, 1)


def test_refused(prepared: Prepared) -> None:
    run = {"modality": "ecg", "encoder_from": "runs:/1/encoder", "evaluate": {}}
    with pytest.raises(ValueError, match="trained already; there is nothing to tune"):
        prepared(run=run)


def test_notes(prepared: Prepared, image_store: Store) -> None:
    anatomy = {
        **RUN, "recipe": "anatomy", "encoder": {"name": "resnet2d", "widths": [4, 4, 8, 8], "depth": 1},
        "pretrain": RUN["pretrain"] | {"options": {"measures": ["age_years"]}, "labels": []},
    }  # fmt: skip
    notes = prepared(run=anatomy, store=image_store, rows=space.SPACE).notes
    assert notes[:-1] == ["pretrain.options.sigma is null, which has no place on a scale; it stays"]


def test_mlflow_has_a_parent_and_a_child_for_each_trial(prepared: Prepared, ran: Ran, database: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(database)
    rows = space.named(["pretrain.batch.patients=[4, 1]"])
    searched = prepared(rows=rows, seed=11)
    _, table = ran(searched, 3)
    experiment = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([experiment], max_results=10, order_by=["attributes.start_time DESC"])
    parent = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    children = sorted(children, key=lambda run: run.info.run_name)
    assert [run.info.run_name for run in children] == [f"tune@toy trial {n}" for n in range(3)]
    assert {run.data.tags["stage"] for run in (parent, *children)} == {"tune@toy"}
    for run, row in zip(children, table.to_dict("records"), strict=True):
        assert run.data.params["pretrain.batch.patients"] == row["pretrain.batch.patients"]
        if row["state"] == "scored":
            assert run.info.status == "FINISHED"
            assert run.data.metrics["score"] == row["score"]
            assert run.data.metrics["auroc/disease"] == row["auroc/disease"]
            assert "train/loss" in run.data.metrics or row["trial"] > 0
        else:
            assert run.info.status == "FAILED"
            assert run.data.tags["reason"] == row["reason"]
    assert "failed" in set(table["state"])
    assert json.dumps(table.to_dict("records"))
