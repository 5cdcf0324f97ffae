"""Protocols that wait to be asked for, on a cohort whose classes a frequency tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medssl import hub, models
from medssl.config import Evaluate
from medssl.evaluate import frozen, probe, standalone
from medssl.evaluate.linear import Basis, predict, ridge
from medssl.evaluate.results import Predictions
from medssl.evaluate.tasks import Task
from medssl.store import Store

ARCHITECTURE = {"name": "resnet1d", "in_channels": 2, "widths": [4, 4, 8, 8], "depth": 1}


@pytest.fixture
def encoder(signal_store: Store, tmp_path: Path) -> hub.Encoder:
    module = models.build(**ARCHITECTURE, seed=0)  # type: ignore[arg-type]
    contract = hub.contract_of(signal_store.facts, 8)
    hub.save_encoder(tmp_path / "e", module, architecture=ARCHITECTURE, contract=contract, provenance={}, card="")
    return hub.load_encoder(tmp_path / "e")


def test_protocols_on_request(signal_store: Store, encoder: hub.Encoder) -> None:
    wanted = Evaluate(protocols=("probe", "probe_subject_free", "probe_adapted", "stages"), fractions=(1.0,))
    tasks = [Task.of(signal_store.table, name) for name in ("disease", "state", "age")]
    part = frozen.Part(signal_store, tasks, wanted, Predictions())
    frozen.evaluate(part, [encoder], key=b"k")
    got = part.results.frame().groupby("protocol")["task"].unique().map(set).to_dict()
    every = {"disease", "state", "age"}
    # What all units of a patient share is taken off where the label varies within patients alone.
    assert got.pop("probe_subject_free") == {"state"}
    assert {"probe", "probe_adapted"} < set(got)
    assert [name for name in got if name.startswith("stage_")]
    assert all(tested == every for tested in got.values())
    scores = {name: rows["scores"].to_list() for name, rows in part.results.frame().groupby("protocol")}
    assert any((a != b).any() for a, b in zip(scores["probe"], scores["probe_adapted"], strict=True))


def test_features_of_the_field_together_with_the_embedding(signal_store: Store, encoder: hub.Encoder) -> None:
    wanted = Evaluate(protocols=("probe", "handcrafted", "handcrafted_probe"), fractions=(1.0,))
    task = Task.of(signal_store.table, "disease")
    part = frozen.Part(signal_store, [task], wanted, Predictions())
    frozen.evaluate(part, [encoder], key=b"k")
    got = {name: np.stack(rows["scores"].to_list()) for name, rows in part.results.frame().groupby("protocol")}
    assert set(got) == {"probe", "handcrafted", "handcrafted_probe"}
    [known] = part.baseline("handcrafted") or []
    [embedding] = part.pooled(part.embedded(encoder))
    assert 4 * embedding.shape[1] < known.shape[1]  # the embedding is the smaller block here
    expected = probe.linear(task, frozen.beside(embedding, known), task.part("train"))
    np.testing.assert_allclose(got["handcrafted_probe"], expected)


def test_networks_are_for_runs(signal_store: Store, encoder: hub.Encoder, tmp_path: Path) -> None:
    wanted, parts = Evaluate(protocols=("probe", "supervised")), pd.DataFrame()
    with pytest.raises(ValueError, match=r"protocols supervised train networks, which a run of the pipeline does"):
        standalone.evaluate([encoder], signal_store, parts, wanted, out=tmp_path, key=b"k")


def test_who_a_person_is_weighs_as_much_as_the_embedding() -> None:
    """By ridge regression with a penalty for each block, and by what it is for: few known columns are not drowned."""
    rng = np.random.default_rng(0)
    embedding, known, y = rng.standard_normal((60, 48)), rng.standard_normal((60, 3)), rng.standard_normal(60)
    got = []
    for both in (frozen.beside(embedding, known), frozen.beside(known, embedding)):  # whichever has the fewer columns
        assert both.shape == (60, 96)
        basis = Basis.of(both)
        got.append(predict(basis.coordinates, ridge(basis, y[:, None], [10.0])[0])[:, 0])
    x = np.column_stack([embedding, known])
    x = (x - x.mean(0)) / x.std(0)
    penalty = np.repeat([10.0, 10.0 / 16], [48, 3])
    weights = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ (y - y.mean()))
    for one in got:
        np.testing.assert_allclose(one, x @ weights + y.mean(), rtol=1e-9, atol=1e-12)

    few, told = rng.standard_normal((400, 300)), rng.standard_normal((400, 2))
    truth = told[:, 0] + 0.3 * rng.standard_normal(400)
    errors = {}
    for name, features in {"beside": frozen.beside(few, told), "as they are": np.column_stack([few, told])}.items():
        basis = Basis.of(features[:200])
        weights = ridge(basis, truth[:200, None], [100.0])[0]
        errors[name] = float(np.square(predict(basis.of_others(features[200:]), weights)[:, 0] - truth[200:]).mean())
    assert errors["beside"] < 0.5 * errors["as they are"]
