"""Which run stands above which: a parent for each medssl run, or cohort, and execution of the pipeline.

What belongs together is found by its tags alone, in the store itself, so that stages know nothing of each other and
several machines can share a server.
"""

from __future__ import annotations

import hashlib
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from medssl import project
from medssl.tracking import places, view

PARENT = "mlflow.parentRunId"


def execution() -> str:
    """Return a name for the execution of the pipeline that this process is of, empty outside DVC.

    It is that of the nearest process above which is DVC. Names of machines are hashed.
    """
    if not project.stage():
        return ""
    for above in psutil.Process().parents():
        try:
            if any(Path(word).name in ("dvc", "dvc.exe") for word in above.cmdline()[:4]):
                at = f"{socket.gethostname()} {above.pid} {above.create_time():.2f}"
                return hashlib.blake2b(at.encode(), digest_size=6).hexdigest()
        except psutil.Error:
            break
    return ""


def experiment(client: Any, name: str, uri: str) -> str:
    """Return the experiment's id; local artifacts go to a folder beside the database."""
    from mlflow.exceptions import MlflowException

    if client.get_experiment_by_name(name) is None:
        database = places.database_of(uri)
        location = (database.resolve().parent / places.FILES).as_uri() if database else None
        with suppress(MlflowException):  # another process made it in this moment
            client.create_experiment(name, artifact_location=location, tags=places.KIND | view.TAG)
    return str(client.get_experiment_by_name(name).experiment_id)


def found(client: Any, at: str, tags: dict[str, str]) -> str | None:
    """Return the id of the newest run of an experiment with these tags, None where there is none."""
    asked = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
    runs = client.search_runs([at], asked, max_results=1, order_by=["attributes.start_time desc"])
    return str(runs[0].info.run_id) if runs else None


def parent(run: str, modality: str, records: dict[str, str]) -> dict[str, Any]:
    """Return what the run above a stage is found by and made of: that of a medssl run, else of a cohort."""
    known = {"kind": "run", "run": run} if run else {"kind": "cohort", "modality": modality}
    if at := execution():
        known["execution"] = at
    commit = records.get("git_commit", "unknown")
    target = f"results@{run}" if run else f"dedup@{modality}"
    clean = "" if commit == "unknown" else f"git checkout {commit.removesuffix('-dirty')} && "
    tags = {**records, "modality": modality, "rebuild": f"{clean}dvc repro {target}"}
    return {"name": run or f"cohort {modality}", "known": known, "tags": {k: v for k, v in tags.items() if v}}


def given(run_id: str, name: str) -> dict[str, Any]:
    """Return the same of a run that is open: its id, or what it will be found by once it can be made."""
    return {"id": run_id} if run_id else {"name": name, "known": {"mlflow.runName": name}, "tags": {}}


def _above(client: Any, at: str, about: dict[str, Any]) -> str | None:
    """Return the id of the run above one, made where it is not there; None for none.

    A run outside DVC goes below the newest one, unless that has such a stage already: then it begins anew.
    """
    wanted = about["parent"]
    if wanted is None or "id" in wanted:
        return None if wanted is None else str(wanted["id"])
    there = found(client, at, wanted["known"])
    begun = there is not None and found(client, at, {PARENT: there, "stage": about["tags"]["stage"]})
    if there is not None and not (begun and "execution" not in wanted["known"] and "kind" in wanted["known"]):
        return there
    tags = wanted["tags"] | wanted["known"]
    run = client.create_run(at, tags=tags, run_name=wanted["name"], start_time=about["begin"])
    return str(run.info.run_id)


def opened(client: Any, at: str, about: dict[str, Any]) -> dict[str, str]:
    """Make a run below its parent and return the ids of both: ``run`` and, where it has one, ``parent``."""
    above = _above(client, at, about)
    tags = about["tags"] | ({} if above is None else {PARENT: above})
    run = client.create_run(at, tags=tags, run_name=about["name"], start_time=about["begin"])
    if above is not None:
        client.update_run(above, status="RUNNING")
    return {"run": str(run.info.run_id)} | ({} if above is None else {"parent": above})
