"""Paired differences of a run to its references, as tables to draw and as words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medssl.evaluate.metrics import known, shown
from medssl.report.protocols import KNOWN

# A row per run, label and reference (a protocol of the run, or another run): run - reference of the headline metric, on
# the same patients, folds and seeds. A column ``protocol`` says what of the run was compared; without it, its probe.
COLUMNS = ["run", "task", "against", "metric", "mean", "lo", "hi", "p", "n_patients", "note"]


def complete(differences: pd.DataFrame) -> pd.DataFrame:
    """Return differences with a column ``protocol``.

    Raises:
        ValueError: a column is missing.
    """
    if missing := [name for name in COLUMNS if name not in differences]:
        raise ValueError(f"differences: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    return differences if "protocol" in differences else differences.assign(protocol="probe")


def verdict(row: Mapping[Any, Any]) -> str:
    """Return what a difference says: ``better``, ``worse``, ``within noise``, or that there is no interval."""
    if not (known(row["lo"]) and known(row["hi"])):
        return str(row["note"]) if isinstance(row["note"], str) and row["note"] else "no interval"
    return "better" if row["lo"] > 0 else "worse" if row["hi"] < 0 else "within noise"


def against(row: Mapping[Any, Any]) -> str:
    """Return a difference as text: ``+0.01 [-0.01, +0.03] against minirocket: within noise``."""
    if known(row["lo"]) and known(row["hi"]):
        return f"{shown(row, 2, sign='+')} against {row['against']}: {verdict(row)}"
    number = f"{row['mean']:+.2f} " if known(row["mean"]) else ""
    return f"{number}against {row['against']}: {verdict(row)}"


def picked(
    differences: pd.DataFrame | None, run: str, task: str, reference: str | None, protocol: str = "probe"
) -> dict[str, Any] | None:
    """Return the difference of a run to a reference on a label, if there is one."""
    if differences is None or reference is None:
        return None
    found = differences.query("run == @run and task == @task and against == @reference and protocol == @protocol")
    return None if found.empty else {str(name): value for name, value in found.iloc[0].items()}


def panels(
    differences: pd.DataFrame, baselines: Mapping[tuple[str, str], str | None]
) -> tuple[list[str], dict[str, pd.DataFrame]]:
    """Return the rows of a forest plot (``run, label``) and a table per kind of reference, empty ones left out.

    Args:
        differences: of `complete`.
        baselines: the strongest simple baseline by run and label.
    """
    table = differences.assign(row=differences["run"] + ", " + differences["task"])
    pairs = pd.Series(list(zip(table["run"], table["task"], strict=True)), index=table.index, dtype=object)
    probe = table["protocol"] == "probe"
    # A run name may be that of a protocol, never the other way round.
    kinds = {
        "probe - strongest simple baseline": probe & (table["against"] == pairs.map(baselines.get)),
        "probe - untrained encoder": probe & (table["against"] == "random_init"),
        "probe - network from scratch": probe & (table["against"] == "supervised"),
        "fine-tuned - network from scratch": (table["protocol"] == "finetune") & (table["against"] == "supervised"),
        "with demographics - demographics": (table["protocol"] == "demographics_probe")
        & (table["against"] == "demographics"),
        "with features of the field - features of the field": (table["protocol"] == "handcrafted_probe")
        & (table["against"] == "handcrafted"),
    }
    found = {heading: table[mask] for heading, mask in kinds.items() if mask.any()}
    rows = [row for row in dict.fromkeys(table["row"]) if any((t["row"] == row).any() for t in found.values())]
    return rows, found


def between_runs(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the differences between runs, a row of a forest plot each."""
    others = differences[~differences["against"].isin(list(KNOWN)) & (differences["protocol"] == "probe")]
    return others.assign(row=others["run"] + " - " + others["against"] + ", " + others["task"])
