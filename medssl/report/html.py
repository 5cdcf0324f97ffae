"""One self-contained HTML page: data flow, counts, removed duplicates, label efficiency, comparison of runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from medssl.evaluate.metrics import fullest, headline, protocols, shown
from medssl.report.card import crossing
from medssl.report.page import fill, inline
from medssl.report.plots import COLOURS

PICTURES = ("curves.png", "label_efficiency.png")  # of a run, on the page


def comparison(metrics: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, str]) -> pd.DataFrame:
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
            "metric": headline(values),
            **values[headline(values)],
        }
        for run, tasks in metrics.items()
        for task, results in tasks.items()
        for protocol, fractions in protocols(results).items()
        for fraction, values in fractions.items()
    ]
    columns = ["run", "recipe", "label", "protocol", "label_fraction", "metric"]
    columns += ["mean", "lo", "hi", "n_patients", "seeds", "too_few"]
    return pd.DataFrame(rows, columns=columns)


def _wide(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the comparison: a row per run and label, a column per protocol.

    At all labels, or at the largest fraction there is, which the cell then names.
    """
    full = table.loc[table.groupby(["run", "label", "protocol"], sort=False)["label_fraction"].idxmax()]
    columns = [p for p in COLOURS if p in set(full["protocol"])]
    rows = []
    for (run, label), group in full.groupby(["run", "label"], sort=False):
        cells = {
            str(r["protocol"]): shown(r, 2) + fullest({f"{r['label_fraction']:g}": r})[1]
            for r in group.to_dict("records")
        }
        first = group.iloc[0]
        rows.append(
            [str(run), str(first["recipe"]), f"{label} ({first['metric']})", str(first["n_patients"])]
            + [cells.get(p, "") for p in columns]
        )
    return ["run", "recipe", "label (metric)", "test patients", *columns], rows


def render(
    flows: Sequence[Mapping[str, Any]],
    galleries: Mapping[str, Path],
    runs: Mapping[str, Path],
    recipes: Mapping[str, str],
    measures: Mapping[str, Sequence[str]],
) -> tuple[str, pd.DataFrame]:
    """Return the page and the comparison table.

    Args:
        flows: counts of each cohort, as the split stage writes them.
        galleries: picture of removed duplicates by cohort.
        runs, recipes: folder and recipe of each run.
        measures: what pretraining of each run saw of its patients besides the recordings.
    """
    metrics = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in runs.items()}
    table = comparison(metrics, recipes)
    header, rows = _wide(table)
    page = fill(
        "medssl.report",
        "report.html.j2",
        flows=flows,
        galleries=[(name, inline(path.read_bytes())) for name, path in galleries.items()],
        runs=[
            (name, recipes[name], ", ".join(measures[name]), *(inline((folder / p).read_bytes()) for p in PICTURES))
            for name, folder in runs.items()
        ],
        header=header,
        rows=rows,
        left_out=[
            (run, label, of["left_out"])
            for run, tasks in metrics.items()
            for label, of in tasks.items()
            if "left_out" in of
        ],
        crossed=[(flow["cohort"], crossing(n)) for flow in flows if (n := flow.get("crossing_patients"))],
    )
    return page, table
