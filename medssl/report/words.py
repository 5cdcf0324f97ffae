"""Results in words: what a run reached on a label, and whether that is more than a simple baseline reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medssl.evaluate.metrics import fullest, headline, known, protocols, shown
from medssl.report import cohort
from medssl.report.paired import against, picked
from medssl.report.protocols import SIMPLE
from medssl.report.stored import Stored

METRICS = {
    "auroc": "AUROC", "auprc": "AUPRC", "f1": "F1", "balanced_accuracy": "balanced accuracy", "mcc": "MCC",
    "brier": "Brier score", "ece": "calibration error (ECE)", "r2": "R²", "mae": "mean absolute error",
    "spearman": "Spearman correlation", "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
}  # fmt: skip


def named(metric: str) -> str:
    """Return a metric as people write it; one of a single label keeps the label."""
    of, _, label = metric.partition("/")
    return METRICS.get(of, of) + (f" of {label}" if label else "")


def values(of_fraction: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metrics of a protocol at a share of labels, without what else stands beside them."""
    return {name: value for name, value in of_fraction.items() if isinstance(value, dict) and "mean" in value}


def full(of_task: Mapping[str, Any], protocol: str = "probe") -> tuple[str, dict[str, Any], str] | None:
    """Return metric, value and share in words of a protocol at its largest share of labels; None where it has none."""
    fractions = protocols(of_task).get(protocol)
    if not fractions:
        return None
    share, words = fullest(fractions)
    name = headline(fractions[share])
    return name, fractions[share][name], words


def main_label(metrics: Mapping[str, Any]) -> str | None:
    """Return the first label that was evaluated and that pretraining did not see, else the first evaluated."""
    evaluated = [task for task, of_task in metrics.items() if protocols(of_task)]
    unseen = [task for task in evaluated if not metrics[task].get("seen")]
    return next(iter([*unseen, *evaluated]), None)


def leading(of_task: Mapping[str, Any]) -> str | None:
    """Return the protocol a label is read by: the linear probe, or the first there is."""
    have = protocols(of_task)
    return "probe" if "probe" in have else next(iter(have), None)


def subgroups(table: pd.DataFrame | None, metrics: Mapping[str, Any]) -> list[list[str]]:
    """Return the subgroups of each label's leading protocol at its largest share of labels, as cells.

    They are label, group, value, metric, result and patients. Small groups, and how many they are, are not shown.
    """
    if table is None or not len(table):
        return []
    if "fraction" in table:  # else it was written before there were any
        table = table[table["fraction"] == table.groupby(["task", "protocol"])["fraction"].transform("max")]
    table = table[[row["protocol"] == leading(metrics.get(row["task"], {})) for row in table.to_dict("records")]]
    cells = []
    for _, rows in table.groupby(["task", "group"], sort=False):
        people = cohort.withheld(dict(zip(rows["value"].astype(str), rows["n_patients"].astype(int), strict=True)))
        for row in rows.to_dict("records"):
            number = people[str(row["value"])]
            result = shown(row) if known(row["lo"]) else "too few"
            patients = "not shown" if number is None else str(number)
            cells.append([row["task"], row["group"], str(row["value"]), row["metric"], result, patients])
    return cells


def strongest(of_task: Mapping[str, Any], among: Sequence[str] = SIMPLE) -> str | None:
    """Return the baseline with the highest headline at all labels; None without any.

    It is chosen on the test patients, in favour of the baseline.
    """
    means = {name: found[1]["mean"] for name in among if (found := full(of_task, name)) and known(found[1]["mean"])}
    return max(means, key=lambda name: means[name]) if means else None


def tested(value: Mapping[str, Any], split: str) -> str:
    """Return on whom and how often a value was measured: ``n = 466 patients, cross-fitted, 5 folds, 3 trainings``."""
    parts = [f"n = {value['n_patients']} patients", split]
    if (folds := value.get("folds") or 1) > 1:
        parts.append(f"{folds} folds")
    if trainings := value.get("trainings"):
        parts.append(f"{trainings} training{'s' if trainings > 1 else ''}")
    if (seeds := value.get("seeds") or 1) > (trainings or 1):
        parts.append(f"{seeds} seeds")
    return ", ".join(parts)


def covered(metrics: Mapping[str, Any]) -> str:
    """Return what the intervals of a run cover; those of earlier versions cover patients alone.

    Those of shuffled labels cover the orders, which says nothing of the others.
    """
    found = {
        value.get("covers", "patients")
        for of_task in metrics.values()
        for protocol, fractions in protocols(of_task).items()
        if protocol != "permuted_labels"
        for of_fraction in fractions.values()
        for value in values(of_fraction).values()
        if known(value["lo"])
    }
    return ", elsewhere ".join(sorted(found, key=len, reverse=True))


def sentence(run: str, stored: Stored, task: str, differences: pd.DataFrame | None) -> str:
    """Return one line on a label: metric, interval, patients, and the difference to the strongest simple baseline."""
    of_task = stored.metrics[task]
    found = full(of_task, leading(of_task) or "probe")
    if found is None:
        return f"{run}, {task}: left out: {of_task.get('left_out', 'no results')}"
    metric, value, words = found
    line = f"{run}, {task}: {named(metric)} {shown(value, 2)}{words}, {tested(value, stored.split)}"
    if seen := of_task.get("seen"):
        line += f"; seen in pretraining ({', '.join(seen)})"
    reference = strongest(of_task)
    if row := picked(differences, run, task, reference):
        return f"{line}; {against(row)}"
    if reference and (other := full(of_task, reference)):
        return f"{line}; {reference} {shown(other[1], 2)}"
    return line
