"""A tiny pretraining of each recipe: it learns, and a resumed run equals one that never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medssl.config import Compute, Run
from medssl.pretrain.fit import Fitted, fit, run_hash
from medssl.pretrain.recipes import RECIPES
from medssl.store import Store

COMPUTE = Compute(accelerator="cpu", progress=False)
BATCH = {"patients": 4, "trials": 2, "samples": 2}
ENCODERS: dict[str, dict[str, Any]] = {
    "simclr": {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1},
    "comet": {"name": "dilated1d", "widths": [8, 8], "depth": 3},
    "wearable": {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1},
    "anatomy": {"name": "resnet2d", "widths": [4, 4, 8, 8], "depth": 1},
}


def run_of(recipe: str, **pretrain: Any) -> Run:
    options = {"epochs": 4, "batch": BATCH, "lr": 3e-3, "projection_dim": 8, "monitor_label": "disease"} | pretrain
    if recipe == "anatomy":
        options = {"anatomy": {"measures": ["liver_ml", "age_years"]}} | options
    return Run.model_validate(
        {
            "modality": "x",
            "recipe": recipe,
            "encoder": ENCODERS[recipe],
            "pretrain": options,
            "evaluate": {"labels": ["disease"]},
        }
    )


@pytest.fixture
def stores(signal_store: Store, image_store: Store) -> dict[str, Store]:
    return {recipe: image_store if recipe == "anatomy" else signal_store for recipe in RECIPES}


def weights(fitted: Fitted) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in fitted.encoder.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_resumed_equals_never_stopped(recipe: str, stores: dict[str, Store], tmp_path: Path) -> None:
    run, store = run_of(recipe), stores[recipe]
    state = torch.get_rng_state()
    whole = fit(store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), state)
    stopped = fit(store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b", stop_after=2)
    assert len(stopped.history) == 2
    assert stopped.steps == whole.steps // 2
    with torch.random.fork_rng():
        torch.manual_seed(12345)  # another process has other global state
        rows: list[tuple[dict[str, float], int]] = []
        resumed = fit(
            store, run, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b", on_epoch=lambda r, e: rows.append((r, e))
        )
    assert_equal(weights(resumed), weights(whole))
    assert resumed.steps == whole.steps
    assert resumed.history == whole.history
    # A new run is opened for the resumed stage: it gets the earlier epochs too.
    assert [epoch for _, epoch in rows] == [0, 1, 2, 3]
    assert [row for row, _ in rows] == whole.history
    assert list((tmp_path / "b").iterdir()) == []  # the checkpoint goes once the run is done


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_learns(recipe: str, stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of(recipe, epochs=8, steps_per_epoch=4, lr=5e-3, warmup_epochs=0)
    fitted = fit(stores[recipe], run, seed=0, compute=COMPUTE, checkpoints=tmp_path)
    losses = [row["train/loss"] for row in fitted.history]
    assert len(losses) == 8
    assert np.mean(losses[-2:]) < losses[0] - 0.05
    last = fitted.history[-1]
    assert {"lr", "train/rankme", "val/rankme", "val/knn"} <= set(last)
    assert 1 <= last["val/rankme"] <= 8
    assert not fitted.encoder.training


def test_changed_parameters_do_not_start_from_the_old_checkpoint(stores: dict[str, Store], tmp_path: Path) -> None:
    store, old, new = stores["simclr"], run_of("simclr", epochs=2), run_of("simclr", epochs=2, lr=1e-3)
    fit(store, old, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a", stop_after=1)
    changed = fit(store, new, seed=3, compute=COMPUTE, checkpoints=tmp_path / "a")
    fresh = fit(store, new, seed=3, compute=COMPUTE, checkpoints=tmp_path / "b")
    assert_equal(weights(changed), weights(fresh))
    assert changed.history == fresh.history
    assert [p.name for p in (tmp_path / "a").iterdir()] == [run_hash(old, store, 3)]


def test_names_of_runs(stores: dict[str, Store], signal_folder: Path, tmp_path: Path) -> None:
    store, run = stores["simclr"], run_of("simclr")
    name = run_hash(run, store, 3)
    assert run_hash(run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"seeds": 9})}), store, 3) == name
    others = {run_hash(run, store, 4), run_hash(run_of("simclr", temperature=0.2), store, 3)}
    shutil.copytree(signal_folder, tmp_path / "c")
    moved = Store(tmp_path / "c" / "store", tmp_path / "c" / "dedup.parquet", tmp_path / "c" / "split.parquet")
    assert run_hash(run, moved, 3) == name
    for column, value in (("split", "test"), ("kept", False)):
        table = moved.table.copy()
        table.loc[0, column] = value
        altered = Store(tmp_path / "c" / "store")
        altered.table = table
        others.add(run_hash(run, altered, 3))
    assert len(others | {name}) == 5


def test_another_seed_gives_other_weights(stores: dict[str, Store], tmp_path: Path) -> None:
    run = run_of("comet", epochs=1)
    one, two = (fit(stores["comet"], run, seed=s, compute=COMPUTE, checkpoints=tmp_path) for s in (0, 1))
    assert not torch.equal(weights(one)["inputs.weight"], weights(two)["inputs.weight"])


def test_what_a_recipe_needs(stores: dict[str, Store], tmp_path: Path) -> None:
    def attempt(run: Run) -> None:
        fit(stores["simclr"], run, seed=0, compute=COMPUTE, checkpoints=tmp_path)

    wrong = run_of("comet").model_copy(update={"encoder": run_of("simclr").encoder})
    with pytest.raises(ValueError, match=r"use encoder\.name: dilated1d"):
        attempt(wrong)
    with pytest.raises(ValueError, match=r"needs pretrain\.anatomy\.measures"):
        attempt(run_of("anatomy", anatomy={"measures": []}))
    with pytest.raises(ValueError, match="no such class label"):
        attempt(run_of("simclr", monitor_label="age"))
