"""Send what was kept while MLflow did not answer, and list the runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from medssl.tracking import entries, tree
from medssl.tracking.record import ENTRIES, FILES, HEAD, KEPT

COLUMNS = ("name", "modality", "recipe", "status", "label", "metric", "mean", "lo", "hi", "when", "run_id")


def send(client: Any, uri: str, root: Path) -> list[str]:
    """Send all that is kept below a project, oldest first, and return in lines what was sent and what was left.

    What a running stage keeps is left to a later call. What was killed ends as KILLED. A run that was sent
    in part before is sent once more, which changes nothing.

    Raises:
        OSError, MlflowException: the store does not answer; what was sent so far is not kept any more.
    """
    said = []
    for folder in sorted((root / KEPT).glob("*")):
        head = json.loads((folder / HEAD).read_text())
        kept = _entries(folder / ENTRIES)
        if not any(entry["do"] == "end" for entry in kept):
            if psutil.pid_exists(head["process"]):
                said.append(f"{head['name']}: still running; left for later")
                continue
            ends = {"status": "KILLED", "at": head["begin"]}
            kept += [{"do": "end", "to": "run", **ends}, {"do": "settle", "to": "parent", **ends}]
        if not head["ids"]:
            at = tree.experiment(client, head["experiment"], uri)
            head["ids"] = tree.opened(client, at, head)
            (folder / HEAD).write_text(json.dumps(head, indent=1) + "\n")
        for entry in kept:
            if (run_id := head["ids"].get(entry["to"])) is not None:
                entries.send(client, run_id, entry, folder / FILES)
        shutil.rmtree(folder)
        said.append(f"{head['name']}: {len(kept)} entries sent")
    return said or [f"nothing is kept in {root / KEPT}"]


def _entries(path: Path) -> list[entries.Entry]:
    """Return what is kept in a file, without a last line that a killed stage did not write out."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def table(client: Any, experiment: str, *, limit: int = 5000) -> pd.DataFrame:
    """Return one row for each medssl run and execution, the newest first, with `COLUMNS`."""
    found = client.get_experiment_by_name(experiment)
    rows: list[dict[str, Any]] = []
    token = None
    while found is not None and len(rows) < limit:
        page = client.search_runs(
            [found.experiment_id], "tags.kind = 'run'", max_results=1000, page_token=token,
            order_by=["attributes.start_time desc"],
        )  # fmt: skip
        rows += [_row(run) for run in page]
        token = page.token
        if not token:
            break
    return pd.DataFrame(rows[:limit], columns=list(COLUMNS))


def _row(run: Any) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    label, _, metric = tags.get("headline", "").rpartition(" ")
    ends = {"mean": "", "lo": "_lo", "hi": "_hi"}
    return {
        "name": tags["run"],
        "modality": tags.get("modality", ""),
        "recipe": run.data.params.get("recipe", ""),
        "status": run.info.status,
        "label": label,
        "metric": metric,
        **{end: metrics.get(f"probe/test/headline{tail}") for end, tail in ends.items()},
        "when": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC").isoformat(timespec="seconds"),
        "run_id": run.info.run_id,
    }
