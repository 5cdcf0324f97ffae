"""Figures draw the tables they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from medssl.report import figures, paired
from tests.report.made_up import FEW, differences, results, value


def save(figure: Figure, folder: Path) -> None:
    figure.savefig(folder / "x.png", dpi=40)
    assert (folder / "x.png").stat().st_size > 500


def test_forest(tmp_path: Path) -> None:
    table = paired.complete(differences()).assign(row=lambda t: t["against"])
    figure = figures.forest({"probe - references": table}, list(table["row"]), "title")
    axis = figure.axes[0]
    bars = {line.get_ydata()[0]: line for line in axis.lines if len(line.get_xdata()) == 2 and line.get_lw() == 2}  # type: ignore[index,arg-type]
    points = {line.get_ydata()[0]: line for line in axis.lines if len(line.get_xdata()) == 1}  # type: ignore[index,arg-type]
    colours = [to_hex(points[row].get_color()) for row in range(5)]
    # Within noise, better, better, no interval, worse.
    assert colours == [figures.NOISE, figures.BETTER, figures.BETTER, figures.NOISE, figures.WORSE]
    np.testing.assert_allclose(bars[1].get_xdata(), [0.1, 0.3])  # type: ignore[arg-type]
    assert 3 not in bars
    assert points[3].get_markerfacecolor() == "white"
    assert [text.get_text() for text in axis.texts] == list(table["against"])  # which differ by row
    assert axis.get_ylim() == (4.5, -0.5)  # from top to bottom
    save(figure, tmp_path)
    one = figures.forest({"a - b": table.head(1), "c - d": table.head(2)}, list(table["row"]))
    assert [len(axis.texts) for axis in one.axes] == [0, 2]
    save(one, tmp_path)


def test_far_differences_stay_on_the_axis(tmp_path: Path) -> None:
    far = pd.DataFrame(
        {"row": ["a", "b"], "against": "x", "mean": [-9.0, None], "lo": [-12.0, None], "hi": [-1.0, None]}
    )
    figure = figures.forest({"far": far}, ["a", "b"])
    axis = figure.axes[0]
    assert axis.get_xlim() == (-figures.LIMIT, figures.LIMIT)
    (marker,) = [line for line in axis.lines if line.get_marker() == "<"]
    assert list(marker.get_xdata()) == [-figures.LIMIT]  # type: ignore[arg-type]
    save(figure, tmp_path)


def test_calibration_and_decisions(tmp_path: Path) -> None:
    curve = pd.DataFrame({"predicted": [0.1, 0.9], "observed": [0.2, 0.7], "n": [3, 9]})
    figure = figures.calibration({"norm": {"probe": (curve, 0.0814), "minirocket": (curve, 0.1)}})
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["probe, ECE 0.08", "minirocket, ECE 0.10"]
    save(figure, tmp_path)
    benefit = pd.DataFrame({"threshold": [0.1, 0.5], "model": [0.3, 0.2], "all": [0.25, -0.4], "none": 0.0})
    figure = figures.decisions({"norm": {"probe": benefit}, "sex": {"probe": benefit}})
    assert [axis.get_title() for axis in figure.axes] == ["norm", "sex"]
    save(figure, tmp_path)


def test_confusion_and_agreement(tmp_path: Path) -> None:
    shares = pd.DataFrame([[0.9, 0.1], [np.nan, np.nan]], index=["a", "long name"], columns=["a", "long name"])
    figure = figures.confusion({"rhythm": shares})
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.90", "0.10"]
    save(figure, tmp_path)
    table = pd.DataFrame({"truth": np.arange(200.0), "predicted": [*np.arange(199.0), 1e6]})
    figure = figures.agreement({f"age{i}": table for i in range(5)})
    assert len([axis for axis in figure.axes if axis.axison]) == 5
    assert figure.axes[0].get_ylim()[1] < 300  # one wild prediction hides no other
    save(figure, tmp_path)


def test_stages(tmp_path: Path) -> None:
    figure = figures.stages(results())
    assert figure is not None
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["one", "embedding"]
    assert [bar.get_height() for bar in axis.patches] == [0.65, 0.8]  # type: ignore[attr-defined]
    save(figure, tmp_path)
    metrics = {"norm": {"stage_a": {"1": {"auroc": FEW}}, "stage_b": {"1": {"auroc": value(0.7)}}}}
    figure = figures.stages(metrics)
    assert figure is not None
    assert len(figure.axes[0].patches) == 2
    save(figure, tmp_path)
    assert figures.stages({"norm": {"probe": {"1": {"auroc": value(0.5)}}}}) is None
