"""A project as `medssl new` leaves it is one that DVC can plan and whose stages run, from recordings to the report."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from medssl import cli, config, workspace

pytestmark = pytest.mark.slow
SHORT = {
    "epochs: 10": "epochs: 1",
    "steps_per_epoch: 10": "steps_per_epoch: 2",
    "window_s: 5": "window_s: 2",
    "finetune_steps: 100": "finetune_steps: 2\n      protocols: [probe]\n      seeds: 1",
}


def write_recordings(root: Path) -> None:
    """Write 12 patients of two leads with a table of their sex."""
    rng, rows = np.random.default_rng(0), ["path,patient,trial,label_sex"]
    root.mkdir(parents=True)
    for patient in range(12):
        steps = np.cumsum(rng.standard_normal((800, 2)), axis=0).round().clip(-999, 999).astype("<i2")
        (root / f"{patient}.dat").write_bytes(steps.tobytes())
        leads = [f"{patient}.dat 16 200(0)/mV 16 0 0 0 0 {lead}" for lead in ("I", "II")]
        (root / f"{patient}.hea").write_text("\n".join([f"{patient} 2 100 800", *leads]) + "\n")
        rows.append(f"{patient}.hea,p{patient},1,{'fm'[patient % 2]}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_a_new_project_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "own"
    write_recordings(project / "data/raw/ecg")
    assert cli.main(["new", str(project), "--from", str(project / "data/raw/ecg")]) == 0
    text = (project / "params.yaml").read_text()
    for value, short in SHORT.items():
        assert value in text
        text = text.replace(value, short)
    (project / "params.yaml").write_text(text.replace("executor: process", "executor: serial"))
    monkeypatch.chdir(project)
    for name in ("MLFLOW_TRACKING_URI", "MEDSSL_KEY", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["check", "params.yaml"]) == 0
    workspace.dvc(project, "repro", "split@ecg")
    run_stages(config.load("params.yaml"), "ecg", "ecg-wearable")
    assert cli.main(["check", "data/runs/ecg-wearable/encoder"]) == 0
    assert "ecg-wearable" in Path("data/report/report.html").read_text()


def run_stages(params: config.Params, cohort: str, run: str) -> None:
    """Run the stages after the split in turn in this process, as starting each takes longer than its work."""
    from pipeline import dedup, finetune, plan, pretrain, probe, report, results

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as stage.main does
        dedup.work(params, cohort)
        for script in (plan, pretrain, probe, finetune, results):
            script.work(params, run)
        report.work(params, "")
