"""Results as tables: every number, the wide one people read, and small files that DVC draws and compares."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.evaluate.metrics import fullest, headline, known, protocols, shown
from medssl.report.protocols import SIMPLE, grouped
from medssl.report.stored import Stored
from medssl.report.words import named, strongest, values

# What DVC compares, and the curves it draws: files of one folder need the same columns.
HEADLINES = ("probe", "finetune", "baseline", "random_init")
SWEPT = ("probe", "finetune", "supervised", "handcrafted", "random_init")


def comparison(runs: Mapping[str, Stored], recipes: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per run, label, protocol and label fraction with the headline metric and its interval.

    ``lo`` and ``hi`` are empty where ``too_few`` says why; labels that were left out have no row.
    """
    rows = [
        {
            "run": run,
            "recipe": recipes.get(run, ""),
            "label": task,
            "protocol": protocol,
            "label_fraction": float(fraction),
            "metric": headline(of_fraction),
            "split": stored.split,
            "seen": ", ".join(of_task.get("seen", ())),
            **of_fraction[headline(of_fraction)],
        }
        for run, stored in runs.items()
        for task, of_task in stored.metrics.items()
        for protocol, fractions in protocols(of_task).items()
        for fraction, of_fraction in fractions.items()
    ]
    columns = ["run", "recipe", "label", "protocol", "label_fraction", "metric"]
    columns += ["mean", "lo", "hi", "n_patients", "seeds", "trainings", "folds", "split", "seen", "too_few"]
    return pd.DataFrame(rows, columns=columns)


def wide(runs: Mapping[str, Stored], recipes: Mapping[str, str]) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """Return protocols by group, and a row per run and label with a cell per protocol.

    At all labels, or at the largest fraction there is, which the cell then names.
    """
    groups = grouped(p for stored in runs.values() for of in stored.metrics.values() for p in protocols(of))
    rows = []
    for run, stored in runs.items():
        for task, of_task in stored.metrics.items():
            cells, metric, value = {}, "", {}
            for protocol, fractions in protocols(of_task).items():
                share, words = fullest(fractions)
                metric = headline(fractions[share])
                value = fractions[share][metric]
                cells[protocol] = shown(value, 2) + words
            if cells:
                rows.append(
                    {
                        "run": run,
                        "recipe": recipes.get(run, ""),
                        "label": task,
                        "metric": named(metric),
                        "seen": of_task.get("seen", []),
                        "split": stored.split,
                        "n_patients": value["n_patients"],
                        "strongest": strongest(of_task),
                        "cells": [(name, cells.get(name, "")) for members in groups.values() for name in members],
                    }
                )
    return groups, rows


def by_metric(metrics: Mapping[str, Any], chosen: Mapping[str, list[str]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of all metrics at all labels: a row per label and metric, a column per chosen protocol."""
    columns = list(grouped(name for names in chosen.values() for name in names).values())
    header = [name for members in columns for name in members]
    rows = []
    for task, names in chosen.items():
        full = {name: of[fullest(of)[0]] for name in names if (of := protocols(metrics[task]).get(name))}
        for metric in dict.fromkeys(metric for of_full in full.values() for metric in values(of_full)):
            cells = {name: shown(of_full[metric]) for name, of_full in full.items() if metric in of_full}
            rows.append([task, named(metric), *(cells.get(name, "") for name in header)])
        p = {name: found for name, of_full in full.items() if (found := p_value(of_full)) is not None}
        if p:
            said = {name: f"{value:.3g}" for name, value in p.items()}
            rows.append([task, "p against shuffled labels", *(said.get(name, "") for name in header)])
    return ["label", "metric", *header], rows


def p_value(of_fraction: Mapping[str, Any]) -> float | None:
    """Return the p-value against shuffled labels that stands beside a result or in its headline metric."""
    found = of_fraction.get("p_value", of_fraction[headline(of_fraction)].get("p_value"))
    return float(found) if known(found) else None


def write(folder: Path, table: pd.DataFrame) -> None:
    """Write what DVC compares and draws: ``headline.json``, ``headline/<run>.csv``, ``efficiency/<run>-<label>.csv``.

    The first two hold the results at all labels of `HEADLINES`, few enough to read; ``baseline`` is
    the strongest simple one.

    Args:
        folder: of the report.
        table: of `comparison`.
    """
    most = table.groupby(["run", "label", "protocol"])["label_fraction"].transform("max")
    full = table[(table["label_fraction"] == most) & table["mean"].notna()]
    baselines = full[full["protocol"].isin(SIMPLE)].sort_values("mean").groupby(["run", "label"]).tail(1)
    full = pd.concat([full, baselines.assign(protocol="baseline")])
    nested: dict[str, dict[str, dict[str, float]]] = {}
    (folder / "headline").mkdir(exist_ok=True)
    for run, of_run in full[full["protocol"].isin(HEADLINES)].groupby("run", sort=False):
        rows = sorted(zip(of_run["label"], of_run["protocol"], of_run["mean"], strict=True), key=lambda row: row[:2])
        for label, protocol, mean in rows:
            nested.setdefault(str(run), {}).setdefault(label, {})[protocol] = round(float(mean), 4)
        bars = pd.DataFrame(
            [(f"{label}, {protocol}", mean) for label, protocol, mean in rows], columns=["result", "mean"]
        )
        bars.to_csv(folder / "headline" / f"{run}.csv", index=False)
    (folder / "headline.json").write_text(json.dumps(nested, indent=1) + "\n")
    (folder / "efficiency").mkdir(exist_ok=True)
    swept = table[table["protocol"].isin(SWEPT)]
    for key, of_label in swept.groupby(["run", "label"], sort=False):
        curves = of_label.pivot(index="label_fraction", columns="protocol", values="mean").reindex(columns=list(SWEPT))
        curves.index = pd.Index(100 * curves.index, name="labelled_percent")
        curves.to_csv(folder / "efficiency" / ("-".join(map(str, key)).replace("/", "_") + ".csv"))
