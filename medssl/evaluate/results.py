"""Predictions of a run as they come in, and every figure that follows from their table.

The table ``predictions.parquet`` is the one source: `measure` makes ``metrics.json`` of it, `subgroups` the table of
subgroups, and nothing else is needed to make them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate import intervals, metrics
from medssl.evaluate.replicates import Measured, Replicates, completed
from medssl.evaluate.tasks import Task, joined

COLUMNS = (
    "task", "kind", "protocol", "fraction", "fold", "repeat", "seed", "training", "unit", "id", "patient", "truth",
    "classes", "scores",
)  # fmt: skip
ENTRY = ["task", "protocol", "fraction"]
GROUPS = ("sex", "age", "site", "device")
AGES = ((-np.inf, 40.0, "<40"), (40.0, 60.0, "40-60"), (60.0, np.inf, "60+"))


@dataclass
class Predictions:
    """Test predictions of a run."""

    tables: list[pd.DataFrame] = field(default_factory=list)  # one for each call of `add` and seed

    def add(
        self,
        task: Task,
        protocol: str,
        fraction: float,
        per_seed: Sequence[np.ndarray],
        *,
        fold: int = 0,
        repeat: int = 0,
        trainings: int = 1,
    ) -> None:
        """Keep test predictions, one array (n_test, K) per seed.

        Args:
            task: whose test units were predicted.
            protocol: name of what predicted them.
            fraction: share of the training patients whose labels it used.
            per_seed: replicates that differ in the label subset and the head.
            fold: counted through all repeats; a fixed split has one, 0.
            repeat: of the cross-validation; in each every patient is tested once.
            trainings: how many trained encoders they stand on, in turn.
        """
        units = task.part("test")
        truth = [joined(task.classes[t]) if task.kind == "multilabel" else str(t) for t in task.truth[units]]
        same = {"task": task.name, "kind": task.kind, "protocol": protocol, "fraction": float(fraction)}
        same |= {"fold": fold, "repeat": repeat, "unit": task.unit}
        same |= {"id": task.id[units], "patient": task.patient[units], "truth": truth, "classes": joined(task.classes)}
        for seed, scores in enumerate(per_seed):
            of_seed = {"seed": seed, "training": seed % trainings}
            table = pd.DataFrame(same | of_seed | {"scores": list(np.asarray(scores, dtype=np.float32))})
            self.tables.append(table[list(COLUMNS)])

    def frame(self) -> pd.DataFrame:
        """Return all predictions as one table; without any label an empty one."""
        if not self.tables:
            return pd.DataFrame({name: pd.Series(dtype="object") for name in COLUMNS})
        return pd.concat(self.tables, ignore_index=True)


def summary(replicates: Replicates, name: str, measured: Measured, *, over_runs: bool = False) -> dict[str, Any]:
    """Return the mean of a metric with its 95 % interval and what it rests on, as ``metrics.json`` has it.

    Where an interval would mean nothing ``lo`` and ``hi`` are None and ``too_few`` says why; so is ``mean`` where it
    has no value, such as the AUROC of one class. JSON has no NaN.

    Args:
        replicates: what was measured.
        name: of the metric.
        measured: its values.
        over_runs: the interval is the middle 95 % of the runs, which are orders of permuted labels.
    """
    task, keys = replicates.task, np.array(replicates.keys)
    n, rarest = replicates.patients(), task.rarest(name.removeprefix("auroc/") if "/" in name else None)
    fewest = n if rarest is None else rarest
    patients, trainings = measured.patients(fewest - 1), None if over_runs else measured.trainings()
    covers = "orders" if over_runs else "patients and training" if trainings else "patients"
    reason = metrics.too_few(n, rarest)
    if reason is None and not (np.isfinite(measured.mean) and (over_runs or np.isfinite(patients.value))):
        reason = f"n={n}, all of one value"
    bounds, none = metrics.bounds(name), patients.value + (trainings.value if trainings else 0) < 1e-18
    ends: Sequence[float | None]
    if reason is not None:
        ends = (None, None)
    elif over_runs:
        ends = np.percentile(measured.values(), (2.5, 97.5)).tolist()
    elif none:
        ends = intervals.never(measured.mean, fewest, bounds=bounds)
    else:
        ends = intervals.interval(measured.mean, patients, trainings, bounds=bounds)
    return {
        "mean": measured.mean if np.isfinite(measured.mean) else None,
        "lo": ends[0],
        "hi": ends[1],
        "n_patients": n,
        "seeds": len(np.unique(keys[:, 2])),
        "trainings": len(np.unique(keys[:, 1])),
        "folds": len(np.unique(np.concatenate(replicates.folds))),
        "covers": covers,
        **({"too_few": reason} if reason else {}),
    }


def measure(predictions: pd.DataFrame, *, draws: int = 400) -> dict[str, Any]:
    """Return every metric with its interval: ``{task: {protocol: {fraction: {metric: summary}}}}``.

    An interval covers which patients were tested, and the training too where there is more than one (``covers``). That
    of ``permuted_labels`` is over orders of the labels. Where they are there, the headline of ``probe`` with all labels
    has the ``p_value`` of no relation between features and labels: the share of orders that do as well as the true one
    at the same fixed strength (protocol ``probe_fixed``, else the probe itself).

    Args:
        predictions: table of `Predictions.frame`; what earlier versions lack is filled in (`replicates.completed`).
        draws: of patients.

    Raises:
        ValueError: see `replicates.Replicates.of`.
    """
    out: dict[str, Any] = {}
    headlines: dict[tuple[str, str, str], np.ndarray] = {}
    key: Any
    for key, rows in completed(predictions).groupby(ENTRY, sort=False):
        task, protocol, share = key[0], key[1], f"{key[2]:g}"
        replicates = Replicates.of(rows)
        permuted = protocol == "permuted_labels"
        measured = replicates.measured(0 if permuted else draws, trainings=not permuted)
        values = {name: summary(replicates, name, m, over_runs=permuted) for name, m in measured.items()}
        out.setdefault(task, {}).setdefault(protocol, {})[share] = values
        headlines[task, protocol, share] = measured[metrics.headline(values)].values()
    for task, protocols in out.items():
        probe = protocols.get("probe", {}).get("1")
        null = headlines.get((task, "permuted_labels", "1"))
        if probe is not None and null is not None:
            observed = headlines.get((task, "probe_fixed", "1"))
            observed = headlines[task, "probe", "1"].mean() if observed is None else observed[0]
            if np.isfinite(observed):
                probe[metrics.headline(probe)]["p_value"] = intervals.permutation_p(observed, null)
        protocols.pop("probe_fixed", None)
    return out


def _groups(table: pd.DataFrame, unit: str, ids: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """Return which units (n,) belong to each value of a group; none without such a label in the table."""
    if f"label_{name}" not in table:
        return {}
    values = table[f"label_{name}"].groupby(table[unit].astype(str)).first().reindex(ids)
    if name == "age":
        age = pd.to_numeric(values, errors="coerce").to_numpy(float)
        found = {words: (age >= low) & (age < high) for low, high, words in AGES}
    else:
        found = {str(value): (values == value).to_numpy() for value in sorted(values.dropna().unique())}
    return {value: chosen for value, chosen in found.items() if chosen.any()}


def subgroups(predictions: pd.DataFrame, table: pd.DataFrame, *, draws: int = 400) -> pd.DataFrame:
    """Return the headline of each task, protocol and fraction among the tested patients of each subgroup.

    Subgroups are those of ``label_sex``, ``label_age`` (under 40, 40 to 60, 60 and over), ``label_site`` and
    ``label_device``, as far as the sample table has them. A label has no subgroups by itself.

    Args:
        predictions: as of `measure`.
        table: sample table of the store.
        draws: of patients.

    Returns:
        Columns ``task, protocol, fraction, group, value, metric, mean, lo, hi, n_patients, too_few``.
    """
    out = []
    for (task, protocol, fraction), rows in completed(predictions).groupby(ENTRY, sort=False):
        if protocol == "permuted_labels":
            continue
        replicates = Replicates.of(rows)
        of = replicates.task
        unit, ids = (of.unit, of.id) if "id" in predictions else ("patient", of.patient.astype(str))
        for group in GROUPS:
            for value, chosen in _groups(table, unit, ids, group).items() if group != task else ():
                part = replicates.subset(chosen)
                metric, measured = next(iter(part.measured(draws, only_headline=True).items()))
                found = summary(part, metric, measured)
                row = {"task": task, "protocol": protocol, "fraction": fraction, "group": group, "value": value}
                row |= {"metric": metric, **{k: found[k] for k in ("mean", "lo", "hi", "n_patients")}}
                out.append(row | {"too_few": found.get("too_few", "")})
    columns = ["task", "protocol", "fraction", "group", "value", "metric", "mean", "lo", "hi", "n_patients", "too_few"]
    frame = pd.DataFrame(out, columns=columns)
    return frame.astype({"mean": float, "lo": float, "hi": float})
