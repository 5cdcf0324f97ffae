"""Runs in MLflow: their end, tags, parameters, metrics and artifacts, on a database of the test's own."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from medssl import config, tracking
from medssl.tracking import entries, places


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


def test_two_stages_that_begin_at_once_make_one_store(tmp_path: Path) -> None:
    """Without waiting for each other both migrate the tables, and one of them fails each time."""
    (tmp_path / "params.yaml").touch()
    (tmp_path / "dvc.yaml").touch()
    code = (
        "import sys; from medssl import config, tracking\n"
        "with tracking.stage_run(config.Tracking(), sys.argv[1], modality='ecg') as run: print(bool(run.run_id))"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI", "DVC_STAGE")}
    environment["PYTHONPATH"] = str(Path(tracking.__file__).parents[2])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, name], cwd=tmp_path, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name in ("split@ecg", "split@ppg")
    ]  # fmt: skip
    for one in both:
        out, err = one.communicate(timeout=300)
        assert (one.returncode, out) == (0, "True\n"), err


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
    assert set(tags) - {"environment", "dvc_lock"} == {"stage", "run", "modality", "data_hash", "git_commit", "extra"}
    assert (tags["stage"], tags["run"], tags["modality"], tags["data_hash"]) == ("probe@x", "x", "ecg", "h")
    params = got.data.params
    assert params["pretrain.batch.patients"] == "4"
    assert params["pretrain.lr"] == "0.1"
    assert params["seed"] == "3"
    assert len(params["long"]) == entries.MAX_PARAM
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


MINE, OTHER = config.Tracking(), config.Tracking(experiment="second")


def logged(settings: config.Tracking, folder: Path, text: str) -> str:
    """Open a run in the project of the working directory that keeps an encoder, and return its id."""
    (folder / "encoder").mkdir(exist_ok=True)
    (folder / "encoder" / "weights").write_text(text)
    with tracking.stage_run(settings, "pretrain@x") as run:
        run.artifact(folder / "encoder", "encoder")
    return run.run_id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A project with two experiments, MLflow's default one, one of the user's own place, and registered encoders."""
    from mlflow import MlflowClient

    home = tmp_path_factory.mktemp("first") / "mein prøjekt"
    home.mkdir()
    (home / "dvc.yaml").touch()
    shutil.copyfile(Path(__file__).parents[2] / "params.yaml", home / "params.yaml")
    before = Path.cwd()
    os.chdir(home)
    try:
        ids = {"mine": logged(MINE, home, "mine"), "second": logged(OTHER, home, "second")}
        client = MlflowClient(f"sqlite:///{home}/mlflow.db")
        elsewhere = client.create_experiment("shared", artifact_location=str(home.parent / "shared" / "mlartifacts"))
        for name, experiment in (("default", "0"), ("shared", elsewhere)):
            ids[name] = client.create_run(experiment).info.run_id
            client.log_text(ids[name], name, "note.txt")
        client.create_registered_model("medssl-x")
        client.create_model_version("medssl-x", source=f"runs:/{ids['mine']}/encoder", run_id=ids["mine"])
        whole = client.get_run(ids["second"]).info.artifact_uri
        client.create_model_version("medssl-x", source=f"{whole}/encoder", run_id=ids["second"])
        client.set_registered_model_alias("medssl-x", "champion", "2")
        mine = client.get_experiment_by_name("medssl").experiment_id
        client.create_logged_model(experiment_id=mine, name="a")
    finally:
        os.chdir(before)
    return home, ids


@pytest.fixture
def start(made: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a copy of the made project where a test wants it, as if it had been made there, and go into it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_STAGE", raising=False)

    def put(where: Path, *, move: bool) -> Path:
        origin = tmp_path / "origin"
        shutil.copytree(made[0], origin)
        with closing(sqlite3.connect(origin / "mlflow.db")) as database, database:
            for table, column, rows in places._PLACES:
                for old, new in ((made[0].as_uri(), origin.as_uri()), (str(made[0]), str(origin))):
                    database.execute(f"update {table} set {column} = replace({column}, ?, ?) where {rows}", (old, new))
        (shutil.move if move else shutil.copytree)(origin, where)
        monkeypatch.chdir(where)
        return where

    return put


def noted(home: Path) -> set[str]:
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        found = {
            str(place)
            for table, column, rows in places._PLACES
            for (place,) in database.execute(f"select {column} from {table} where {rows}")
        }
    return found


def content(home: Path) -> dict[str, bytes]:
    return {str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", ["plain", "zwei wörter/日本 1"])
def test_a_moved_project_finds_and_keeps_its_files(name: str, made: Any, start: Any, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    home, ids = start(tmp_path / name, move=True), made[1]
    for run in ("mine", "second"):
        assert (tracking.download(f"runs:/{ids[run]}/encoder") / "weights").read_text() == run
    assert tracking.download(f"runs:/{ids['default']}/note.txt").read_text() == "default"
    assert (tracking.download("models:/medssl-x/1") / "weights").read_text() == "mine"
    assert (tracking.download("models:/medssl-x@champion") / "weights").read_text() == "second"
    assert not [place for place in noted(home) if "origin" in place]
    for settings in (MINE, OTHER):
        fresh = logged(settings, tmp_path, "fresh")
        assert (home / "mlartifacts" / fresh / "artifacts" / "encoder" / "weights").read_text() == "fresh"
        assert (tracking.download(f"runs:/{fresh}/encoder") / "weights").read_text() == "fresh"
    assert not (tmp_path / "origin").exists()
    # The user's own place is that of before, although its folder is named like ours.
    assert str(made[0].parent / "shared" / "mlartifacts") in noted(home)
    assert tracking.download(f"runs:/{ids['shared']}/note.txt").read_text() == "shared"


def test_a_copy_writes_into_itself_and_leaves_the_original(made: Any, start: Any, tmp_path: Path) -> None:
    home = start(tmp_path / "copy", move=False)
    before = content(tmp_path / "origin")
    fresh = logged(MINE, tmp_path, "fresh")
    assert (home / "mlartifacts" / fresh / "artifacts" / "encoder" / "weights").read_text() == "fresh"
    assert (tracking.download(f"runs:/{made[1]['mine']}/encoder") / "weights").read_text() == "mine"
    assert content(tmp_path / "origin") == before
    assert not [place for place in noted(home) if "origin" in place]


def test_files_that_did_not_come_along_are_found_where_they_are(made: Any, start: Any, tmp_path: Path) -> None:
    home = start(tmp_path / "copy", move=False)
    shutil.rmtree(home / "mlartifacts")
    before = content(tmp_path / "origin")
    assert (tracking.download(f"runs:/{made[1]['mine']}/encoder") / "weights").read_text() == "mine"
    assert (tracking.download("models:/medssl-x@champion") / "weights").read_text() == "second"
    fresh = logged(OTHER, tmp_path, "fresh")
    assert [p.name for p in (home / "mlartifacts").iterdir()] == [fresh]
    assert content(tmp_path / "origin") == before


def test_a_project_moved_twice_and_into_its_own_folder(made: Any, start: Any, tmp_path: Path) -> None:
    home = start(tmp_path / "z", move=True)
    logged(MINE, tmp_path, "between")
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:  # one experiment was not used in between
        old = (tmp_path / "origin" / "mlartifacts").as_uri()
        database.execute("update experiments set artifact_location = ? where name = 'second'", (old,))
        database.execute("update logged_models set artifact_location = ?", (f"{old}/models/empty",))
    os.chdir(tmp_path)
    shutil.move(home, tmp_path / "b")
    (tmp_path / "z").mkdir()
    deep = Path(shutil.move(tmp_path / "b", tmp_path / "z" / "b"))
    os.chdir(deep)
    for run in ("mine", "second"):
        assert (tracking.download(f"runs:/{made[1][run]}/encoder") / "weights").read_text() == run
    found = noted(deep)
    assert {(deep / "mlartifacts").as_uri(), (deep / "mlartifacts" / "models" / "empty").as_uri()} <= found
    assert not [p for p in found if "/z/b/b/" in p or "origin" in p or "/z/ml" in p]


def test_a_store_where_it_was_made_is_only_read(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = (made[0] / "mlflow.db").read_bytes(), noted(made[0])
    assert tracking.store_uri(MINE, made[0]) == f"sqlite:///{made[0]}/mlflow.db"
    assert ((made[0] / "mlflow.db").read_bytes(), noted(made[0])) == before
    for uri in ("http://127.0.0.1:1", "sqlite:////nowhere/mlflow.db"):  # a server's places are its own
        assert tracking.store_uri(config.Tracking(uri=uri), made[0]) == uri


def test_a_database_named_by_the_user_has_its_files_beside_it(start: Any, tmp_path: Path) -> None:
    start(tmp_path / "copy", move=True)
    fresh = logged(config.Tracking(uri="sqlite:///own.db"), tmp_path, "own")  # below the working directory
    assert (tmp_path / "copy" / "mlartifacts" / fresh / "artifacts" / "encoder").is_dir()


def test_half_a_repair_is_none(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = start(tmp_path / "moved", move=True)
    before = noted(home)
    monkeypatch.setattr(places, "_PLACES", (*places._PLACES[:2], ("runs", "no_such_column", "1")))
    with pytest.raises(tracking.TrackingError, match=r"mlflow\.db: moved here from .*origin, .*no such column"):
        tracking.store_uri(MINE, home)
    monkeypatch.undo()
    assert noted(home) == before


def test_a_moved_database_that_cannot_be_written_is_one_line(made: Any) -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        home = folder / "moved"
        shutil.copytree(made[0], home)
        # The original is gone, as far as this database knows.
        with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
            database.execute(
                "update experiments set artifact_location = ? where name = 'medssl'", ("file:///gone/mlartifacts",)
            )
        for path in (folder, home, *home.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        root = os.geteuid() == 0
        if root:  # who may always write
            os.seteuid(65534)
        try:
            with pytest.raises(tracking.TrackingError) as caught:
                tracking.store_uri(MINE, home)
        finally:
            if root:
                os.seteuid(0)
        line = str(caught.value)
        assert line.startswith(f"{home}/mlflow.db: moved here from /gone, ")
        assert "readonly" in line
        assert "make it and its folder writable" in line
        assert "\n" not in line
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)
