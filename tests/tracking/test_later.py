"""A server that does not answer, before a stage and in the middle of it, and what is sent later."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medssl import config, tracking
from medssl.tracking import later, record
from tests.tracking.servers import Server

SETTINGS = config.Tracking(experiment="toy")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    try:
        yield made
    finally:
        made.kill()


def stage(name: str, server: Server, *, killed_after: int | None) -> None:
    """Record five things, the server being killed after some of them."""
    Path("out.txt").write_text(name)
    with tracking.stage_run(SETTINGS, name, run="x", modality="ecg", data_hash="h") as run:
        steps = [
            lambda: run.params({"lr": 0.1, "deep": {"er": 1}}),
            lambda: run.metrics({"pretrain/train/loss": 2.0}, 1),
            lambda: run.parent.metrics({"probe/test/headline": 0.9}),
            lambda: run.artifact("out.txt", "files"),
            lambda: run.metrics({"pretrain/train/loss": 1.0}, 2),
        ]
        for number, step in enumerate(steps):
            if number == killed_after:
                server.kill()
            step()


def seen(client: Any) -> list[Any]:
    """Return what a store knows of the runs of the experiment, without ids and times."""
    at = client.get_experiment_by_name("toy").experiment_id
    runs = client.search_runs([at], order_by=["tags.stage", "attributes.start_time"])
    names = {run.info.run_id: run.info.run_name for run in runs}
    return [
        (
            run.info.run_name,
            run.info.status,
            names.get(run.data.tags.get("mlflow.parentRunId")),
            run.data.params,
            [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "pretrain/train/loss")],
            run.data.metrics.get("probe/test/headline"),
            [f.path for f in client.list_artifacts(run.info.run_id, "files")],
        )
        for run in runs
    ]


@pytest.mark.slow
def test_a_server_that_dies_and_comes_back(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mlflow import MlflowClient

    server.start()
    stage("pretrain@x", server, killed_after=None)
    client = MlflowClient(server.uri)
    stage("probe@x", server, killed_after=2)
    stage("results@x", server, killed_after=None)  # begins without a server
    said = capsys.readouterr().err
    assert said.count("MLflow does not answer") == 2
    assert "medssl track --resync" in said
    assert len(list(Path(record.KEPT).iterdir())) == 2
    with pytest.raises(tracking.TrackingError, match=r"^MLflow: "):
        tracking.resync(Path.cwd())
    assert len(list(Path(record.KEPT).iterdir())) == 2

    Path("out.txt").unlink()  # a later stage may have changed it
    server.start()
    lines = tracking.resync(Path.cwd())
    assert [line.split(":")[0] for line in lines] == ["probe@x", "results@x"]
    assert not list(Path(record.KEPT).iterdir())
    found = seen(client)
    one = {row[0]: row for row in found}
    assert one["probe@x"][1:] == one["results@x"][1:] == one["pretrain@x"][1:]
    assert [row[0] for row in found].count("x") == 1  # outside DVC all three are of one execution
    assert tracking.resync(Path.cwd()) == [f"nothing is kept in {Path.cwd() / record.KEPT}"]


def test_what_is_wrong_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the store does not take fails now: it would fail later too."""
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)

    def change() -> None:
        with tracking.stage_run(SETTINGS, "pretrain@x", run="x") as run:
            run.params({"lr": 1})
            run.params({"lr": 2})

    with pytest.raises(MlflowException):
        change()
    assert not (tmp_path / record.KEPT).exists()


def test_a_stage_that_runs_or_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    log = record.Log(
        {"name": "probe@x", "experiment": "toy", "begin": 5, "parent": None, "tags": {"stage": "probe@x"}}, tmp_path
    )
    record.StageRun(log).metrics({"a": 1.0})
    (folder,) = (tmp_path / record.KEPT).iterdir()
    client = tracking.client_of(uri)
    assert later.send(client, uri, tmp_path) == ["probe@x: still running; left for later"]
    head = json.loads((folder / record.HEAD).read_text())
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    (folder / record.HEAD).write_text(json.dumps(head | {"process": int(gone.stdout)}))
    with (folder / record.ENTRIES).open("a") as out:
        out.write('{"do": "metr')  # killed within a line
    assert later.send(client, uri, tmp_path) == ["probe@x: 3 entries sent"]
    at = client.get_experiment_by_name("toy").experiment_id
    (run,) = client.search_runs([at])
    assert (run.info.status, run.data.metrics) == ("KILLED", {"a": 1.0})
