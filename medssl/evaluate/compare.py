"""Runs side by side: the difference of a metric on the same patients, folds and seeds, with its whole uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medssl.evaluate import intervals, metrics
from medssl.evaluate.replicates import Replicates, completed
from medssl.evaluate.results import ENTRY, summary

SPLITS = {"crossfit": "crossfit/predictions.parquet", "fixed": "predictions.parquet"}


def read(folders: Sequence[Path]) -> tuple[str, dict[str, pd.DataFrame]]:
    """Return a split that all runs have, cross-fitted rather than fixed, and the predictions of each run by its name.

    Raises:
        ValueError: a folder without predictions, or runs without a split in common.
    """
    for folder in folders:
        if not any((folder / path).is_file() for path in SPLITS.values()):
            raise ValueError(f"{folder}: no predictions.parquet; expected a run such as data/runs/<name>")
    split = next((s for s, path in SPLITS.items() if all((f / path).is_file() for f in folders)), None)
    if split is None:
        only = [f.name for f in folders if not (f / SPLITS["fixed"]).is_file()]
        raise ValueError(f"{', '.join(only)}: cross-fitted, other runs are not; cross-fit them too to compare them")
    tables: dict[str, pd.DataFrame] = {}
    for folder in folders:
        # Runs of two projects may share a name.
        name = folder.name if folder.name not in tables else str(folder)
        tables[name] = completed(pd.read_parquet(folder / SPLITS[split]))
    return split, tables


def difference(one: Replicates, other: Replicates, *, draws: int = 400) -> dict[str, Any] | None:
    """Return the headline of ``one`` minus that of ``other``; None where they did not test the same units.

    Both are measured on the same draws of patients, which cancels what makes a patient easy or hard for both. Runs
    with the same seeds are subtracted run by run; of others the variances between runs add. With two repeats of
    cross-validation or more the interval is the wider of this and the corrected one over folds.

    Returns:
        ``mean, lo, hi, p, by`` (`intervals.paired`), ``metric``, ``n_patients`` and, without an interval, ``too_few``.
    """
    same = np.array_equal(one.task.id, other.task.id) and np.array_equal(one.task.truth, other.task.truth)
    if not same:
        return None
    (metric, a), (_, b) = (next(iter(r.measured(draws, only_headline=True).items())) for r in (one, other))
    n, rarest = one.patients(), one.task.rarest()
    freedom = (n if rarest is None else rarest) - 1
    found = {"metric": metric, "n_patients": n}
    folds_alike = one.keys == other.keys and all(map(np.array_equal, one.folds, other.folds))
    if folds_alike:
        both = a.minus(b)
        mean, patients, trainings = both.mean, both.patients(freedom), both.trainings(alone=False)
    else:
        mean = a.mean - b.mean
        patients = intervals.of_draws(a.draws - b.draws, freedom)
        parts = [v for v in (a.trainings(alone=False), b.trainings(alone=False)) if v]
        trainings = intervals.total(parts) if parts else None
    reason = metrics.too_few(n, rarest)
    if reason is None and not (np.isfinite(mean) and np.isfinite(patients.value)):
        reason = f"n={n}, all of one value"
    if reason:
        return found | {"mean": mean, "lo": None, "hi": None, "p": None, "by": "", "too_few": reason}
    folds = None
    if folds_alike and len(a.whole) > 1 and (count := len(a.swapped) // len(a.whole)) > 1:
        folds = intervals.corrected_variance(one.by_fold() - other.by_fold(), 1 / (count - 1))
    return found | intervals.paired(mean, patients, trainings, folds)


def verdict(found: dict[str, Any]) -> str:
    """Return in words whether a difference is more than noise: ``within noise``, ``better``, ``worse``, ``too few``."""
    if "too_few" in found:
        return f"too few ({found['too_few']})"
    if found["lo"] <= 0 <= found["hi"]:
        return "within noise"
    # A smaller error is better, but headlines are areas and shares explained: more is better.
    return "better" if found["mean"] > 0 else "worse"


def shown(found: dict[str, Any]) -> str:
    """Return a difference as text: ``+0.012 [-0.010, +0.034], p=0.29, within noise``."""
    if "too_few" in found:
        return metrics.shown(found, sign="+")
    p = f"p={found['p']:.2g}" if found["p"] >= 0.001 else "p<0.001"
    corrected = " corrected" if found["by"] == "corrected folds" else ""
    return f"{metrics.shown(found, sign='+')}, {p}{corrected}, {verdict(found)}"


def compare_runs(folders: Sequence[Path], *, draws: int = 400) -> pd.DataFrame:
    """Return one row per label, protocol and fraction: each run's metric, and its difference to the first run.

    Tasks whose test patients differ are compared without a difference. Where a run has too few patients for an
    interval, the column ``note`` says so; ``split`` says whether the runs were cross-fitted or have a fixed split.

    Raises:
        ValueError: see `read` and `medssl.evaluate.replicates.Replicates.of`.
    """
    split, tables = read(folders)
    first = next(iter(tables))
    rows = []
    for key, group in tables[first].groupby(ENTRY, sort=False):
        row: dict[str, Any] = dict(zip(ENTRY, key, strict=True)) | {"split": split}
        reference = Replicates.of(group)
        for name, table in tables.items():
            same = table[(table[ENTRY] == list(key)).all(axis=1)]
            if not len(same):
                continue
            replicates = Replicates.of(same)
            metric, measured = next(iter(replicates.measured(draws, only_headline=True).items()))
            value = summary(replicates, metric, measured)
            if name == first:
                row |= {"metric": metric, "n_patients": value["n_patients"]}
            row[name] = round(measured.mean, 3)
            if reason := value.get("too_few"):
                row.setdefault("note", f"too few ({reason})")
            if name != first and (found := difference(replicates, reference, draws=draws)):
                row[f"{name} - {first}"] = shown(found)
        rows.append(row)
    table = pd.DataFrame(rows)
    # What a reader must know first comes last in a wide table.
    return table if "note" not in table else table.assign(note=table.pop("note").fillna(""))


def differences(
    run: str, predictions: pd.DataFrame, *, protocol: str = "probe", against: Sequence[str], draws: int = 400
) -> pd.DataFrame:
    """Return one row per label and protocol of ``against``: how much better ``protocol`` of the same run is.

    Both at the largest label fraction that both have. Protocols that a label does not have, or that did not test the
    same patients, have no row.

    Returns:
        Columns ``run, task, against, metric, mean, lo, hi, p, n_patients, note``; ``note`` is `verdict`.
    """
    table = completed(predictions)
    rows = []
    for task, group in table.groupby("task", sort=False):
        by = {name: part for name, part in group.groupby("protocol", sort=False)}
        for other in against:
            if protocol not in by or other not in by:
                continue
            shared = set(by[protocol]["fraction"]) & set(by[other]["fraction"])
            if not shared:
                continue
            one, two = (Replicates.of(by[name][by[name]["fraction"] == max(shared)]) for name in (protocol, other))
            if found := difference(one, two, draws=draws):
                rows.append({"run": run, "task": task, "against": other, **found, "note": verdict(found)})
    columns = ["run", "task", "against", "metric", "mean", "lo", "hi", "p", "n_patients", "note"]
    return pd.DataFrame(rows, columns=columns).astype({c: float for c in ("mean", "lo", "hi", "p")})
