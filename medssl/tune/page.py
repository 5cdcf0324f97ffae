"""What a search found: a table of trials, one self-contained page, and the change of params.yaml."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from medssl.evaluate import compare
from medssl.report.figures import BETTER, NOISE, WORSE
from medssl.report.page import drawn, fill
from medssl.report.words import named
from medssl.store import write_parquet
from medssl.tune import patch
from medssl.tune.inner import FOLDS, LEAST
from medssl.tune.search import OWN, Search, best, finished, values_of

SHOWN = 10  # trials in the page's table
ENOUGH = 10  # scored trials before a share of importance means anything
STATES = {TrialState.COMPLETE: "scored", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


def table_of(search: Search, study: optuna.Study) -> pd.DataFrame:
    """Return one row a trial: ``trial, state, score, seconds, reason``, the headline of each label, and the values.

    Values that are no numbers are JSON text.
    """
    rows = []
    for trial in finished(study):
        values = {axis.key: axis.value(trial.params[axis.key]) for axis in search.axes}
        texts = {
            axis.key: json.dumps(values[axis.key])
            for axis in search.axes
            if isinstance(axis.draws, CategoricalDistribution)
        }
        row = {"trial": trial.number, "state": STATES[trial.state], "score": np.nan}
        row |= {"seconds": round(trial.user_attrs["seconds"], 1), "reason": trial.user_attrs["reason"]}
        if trial.state is TrialState.COMPLETE:
            row |= {"score": trial.value, **trial.user_attrs["labels"]}
        rows.append(row | values | texts)
    return pd.DataFrame(rows)


def importance(study: optuna.Study) -> dict[str, float]:
    """Return the share of the scores' variance that each key explains, by a forest; nothing of too few trials.

    Source: Hutter et al. 2014 (functional ANOVA).
    """
    scored = {trial.number: trial.value for trial in finished(study) if trial.state is TrialState.COMPLETE}
    if len(scored) < ENOUGH or len(set(scored.values())) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def history(table: pd.DataFrame, own: float) -> Figure:
    """Draw scores by trial, the best so far, and the run as it stands as a line."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axis = figure.subplots()
    scored = table[table["state"] == "scored"]
    axis.axhline(own, color=WORSE, lw=1, label="the run as it stands")
    axis.plot(
        table["trial"], table["score"].cummax().ffill(), color=BETTER, lw=1.3, drawstyle="steps-post", label="best"
    )
    axis.plot(scored["trial"], scored["score"], "o", ms=4, color=NOISE, label="trial")
    low = axis.get_ylim()[0]
    for state, marker in (("stopped early", "|"), ("failed", "x")):
        some = table[table["state"] == state]
        if len(some):
            axis.plot(some["trial"], np.full(len(some), low), marker, ms=5, color="#5a6675", label=state)
    axis.set(xlabel="trial", ylabel="score")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=7)
    return figure


def slices(table: pd.DataFrame, search: Search, chosen: int) -> Figure:
    """Draw the score against each key: trials grey, the run as it stands red, the best blue."""
    scored = table[table["state"] == "scored"]
    columns = min(4, len(search.axes))
    lines = -(-len(search.axes) // columns)
    figure = Figure(figsize=(3 * columns, 2.4 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(search.axes) :]:
        axis.set_axis_off()
    paint = scored["trial"].map({OWN: WORSE, chosen: BETTER}).fillna(NOISE)
    for axis, searched in zip(axes, search.axes, strict=False):
        x = scored[searched.key]
        draws: Any = searched.draws
        if isinstance(draws, CategoricalDistribution):
            place = {text: number for number, text in enumerate(sorted(draws.choices, key=_rank))}
            x = x.map(place)
            axis.set_xticks(range(len(place)), [str(text)[:18] for text in place])
        axis.scatter(x, scored["score"], c=paint, s=16, zorder=2)
        if not isinstance(draws, CategoricalDistribution):
            # The whole range, so that an end where nothing was tried, or where the best is, can be seen.
            axis.set_xscale("log" if draws.log else "linear")
            axis.set_xticks(ends := [draws.low, searched.own, draws.high], [f"{end:.3g}" for end in ends])
            axis.minorticks_off()
        axis.set_title(searched.key, fontsize=8)
        axis.tick_params(labelsize=7)
    return figure


def _rank(text: Any) -> tuple[bool, float, str]:
    """Return what sorts choices: numbers by size, then the rest by their text."""
    value = json.loads(text)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return not number, float(value) if number else 0.0, str(text)


def bars(shares: Mapping[str, float]) -> Figure:
    """Draw importances, the largest first."""
    figure = Figure(figsize=(6, 0.7 + 0.24 * len(shares)), layout="constrained")
    axis = figure.subplots()
    axis.barh(range(len(shares)), list(shares.values()), color=BETTER)
    axis.set_yticks(range(len(shares)), list(shares), fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="share of the scores' variance")
    return figure


def sentences(search: Search, study: optuna.Study, confirmed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was reached, on whom, and how far it can be believed; one line each."""
    trials, top = finished(study), best(study)
    scored = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    own = scored[OWN]
    place = 1 + sum(float(trial.value or 0) > float(own.value or 0) for trial in scored)
    held = search.stores[: search.choosing]
    patients = sum(one.table.loc[one.table["split"] == "test", "patient"].nunique() for one in held)
    lines = [
        f"best: trial {top.number}, score {top.value:.3f}; the run as it stands: {own.value:.3f}, "
        f"place {place} of {len(scored)}",
        f"the score is the mean over {', '.join(top.user_attrs['labels'])} on {patients} held-out patients of "
        f"{search.choosing} of {FOLDS} inner folds; no patient of the test part was read",
    ]
    if top.number == OWN:
        return [*lines, "no trial was better than the run as it stands; nothing to change"]
    lines.append(f"the best of {len(scored)} scores is optimistic: chance chose it too")
    if not confirmed:
        why = "every inner fold chose; take fewer --folds" if search.choosing == FOLDS else "see the notes"
        return [*lines, f"the difference is not confirmed on other patients: {why}"]
    lines += [
        f"on {row['n_patients']} patients of the inner folds that chose nothing: {row['label']} "
        f"{named(row['metric'])} {row['best']:.3f} against {row['own']:.3f}, difference {compare.shown(dict(row))}"
        for row in confirmed
    ]
    mean = np.mean([row["mean"] for row in confirmed])
    return [*lines, f"mean difference there: {mean:+.3f}; intervals cover patients, not other trainings"]


def cell(value: Any) -> str:
    """Return a value as a cell of a table."""
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)


def write(
    out: Path, search: Search, study: optuna.Study, confirmed: Sequence[Mapping[str, Any]], params: Path
) -> list[str]:
    """Write ``trials.parquet``, ``page.html`` and ``params.yaml.patch``, and return what they say in lines.

    Args:
        out: folder.
        search: what was searched.
        study: its trials.
        confirmed: of `medssl.tune.confirm.confirm`.
        params: the params file that the patch is for.
    """
    out.mkdir(parents=True, exist_ok=True)
    table, top = table_of(search, study), best(study)
    values, lines = values_of(search, top), sentences(search, study, confirmed)
    command = patch.command(search.name, values, params)
    shares, own = importance(study), float(table.loc[table["trial"] == OWN, "score"].iloc[0])
    write_parquet(table, out / "trials.parquet")
    head = "".join(f"# {line}\n" for line in ([*lines, command] if values else lines))
    (out / "params.yaml.patch").write_text(head + (patch.part(search.name, values) if values else "{}\n"), "utf-8")
    ranked = table[table["state"] == "scored"].sort_values("score", ascending=False, kind="stable").head(SHOWN)
    header = [name for name in table.columns if name not in ("state", "reason")]
    pictures = [("scores by trial", history(table, own))]
    if shares:
        pictures.append(("what mattered", bars(shares)))
    pictures.append(("score by value", slices(table, search, top.number)))
    page = fill(
        "medssl.tune",
        "tune.html.j2",
        run=search.name,
        lines=lines,
        notes=search.notes,
        least=LEAST,
        changes=[(axis.key, cell(axis.own), cell(values[axis.key])) for axis in search.axes if axis.key in values],
        command=command if values else "",
        pictures=[(title, drawn(figure)) for title, figure in pictures],
        few=f"{len(table)} trials, of which {int((table['state'] == 'scored').sum())} were scored; "
        f"what mattered is told from {ENOUGH} on" * (not shares),
        header=header,
        rows=[[cell(row[name]) for name in header] for row in ranked.to_dict("records")],
        failed=[(n, reason) for n, s, reason in table[["trial", "state", "reason"]].to_numpy() if s == "failed"],
    )
    (out / "page.html").write_text(page, "utf-8")
    return lines
