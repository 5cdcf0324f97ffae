"""One self-contained HTML page: results in words, whether to trust them, comparison, differences, runs, data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from medssl.evaluate.metrics import known, shown
from medssl.report import figures, paired, plots, predicted, protocols, stored, tables, words
from medssl.report.card import crossing
from medssl.report.page import drawn, fill, inline


def render(
    flows: Sequence[Mapping[str, Any]],
    galleries: Mapping[str, Path],
    runs: Mapping[str, Path],
    recipes: Mapping[str, str],
    measures: Mapping[str, Sequence[str]],
    *,
    differences: pd.DataFrame | None = None,
) -> tuple[str, pd.DataFrame]:
    """Return the page and the comparison table.

    Args:
        flows: counts of each cohort, as the split stage writes them.
        galleries: picture of removed duplicates by cohort.
        runs, recipes: folder and recipe of each run. What a folder lacks (trust.json, subgroups.parquet, crossfit) is
            not shown.
        measures: what pretraining of each run saw of its patients besides the recordings.
        differences: paired differences with the columns `medssl.report.paired.COLUMNS`; None: not shown.

    Raises:
        ValueError: a run that was not evaluated, or a column of ``differences`` that is missing.
    """
    if differences is not None:
        differences = paired.complete(differences)
    results = {name: stored.read(folder) for name, folder in runs.items()}
    groups, rows = tables.wide(results, recipes)
    page = fill(
        "medssl.report",
        "report.html.j2",
        verdicts=stored.VERDICTS,
        sentences=[
            words.sentence(name, result, task, differences)
            for name, result in results.items()
            if (task := words.main_label(result.metrics)) is not None
        ],
        trust=[(name, result.trust) for name, result in results.items()],
        trusted=any(result.trust for result in results.values()),
        groups=groups,
        rows=rows,
        meanings={name: facts[1] for name, facts in protocols.KNOWN.items() if any(name in g for g in groups.values())},
        left_out=[
            (name, task, of_task["left_out"])
            for name, result in results.items()
            for task, of_task in result.metrics.items()
            if "left_out" in of_task
        ],
        crossed=[(flow["cohort"], crossing(n)) for flow in flows if (n := flow.get("crossing_patients"))],
        forests=_forests(differences, results),
        differences=[] if differences is None else [_difference(row) for row in differences.to_dict("records")],
        runs=[_run(name, result, recipes[name], measures[name]) for name, result in results.items()],
        flows=flows,
        galleries=[(name, inline(path.read_bytes())) for name, path in galleries.items()],
    )
    return page, tables.comparison(results, recipes)


def _difference(row: Mapping[Any, Any]) -> list[str]:
    """Return a paired difference as cells."""
    interval = known(row["lo"]) and known(row["hi"])
    number = shown(row, 3, sign="+") if interval else f"{row['mean']:+.3f}" if known(row["mean"]) else ""
    p = f"{row['p']:.3g}" if known(row["p"]) else ""
    compared = f"{row['run']}, {row['protocol']}"
    return [compared, row["task"], row["against"], words.named(row["metric"]), number, p, str(row["n_patients"]),
            paired.verdict(row)]  # fmt: skip


def _forests(differences: pd.DataFrame | None, results: Mapping[str, stored.Stored]) -> list[tuple[str, str]]:
    """Return forest plots with what they show: against baselines and controls, and between runs."""
    if differences is None:
        return []
    baselines = {
        (name, task): words.strongest(of_task)
        for name, result in results.items()
        for task, of_task in result.metrics.items()
    }
    out = []
    rows, panels = paired.panels(differences, baselines)
    if panels:
        out.append(("paired differences to baselines and controls", drawn(figures.forest(panels, rows))))
    between = paired.between_runs(differences)
    if len(between):
        figure = figures.forest({"run - other run": between.assign(against="")}, list(between["row"]))
        out.append(("paired differences between runs", drawn(figure)))
    return out


def _run(name: str, result: stored.Stored, recipe: str, measures: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of a run."""
    header, rows = tables.by_metric(result.metrics, predicted.wanted(result.metrics))
    pictures: list[tuple[str, Figure]] = []
    if rows:
        efficiency = plots.label_efficiency(result.metrics, f"{name}, {result.split}")
        pictures.append((f"label efficiency of {name}", efficiency))
    if (figure := figures.stages(result.metrics)) is not None:
        pictures.append((f"probes of the inner stages of {name}", figure))
    if result.predictions is not None:
        table = predicted.read(result.predictions, result.metrics)
        if curve := predicted.calibrations(table, result.metrics):
            pictures.append((f"calibration of {name}", figures.calibration(curve)))
        if decided := predicted.decided(table):
            pictures.append((f"net benefit of decisions by {name}", figures.decisions(decided)))
        if confused := predicted.confused(table, result.metrics):
            pictures.append((f"confusion of {name}", figures.confusion(confused)))
        if numbers := predicted.numbers(table, result.metrics):
            pictures.append((f"predicted and true numbers of {name}", figures.agreement(numbers)))
    shown_ones = [(alt, drawn(figure)) for alt, figure in pictures]
    for file, alt in (
        ("curves.png", "training curves of"),
        ("views/views.png", "what the encoder sees in pretraining:"),
    ):
        if (path := result.folder / file).is_file():
            shown_ones.append((f"{alt} {name}", inline(path.read_bytes())))
    return {
        "name": name,
        "recipe": recipe,
        "split": result.split,
        # From the project's folder, in which commands are run.
        "encoder": f"data/runs/{name}/encoder" if (result.folder / "encoder" / "config.json").is_file() else "",
        "measures": ", ".join(measures),
        "header": header,
        "metrics": rows,
        "fixed": tables.wide({name: stored.on_fixed_split(result)}, {}) if result.fixed else None,
        "subgroups": [
            [*row[:3], words.named(row[3]), *row[4:]] for row in words.subgroups(result.subgroups, result.metrics)
        ],
        "pictures": shown_ones,
    }
