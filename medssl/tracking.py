"""Runs in MLflow: the only module that imports it.

One MLflow run per execution of a DVC stage, tagged with the stage, the medssl run it belongs to, the data hash and
the git commit. MLflow is the place to compare, DVC the place to rebuild.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from medssl import config, project

# MLflow allows letters, digits and these; labels of users hold anything.
_NAME = re.compile(r"[^\w\-./: ]", re.ASCII)
MAX_PARAM = 6000  # MLflow cuts longer values without a word


class StageRun:
    """An open MLflow run of one stage execution."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self.run_id = client, run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """Log a nested mapping as flat ``a.b.c`` parameters, once."""
        from mlflow.entities import Param

        flat = [Param(k, str(v)[:MAX_PARAM]) for k, v in _flatten(values).items()]
        for start in range(0, len(flat), 100):
            self._client.log_batch(self.run_id, params=flat[start : start + 100])

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Log numbers named ``part/name`` at a step; NaN is left out."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        batch = [Metric(_NAME.sub("_", k), float(v), now, step) for k, v in values.items() if v == v]
        for start in range(0, len(batch), 500):
            self._client.log_batch(self.run_id, metrics=batch[start : start + 500])

    def tag(self, key: str, value: str) -> None:
        """Set a tag."""
        self._client.set_tag(self.run_id, key, value)

    def document(self, name: str, content: Mapping[str, Any]) -> None:
        """Store a mapping as a JSON file."""
        self._client.log_dict(self.run_id, dict(content), name)

    def artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Store a file, or a folder with all its files, under ``folder`` of the run."""
        log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        log(self.run_id, str(path), folder)


class NoRun(StageRun):
    """A run that records nothing: of trainings beside the one that is tracked, and of processes beside the first."""

    def __init__(self) -> None:
        super().__init__(None, "")

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Do nothing."""


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def git_commit(folder: Path) -> str:
    """Return the commit of the project, with ``-dirty`` where tracked files differ, or ``unknown`` outside git.

    ``dvc.lock`` does not count: DVC rewrites it after every stage.
    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "-uno", "--", ".", ":!dvc.lock")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


class TrackingError(ValueError):
    """A tracking store that cannot be used or has no such run."""


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn MLflow's errors into one line, without the address they quote."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"MLflow: {project.shown_uri(str(error)).splitlines()[0][:300]}") from None


# Where MLflow's tables hold places of files: table, column, and which rows.
_PLACES = (
    ("experiments", "artifact_location", "1"),
    ("runs", "artifact_uri", "1"),
    ("logged_models", "artifact_location", "1"),
    ("model_versions", "source", "1"),
    ("model_versions", "storage_location", "1"),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
)
_FILES = "mlartifacts"  # beside the database
# The UI opens an experiment of this kind on its runs, others on traces of language models.
_KIND = {"mlflow.experimentKind": "custom_model_development"}


def store_uri(tracking: config.Tracking, folder: Path) -> str:
    """Return the tracking URI of the project in ``folder``, with the places in an SQLite store mended.

    MLflow writes down where files are as whole paths. Where the folder of the database was moved or copied since, the
    places that lay beside it are those beside it now, in the database too; so a copy writes into itself and not into
    the original. Places elsewhere stay, and so do files that did not come along.

    Raises:
        TrackingError: the database was moved and cannot be written.
    """
    uri = project.tracking_uri(tracking, folder)
    database = _database(uri)
    if database is not None and database.is_file():
        former: set[Path] = set()
        try:
            with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
                former = _former_homes(connection, database.resolve())
                if former:
                    connection.execute("begin immediate")
                    for home in sorted(former):
                        _mend(connection, home, database.resolve().parent)
                    connection.execute("commit")
        except sqlite3.Error as error:
            if former:
                raise TrackingError(
                    f"{database}: moved here from {', '.join(map(str, sorted(former)))}, and the new places of "
                    f"its files cannot be noted in it ({error}); make it and its folder writable, close what uses it"
                ) from None
            # No table yet, or no database: MLflow makes the one and tells the other.
    return uri


def _database(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _path(location: str) -> Path:
    """Return the local path of an address, as it is written or as a ``file:`` URI."""
    return Path(unquote(location.removeprefix("file://")) if location.startswith("file:") else location)


def _former_homes(connection: sqlite3.Connection, database: Path) -> set[Path]:
    """Return the folders, other than its own, in which the database lay when our experiments were made.

    Such an experiment has its files in a folder of our name. Either files of its runs are beside the database now, or
    it is marked as ours and nobody made that folder by hand: it is gone, or the database it came from is beside it.
    """
    here = database.parent / _FILES
    homes = set()
    known = "select experiment_id from experiment_tags where key = ? and value = ?"
    marked = {row[0] for row in connection.execute(known, *_KIND.items())}
    for name, location in connection.execute("select experiment_id, artifact_location from experiments").fetchall():
        there = _path(location or "")
        if there.name != _FILES or not there.is_absolute() or there.parent.resolve() == here.parent:
            continue
        runs = connection.execute("select run_uuid from runs where experiment_id = ?", (name,))
        came = any((here / run).is_dir() for (run,) in runs)
        if came or (name in marked and (not there.is_dir() or (there.parent / database.name).is_file())):
            homes.add(there.parent)
    return homes


def _mend(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    """Write down places below one folder as those below another."""
    forms = [(f"{old.as_uri()}/", f"{new.as_uri()}/"), (f"file://{old}/", f"{new.as_uri()}/"), (f"{old}/", f"{new}/")]
    tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
    for table, column, rows in _PLACES:
        if table not in tables:
            continue
        for (place,) in connection.execute(f"select distinct {column} from {table} where {rows}").fetchall():
            prefix, other = next((f for f in forms if (place or "").startswith(f[0])), ("", ""))
            if not prefix or place.startswith((forms[0][1], forms[2][1])):  # a new home may lie within the old one
                continue
            moved = other + place.removeprefix(prefix)
            ours = table == "experiments" and _path(place) == old / _FILES
            # What lies only there did not come along: it is found where it is.
            if ours or _path(moved).exists() or not _path(place).exists():
                connection.execute(f"update {table} set {column} = ? where {column} = ? and {rows}", (moved, place))


def _client(tracking: config.Tracking) -> Any:
    import logging

    # The migration of a fresh database tells each of its steps at INFO.
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(store_uri(tracking, project.root()))


def _experiment(client: Any, tracking: config.Tracking) -> str:
    """Return the experiment's id; local artifacts go to a folder beside the database."""
    from mlflow.exceptions import MlflowException

    if client.get_experiment_by_name(tracking.experiment) is None:
        database = _database(project.tracking_uri(tracking, project.root()))
        location = (database.resolve().parent / _FILES).as_uri() if database else None
        with suppress(MlflowException):  # another process made it in this moment
            client.create_experiment(tracking.experiment, artifact_location=location, tags=_KIND)
    return str(client.get_experiment_by_name(tracking.experiment).experiment_id)


@contextmanager
def stage_run(
    tracking: config.Tracking, stage: str, *, run: str = "", modality: str = "", data_hash: str = ""
) -> Iterator[StageRun]:
    """Open one MLflow run for a stage execution; it ends FINISHED or, on an error, FAILED.

    Args:
        stage: name of the stage, such as ``pretrain@ecg-comet``; DVC's own name wins where there is one.
        run: name in ``runs``, to group the stages of a medssl run.
        modality: name in ``modalities``.
        data_hash: content hash of the store it read.
    """
    name, commit = project.stage() or stage, git_commit(project.root())
    tags = {"stage": name, "run": run, "modality": modality, "data_hash": data_hash, "git_commit": commit}
    tags = {key: value for key, value in tags.items() if value}
    with _one_line():
        client = _client(tracking)
        created = client.create_run(_experiment(client, tracking), tags=tags, run_name=name)
    handle = StageRun(client, created.info.run_id)
    try:
        yield handle
    except BaseException:
        client.set_terminated(handle.run_id, "FAILED")
        raise
    client.set_terminated(handle.run_id, "FINISHED")


def download(reference: str) -> Path:
    """Return a local folder with the artifacts of ``runs:/ID/encoder`` or ``models:/NAME@alias``."""
    import mlflow

    root = project.root()
    params = root / "params.yaml"
    uri = store_uri(config.load(params).tracking if params.is_file() else config.Tracking(), root)
    database = _database(uri)
    if database is not None and not database.is_file():
        fix = "work in the project's folder, or set MLFLOW_TRACKING_URI"
        raise TrackingError(f"{reference}: no runs here, {database} is not there; {fix}")
    try:
        with _one_line():
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=reference, tracking_uri=uri))
    except TrackingError as error:
        raise TrackingError(f"{error}; an encoder is in the run of its pretrain stage (`make ui` lists them)") from None
