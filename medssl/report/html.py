"""One self-contained HTML page: data flow, counts, removed duplicates, label efficiency, comparison of runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from medssl.evaluate.metrics import headline
from medssl.report.plots import COLOURS


def comparison(metrics: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per run, label, protocol and label fraction with the headline metric and its interval."""
    rows = []
    for run, tasks in metrics.items():
        for task, protocols in tasks.items():
            for protocol, fractions in protocols.items():
                for fraction, values in fractions.items():
                    metric = headline(values)
                    rows.append(
                        {
                            "run": run,
                            "recipe": recipes.get(run, ""),
                            "label": task,
                            "protocol": protocol,
                            "label_fraction": float(fraction),
                            "metric": metric,
                            **values[metric],
                        }
                    )
    return pd.DataFrame(rows)


def _wide(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the comparison at all labels: a row per run and label, a column per protocol."""
    full = table[table["label_fraction"] == 1.0]
    protocols = [p for p in COLOURS if p in set(full["protocol"])]
    rows = []
    for (run, label), group in full.groupby(["run", "label"], sort=False):
        cells = {r["protocol"]: f"{r['mean']:.2f} [{r['lo']:.2f}, {r['hi']:.2f}]" for _, r in group.iterrows()}
        first = group.iloc[0]
        rows.append(
            [str(run), str(first["recipe"]), f"{label} ({first['metric']})", str(first["n_patients"])]
            + [cells.get(p, "") for p in protocols]
        )
    return ["run", "recipe", "label (metric)", "test patients", *protocols], rows


def _picture(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def render(
    flow: Path, runs: Mapping[str, Path], cohorts: Sequence[str], recipes: Mapping[str, str]
) -> tuple[str, pd.DataFrame]:
    """Return the page and the comparison table.

    Args:
        flow: folder with ``<cohort>-counts.json`` and ``<cohort>-duplicates.png``.
        runs: folder of each run; only runs and cohorts named here are shown, whatever else lies beside them.
        cohorts: names in ``modalities``.
        recipes: recipe of each run.
    """
    metrics = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in runs.items()}
    table = comparison(metrics, recipes)
    header, rows = _wide(table) if len(table) else ([], [])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medssl.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        flows=[json.loads((flow / f"{c}-counts.json").read_text()) for c in cohorts],
        galleries=[(c, _picture(flow / f"{c}-duplicates.png")) for c in cohorts],
        runs=[
            (name, recipes[name], _picture(folder / "curves.png"), _picture(folder / "label_efficiency.png"))
            for name, folder in runs.items()
        ],
        header=header,
        rows=rows,
    )
    return page, table
