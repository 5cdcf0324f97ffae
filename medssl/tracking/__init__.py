"""Runs in MLflow: the only package that imports it.

One MLflow run per execution of a DVC stage, below a parent for the medssl run or the cohort as a whole, which has what
a reader compares: parameters, headline with interval, and how to rebuild it (`medssl.tracking.tree`). MLflow is the
place to compare, DVC the place to rebuild.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medssl import config, project
from medssl.tracking import entries, tree
from medssl.tracking.places import TrackingError, database_of, first, store_uri
from medssl.tracking.record import Log, NoRun, StageRun

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NoRun",
    "StageRun",
    "TrackingError",
    "download",
    "git_commit",
    "link",
    "resync",
    "runs",
    "stage_run",
    "store_uri",
]

PATIENCE = 3  # requests to a server that does not answer, some seconds each, before a stage goes on without it


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


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn MLflow's errors into one line, without the address they quote."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise TrackingError(f"MLflow: {project.shown_uri(str(error)).splitlines()[0][:300]}") from None


def client_of(uri: str) -> Any:
    """Return a client of a tracking store that gives a silent server up after seconds, not minutes."""
    import logging

    # The migration of a fresh database tells each of its steps at INFO, and so do versions and monitors their begin.
    for noisy in ("alembic", "mlflow.store", "mlflow.system_metrics"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES as RETRIES

    if not RETRIES.is_set():
        RETRIES.set(PATIENCE)
    return MlflowClient(uri)


def _records(root: Path) -> dict[str, str]:
    """Return what rebuilds a result: commit, environment and DVC's records, the files by their hashes."""
    files = {"environment": root / "requirements.lock", "dvc_lock": root / "dvc.lock"}
    there = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    hashes = {name: hashlib.blake2b(content, digest_size=8).hexdigest() for name, content in there.items()}
    return {"git_commit": git_commit(root), **hashes}


@contextmanager
def stage_run(
    tracking: config.Tracking,
    stage: str,
    *,
    run: str = "",
    modality: str = "",
    data_hash: str = "",
    tags: Mapping[str, str] | None = None,
    below: StageRun | None = None,
    alone: bool = False,
) -> Iterator[StageRun]:
    """Open one MLflow run for a stage execution; it ends FINISHED or, on an error, FAILED.

    Where a server does not answer, before or in between, the stage goes on (`medssl.tracking.record`).

    Args:
        tracking: where runs are recorded.
        stage: name of the stage, such as ``pretrain@ecg-comet``; DVC's own name wins where there is one.
        run: name in ``runs``, to group the stages of a medssl run.
        modality: name in ``modalities``.
        data_hash: content hash of the store it read.
        tags: further tags of it and of the run above.
        below: the run above, such as that of a search; None: the one of the medssl run or cohort.
        alone: stands below nothing.

    Raises:
        TrackingError: a store that cannot be used, such as a database of a newer version.
    """
    root = project.root()
    records, known = _records(root), {"run": run, "modality": modality}
    name = (project.stage() or stage) if below is None else stage
    given = {"stage": name, **known, "data_hash": data_hash, **records, **(tags or {})}
    about: dict[str, Any] = {
        "name": name,
        "experiment": tracking.experiment,
        "begin": entries.now(),
        "tags": {key: value for key, value in given.items() if value},
        "parent": None if alone or not (run or modality) else tree.parent(run, modality, records),
    }
    if below is not None:
        about["parent"] = tree.given(below.run_id, below.name)
    uri = store_uri(tracking, root)
    log = Log(about, root)
    try:
        with first(uri, root):
            client = client_of(uri)
            experiment = tree.experiment(client, tracking.experiment, uri)
        log.open(client, tree.opened(client, experiment, about))
    except Exception as error:
        # A database of one's own that does not answer is a mistake to be mended before anything is computed.
        if database_of(uri) is not None or not entries.silent(error):
            with _one_line():
                raise
        log.lose(error)
    status = "FAILED"
    try:
        yield StageRun(log)
        status = "FINISHED"
    finally:
        log.write({"do": "end", "status": status, "at": entries.now()})
        log.write({"do": "settle", "status": status, "at": entries.now()}, "parent")


def download(reference: str) -> Path:
    """Return a local folder with the artifacts of ``runs:/ID/encoder`` or ``models:/NAME@alias``."""
    import mlflow

    root = project.root()
    uri = store_uri(_settings(root), root)
    database = database_of(uri)
    if database is not None and not database.is_file():
        fix = "work in the project's folder, or set MLFLOW_TRACKING_URI"
        raise TrackingError(f"{reference}: no runs here, {database} is not there; {fix}")
    try:
        with _one_line():
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=reference, tracking_uri=uri))
    except TrackingError as error:
        raise TrackingError(f"{error}; an encoder is in the run of its pretrain stage (`make ui` lists them)") from None


def _settings(root: Path) -> config.Tracking:
    params = root / "params.yaml"
    return config.load(params).tracking if params.is_file() else config.Tracking()


def resync(root: Path) -> list[str]:
    """Send what stages could not (`medssl.tracking.later`), and return in lines what was sent and what was left.

    Args:
        root: folder of the project.

    Raises:
        TrackingError: MLflow still does not answer, or does not take an entry.
    """
    from medssl.tracking import later

    uri = store_uri(_settings(root), root)
    try:
        with _one_line():
            return later.send(client_of(uri), uri, root)
    except OSError as error:
        raise TrackingError(f"MLflow: {project.shown_uri(' '.join(str(error).split()))[:300]}") from None


def runs(root: Path) -> pd.DataFrame:
    """Return one row for each medssl run and execution of the pipeline, the newest first (`later.COLUMNS`).

    Raises:
        TrackingError: a store that cannot be used.
    """
    from medssl.tracking import later

    settings = _settings(root)
    with _one_line():
        return later.table(client_of(store_uri(settings, root)), settings.experiment)


def link(root: Path) -> str:
    """Return where MLflow's UI shows the runs as a table to compare, behind the address of the server.

    Raises:
        TrackingError: a store that cannot be used.
    """
    from medssl.tracking import view

    settings = _settings(root)
    with _one_line():
        return view.link(client_of(store_uri(settings, root)), settings.experiment)
