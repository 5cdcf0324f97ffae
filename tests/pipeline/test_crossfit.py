"""Cross-fitting through the stages' own scripts: nothing that is fitted knows the fold that is held out."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from medssl import cli, config, hub
from medssl import table as tables
from medssl.store import open_store
from pipeline import dedup, encoders, finetune, ingest, plan, pretrain, probe, results, split, stage, synthesise
from tests.pipeline.project import FEW, small_params

pytestmark = pytest.mark.slow
FOLDS, SEEDS = 3, 2
ENCODER = """
import torch
from torch import nn

class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(12, 4)

    def forward(self, x):
        return self.layer(x.std(2))

def network():
    torch.manual_seed(0)
    return Mean(), {"modality": "ecg", **INGEST}
"""


def parameters() -> dict[str, Any]:
    raw: dict[str, Any] = yaml.safe_load(small_params())
    raw["synthetic"] = {"ecg": {"patients": 24, "corrupt": 0}}
    raw["modalities"] = {"ecg": raw["modalities"]["ecg"]}
    raw["modalities"]["ecg"]["split"] |= {"folds": FOLDS}
    raw["modalities"]["ecg"]["dedup"] = {"method": "beats", "scope": "global", "keep_ratio": 0.5}
    raw["folds"] = {f"f{fold}": None for fold in range(FOLDS)}
    run = raw["runs"]["ecg-simclr"]
    run["seeds"] = SEEDS
    run["evaluate"] |= {"labels": ["disease", "age"], "fractions": [1.0], "finetune_fractions": [1.0]}
    run["evaluate"]["protocols"] = [*FEW, "handcrafted", "minirocket", "demographics"]
    foreign = {"modality": "ecg", "encoder_from": "mine:network", "evaluate": run["evaluate"] | {"seeds": 1}}
    raw["runs"] = {"ecg-simclr": run, "foreign": foreign}
    return raw


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run all stages in a folder, which the tests are then in; what they printed."""
    folder, out = tmp_path_factory.mktemp("crossfit"), io.StringIO()
    raw = parameters()
    (folder / "mine.py").write_text(ENCODER.replace("INGEST", repr(raw["modalities"]["ecg"]["ingest"])))
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    (folder / "dvc.yaml").write_text("")
    params = config.load(folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as stage.main does
        patch.chdir(folder)
        for script in (synthesise, ingest, split, dedup):
            script.work(params, "ecg")
        for run in params.runs:
            plan.work(params, run)
            for script in (pretrain, probe, finetune):
                for fold in (None, *range(FOLDS)):
                    script.work(params, run, fold)
            results.work(params, run)
        yield out.getvalue()


def test_the_cost_is_said_before_anything_is_trained(said: str) -> None:
    cost = "ecg-simclr: 7 pretrainings and 16 networks of at most 2 steps on labels (3 folds and the fixed split)"
    assert said.index(cost) < said.index("ecg-simclr: 4 steps")


def test_every_patient_is_tested_once_for_each_training(said: str) -> None:
    table = pd.read_parquet("data/runs/ecg-simclr/crossfit/predictions.parquet")
    labelled = open_store("data/ecg/store").table.dropna(subset=["label_disease"])["patient"].nunique()
    rows = table.query("task == 'disease' and protocol == 'probe'")
    for _, one in rows.groupby("seed"):
        assert one["patient"].is_unique
        assert len(one) == labelled
    assert rows["training"].nunique() == SEEDS
    metrics = json.loads(Path("data/runs/ecg-simclr/crossfit/metrics.json").read_text())
    value = metrics["disease"]["probe"]["1"]["auroc"]
    assert (value["n_patients"], value["folds"], value["trainings"]) == (labelled, FOLDS, SEEDS)
    for protocol in ("finetune", "supervised", "minirocket", "handcrafted", "demographics", "random_init"):
        assert metrics["disease"][protocol]["1"]["auroc"]["n_patients"] == labelled


def test_nothing_that_is_fitted_knows_the_fold_that_is_held_out(said: str) -> None:
    key, weights = config.load("params.yaml"), []
    for fold in range(FOLDS):
        table = stage.open_cohort("ecg", fold).table
        held_out = table["split"] == "test"
        codes = set(tables.seen_patients(table.loc[held_out, "patient"], b"")["patients"])
        for encoder in encoders.of_run("ecg-simclr", fold):
            seen = set(encoder.config["provenance"]["seen"]["patients"])
            assert seen
            assert not seen & codes
            weights.append(next(iter(encoder.module.parameters())).detach().numpy().tobytes())
        # Receipts: held-out samples neither stand for training samples nor are removed, but for exact copies.
        near = ~table["method"].isin(["", "exact"])
        assert near.any()
        ids = set(table.loc[near, "sample_id"]) | set(table.loc[near, "duplicate_of"].dropna())
        assert not ids & set(table.loc[held_out, "sample_id"])
        train = (table["split"] == "train") & (table["method"] != "exact")
        assert table.loc[train, "kept"].mean() == pytest.approx(0.5, abs=0.15)
    assert len(set(weights)) == FOLDS * SEEDS
    assert key.folds


def test_a_foreign_network_is_evaluated_like_an_own_one(said: str) -> None:
    metrics = json.loads(Path("data/runs/foreign/crossfit/metrics.json").read_text())
    assert {"probe", "random_init", "finetune", "supervised", "minirocket"} <= set(metrics["disease"])
    checks = {c["check"]: c["verdict"] for c in json.loads(Path("data/runs/foreign/crossfit/trust.json").read_text())}
    assert checks["encoder saw no test patient"] == "unknown"
    assert checks["parts share nothing"] == "ok"
    assert hub.load_encoder("mine:network").folder is None


def test_the_command_names_an_encoder_that_saw_its_test_patients(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--store", "data/ecg/store", "--labels", "disease", "--seeds", "1", "--fractions", "1"]
    words += ["--protocols", "probe", "--encoder", "data/runs/ecg-simclr/encoder"]
    assert cli.main([*words, "--out", str(tmp_path / "fixed"), "--split", fixed(tmp_path)]) == 0
    assert "ok: encoder saw no test patient" in capsys.readouterr().out
    # Other folds test patients whom this encoder was trained on.
    assert cli.main([*words, "--out", str(tmp_path / "folds"), "--split", "3"]) == 1
    assert "failed: encoder saw no test patient" in capsys.readouterr().out
    predictions = pd.read_parquet(tmp_path / "folds" / "predictions.parquet")
    assert predictions.query("protocol == 'probe'")["patient"].is_unique


def fixed(folder: Path) -> str:
    """Return a file with the fixed split alone."""
    table = pd.read_parquet("data/ecg/split.parquet")
    table[["sample_id", "split"]].to_parquet(folder / "split.parquet")
    return str(folder / "split.parquet")


def test_the_command_names_a_leaked_patient_and_a_label_among_the_features(
    said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store("data/ecg/store")
    part = pd.read_parquet("data/ecg/split.parquet")["split"].to_numpy()
    rows = np.flatnonzero(store.table["patient"] == store.table.loc[part == "train", "patient"].iloc[0])
    part[rows[0]] = "test"
    pd.DataFrame({"sample_id": store.table["sample_id"], "split": part}).to_parquet(tmp_path / "leak.parquet")
    words = ["evaluate", "--encoder", "data/runs/ecg-simclr/encoder", "--store", "data/ecg/store", "--seeds", "1"]
    words += ["--labels", "disease", "--protocols", "probe", "--fractions", "1", "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--split", str(tmp_path / "leak.parquet")]) == 1
    assert "failed: parts share nothing: 1 x same patient" in capsys.readouterr().out
