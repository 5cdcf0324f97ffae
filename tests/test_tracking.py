"""Runs in MLflow: their end, tags, parameters, metrics and artifacts, on a database of the test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from medssl import config, tracking


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One migrated database for the module: creating it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def client(database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    from mlflow import MlflowClient

    return MlflowClient(database)


SETTINGS = config.Tracking(uri="sqlite:////nowhere/else.db", experiment="toy")


def test_a_finished_run(client: Any, tmp_path: Path) -> None:
    (tmp_path / "encoder" / "deep").mkdir(parents=True)
    (tmp_path / "encoder" / "a.txt").write_text("a")
    (tmp_path / "encoder" / "deep" / "b.txt").write_text("b")
    (tmp_path / "plot.png").write_text("p")
    with tracking.stage_run(SETTINGS, "probe@x", run="x", modality="ecg", data_hash="h") as run:
        run.params({"pretrain": {"batch": {"patients": 4}, "lr": 0.1}, "seed": 3, "long": "y" * 9000})
        run.metrics({"train/loss": 2.0, "bad": float("nan")}, 0)
        run.metrics({"train/loss": 1.0}, 1)
        run.tag("extra", "1")
        run.artifact(tmp_path / "encoder", "encoder")
        run.artifact(tmp_path / "plot.png")
        assert client.get_run(run.run_id).info.status == "RUNNING"
    got = client.get_run(run.run_id)
    assert got.info.status == "FINISHED"
    assert got.info.run_name == "probe@x"
    tags = {k: v for k, v in got.data.tags.items() if not k.startswith("mlflow.")}
    assert set(tags) == {"stage", "run", "modality", "data_hash", "git_commit", "extra"}
    assert (tags["stage"], tags["run"], tags["modality"], tags["data_hash"]) == ("probe@x", "x", "ecg", "h")
    params = got.data.params
    assert params["pretrain.batch.patients"] == "4"
    assert params["pretrain.lr"] == "0.1"
    assert params["seed"] == "3"
    assert len(params["long"]) == tracking.MAX_PARAM
    assert got.data.metrics == {"train/loss": 1.0}
    assert [(m.step, m.value) for m in client.get_metric_history(run.run_id, "train/loss")] == [(0, 2.0), (1, 1.0)]
    assert {a.path for a in client.list_artifacts(run.run_id)} == {"encoder", "plot.png"}
    back = tracking.download(f"runs:/{run.run_id}/encoder")
    assert (back / "deep" / "b.txt").read_text() == "b"
    assert client.get_experiment(got.info.experiment_id).name == "toy"


def test_a_failed_run(client: Any) -> None:
    seen = []

    def fail() -> None:
        with tracking.stage_run(SETTINGS, "fit@x") as run:
            seen.append(run.run_id)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    got = client.get_run(seen[0])
    assert got.info.status == "FAILED"
    assert "run" not in got.data.tags


def test_dvc_names_the_stage(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "pretrain@ecg")
    with tracking.stage_run(SETTINGS, "other") as run:
        run.params({f"p{i}": i for i in range(150)})
    got = client.get_run(run.run_id)
    assert got.data.tags["stage"] == got.info.run_name == "pretrain@ecg"
    assert len(got.data.params) == 150


def test_artifacts_lie_beside_the_database(client: Any, database: str) -> None:
    with tracking.stage_run(SETTINGS, "s") as run:
        pass
    where = client.get_run(run.run_id).info.artifact_uri
    assert where.startswith(Path(database.removeprefix("sqlite:///")).parent.as_uri())


def test_git_commit(tmp_path: Path) -> None:
    assert tracking.git_commit(tmp_path) == "unknown"

    def git(*words: str) -> None:
        name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    clean = tracking.git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "new").write_text("untracked files do not count")
    assert tracking.git_commit(tmp_path) == clean
    (tmp_path / "a").write_text("2")
    assert tracking.git_commit(tmp_path) == f"{clean}-dirty"
