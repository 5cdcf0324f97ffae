"""Runs in MLflow: the only module that imports it.

One MLflow run per execution of a DVC stage, tagged with the stage, the medssl run it belongs to, the data hash and
the git commit. MLflow is the place to compare, DVC the place to rebuild.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        path = Path(path)
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder)
        else:
            self._client.log_artifact(self.run_id, str(path), folder)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            out |= _flatten(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
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


def _client(tracking: config.Tracking) -> Any:
    import logging

    # The migration of a fresh database tells each of its steps at INFO.
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(project.tracking_uri(tracking, project.root()))


def _experiment(client: Any, tracking: config.Tracking) -> str:
    """Return the experiment's id; local artifacts go to a folder beside the database."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(tracking.experiment)
    if found is not None:
        return str(found.experiment_id)
    uri = project.tracking_uri(tracking, project.root())
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
    try:
        # The UI opens an experiment of this kind on its runs, others on traces of language models.
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(tracking.experiment, artifact_location=location, tags=kind))
    except MlflowException:  # another process made it in this moment
        return str(client.get_experiment_by_name(tracking.experiment).experiment_id)


@contextmanager
def stage_run(
    tracking: config.Tracking, stage: str, *, run: str = "", modality: str = "", data_hash: str = ""
) -> Iterator[StageRun]:
    """Open one MLflow run for a stage execution; it ends FINISHED or, on an error, FAILED.

    Args:
        tracking: section of params.yaml.
        stage: name of the stage, such as ``pretrain@ecg-comet``; DVC's own name wins where there is one.
        run: name in ``runs``, to group the stages of a medssl run.
        modality: name in ``modalities``.
        data_hash: content hash of the store it read.
    """
    client = _client(tracking)
    tags = {
        "stage": project.stage() or stage,
        "run": run,
        "modality": modality,
        "data_hash": data_hash,
        "git_commit": git_commit(project.root()),
    }
    with _one_line():
        created = client.create_run(
            _experiment(client, tracking), tags={k: v for k, v in tags.items() if v}, run_name=project.stage() or stage
        )
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
    uri = project.tracking_uri(config.load(params).tracking if params.is_file() else config.Tracking(), root)
    with _one_line():
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=reference, tracking_uri=uri))
