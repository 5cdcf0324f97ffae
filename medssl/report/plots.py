"""Plots of curves, label efficiency and duplicates; nothing here computes a result."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medssl.evaluate.metrics import fullest, headline, known, protocols, shown
from medssl.report.protocols import STAGE, colour, ordered
from medssl.report.words import full, main_label, named, values
from medssl.store import Store


def flat_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return ``protocol/test/label/fraction/metric`` -> mean, and with ``_lo`` and ``_hi``, of what has a value."""
    out: dict[str, float] = {}
    for task, results in metrics.items():
        for protocol, fractions in protocols(results).items():
            for fraction, of_fraction in fractions.items():
                for metric, v in values(of_fraction).items():
                    name = f"{protocol}/test/{task}/{fraction}/{metric}"
                    three = {name: v["mean"], f"{name}_lo": v["lo"], f"{name}_hi": v["hi"]}
                    out |= {key: value for key, value in three.items() if known(value)}
    return out


def headlines(metrics: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """Return the label and metric a run is read by, and its value by protocol: ``<protocol>/test/headline``.

    Names are those of all runs, whatever their label, so that a list of runs has them in one column.
    """
    if (task := main_label(metrics)) is None:
        return "", {}
    out: dict[str, float] = {}
    metric = ""
    for protocol in protocols(metrics[task]):
        metric, value, _ = full(metrics[task], protocol) or (metric, {}, "")
        three: dict[str, Any] = {end: value.get(name) for end, name in (("", "mean"), ("_lo", "lo"), ("_hi", "hi"))}
        out |= {f"{protocol}/test/headline{end}": round(number, 4) for end, number in three.items() if known(number)}
    return f"{task} {metric}", out


def one_line(results: Mapping[str, Any]) -> str:
    """Return the headline of each protocol at its largest label fraction, or why a label was left out."""
    if "left_out" in results:
        return f"left out: {results['left_out']}"
    parts = []
    for protocol, fractions in protocols(results).items():
        share, words = fullest(fractions)
        parts.append(f"{protocol}{words} {shown(fractions[share][headline(fractions[share])])}")
    return ", ".join(parts)


def summary(name: str, results: Mapping[str, Any]) -> str:
    """Return `one_line` behind a name and the number of test patients."""
    n = next(
        (v["n_patients"] for f in protocols(results).values() for m in f.values() for v in values(m).values()), None
    )
    return f"{name}{'' if n is None else f' (n={n} test patients)'}: {one_line(results)}"


def curves(history: Sequence[Mapping[str, float]], title: str) -> Figure:
    """Draw losses, effective rank, kNN accuracy, dispersion, alignment and uniformity, and learning rate by step."""
    have = history[0] if history else {}  # an encoder from elsewhere has none
    panels = [
        ("loss", [k for k in have if k.endswith("/loss")]),
        ("effective rank (RankMe)", [k for k in have if "rankme" in k]),
        ("kNN balanced accuracy", [k for k in have if k.endswith("knn")]),
        ("within / between patients", [k for k in have if k.endswith("dispersion")]),
        ("alignment, uniformity of views", [k for k in have if k.endswith(("alignment", "uniformity"))]),
        ("learning rate", ["lr"]),
    ]
    own = [k for k in have if k.startswith("train/") and not k.endswith("/loss") and "rankme" not in k]
    panels += [("of the recipe", own)] * bool(own)
    columns = -(-len(panels) // 2)
    steps = [row["step"] for row in history]
    figure = Figure(figsize=(4 * columns, 5.6), layout="constrained")
    axes = figure.subplots(2, columns).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, keys) in zip(axes, panels, strict=False):
        for key in keys:
            axis.plot(steps, [row.get(key, np.nan) for row in history], label=key, marker=".")
        axis.set(title=name, xlabel="step")
        if keys and name != "learning rate":
            axis.legend(fontsize=7)
        if not keys:
            axis.text(0.5, 0.5, "not monitored", ha="center", va="center", transform=axis.transAxes)
    figure.suptitle(title)
    return figure


def label_efficiency(metrics: Mapping[str, Any], title: str) -> Figure:
    """Draw the headline metric against the share of labelled patients, with 95 % intervals as bands.

    Protocols that were run at one share stand beside it, with a bar each. Hollow points have too few patients for an
    interval; a label that was left out has a panel that says why.
    """
    tasks = list(metrics)
    if not tasks:
        figure = Figure(figsize=(5, 1), layout="constrained")
        figure.text(0.5, 0.5, f"{title}: no labels to evaluate on", ha="center")
        return figure
    columns = min(4, len(tasks))
    lines = -(-len(tasks) // columns)
    entries = ordered(name for of_task in metrics.values() for name in protocols(of_task))
    ncols = 2 * columns
    figure = Figure(figsize=(3.6 * columns, 3.2 * lines + 0.3 + 0.17 * -(-len(entries) // ncols)), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[len(tasks) :]:
        axis.set_axis_off()
    legend: dict[str, Any] = {}
    for axis, task in zip(axes, tasks, strict=False):
        if protocols(metrics[task]):
            legend |= _efficiency(axis, task, protocols(metrics[task]))
        else:
            reason = textwrap.fill(f"left out: {metrics[task].get('left_out', 'no results')}", 32)
            axis.text(0.5, 0.5, reason, ha="center", va="center", transform=axis.transAxes)
            axis.set(title=task, xticks=[], yticks=[])
    if legend:
        names = [name for name in entries if name in legend]
        figure.legend([legend[n] for n in names], names, loc="outside lower center", ncols=ncols, fontsize=7)
    figure.suptitle(title)
    return figure


def _efficiency(axis: Any, task: str, results: Mapping[str, Any]) -> dict[str, Any]:
    """Draw one label and return a line for each protocol; inner stages of the encoder are drawn elsewhere."""
    legend: dict[str, Any] = {}
    few, below, beside, name = "", 0, 0, ""
    shown_ones = ordered(results) or [p for p in results if p.startswith(STAGE)]
    for protocol in shown_ones:
        shares = sorted(results[protocol], key=float)
        name = headline(results[protocol][shares[0]])
        of_shares = [results[protocol][s][name] for s in shares]
        x = np.array([float(s) * 100 for s in shares])
        # None becomes NaN, which draws no band and no point.
        mean, low, high = (np.array([v[k] for v in of_shares], dtype=float) for k in ("mean", "lo", "hi"))
        paint = colour(protocol)
        if len(shares) > 1:
            (line,) = axis.plot(x, mean, "o-", ms=3, lw=1.3, color=paint)
            axis.fill_between(x, low, high, color=paint, alpha=0.13, lw=0)
        else:
            beside += 1
            x = x * 1.13**beside
            (line,) = axis.plot(x, mean, "o", ms=3, color=paint)
            axis.plot(np.repeat(x, 2), [low[0], high[0]], color=paint, lw=1.1)
        legend[protocol] = line
        below += int((mean < -1).sum()) if name == "r2" else 0
        hollow = np.isnan(low)
        if hollow.any():
            axis.plot(x[hollow], mean[hollow], "o", ms=4, mfc="white", mec=paint, zorder=3)
            few = "\nhollow: " + shown({**of_shares[int(hollow.argmax())], "mean": None})
    n = max(v[name]["n_patients"] for p in shown_ones for v in results[p].values() if name in v)
    xlabel = f"labelled training patients (%)\nn={n} test patients{few}"
    xlabel += f"\n{below} values below -1 not shown" if below else ""
    axis.set(title=task, xlabel=xlabel, ylabel=named(name), xscale="log")
    ticks = sorted({float(s) * 100 for protocol in shown_ones for s in results[protocol]})
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axis.minorticks_off()
    axis.axhline(0.5 if name == "auroc" else 0.0, color="#cccccc", lw=0.8, zorder=0)
    if below:
        axis.set_ylim(-1, 1)
    return legend


def _draw(axis: Any, sample: np.ndarray, title: str) -> None:
    if sample.ndim == 2:
        offsets = np.arange(min(3, len(sample)))[:, None] * 4
        axis.plot((sample[:3] - offsets).T, lw=0.6)
    else:
        image = sample[0] if sample.ndim == 3 else sample[0, sample.shape[1] // 2]
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=8)


def duplicates(store: Store, receipts: pd.DataFrame, *, unit: str = "bits", most: int = 6) -> Figure:
    """Draw removed samples under the ones that stand for them: the exact ones first, then the most distant."""
    removed = receipts[receipts["duplicate_of"].notna()]
    near = removed[removed["method"] != "exact"].sort_values("distance", ascending=False, kind="stable")
    exact = removed[removed["method"] == "exact"].head(max(most // 2, most - len(near)))
    shown = pd.concat([exact, near]).head(most)
    position = {s: i for i, s in enumerate(store.table["sample_id"])}
    figure = Figure(figsize=(2 * most, 4.2), layout="constrained")
    axes = figure.subplots(2, most)
    for axis in axes[:, len(shown) :].flat:
        axis.set_axis_off()
    for (above, below), row in zip(axes.T, shown.itertuples(), strict=False):
        _draw(above, store[position[row.duplicate_of]], "kept")
        _draw(below, store[position[row.sample_id]], f"removed: {row.method}, {row.distance:g} {unit}")
    if not len(shown):
        figure.text(0.5, 0.5, "no duplicates found", ha="center")
    return figure


def scatter(points: np.ndarray, colour: Sequence[Any], title: str) -> Figure:
    """Draw embeddings in the plane, coloured by a trait (number or class)."""
    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    values = np.asarray(colour)
    if values.dtype.kind in "fi":
        drawn = axis.scatter(points[:, 0], points[:, 1], c=values, s=12, cmap="viridis")
        figure.colorbar(drawn, ax=axis)
    else:
        for name in np.unique(values.astype(str)):
            here = values.astype(str) == name
            axis.scatter(points[here, 0], points[here, 1], s=12, label=name)
        axis.legend(fontsize=8)
    axis.set(title=title, xticks=[], yticks=[])
    return figure
