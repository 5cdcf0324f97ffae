"""Runs side by side: the difference of a metric on the same test patients, with a patient-bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate import metrics

KEYS = ["task", "protocol", "fraction"]


def _values(rows: pd.DataFrame, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return metrics per bootstrap draw of one seed's predictions."""
    scores = np.stack(list(rows["scores"]))
    classes = np.array(rows["classes"].iloc[0].split("|"))
    if rows["classes"].iloc[0] == "":
        return metrics.number_metrics(scores[:, 0].astype(float), rows["truth"].to_numpy(float), weights)
    truth = rows["truth"].astype(str)
    if not truth.isin(classes).all():
        return metrics.multilabel_metrics(scores, np.stack([np.isin(classes, t.split("|")) for t in truth]), weights)
    return metrics.class_metrics(scores, truth.to_numpy(), classes, weights)


def compare_runs(folders: Sequence[Path], *, draws: int = 1000) -> pd.DataFrame:
    """Return one row per label, protocol and fraction: each run's metric, and its difference to the first run.

    Both runs of a difference are scored on the same draws of the same patients, which cancels what makes a patient
    easy or hard for both. Tasks whose test patients differ are compared without a difference.

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
            own = weights if comparable else metrics.draw_weights(seeds[0]["patient"].to_numpy(), draws)
            per_seed = [_values(s, own) for s in seeds]
            metric = metrics.headline(per_seed[0])
            values = np.mean([v[metric] for v in per_seed], axis=0)
            row |= {"metric": metric, "n_patients": len(np.unique(patients)), name: round(float(values[0]), 3)}
            if reference is None:
                reference = values
            elif comparable:
                difference = values - reference
                low, high = np.nanpercentile(difference[1:], (2.5, 97.5))
                row[f"{name} - {first}"] = f"{difference[0]:+.3f} [{low:+.3f}, {high:+.3f}]"
        rows.append(row)
    return pd.DataFrame(rows)
