"""A search of a tiny run on the signal cohort: trainings of two steps, a database of the tests' own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from medssl import config, tracking
from medssl.store import Store
from medssl.tune import page, search, space

RUN: dict[str, Any] = {
    "modality": "ecg",
    "recipe": "simclr",
    "encoder": {"name": "resnet1d", "widths": [4, 4, 8, 8], "depth": 1},
    "pretrain": {
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch": {"patients": 4, "trials": 2, "samples": 2},
        "projection_dim": 8,
        "monitor_label": "disease",
        "monitor_steps": 1,
    },
    "evaluate": {"labels": ["disease", "age"]},
}
SPLIT = config.SplitParams(stratify=("disease",))
ROWS = space.named(["pretrain.lr", "pretrain.temperature", "encoder.depth=[1, 2]"])


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One migrated database for all tests here: creating it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def _tracked(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.delenv("DVC_STAGE", raising=False)


@pytest.fixture
def prepared(signal_store: Store, tmp_path: Path) -> Callable[..., search.Search]:
    """Make a search of the tiny run."""

    def make(*, store: Store = signal_store, rows: Sequence[space.Row] = ROWS, **more: Any) -> search.Search:
        run = config.Run.model_validate(more.pop("run", RUN))
        compute = config.Compute(accelerator="cpu")
        given: Any = {"home": tmp_path / "home", "compute": compute, "rows": rows, "seed": 3, **more}
        return search.prepare("toy", run, store, SPLIT, **given)

    return make


@pytest.fixture
def ran() -> Callable[..., tuple[optuna.Study, Any]]:
    """Go on with a search; return its trials, and them as a table without seconds."""

    def go(searched: search.Search, trials: int | None, seconds: float | None = None) -> tuple[optuna.Study, Any]:
        settings = config.Tracking(experiment="toy")
        with tracking.stage_run(settings, "tune@toy", run="toy", alone=True) as parent:
            given: Any = {"seconds": seconds, "trials": trials, "progress": False}
            study = search.go(searched, **given, settings=settings, parent=parent)
        return study, page.table_of(searched, study).drop(columns="seconds")

    return go
