"""Two pipelines at once on a server with PostgreSQL: all runs, numbers and files of both are there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tracking.servers import Postgres, Server, postgres

STAGES, STEPS = 6, 20
PIPELINE = f"""
import sys
from pathlib import Path
from medssl import config, tracking

name, settings = sys.argv[1], config.Tracking(uri=sys.argv[2], experiment="shared")
Path("out.txt").write_text(name)
for number in range({STAGES}):
    with tracking.stage_run(settings, f"stage-{{number}}@{{name}}", run=name, modality="ecg") as run:
        run.parent.params({{"recipe": "simclr"}})
        for step in range({STEPS}):
            run.metrics({{f"pretrain/train/{{key}}": step / 7 for key in "abcdef"}}, step)
        run.artifact("out.txt")
        run.tag("weights", name)
        score = {{"mean": 0.8, "lo": {{"one": 0.6, "two": 0.7}}[name], "hi": 0.9}}
        run.register("medssl-ecg", name, score=score, same={{"label": "x"}})
"""


@pytest.fixture
def server(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if postgres() is None:
        pytest.skip("PostgreSQL is not installed")
    # Sockets have short names, and another user must come in.
    database = Postgres(Path("/tmp") / f"medssl-{tmp_path_factory.getbasetemp().name}-{tmp_path.name}"[:60])
    database.start()
    made = Server(tmp_path, database.uri.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        made.start()
        yield made
    finally:
        made.kill()
        database.stop()
        shutil.rmtree(database.folder, ignore_errors=True)


@pytest.mark.slow
def test_two_pipelines_at_once_lose_nothing(server: Server, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    names = ("one", "two")
    running = []
    for name in names:
        (tmp_path / name).mkdir()
        words = [sys.executable, "-c", PIPELINE, name, server.uri]
        running.append(subprocess.Popen(words, cwd=tmp_path / name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    for one in running:
        said = one.communicate(timeout=600)[0].decode()
        assert one.returncode == 0, said
        assert "locked" not in said
        assert "does not answer" not in said
    client = MlflowClient(server.uri)
    at = client.get_experiment_by_name("shared").experiment_id
    for name in names:
        stages = client.search_runs([at], f"tags.run = '{name}' and tags.stage like 'stage-%'")
        assert len(stages) == STAGES
        (parent,) = client.search_runs([at], f"tags.run = '{name}' and tags.kind = 'run'")
        assert {run.data.tags["mlflow.parentRunId"] for run in stages} == {parent.info.run_id}
        assert {run.info.status for run in (*stages, parent)} == {"FINISHED"}
        for run in stages:
            for key in "abcdef":
                history = client.get_metric_history(run.info.run_id, f"pretrain/train/{key}")
                assert [(m.step, m.value) for m in history] == [(step, step / 7) for step in range(STEPS)]
            assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["out.txt"]
    versions = client.search_model_versions("name = 'medssl-ecg'")
    assert sorted(version.tags["weights"] for version in versions) == sorted(names)
    best = {"one": 0.6, "two": 0.7}
    champion = client.get_model_version_by_alias("medssl-ecg", "champion")
    assert champion.tags["weights"] == max(best, key=lambda name: best[name])
