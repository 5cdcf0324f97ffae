"""Plots draw what they are given, whatever is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from medssl.report import plots
from medssl.report.protocols import colour
from medssl.store import Store


def value(mean: float) -> dict[str, float]:
    return {"mean": mean, "lo": mean - 0.1, "hi": mean + 0.1, "n_patients": 9, "seeds": 2}


METRICS = {
    "disease": {
        "probe": {"1": {"auroc": value(0.8)}, "0.1": {"auroc": value(0.7)}},
        "knn": {"1": {"auroc": value(0.6)}},
    },
    "age": {"probe": {"1": {"mae": value(4), "r2": value(0.3)}}},
}


def save(figure: Figure, folder: Path) -> None:
    figure.savefig(folder / "x.png", dpi=40)
    assert (folder / "x.png").stat().st_size > 500


def test_flat_metrics_and_one_line() -> None:
    flat = plots.flat_metrics(METRICS)
    assert flat["probe/test/disease/0.1/auroc"] == 0.7
    assert flat["probe/test/age/1/r2_lo"] == pytest.approx(0.2)
    assert len(flat) == 5 * 3
    assert plots.one_line(METRICS["disease"]) == "probe 0.800 [0.700, 0.900], knn 0.600 [0.500, 0.700]"
    few = {"probe": {"0.01": {"auroc": value(0.5)}, "0.1": {"auroc": value(0.7)}}, "knn": {"1": {"auroc": value(0.6)}}}
    assert plots.one_line(few) == "probe at 10 % 0.700 [0.600, 0.800], knn 0.600 [0.500, 0.700]"


FEW = {"mean": 0.9, "lo": None, "hi": None, "n_patients": 4, "seeds": 2, "too_few": "n=4"}
SMALL = {
    "sex": {"left_out": "fewer than two classes among the training patients"},
    "disease": {
        "probe": {"1": {"auroc": FEW}, "0.1": {"auroc": {**FEW, "mean": None}}},
        "knn": {"1": {"auroc": value(0.6)}, "0.1": {"auroc": value(0.5)}},
    },
}


def test_text_of_small_cohorts() -> None:
    assert plots.flat_metrics(SMALL) == {
        "probe/test/disease/1/auroc": 0.9,
        **{f"knn/test/disease/{f}/auroc{end}": v for f, m in (("1", 0.6), ("0.1", 0.5))
           for end, v in (("", m), ("_lo", m - 0.1), ("_hi", m + 0.1))},
    }  # fmt: skip
    line = "probe 0.900 too few (n=4), knn 0.600 [0.500, 0.700]"
    assert plots.summary("run disease", SMALL["disease"]) == f"run disease (n=4 test patients): {line}"
    assert plots.summary("run sex", SMALL["sex"]) == f"run sex: left out: {SMALL['sex']['left_out']}"


def test_what_stands_beside_results_is_no_result() -> None:
    metrics = {"norm": {"seen": ["age"], "probe": {"1": {"auroc": value(0.8), "p_value": 0.01}}}}
    assert plots.one_line(metrics["norm"]) == "probe 0.800 [0.700, 0.900]"
    assert set(plots.flat_metrics(metrics)) == {f"probe/test/norm/1/auroc{end}" for end in ("", "_lo", "_hi")}
    assert plots.summary("run norm", metrics["norm"]).startswith("run norm (n=9 test patients): probe")


def test_points_with_too_few_patients_are_hollow_and_have_no_bar(tmp_path: Path) -> None:
    figure = plots.label_efficiency(SMALL, "run")
    empty, drawn = figure.axes
    assert "left out: fewer than two" in empty.texts[0].get_text().replace("\n", " ")
    hollow = [line for line in drawn.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [[pytest.approx(np.nan, nan_ok=True), 0.9]]  # type: ignore[union-attr]
    probe, knn = (np.vstack([path.vertices for path in band.get_paths()] or [[]]) for band in drawn.collections)
    assert np.isnan(probe).all() or not probe.size
    assert {round(y, 3) for y in knn[:, 1]} == {0.4, 0.5, 0.6, 0.7}
    assert "n=9 test patients\nhollow: too few (n=4)" in drawn.get_xlabel()
    save(figure, tmp_path)
    # A hollow point lies over the full one of its line.
    assert all(line.get_zorder() > drawn.lines[0].get_zorder() for line in hollow)
    save(plots.label_efficiency({"sex": SMALL["sex"]}, "run"), tmp_path)


def test_values_below_the_axis_are_counted() -> None:
    results = {"probe": {"1": {"r2": value(-40)}, "0.1": {"r2": value(0.1)}}, "knn": {"1": {"r2": value(-2)}}}
    axis = plots.label_efficiency({"age": results}, "run").axes[0]
    assert axis.get_ylim() == (-1, 1)
    assert axis.get_xlabel().endswith("2 values below -1 not shown")


def test_curves(tmp_path: Path) -> None:
    full = {"step": 10.0, "train/loss": 1.0, "train/rankme": 2.0, "val/rankme": 2.0, "val/knn": 0.5, "lr": 0.1}
    full |= {"val/loss": 1.0, "val/dispersion": 0.3, "val/alignment": 0.2, "val/uniformity": -2.0}
    figure = plots.curves([full, {"step": 20.0, "train/loss": 0.5, "lr": 0.1}], "run")
    assert [len(axis.lines) for axis in figure.axes] == [2, 2, 1, 1, 2, 1]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1.0, 0.5]  # type: ignore[union-attr]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [10.0, 20.0]  # type: ignore[union-attr]
    save(figure, tmp_path)
    more = plots.curves([full | {"train/positives": 20.0, "train/koleo": 1.0}] * 2, "run")
    assert [len(axis.lines) for axis in more.axes] == [2, 2, 1, 1, 2, 1, 2, 0]
    save(more, tmp_path)
    save(plots.curves([{"step": 1.0, "train/loss": 1.0, "lr": 0.1}], "run"), tmp_path)


def test_label_efficiency(tmp_path: Path) -> None:
    figure = plots.label_efficiency(METRICS, "run")
    assert figure.axes[0].get_title() == "disease"
    save(figure, tmp_path)
    save(plots.label_efficiency({"age": METRICS["age"]}, "run"), tmp_path)
    save(plots.label_efficiency({}, "run"), tmp_path)


def test_bands_points_beside_and_colours() -> None:
    probe = {share: {"auroc": value(0.7)} for share in ("0.01", "0.1", "1")}
    once = {name: {"1": {"auroc": value(0.6)}} for name in ("minirocket", "stage_one", "demographics")}
    axis = plots.label_efficiency({"norm": {**once, "probe": probe, "seen": ["x"]}}, "run").axes[0]
    assert [to_hex(band.get_facecolor()[0]) for band in axis.collections] == [colour("probe")]  # type: ignore[index]
    points = {to_hex(line.get_color()): line.get_xdata().tolist() for line in axis.lines if line.get_marker() == "o"}  # type: ignore[union-attr]
    assert points.keys() == {colour(name) for name in ("probe", "demographics", "minirocket")}  # no inner stages
    assert points[colour("probe")] == [1, 10, 100]
    # Those of one share stand beside it, apart from one another.
    assert 100 < points[colour("demographics")][0] < points[colour("minirocket")][0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "10", "100"]


def test_numbers_on_an_axis_of_their_own_size() -> None:
    results = {"probe": {"1": {"r2": value(0.4)}, "0.1": {"r2": value(0.3)}}}
    low, high = plots.label_efficiency({"age": results}, "run").axes[0].get_ylim()
    assert -0.1 < low < 0.2 and 0.5 < high < 0.6


def test_duplicates(signal_store: Store, image_store: Store, tmp_path: Path) -> None:
    for store in (signal_store, image_store):
        ids = store.table["sample_id"]
        receipts = pd.DataFrame({"sample_id": ids, "kept": True, "duplicate_of": None, "distance": 0, "method": ""})
        save(plots.duplicates(store, receipts), tmp_path)
        receipts.loc[[3, 4], ["duplicate_of", "method", "distance"]] = [[ids[0], "exact", 0], [ids[1], "dhash", 5]]
        figure = plots.duplicates(store, receipts)
        titles = [axis.get_title() for axis in figure.axes]
        assert "removed: exact, 0 bits" in titles
        assert "removed: dhash, 5 bits" in titles
        save(figure, tmp_path)


def test_scatter(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((6, 2))
    save(plots.scatter(points, list("aabbcc"), "classes"), tmp_path)
    save(plots.scatter(points, [1.0, 2, 3, 4, 5, 6], "numbers"), tmp_path)


def test_headlines_have_the_same_names_whatever_the_label() -> None:
    what, found = plots.headlines(METRICS)
    assert what == "disease auroc"
    assert found == {
        f"{protocol}/test/headline{end}": pytest.approx(mean + shift)
        for protocol, mean in (("probe", 0.8), ("knn", 0.6))
        for end, shift in (("", 0), ("_lo", -0.1), ("_hi", 0.1))
    }
    seen = {"disease": METRICS["disease"] | {"seen": ["x"]}, "age": METRICS["age"]}
    assert plots.headlines(seen)[0] == "age r2"  # a label that pretraining read is no headline
    assert plots.headlines({}) == ("", {})
