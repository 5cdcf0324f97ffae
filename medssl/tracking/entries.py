"""What a stage records, as plain mappings: sent to MLflow at once, or kept in a file until it answers again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# MLflow allows letters, digits and these; labels of users hold anything.
_NAME = re.compile(r"[^\w\-./: ]", re.ASCII)
MAX_PARAM = 6000  # MLflow cuts longer values without a word
# MLflow's words for a store that does not answer. Others, such as of a value it does not take, would be said later too.
_SILENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}

Entry = dict[str, Any]


def now() -> int:
    """Return milliseconds since 1970, MLflow's clock."""
    from mlflow.utils.time import get_current_time_millis

    return int(get_current_time_millis())


def params(values: Mapping[str, Any]) -> Entry:
    """Return a nested mapping as flat ``a.b.c`` parameters."""
    return {"do": "params", "values": {k: str(v)[:MAX_PARAM] for k, v in _flatten(values).items()}}


def metrics(values: Mapping[str, float], step: int) -> Entry:
    """Return numbers at a step, without NaN."""
    finite = {_NAME.sub("_", k): float(v) for k, v in values.items() if v == v}
    return {"do": "metrics", "values": finite, "step": step, "at": now()}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in values.items():
        out |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def send(client: Any, run_id: str, entry: Entry, files: Path | None = None) -> None:
    """Record an entry in a run; once more does no harm.

    Args:
        client: ``MlflowClient``.
        run_id: of the run.
        entry: made here.
        files: folder that its ``path`` is relative to.
    """
    globals()[f"_{entry['do']}"](client, run_id, entry, files)


def _params(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    from mlflow.entities import Param

    flat = [Param(k, v) for k, v in entry["values"].items()]
    for start in range(0, len(flat), 100):
        client.log_batch(run_id, params=flat[start : start + 100])


def _metrics(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    from mlflow.entities import Metric

    batch = [Metric(k, v, entry["at"], entry["step"]) for k, v in entry["values"].items()]
    for start in range(0, len(batch), 500):
        client.log_batch(run_id, metrics=batch[start : start + 500])


def _tag(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    client.set_tag(run_id, entry["key"], entry["value"])


def _document(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    client.log_dict(run_id, entry["content"], entry["name"])


def _artifact(client: Any, run_id: str, entry: Entry, files: Path | None) -> None:
    path = Path(entry["path"]) if files is None else files / entry["path"]
    log = client.log_artifacts if path.is_dir() else client.log_artifact
    log(run_id, str(path), entry["folder"])


def _dataset(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile, source = (json.dumps(entry[key], sort_keys=True) for key in ("profile", "source"))
    # MLflow takes digests of 36 characters at most.
    one = Dataset(entry["name"], entry["digest"][:36], source_type="medssl", source=source, profile=profile)
    client.log_inputs(run_id, [DatasetInput(one, tags=[InputTag("mlflow.data.context", entry["context"])])])


def _end(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    client.set_terminated(run_id, entry["status"], entry["at"])


def _settle(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    """End a run whose stage ended; one of whose stages failed has failed, whatever comes after."""
    at = client.get_run(run_id).info.experiment_id
    asked = f"tags.`mlflow.parentRunId` = '{run_id}' and attributes.status = 'FAILED'"
    failed = entry["status"] == "FAILED" or client.search_runs([at], asked, max_results=1)
    client.set_terminated(run_id, "FAILED" if failed else "FINISHED", entry["at"])


def _register(client: Any, run_id: str, entry: Entry, _: Path | None) -> None:
    from medssl.tracking import registry

    about = {key: entry[key] for key in ("name", "weights", "score", "same")}
    client.set_tag(run_id, "registered", f"{entry['name']} {registry.register(client, run_id, **about)}")


def silent(error: Exception) -> bool:
    """Say whether an error of MLflow is that its store does not answer, now."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return error.error_code in _SILENT
    return isinstance(error, OSError)  # `requests` too raises these
