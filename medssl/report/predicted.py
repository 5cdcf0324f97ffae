"""What the predictions of a run look like at all labels: calibration, decisions, confusion, predicted numbers.

Every row of the predictions table is a test unit under one training, subset and fold. Rows of all of them are pooled: a
curve is that of one model on average, not of an ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate.calibration import decision_curve, reliability
from medssl.evaluate.metrics import fullest, known, protocols
from medssl.evaluate.tasks import parted
from medssl.report.protocols import ordered
from medssl.report.words import leading, strongest

THRESHOLDS = [percent / 100 for percent in range(1, 100)]
LEAST = 20  # test patients below which a curve is noise
CLASSES = 12  # more are not readable as a matrix


def wanted(metrics: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return, by label, the protocols to draw: the probe, fine-tuning, from scratch, the strongest simple baseline."""
    chosen = {}
    for task, of_task in metrics.items():
        have = protocols(of_task)
        names = {leading(of_task), "finetune", "supervised", strongest(of_task)}
        chosen[task] = ordered(name for name in have if name in names)
    return chosen


def read(path: Path, metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Return the predictions that `wanted` names, at their largest share of labels.

    Columns: ``task, kind, protocol, fraction, patient, truth, classes, scores``.
    Tables of earlier versions do not say what kind a label is; of them nothing is drawn.
    """
    chosen = wanted(metrics)
    columns = ["task", "kind", "protocol", "fraction", "patient", "truth", "classes", "scores"]
    names = sorted({name for of in chosen.values() for name in of})
    table = pd.read_parquet(path, filters=[("protocol", "in", names)] if names else None)
    if "kind" not in table:
        return pd.DataFrame(columns=columns)
    keep = [
        (table["task"] == task)
        & (table["protocol"] == name)
        & np.isclose(table["fraction"].astype(float), float(fullest(protocols(metrics[task])[name])[0]))
        for task, of in chosen.items()
        for name in of
    ]
    return table.loc[np.any(keep, axis=0) if keep else [], columns]


def probabilities(table: pd.DataFrame) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return scores (n,) and truth (n,) bool of the second class, by binary label and protocol."""
    out: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for task, protocol, rows in _groups(table, "class"):
        classes = parted(rows["classes"].iloc[0])
        positive = (rows["truth"] == classes[-1]).to_numpy()
        if len(classes) != 2 or rows["patient"].nunique() < LEAST or positive.all() or not positive.any():
            continue
        scores = _scores(rows)[:, -1]
        if scores.min() >= 0 and scores.max() <= 1:  # margins of a classifier are no probabilities
            out.setdefault(task, {})[protocol] = (scores, positive)
    return out


def calibrations(table: pd.DataFrame, metrics: Mapping[str, Any]) -> dict[str, dict[str, tuple[pd.DataFrame, float]]]:
    """Return the calibration curve and its error, by binary label and protocol.

    The error is that of ``metrics.json``, else the curve's own.
    """
    out: dict[str, dict[str, tuple[pd.DataFrame, float]]] = {}
    for task, of in probabilities(table).items():
        for protocol, (scores, positive) in of.items():
            curve = reliability(scores, positive)
            fractions = protocols(metrics[task])[protocol]
            stored = fractions[fullest(fractions)[0]].get("ece", {}).get("mean")
            gap = (curve["predicted"] - curve["observed"]).abs()
            own = float((gap * curve["n"]).sum() / curve["n"].sum())
            out.setdefault(task, {})[protocol] = (curve, stored if known(stored) else own)
    return out


def decided(table: pd.DataFrame) -> dict[str, dict[str, pd.DataFrame]]:
    """Return the decision curve by binary label and protocol."""
    return {
        task: {name: decision_curve(scores, positive, thresholds=THRESHOLDS) for name, (scores, positive) in of.items()}
        for task, of in probabilities(table).items()
    }


def confused(table: pd.DataFrame, metrics: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the share of each true class (row) by predicted class (column), by label, of the leading protocol."""
    out = {}
    for task, protocol, rows in _groups(table, "class"):
        classes = parted(rows["classes"].iloc[0])
        if protocol != leading(metrics[task]) or not 1 < len(classes) <= CLASSES:
            continue
        predicted = np.array(classes)[_scores(rows).argmax(1)]
        counts = pd.crosstab(rows["truth"].to_numpy(), predicted).reindex(index=classes, columns=classes, fill_value=0)
        out[task] = counts.div(counts.sum(axis=1).where(lambda n: n > 0), axis=0)
    return out


def numbers(table: pd.DataFrame, metrics: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return ``truth, predicted`` of the leading protocol by label that is a number."""
    return {
        task: pd.DataFrame({"truth": rows["truth"].to_numpy(dtype=float), "predicted": _scores(rows)[:, 0]})
        for task, protocol, rows in _groups(table, "number")
        if protocol == leading(metrics[task])
    }


def _groups(table: pd.DataFrame, kind: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Return label, protocol and rows of one kind of labels, protocols in order."""
    rows = table[table["kind"] == kind]
    groups = {(str(t), str(p)): group for (t, p), group in rows.groupby(["task", "protocol"], sort=False)}
    tasks = dict.fromkeys(task for task, _ in groups)
    return [(task, name, groups[task, name]) for task in tasks for name in ordered(p for t, p in groups if t == task)]


def _scores(rows: pd.DataFrame) -> np.ndarray:
    return np.stack(list(rows["scores"])).astype(np.float64)
