"""Runs side by side: the difference of a metric on the same test patients, with a patient-bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate import metrics
from medssl.evaluate.tasks import Task, parted

KEYS = ["task", "protocol", "fraction"]


def _kind(rows: pd.DataFrame) -> str:
    """Return what the task is: as the table says, or as its values look in tables of earlier versions."""
    if "kind" in rows and isinstance(kind := rows["kind"].iloc[0], str):
        return kind
    classes = rows["classes"].iloc[0]
    if classes == "":
        return "number"
    # Shares of classes sum to 1; several labels at once have a probability each.
    one_of = rows["truth"].astype(str).isin(parted(classes)).all()
    return "class" if one_of and np.allclose(np.stack(list(rows["scores"])).sum(1), 1, atol=1e-3) else "multilabel"


def _task(rows: pd.DataFrame) -> Task:
    """Return the task behind one seed's predictions: its test units."""
    kind, classes = _kind(rows), np.array(parted(rows["classes"].iloc[0]))
    truth = rows["truth"].to_numpy(float if kind == "number" else str)
    if kind == "multilabel":
        truth = np.stack([np.isin(classes, parted(t)) for t in truth])
    every = np.arange(len(rows))
    name, unit, patient = rows["task"].iloc[0], rows["unit"].iloc[0], rows["patient"].to_numpy()
    classes = np.array([]) if kind == "number" else classes
    return Task(name, kind, unit, classes, truth, patient, np.full(len(rows), "test"), every, every)  # type: ignore[arg-type]


def compare_runs(folders: Sequence[Path], *, draws: int = 1000) -> pd.DataFrame:
    """Return one row per label, protocol and fraction: each run's metric, and its difference to the first run.

    Both runs of a difference are scored on the same draws of the same patients, which cancels what makes a patient
    easy or hard for both. Tasks whose test patients differ are compared without a difference. Where a run has too few
    patients for an interval, the column ``note`` says so.

    Raises:
        ValueError: a folder without ``predictions.parquet``.
    """
    tables: dict[str, pd.DataFrame] = {}
    for folder in folders:
        if not (folder / "predictions.parquet").is_file():
            raise ValueError(f"{folder}: no predictions.parquet; expected a run such as data/runs/<name>")
        # Runs of two projects may share a name.
        name = folder.name if folder.name not in tables else str(folder)
        tables[name] = pd.read_parquet(folder / "predictions.parquet")
    first = next(iter(tables))
    rows = []
    for key, group in tables[first].groupby(KEYS, sort=False):
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        reference: np.ndarray | None = None
        patients = group[group["seed"] == 0].sort_values("patient", kind="stable")["patient"].to_numpy()
        weights = metrics.draw_weights(patients, draws)
        for name, table in tables.items():
            same = table[(table[KEYS] == list(key)).all(axis=1)]
            if not len(same):
                continue
            seeds = [r.sort_values("patient", kind="stable") for _, r in same.groupby("seed")]
            comparable = all(np.array_equal(s["patient"].to_numpy(), patients) for s in seeds)
            tested = seeds[0]["patient"].to_numpy()
            own = weights if comparable else metrics.draw_weights(tested, draws)
            tasks = [_task(s) for s in seeds]
            kind = float if tasks[0].kind == "number" else np.float32
            scores = [np.stack(list(s["scores"])).astype(kind) for s in seeds]
            per_seed = [task.score(s, task.part("test"), own) for task, s in zip(tasks, scores, strict=True)]
            metric = metrics.headline(per_seed[0])
            values = np.mean([v[metric] for v in per_seed], axis=0)
            row |= {"metric": metric, "n_patients": len(np.unique(patients)), name: round(float(values[0]), 3)}
            rarest = tasks[0].rarest()
            if reason := metrics.summarise([{metric: values}], tested, rarest=rarest)[metric].get("too_few"):
                row.setdefault("note", f"too few ({reason})")
            if reference is None:
                reference = values
            elif comparable:
                difference = metrics.summarise([{metric: values - reference}], tested, rarest=rarest)[metric]
                row[f"{name} - {first}"] = metrics.shown(difference, sign="+")
        rows.append(row)
    table = pd.DataFrame(rows)
    # What a reader must know first comes last in a wide table.
    return table if "note" not in table else table.assign(note=table.pop("note").fillna(""))
