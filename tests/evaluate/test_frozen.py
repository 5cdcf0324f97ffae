"""Protocols that wait to be asked for, on a cohort whose classes a frequency tells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from medssl import hub, models
from medssl.config import Evaluate
from medssl.evaluate import frozen, standalone
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


def test_networks_are_for_runs(signal_store: Store, encoder: hub.Encoder, tmp_path: Path) -> None:
    wanted, parts = Evaluate(protocols=("probe", "supervised")), pd.DataFrame()
    with pytest.raises(ValueError, match=r"protocols supervised train networks, which a run of the pipeline does"):
        standalone.evaluate([encoder], signal_store, parts, wanted, out=tmp_path, key=b"k")
