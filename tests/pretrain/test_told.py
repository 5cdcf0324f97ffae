"""Features of the field as an encoder is to tell them: by a loop, fitted on training samples alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medssl import handcrafted
from medssl.pretrain.data import training_rows
from medssl.pretrain.fit import fit
from medssl.pretrain.told import CUT, Told
from medssl.store import Store
from tests.pretrain.test_fit import COMPUTE, run_of


@pytest.fixture(params=["signal_store", "image_store"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


def test_they_are_deviations_of_training_samples(store: Store) -> None:
    rows = training_rows(store.table, "remove")
    values = handcrafted.fit(store, rows, 0)(np.arange(len(store))).astype(np.float32).astype(float)
    wanted = []
    for column in values.T:
        known = [v for v in column[rows] if np.isfinite(v)]
        if len(known) < len(rows) / 2 or np.std(known) <= 1e-6 * max(abs(np.mean(known)), 1e-6):
            continue
        wanted.append([min(max((v - np.mean(known)) / np.std(known), -CUT), CUT) for v in column])
    found = Told.of(store, rows).rows(torch.arange(len(store))).numpy()
    assert found.dtype == np.float32 and 5 < found.shape[1] <= values.shape[1]
    assert np.allclose(found, np.array(wanted).T, atol=1e-4, equal_nan=True)
    assert np.abs(np.nan_to_num(found)).max() <= CUT


def test_others_decide_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = training_rows(store.table, "remove")
    told = Told.of(store, rows)
    wild = np.array(told.values)
    wild[np.setdiff1d(np.arange(len(store)), rows)] = 1e6
    monkeypatch.setattr(handcrafted, "fit", lambda *_: lambda some: wild[some])
    again = Told.of(store, rows)
    for name in ("columns", "mean", "deviation"):
        assert np.array_equal(getattr(again, name), getattr(told, name))
    assert (again.rows(torch.arange(len(store))) == CUT).any()


def test_they_are_computed_once(signal_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = training_rows(signal_store.table, "remove")
    first = Told.of(signal_store, rows, cache=tmp_path)
    monkeypatch.setattr(handcrafted, "fit", lambda *_: lambda rows: pytest.fail("computed again"))
    again = Told.of(signal_store, rows, cache=tmp_path)
    assert isinstance(again.values, np.memmap)
    every = torch.arange(len(signal_store))
    assert torch.equal(first.rows(every).nan_to_num(9), again.rows(every).nan_to_num(9))


def test_a_set_without_features_is_refused(
    signal_store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(handcrafted, "fit", lambda *_: lambda rows: np.full((len(rows), 3), np.nan))
    run = run_of("simclr", epochs=1, predict={"name": "handcrafted"})
    with pytest.raises(ValueError, match=r"pretrain\.predict\.name: handcrafted: no feature of the field was found"):
        fit(signal_store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path)


@pytest.mark.parametrize("recipe", ["simclr", "anatomy", "wearable"])
def test_the_embedding_comes_to_hold_them(
    recipe: str, stores: dict[str, Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores[recipe]

    def measured(rows: np.ndarray) -> np.ndarray:
        return np.abs(store.read(rows)).reshape(len(rows), -1).mean(1, keepdims=True)

    monkeypatch.setattr(handcrafted, "fit", lambda *_: measured)
    told = {"name": "handcrafted", "weight": 5}
    given = {"epochs": 20, "steps_per_epoch": 4, "lr": 1e-2, "warmup_epochs": 0, "monitor_steps": 8, "views": "mild"}
    run = run_of(recipe, **given, predict=told)
    history = fit(store, run, seed=0, compute=COMPUTE, checkpoints=tmp_path).history
    curve = [row["train/predict"] for row in history]
    assert np.isfinite(curve).all() and np.mean(curve[-2:]) < 0.8 * curve[0]
