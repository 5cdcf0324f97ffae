"""What the default pipeline must show, looked at where continuous integration has just run it (``MEDSSL_REPRO``)."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from medssl.synthetic import planted_identifiers

REPRO = os.environ.get("MEDSSL_REPRO")
pytestmark = pytest.mark.skipif(not REPRO, reason="MEDSSL_REPRO is unset")
MODALITIES = ("ecg", "ppg", "eeg", "ct", "mri")


@pytest.mark.parametrize(
    ("run", "trait", "metric"),
    [
        ("ecg-simclr", "disease", "auroc"),
        ("eeg-simclr", "state", "auroc"),
        ("ecg-comet", "disease", "auroc"),
        ("ppg-wearable", "age", "r2"),
        ("mri-anatomy", "age", "r2"),
    ],
)
def test_each_recipe_beats_the_untrained_encoder_on_its_planted_trait(run: str, trait: str, metric: str) -> None:
    folder = Path(str(REPRO)) / "data/runs" / run
    results = json.loads((folder / "metrics.json").read_text())[trait]
    probe, untrained = results["probe"]["1"][metric], results["random_init"]["1"][metric]
    # On the same patients: two intervals may overlap where the difference is certain.
    found = pd.read_parquet(folder / "differences.parquet").query("task == @trait and against == 'random_init'")
    difference = found[found["protocol"] == "probe"].iloc[0]
    assert difference["lo"] > 0, (probe, untrained, difference)
    assert difference["mean"] > 0.05
    shuffled = results["permuted_labels"]["1"][metric]
    assert shuffled["mean"] < (0.65 if metric == "auroc" else 0.1)
    assert probe["p_value"] <= 0.01


def test_no_planted_identifier_in_any_output() -> None:
    folder = Path(str(REPRO))
    planted = [text.encode() for modality in MODALITIES for text in planted_identifiers(modality)]
    looked_at = [folder / "mlflow.db", *(folder / "mlartifacts").rglob("*")]
    looked_at += [p for p in (folder / "data").rglob("*") if p.relative_to(folder).parts[:2] != ("data", "raw")]
    looked_at += list((folder / ".dvc" / "cache").rglob("*"))
    # data/README.md documents the planted identifiers; everything else there is an output.
    files = [p for p in looked_at if p.is_file() and p != folder / "data" / "README.md"]
    assert len(files) > 100
    for path in files:
        content = path.read_bytes() + str(path.relative_to(folder)).encode()
        if path.suffix == ".parquet":
            content += pd.read_parquet(path).to_csv().encode()
        assert not [text for text in planted if text in content], path


@pytest.mark.parametrize("modality", MODALITIES)
def test_enough_patients_and_only_the_planted_rejects(modality: str) -> None:
    flow = json.loads((Path(str(REPRO)) / "data/flow" / f"{modality}-counts.json").read_text())
    assert flow["patients"] >= 60
    assert sum(flow["rejects"].values()) == 4
    assert flow["exact"] > 0
    assert flow["leaks"] == 0
