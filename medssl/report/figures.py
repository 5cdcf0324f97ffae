"""Figures of an evaluation: differences, calibration, decisions, confusion, predicted numbers, inner stages.

Each draws the table it is given; nothing here scores a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from medssl.evaluate.metrics import known
from medssl.report.protocols import OTHER, STAGE, colour
from medssl.report.words import full, named

NOISE = "#a8b0b8"  # an interval that holds 0
BETTER, WORSE = "#0b6e99", "#d1495b"
LIMIT = 0.6  # of a difference on the axis; R^2 of a few patients may be far below
ROW, WIDE = 0.24, 13.0  # inches


def forest(panels: Mapping[str, pd.DataFrame], rows: Sequence[str], title: str = "") -> Figure:
    """Draw differences to references with their intervals: a panel per kind of reference, a row per run and label.

    Blue is better than the reference, red is worse, grey is within noise, hollow has no interval.

    Args:
        panels: heading -> ``row, against, mean, lo, hi``; ``row`` is one of ``rows``. The reference is written beside
            the bar where rows of a panel differ in it.
        rows: from top to bottom.
        title: above all panels.
    """
    longest = max((len(row) for row in rows), default=0)
    left, height = 0.5 + 0.075 * longest, ROW * len(rows)
    width = max(2.1, min(3.4, (WIDE - left) / max(len(panels), 1)))
    figure = Figure(figsize=(left + width * len(panels) + 0.2, height + 1.0), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    place = {row: number for number, row in enumerate(rows)}
    for axis, (heading, table) in zip(axes, panels.items(), strict=True):
        mean, low, high = (table[name].to_numpy(dtype=float) for name in ("mean", "lo", "hi"))
        edge = float(np.nanmax(np.abs(np.concatenate([mean, low, high])), initial=0.05))
        edge = min(LIMIT, 1.08 * edge)
        several = table["against"].nunique() > 1
        for row, against, m, lo, hi in zip(table["row"], table["against"], mean, low, high, strict=True):
            y = place[row]
            if not known(m):
                continue
            interval = known(lo) and known(hi)
            paint = (BETTER if lo > 0 else WORSE if hi < 0 else NOISE) if interval else NOISE
            if interval:
                axis.plot(np.clip([lo, hi], -edge, edge), [y, y], color=paint, lw=2, solid_capstyle="butt")
            outside = abs(m) > edge
            marker = (">" if m > 0 else "<") if outside else "o"
            at = float(np.clip(m, -edge, edge))
            axis.plot([at], [y], marker, color=paint, ms=5, mfc=paint if interval else "white", zorder=3)
            if several:
                text = axis.get_yaxis_transform()
                axis.text(1.01, y, against, fontsize=7, va="center", color="#5a6675", transform=text)
        axis.axvline(0, color="#1d2733", lw=0.8, zorder=0)
        axis.set_title(heading.replace(" - ", "\n- "), fontsize=9)
        axis.set_xlim(-edge, edge)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="y", color="#eef1f4", lw=0.8)
        axis.set_axisbelow(True)
        axis.set_xlabel("← worse    better →", fontsize=8)
    axes[0].set_yticks(range(len(rows)), rows, fontsize=8)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    if title:
        figure.suptitle(title)
    return figure


def calibration(tasks: Mapping[str, Mapping[str, tuple[pd.DataFrame, float]]]) -> Figure:
    """Draw calibration curves, a panel per binary label.

    Args:
        tasks: label -> protocol -> curve of `medssl.evaluate.calibration.reliability` and its calibration error,
            which stands in the legend. A point is as large as its share of the predictions.
    """
    figure, axes = _panels(len(tasks), (3.5, 3.6))
    for axis, (task, curves) in zip(axes, tasks.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#c0c0c0", lw=1, ls="--")
        for protocol, (curve, error) in curves.items():
            label = f"{protocol}, ECE {error:.2f}"
            axis.plot(curve["predicted"], curve["observed"], "-", color=colour(protocol), lw=1.3, label=label)
            size = 8 + 120 * curve["n"] / curve["n"].sum()
            axis.scatter(curve["predicted"], curve["observed"], s=size, color=colour(protocol), lw=0)
        axis.set(title=task, xlabel="predicted probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
        axis.legend(fontsize=7, loc="upper left")
    return figure


def decisions(tasks: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Draw the net benefit of acting above a threshold, against acting on everybody and on nobody.

    Args:
        tasks: label -> protocol -> curve of `medssl.evaluate.calibration.decision_curve`.
    """
    figure, axes = _panels(len(tasks), (3.5, 3.2))
    for axis, (task, curves) in zip(axes, tasks.items(), strict=True):
        any_curve = next(iter(curves.values()))
        axis.plot(any_curve["threshold"], any_curve["all"], color="#1d2733", lw=0.9, ls=":", label="everybody")
        axis.axhline(0, color="#1d2733", lw=0.9, label="nobody")
        for protocol, curve in curves.items():
            axis.plot(curve["threshold"], curve["model"], color=colour(protocol), lw=1.3, label=protocol)
        top = max(float(any_curve["all"].max()), *(float(c["model"].max()) for c in curves.values()), 0.01)
        axis.set(
            title=task, xlabel="threshold of acting", ylabel="net benefit", xlim=(0, 1), ylim=(-0.3 * top, 1.1 * top)
        )
        axis.legend(fontsize=7, loc="upper right")
    return figure


def confusion(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw confusion matrices, a panel per label: the share of each true class (row) by predicted class (column).

    Args:
        tasks: label -> shares (K, K) with the classes as index and columns.
    """
    side = max((len(shares) for shares in tasks.values()), default=2)
    figure, axes = _panels(len(tasks), (max(2.8, 1.2 + 0.55 * side), max(2.8, 1.1 + 0.5 * side)))
    for axis, (task, shares) in zip(axes, tasks.items(), strict=True):
        axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
        for (i, j), share in np.ndenumerate(shares.to_numpy()):
            if known(share):
                axis.text(j, i, f"{share:.2f}", ha="center", va="center", fontsize=8, color="w" if share > 0.6 else "k")
        names = [str(name)[:14] for name in shares.index]
        turned = {"rotation": 45, "ha": "right"} if max(map(len, names)) > 5 else {}
        axis.set_xticks(range(len(names)), names, fontsize=8, **turned)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set(title=task, xlabel="predicted", ylabel="true")
    return figure


def agreement(tasks: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw predicted against true numbers, a panel per label.

    Args:
        tasks: label -> ``truth, predicted``, a row per test unit.
    """
    figure, axes = _panels(len(tasks), (3.3, 3.3))
    for axis, (task, table) in zip(axes, tasks.items(), strict=True):
        axis.scatter(table["truth"], table["predicted"], s=9, alpha=0.5, color=colour("probe"), lw=0)
        ends = (float(table["truth"].min()), float(table["truth"].max()))
        axis.plot(ends, ends, color="#1d2733", lw=0.8, ls="--")
        # A few wild predictions may not hide the others.
        low, high = np.quantile(table["predicted"], (0.01, 0.99))
        room = 0.05 * (max(ends[1], high) - min(ends[0], low)) or 1.0
        axis.set(title=task, xlabel="true", ylabel="predicted")
        axis.set_ylim(min(ends[0], low) - room, max(ends[1], high) + room)
    return figure


def stages(metrics: Mapping[str, Any]) -> Figure | None:
    """Draw the probe of each inner stage of the encoder beside that of its embedding; None without stages."""
    tasks = {task: [p for p in of if p.startswith(STAGE)] for task, of in metrics.items()}
    tasks = {task: names for task, names in tasks.items() if names}
    if not tasks:
        return None
    most = max(map(len, tasks.values())) + 1
    figure, axes = _panels(len(tasks), (max(2.4, 1.2 + 0.45 * most), 3.0))
    for axis, (task, names) in zip(axes, tasks.items(), strict=True):
        shown = [*names, *(["probe"] if "probe" in metrics[task] else [])]
        metric = ""
        for number, protocol in enumerate(shown):
            metric, value, _ = full(metrics[task], protocol) or ("", {"mean": None}, "")
            if not known(value["mean"]):
                continue
            axis.bar([number], [value["mean"]], color=colour(protocol) if protocol == "probe" else "#9cc4d6", width=0.7)
            if known(value["lo"]):
                axis.plot([number, number], [value["lo"], value["hi"]], color=OTHER, lw=1.2)
        labels = [name.removeprefix(STAGE) if name != "probe" else "embedding" for name in shown]
        axis.set_xticks(range(len(shown)), labels, rotation=45, ha="right", fontsize=8)
        axis.set(title=task, ylabel=named(metric))
        if metric == "auroc":
            axis.set_ylim(0.4, 1)
            axis.axhline(0.5, color="#c0c0c0", lw=0.8)
    return figure


def _panels(number: int, size: tuple[float, float]) -> tuple[Figure, Sequence[Any]]:
    """Return a figure of up to four panels a line, each of a size in inches, and its axes."""
    columns = min(4, max(number, 1))
    lines = -(-max(number, 1) // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[number:]:
        axis.set_axis_off()
    return figure, list(axes[:number])
