"""A git repository with the pipeline in it, as a user has it, on small cohorts."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
SMALL = {"epochs": 2, "steps_per_epoch": 2}
FEW = ["probe", "knn", "random_init", "permuted_labels", "finetune", "supervised"]
BATCH = {"patients": 6, "trials": 1, "samples": 2}


def small_params() -> str:
    """Return the project's own params with small cohorts, short runs and three of its runs."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["compute"] |= {"accelerator": "cpu", "progress": False}
    raw["synthetic"] = {"ecg": {"patients": 20, "corrupt": 4}, "ct": {"patients": 14, "trials": 1, "corrupt": 4}}
    raw["modalities"] = {k: raw["modalities"][k] for k in raw["synthetic"]}
    runs = {k: raw["runs"][k] for k in ("ecg-simclr", "ecg-comet", "ct-anatomy")}
    for run in runs.values():
        run["pretrain"] |= SMALL | {"batch": BATCH}
        run["evaluate"] |= {"fractions": [1.0, 0.5], "seeds": 2, "bootstrap": 50, "finetune_steps": 2}
    # One run has all protocols.
    for name in ("ecg-simclr", "ct-anatomy"):
        runs[name]["evaluate"]["protocols"] = FEW
    raw["runs"] = runs
    return yaml.safe_dump(raw, sort_keys=False)


class Project:
    """A git repository with the pipeline in it and the log of everything that ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = ""
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "MEDSSL", "DVC"))}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        out = done.stdout + done.stderr
        self.log += out
        assert done.returncode == 0 or not check, out
        return out

    def mlflow_runs(self) -> pd.DataFrame:
        with sqlite3.connect(self.folder / "mlflow.db") as database:
            return pd.read_sql(
                "select r.run_uuid as id, r.status, t.value as stage from runs r join tags t on t.run_uuid = r.run_uuid"
                " where t.key = 'stage'",
                database,
            )
